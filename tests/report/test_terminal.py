"""The summary at the end of a run."""

import dataclasses
import math

from entries import (
    EXPORT,
    MUTATION,
    entry,
    equivalence,
    read_back,
)

from pytest_onnxcheck.measurement import HeldTo, MutantOutcome, SkippedProbes
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


def test_artefacts_without_probes_are_told_once_a_reason():
    none = "probe_seconds is 0"
    held = {
        "fp32": HeldTo(1, 0, unprobed=none),
        "int8": HeldTo(2, 1, unprobed="no range"),
        "fp16": HeldTo(2, 0, unprobed=none),
        "half": HeldTo(2, 9),
    }
    entries = [
        entry("equivalence", dataclasses.replace(equivalence(), held_to=found), variant=name)
        for name, found in held.items()
    ]
    assert [text for text, _ in summary(entries)][-1] == (
        "no probes  net::fp32 and 1 more: probe_seconds is 0"
    )
    assert "no probes" not in "".join(text for text, _ in summary(entries[1::2]))


def test_what_is_left_out_of_the_probes_is_told_once_a_model():
    left_out = HeldTo(1, 9, skipped=(SkippedProbes("ties*", "never tied"),))
    entries = [
        entry("equivalence", dataclasses.replace(equivalence(), held_to=left_out), variant=name)
        for name in ("fp32", "fp16")
    ]
    lines = [text for text, _ in summary(entries) if text.startswith("left out")]
    assert lines == ["left out  net: probe 'ties*': never tied"]
    (skipped,) = {found.measurement.held_to.skipped for found in read_back(entries)}
    assert skipped == left_out.skipped
