"""The summary at the end of a run."""

import dataclasses
import math

from entries import (
    EXPORT,
    MUTATION,
    entry,
    read_back,
)

from pytest_onnxcheck.measurement import (
    MutantOutcome,
)
from pytest_onnxcheck.report.terminal import summary
from pytest_onnxcheck.report.text import survivor
from pytest_onnxcheck.verdict import Grade


def test_the_summary_lists_the_faults_that_nothing_noticed():
    lines = [text for text, _ in summary([entry("mutation", MUTATION)])]
    nodeid = "models.toml::net::dynamo-op20-fp32::test_mutation"
    assert lines == [
        "model  variant           mutants  verdict",
        "net    dynamo-op20-fp32  1/3      pass",
        f"survived  {nodeid}: swap: inputs of Sub sub_3 (3.14 noise floors)",
        f"survived  {nodeid}: edge: skips relu_2",
        "mutants: 1 of 3 injected faults were noticed (0.333); 1 more changed no output",
    ]


def test_a_survivor_read_back_from_a_record_reads_the_same():
    moved = MutantOutcome("edge", "skips relu_2", "survived", ratio=math.inf)
    measured = dataclasses.replace(MUTATION, mutants=(moved,))
    found = [entry("mutation", measured)]
    assert list(summary(read_back(found))) == list(summary(found))
    assert survivor(moved) == "edge: skips relu_2 (inf noise floors)"


def test_the_summary_is_an_aligned_table_with_warnings_below():
    entries = [
        entry("export", EXPORT, variant="file-fp32", position=(3, 0)),
        entry("export", EXPORT, variant="longer-fp32", position=(3, 1), outcome="failed"),
        entry("export", variant="third", position=(3, 2), grade=Grade.WARN, reason="train mode"),
        entry("export", variant="fourth", position=(3, 3), outcome="skipped"),
    ]
    assert list(summary(iter(entries))) == [
        ("model  variant      export  size     verdict", {"bold": True}),
        ("net    file-fp32    pass    1.23 MB  pass", {"green": True}),
        ("net    longer-fp32  FAIL    1.23 MB  FAIL", {"red": True}),
        ("net    third        warn    -        warn", {"yellow": True}),
        ("net    fourth       skip    -        skip", {}),
        ("warn  models.toml::net::third::test_export: train mode", {"yellow": True}),
    ]
