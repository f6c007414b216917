"""A row per model and variant: what its checks found, taken together."""

from __future__ import annotations

import dataclasses

import pytest
from entries import EXPORT, QUANTIZATION, entry, equivalence, output

from pytest_onnxcheck.measurement import CaseMeasurement
from pytest_onnxcheck.record.rows import rows
from pytest_onnxcheck.verdict import Grade


@pytest.mark.parametrize(
    ("states", "shown"),
    [
        (["passed"], "pass"),
        (["passed", "skipped"], "pass"),
        (["skipped"], "skip"),
        (["passed", "xfailed"], "xfail"),
        (["warn", "xfailed"], "xfail"),
        (["passed", "warn", "xpassed"], "XPASS"),
        (["xpassed", "failed", "passed"], "FAIL"),
    ],
)
def test_the_worst_outcome_is_the_verdict(states, shown):
    entries = [
        entry("export", outcome="passed", grade=Grade.WARN)
        if state == "warn"
        else entry("export", outcome=state)
        for state in states
    ]
    (row,) = rows(entries)
    assert row.state() == row.state("export") == shown


def test_rows_come_in_the_order_of_the_manifest():
    entries = [
        entry("export", variant="b", position=(3, 1)),
        entry("export", model="last", position=(30, 0)),
        entry("export", variant="a", position=(3, 0)),
        entry("structure", variant="b", position=(3, 1)),
    ]
    assert [(row.model, row.variant, len(row.entries)) for row in rows(entries)] == [
        ("net", "a", 1),
        ("net", "b", 2),
        ("last", "dynamo-op20-fp32", 1),
    ]


def test_a_row_takes_the_worst_of_the_declared_cases():
    cases = (
        CaseMeasurement("a", (output(rel_rms=0.01, top1=0.9), output("z", max_abs=None))),
        CaseMeasurement("b", (output(rel_rms=0.1, top1=0.8, max_abs=0.5),)),
        CaseMeasurement("c", (output(rel_rms=9.0, top1=0.0, max_abs=7.0),), probe=True),
    )
    (row,) = rows([entry("equivalence", equivalence(*cases))])
    assert (row.rel_rms(), row.top1(), row.max_abs()) == (0.1, 0.8, 0.5)
    (row,) = rows([entry("equivalence", outcome="skipped")])
    assert (row.rel_rms(), row.top1(), row.max_abs()) == (None, None, None)


def test_the_size_is_that_of_the_variants_own_file():
    small = dataclasses.replace(QUANTIZATION.file, size_bytes=10)
    quantized = dataclasses.replace(QUANTIZATION, file=small)
    both = [entry("export", EXPORT), entry("quantization", quantized)]
    (fp32,) = rows(both)
    assert (fp32.is_fp32, fp32.size_bytes()) == (True, EXPORT.file.size_bytes)
    named = {"variant": "dynamo-op20-int8-static", "precision": "int8-static"}
    (int8,) = rows([dataclasses.replace(found, **named) for found in both])
    assert (int8.is_fp32, int8.size_bytes()) == (False, 10)


def test_a_recipe_is_exporter_and_opset():
    (row,) = rows([entry("export", exporter="dynamo", opset=20)])
    assert row.recipe == ("dynamo", 20)
