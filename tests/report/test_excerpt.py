"""Parts of a report for another page: of one model, escaped, with rules that stay inside."""

from __future__ import annotations

import re

import runs

from pytest_onnxcheck.report.html.excerpt import excerpt, style


def test_an_excerpt_has_the_parts_of_one_model_in_their_order():
    found = excerpt(runs.failing(), "bad", ["failures", "checks"], anchor="here")
    assert found.index('id="here-failure-1"') < found.index("<h4>Checks</h4>")
    assert "net" not in re.sub("<[^>]*>", " ", found).split()
    assert "Size on disk" not in found
    assert excerpt(runs.failing(), "nobody", ["checks"], anchor="here") == ""


def test_what_a_part_shows_is_escaped():
    record = runs.evil()
    name = record.checks[0].model
    found = excerpt(record, name, ["failures", "told", "checks", "worst", "files"], anchor="x")
    assert "<script" not in found
    assert "<img" not in found


def test_rules_hold_inside_the_element_alone():
    rules = style(".onnxcheck")
    assert rules.startswith(".onnxcheck {")
    assert ":root" not in rules
    assert rules.count("{") == rules.count("}")
