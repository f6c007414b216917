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
from pytest_onnxcheck.report.terminal import Shown, summary
from pytest_onnxcheck.report.text import survivor
from pytest_onnxcheck.verdict import Grade


def shown(entries, width=80, **how):
    return [text for text, _ in summary(entries, Shown(width, **how))]


def test_the_summary_lists_the_faults_that_nothing_noticed():
    nodeid = "models.toml::net::dynamo-op20-fp32::test_mutation"
    assert shown([entry("mutation", MUTATION)], 120) == [
        "    variant           mutants",
        "✓ net  1 variant pass",
        "  ✓ dynamo-op20-fp32      1/3",
        f"survived  {nodeid}: swap: inputs of Sub sub_3 (3.14 noise floors)",
        f"survived  {nodeid}: edge: skips relu_2",
        "mutants: 1 of 3 injected faults were noticed (0.333); 1 more changed no output",
    ]


def test_a_survivor_read_back_from_a_record_reads_the_same():
    moved = MutantOutcome("edge", "skips relu_2", "survived", ratio=math.inf)
    measured = dataclasses.replace(MUTATION, mutants=(moved,))
    found = [entry("mutation", measured)]
    assert shown(read_back(found)) == shown(found)
    assert survivor(moved) == "edge: skips relu_2 (inf noise floors)"


def test_what_is_cut_is_told_without_other_signs_too():
    found = [entry("export", outcome="failed", reason="no file " * 100)]
    assert shown(found)[-1].endswith(" …")
    text = "\n".join(shown(found, plain=True))
    assert text.isascii()
    assert text.endswith(" ...")


def test_variants_stand_below_their_model_the_worst_first_and_warnings_behind():
    entries = [
        entry("export", EXPORT, variant="third-fp32", position=(3, 2)),
        entry("export", EXPORT, variant="fourth", position=(3, 3), outcome="skipped"),
        entry("export", variant="file-fp32", position=(3, 0), outcome="failed", reason="no file"),
        entry("export", variant="fifth", position=(3, 4), outcome="xpassed", reason="old"),
        entry("export", variant="sixth", position=(3, 5), grade=Grade.WARN, reason="train mode"),
        entry("export", EXPORT, model="good", variant="a-fp32", position=(1, 0)),
    ]
    assert list(summary(iter(entries), Shown())) == [
        ("    variant        size", {"bold": True}),
        (
            "✗ net  5 variants: 1 FAIL, 1 XPASS, 1 warn, 1 skip, 1 pass",
            {"red": True, "bold": True},
        ),
        ("  ✗ file-fp32         -  FAIL", {"red": True}),
        ("      FAIL test_export: no file", {"red": True}),
        ("  ✗ fifth             -  XPASS", {"red": True}),
        (
            "      XPASS test_export: it passes, which the manifest does not expect (old):",
            {"red": True},
        ),
        ("        take it out of the model's `xfail`", {"red": True}),
        ("  ! sixth             -  warn", {"yellow": True}),
        ("  - fourth            -  skip", {}),
        ("  ✓ third-fp32  1.23 MB", {"green": True}),
        ("✓ good  1 variant pass", {"green": True, "bold": True}),
        ("  ✓ a-fp32      1.23 MB", {"green": True}),
        ("warn  net::sixth export: train mode", {"yellow": True}),
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
    assert shown(entries)[-1] == "no probes  2 of net: probe_seconds is 0"
    assert "no probes" not in "".join(shown(entries[1::2]))


def test_what_is_left_out_of_the_probes_is_told_once_a_model():
    left_out = HeldTo(1, 9, skipped=(SkippedProbes("ties*", "never tied"),))
    entries = [
        entry("equivalence", dataclasses.replace(equivalence(), held_to=left_out), variant=name)
        for name in ("fp32", "fp16")
    ]
    lines = [text for text in shown(entries) if text.startswith("left out")]
    assert lines == ["left out  net: probe 'ties*': never tied"]
    (skipped,) = {found.measurement.held_to.skipped for found in read_back(entries)}
    assert skipped == left_out.skipped
