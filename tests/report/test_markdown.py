"""The comment of a pull request: reasons first, and nothing gets out of its place."""

from __future__ import annotations

import dataclasses
import re

import runs
from snapshots import same

from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.markdown import comment, counts, headline


def test_a_run_that_fails():
    before = runs.record(*runs.model("net"), *runs.model("bad", line=20))
    same("comment.md", comment(runs.failing(), before))


def test_a_run_that_passes():
    same("comment-passed.md", comment(runs.record(*runs.model("net"))))


def test_nothing_gets_out_of_its_place():
    text = comment(runs.evil(), runs.record())
    same("comment-evil.md", text)
    outside = re.sub(r"(?s)(`{3,}).*?\n\1", "", text)
    outside = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", outside.replace("\\`", ""))
    tags = set(re.findall(r"(?<!\\)<[^>]*>", outside))
    assert tags == {"<details>", "</details>", "<summary>", "</summary>", "<code>", "</code>"}
    assert re.search(r"(?m)^::", outside) is None
    assert re.search(r"@(?=\w)", outside) is None
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_every_row_of_a_table_has_as_many_cells():
    text = comment(runs.evil(), runs.record())
    tables = re.findall(r"(?m)(?:^\|.*\|$\n?)+", text)
    assert len(tables) > 2
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(cells) == 1, table


def test_what_is_too_long_is_left_out():
    found = runs.failing()
    text = comment(found, longest=1500)
    assert len(text) <= 1500
    assert "The rest is in the record" in text
    assert "rel\\_rms" in text
    assert len(comment(found, longest=400)) <= 400
    assert len(comment(many(found, 400), longest=60_000)) <= 60_000


def many(found: Record, times: int) -> Record:
    checks = [
        dataclasses.replace(
            entry, reason=f"{entry.reason} {number}", nodeid=f"{entry.nodeid}{number}"
        )
        for number in range(times)
        for entry in found.checks
    ]
    return dataclasses.replace(found, checks=tuple(checks))


def test_many_failures_are_counted():
    assert "… and 370 more." in comment(many(runs.failing(), 400), longest=10**6)


def test_the_headline():
    assert headline(runs.record(*runs.model("net"))) == (
        "✅ onnxcheck: 1 with warnings, 1 skipped, 6 passed"
    )
    assert headline(runs.failing()) == (
        "❌ onnxcheck: 1 of 16 checks failed and 1 could not be collected"
    )
    assert headline(runs.record()) == "❌ onnxcheck: no model was checked"
    assert headline(runs.record(*runs.model(), exitstatus=2)) == (
        "❌ onnxcheck: the run failed (exit status 2), no check did"
    )


def test_counts_begin_with_the_worst():
    assert counts(runs.model("bad", fails=True)).startswith("1 failed, 1 with warnings")
