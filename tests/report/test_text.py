"""The text of a failed check, and what JUnit gets."""

import dataclasses
import math
import re
from pathlib import Path

import entries
import pytest
import runs
from entries import (
    EXPORT,
    LATENCY,
    MUTATION,
    QUANTIZATION,
    STRUCTURE,
    equivalence,
    output,
    ratios,
)
from snapshots import same

from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    CoverageMeasurement,
    Diagnosis,
    Divergence,
    Element,
    FloorMeasurement,
    HeldTo,
    LayerLoss,
    MutationMeasurement,
    Step,
)
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report import text
from pytest_onnxcheck.report.text import failure_text, headline, junit_properties
from pytest_onnxcheck.verdict import Finding, Grade, Verdict


def fails(count, first="output 'y' max_abs"):
    return [Finding(Grade.FAIL, first if i == 0 else f"what {i}", "text") for i in range(count)]


# the text of a failed check


def test_failed_equivalence_shows_the_worst_output_with_its_elements():
    measured = equivalence(
        CaseMeasurement("batch=1/draw0", (output(max_abs=0.01),)),
        CaseMeasurement("batch=2/draw0", (output(), output("z", max_abs=0.2))),
    )
    verdict = Verdict.of(
        [
            Finding(Grade.WARN, "output 'y' mse", "0.06, pass is at most 0.01", "batch=2/draw0"),
            Finding(Grade.FAIL, "output 'y' max_abs", "0.25 is too much", "batch=2/draw0"),
            Finding(Grade.FAIL, "output 'z' max_abs", "0.2 is too much", "batch=2/draw0"),
        ]
    )
    assert failure_text("net", "dynamo-op20-fp32", verdict, measured).splitlines() == [
        "output 'y' max_abs [batch=2/draw0]: 0.25 is too much",
        "",
        "  net · dynamo-op20-fp32 · cpu",
        "  FAIL output 'z' max_abs [batch=2/draw0]: 0.2 is too much",
        "  warn output 'y' mse [batch=2/draw0]: 0.06, pass is at most 0.01",
        "",
        "  output 'y' [2, 3] float32, batch=2/draw0",
        "    max_abs 0.25, mean_abs 0.125, mse 0.0625, max_rel 0.5, cosine 0.875, max |PyTorch| 4",
        "     index  PyTorch    ONNX  difference",
        "    [1, 2]        4    3.75       -0.25",
        "    [0, 0]     -1.5  -1.625      -0.125",
    ]


@pytest.mark.parametrize(
    ("held", "text"),
    [
        (HeldTo(3, 17), "held to 3 cases and 17 probes"),
        (HeldTo(3, 17, sizes=96), "held to 3 cases, 17 probes and 96 sizes"),
        (
            HeldTo(2, 0, unprobed="PyTorch takes none of them", sizes=1),
            "held to 2 cases and 1 size, no probes: PyTorch takes none of them",
        ),
        (
            HeldTo(1, 1, 1),
            "held to 1 case and 1 probe; noise floors from 1 perturbed run",
        ),
        (
            HeldTo(1, 0, 8, "probe_seconds is 0"),
            "held to 1 case, no probes: probe_seconds is 0; noise floors from 8 perturbed runs",
        ),
        (
            HeldTo(2, 2, unprobed="bf16 is held to usual values only"),
            "held to 2 cases and 2 probes of sizes, to none of values: bf16 is held to usual "
            "values only",
        ),
    ],
)
def test_a_failure_says_what_the_artefact_was_held_to(held, text):
    measured = dataclasses.replace(equivalence(), held_to=held)
    lines = failure_text("net", "v", Verdict.of(fails(2)), measured).splitlines()
    assert lines[2:] == ["  net · v · cpu", f"  {text}", "  FAIL what 1: text"]
    assert ("onnxcheck_cases", held.cases) in junit_properties(Verdict(), measured)
    assert ("onnxcheck_probes", held.probes) in junit_properties(Verdict(), measured)
    assert ("onnxcheck_sizes", held.sizes) in junit_properties(Verdict(), measured)


def test_what_explains_the_cases_is_not_crowded_out_by_them():
    cases = [Finding(Grade.FAIL, "output 'y' max_abs", "0.2", f"draw{i}") for i in range(9)]
    verdict = Verdict.of([*cases, Finding(Grade.FAIL, "x86 without VNNI", "products saturate")])
    lines = failure_text("net", "v", verdict, equivalence()).splitlines()
    assert lines[0] == "output 'y' max_abs [draw0]: 0.2"
    assert lines[3:] == [
        "  FAIL x86 without VNNI: products saturate",
        "  FAIL output 'y' max_abs [draw1]: 0.2",
        "  FAIL output 'y' max_abs [draw2]: 0.2",
        "  … and 6 more failures, all in the record",
    ]


def test_nan_is_worse_than_any_difference():
    measured = equivalence(
        CaseMeasurement("draw0", (output(max_abs=9.0),)),
        CaseMeasurement("draw1", (output(nonfinite=2, worst=(Element((0, 0), 1.0, math.nan),)),)),
    )
    text = failure_text("net", "v", Verdict.of(fails(1)), measured)
    assert "  output 'y' [2, 3] float32, draw1" in text.splitlines()
    assert "NaN/infinity differ in 2 of 6, max_abs 0.25" in text
    assert text.splitlines()[-1].split() == ["[0,", "0]", "1", "nan", "nan"]


def test_a_failure_without_compared_elements_shows_no_worst_output():
    measured = equivalence(CaseMeasurement("draw0", error="ONNX Runtime: no"))
    assert failure_text("net", "v", Verdict.of(fails(1)), measured).splitlines() == [
        "output 'y' max_abs: text",
        "",
        "  net · v · cpu",
    ]


def test_an_output_of_another_shape_shows_no_metrics():
    wrong = output(actual_shape=(3, 2), max_abs=None, worst=())
    measured = equivalence(CaseMeasurement("draw0", (wrong,)))
    text = failure_text("net", "v", Verdict.of(fails(1)), measured)
    assert text.splitlines()[-1] == "  net · v · cpu"


def test_integers_that_differ_by_one_do_not_look_alike():
    worst = (Element((0,), 1234567890, 1234567891),)
    wrong = output(expected_dtype="int64", actual_dtype="int64", max_abs=1.0, worst=worst)
    measured = equivalence(CaseMeasurement("draw0", (wrong,)))
    last = failure_text("net", "v", Verdict.of(fails(1)), measured).splitlines()[-1]
    _, expected, actual, difference = last.split()
    assert expected != actual
    assert difference == "1"


FLOOR = FloorMeasurement(
    source="float64, 8 perturbed runs",
    ratio=123456.789,
    error_worst=0.25,
    error_rms=0.114564,
    floor_worst=2.02501e-06,
    floor_rms=1.1e-06,
    torch_worst=1.5e-06,
    outside=1 / 3,
    unstable=0,
    nonfinite=0,
)

FOUND = Diagnosis(
    case="probe:negative/batch=2",
    stage="conversion",
    steps=(
        Step("capture", "traced program", 0.512, True),
        Step("conversion", "ONNX Runtime without optimisations", 123456.789, False),
        Step("conversion", "onnx's reference evaluator", None, None, "not run: 512 nodes"),
        Step("runtime optimisation", "ONNX Runtime, as it ships", math.inf, False, "no kernel"),
    ),
    divergence=Divergence(
        node="/act/Softplus",
        operator="Softplus",
        value="/act/Softplus_output_0",
        module="layer1.0.act",
        torch_operator="aten.softplus",
        source="nets.py:17",
        ratio=98765.4,
        inputs_inside=True,
        note="beta and threshold are left out",
    ),
    losses=(),
    repro="python .onnxcheck/repro/net/repro.py",
    notes=("layers: RuntimeError: no",),
)


def test_a_failure_with_everything_that_was_found_out():
    measured = dataclasses.replace(
        equivalence(
            CaseMeasurement("batch=2/draw0", (output(max_abs=1e-6),)),
            CaseMeasurement(FOUND.case, (output("z", max_abs=9.0), output(floor=FLOOR))),
        ),
        diagnosis=FOUND,
    )
    verdict = Verdict.of(
        [
            Finding(Grade.FAIL, "output 'y' error", "1.23e+05 noise floors, allowed 8", FOUND.case),
            Finding(Grade.WARN, "reference", "changes its input 'x' in place"),
        ]
    )
    assert failure_text("net", "torchscript-op17-fp32", verdict, measured).splitlines() == [
        "output 'y' error [probe:negative/batch=2]: 1.23e+05 noise floors, allowed 8",
        "",
        "  net · torchscript-op17-fp32 · cpu",
        "  warn reference: changes its input 'x' in place",
        "",
        "  output 'y' [2, 3] float32, probe:negative/batch=2",
        "    33.3% of 6 elements outside",
        "                    worst  root mean square",
        "          error      0.25             0.115",
        "    noise floor  2.03e-06           1.1e-06",
        "    1.23e+05 floors (from float64, 8 perturbed runs); a fixed tolerance would have to "
        "allow 0.25",
        "    max_abs 0.25, mean_abs 0.125, mse 0.0625, max_rel 0.5, cosine 0.875, max |PyTorch| 4",
        "     index  PyTorch    ONNX  difference",
        "    [1, 2]        4    3.75       -0.25",
        "    [0, 0]     -1.5  -1.625      -0.125",
        "",
        "  guilty stage: conversion",
        "    traced program                      agrees   0.512 floors",
        "    ONNX Runtime without optimisations  DIFFERS  1.23e+05 floors",
        "    onnx's reference evaluator          not run                   not run: 512 nodes",
        "    ONNX Runtime, as it ships           DIFFERS  inf floors       no kernel",
        "  first divergence: Softplus node '/act/Softplus' (value '/act/Softplus_output_0')",
        "    in PyTorch: layer1.0.act, aten.softplus, nets.py:17",
        "    9.88e+04 floors, while its inputs are inside theirs",
        "    beta and threshold are left out",
        "  note: layers: RuntimeError: no",
        "  reproduce: python .onnxcheck/repro/net/repro.py",
    ]


def diagnosed(diagnosis):
    """The lines of a diagnosis."""
    measured = dataclasses.replace(equivalence(CaseMeasurement("a")), diagnosis=diagnosis)
    return failure_text("net", "v", Verdict.of(fails(1)), measured).splitlines()[3:]


def test_a_quantized_artefact_shows_the_layers_that_lose_most():
    losses = tuple(LayerLoss(f"conv{i}", "QLinearConv", i * 10 + 0.05) for i in range(-1, 6))
    found = Diagnosis("a", stage="quantization", losses=losses)
    assert diagnosed(found) == [
        "",
        "  guilty stage: quantization",
        "  layers that lose most (signal to quantization noise):",
        "    -9.9 dB  QLinearConv  conv-1",
        "    0.1 dB   QLinearConv  conv0",
        "    10.1 dB  QLinearConv  conv1",
        "    20.1 dB  QLinearConv  conv2",
        "    30.1 dB  QLinearConv  conv3",
    ]


def test_a_diagnosis_that_found_nothing_says_so():
    found = Diagnosis("a", notes=("guilty stage: KeyError: 'x'", "repro: OSError: disk full"))
    assert diagnosed(found) == [
        "",
        "  guilty stage: could not be told",
        "  note: guilty stage: KeyError: 'x'",
        "  note: repro: OSError: disk full",
    ]


def test_a_divergence_without_a_place_in_pytorch_is_shown_all_the_same():
    found = Diagnosis("a", stage="provider", divergence=Divergence("n1", "Gemm", "y"))
    assert diagnosed(found) == [
        "",
        "  guilty stage: provider",
        "  first divergence: Gemm node 'n1' (value 'y')",
    ]


def test_the_output_most_floors_away_is_shown_and_not_the_largest_difference():
    near = output("near", floor=dataclasses.replace(FLOOR, ratio=2.0), max_abs=100.0)
    far = output("far", floor=dataclasses.replace(FLOOR, ratio=9.0), max_abs=1e-3)
    measured = equivalence(CaseMeasurement("a", (near, far)))
    lines = failure_text("net", "v", Verdict.of(fails(1)), measured).splitlines()
    assert lines[4] == "  output 'far' [2, 3] float32, a"


def test_the_case_that_fails_is_shown_and_not_a_worse_one_that_is_lenient():
    worse = CaseMeasurement("probe", (output(max_abs=9.0),), lenient="no matter")
    measured = equivalence(worse, CaseMeasurement("a", (output(),)))
    verdict = Verdict.of([Finding(Grade.FAIL, "output 'y' error", "text", "a")])
    assert (
        "  output 'y' [2, 3] float32, a" in failure_text("net", "v", verdict, measured).splitlines()
    )


def test_failed_mutation_lists_the_survivors():
    verdict = Verdict.of([Finding(Grade.FAIL, "mutants", "1 of 3 injected faults were noticed")])
    assert failure_text("net", "dynamo-op20-fp32", verdict, MUTATION).splitlines() == [
        "mutants: 1 of 3 injected faults were noticed",
        "",
        "  net · dynamo-op20-fp32 · cpu",
        "  survived: swap: inputs of Sub sub_3 (3.14 noise floors)",
        "  survived: edge: skips relu_2",
    ]


def test_failed_structure_lists_its_findings():
    verdict = Verdict.of(
        [
            Finding(Grade.FAIL, "output 'y'", "dtype is float16, declared float32"),
            Finding(Grade.FAIL, "opset", "the artefact declares 17, asked for 20"),
        ]
    )
    assert failure_text("net", "dynamo-op20-fp32", verdict, STRUCTURE).splitlines() == [
        "output 'y': dtype is float16, declared float32",
        "",
        "  net · dynamo-op20-fp32",
        "  FAIL opset: the artefact declares 17, asked for 20",
    ]


def test_failed_latency_names_its_target():
    verdict = Verdict.of([Finding(Grade.FAIL, "speed-up", "1.23 times PyTorch, asked for 2")])
    assert failure_text("net", "dynamo-op20-fp32", verdict, LATENCY).splitlines() == [
        "speed-up: 1.23 times PyTorch, asked for 2",
        "",
        "  net · dynamo-op20-fp32 · cpu",
    ]


@pytest.mark.parametrize(("count", "listed", "more"), [(4, 3, None), (5, 3, 1), (50, 3, 46)])
def test_many_failing_cases_are_counted_sooner(count, listed, more):
    measured = equivalence(CaseMeasurement("a"))
    lines = failure_text("net", "v", Verdict.of(fails(count)), measured).splitlines()
    assert sum(line.startswith("  FAIL ") for line in lines) == listed
    counted = [line for line in lines if line.startswith("  …")]
    assert counted == ([] if more is None else [f"  … and {more} more failures, all in the record"])


@pytest.mark.parametrize(("count", "listed", "more"), [(8, 7, None), (9, 7, 1), (50, 7, 42)])
def test_many_failures_are_counted(count, listed, more):
    lines = failure_text("net", "v", Verdict.of(fails(count)), STRUCTURE).splitlines()
    assert sum(line.startswith("  FAIL ") for line in lines) == listed
    counted = [line for line in lines if line.startswith("  …")]
    assert counted == ([] if more is None else [f"  … and {more} more failures, all in the record"])


def test_at_most_two_warnings_follow():
    warned = [Finding(Grade.WARN, f"w{i}", "text") for i in range(5)]
    text = failure_text("net", "v", Verdict.of([*fails(1), *warned]), STRUCTURE)
    assert [line for line in text.splitlines() if "warn" in line] == [
        "  warn w0: text",
        "  warn w1: text",
    ]


# JUnit


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (EXPORT, []),
        (STRUCTURE, []),
        (QUANTIZATION, [("onnxcheck_size_bytes", 1_234_567), ("onnxcheck_size_ratio", 0.25)]),
        (
            dataclasses.replace(
                QUANTIZATION, float_bytes=None, coverage=CoverageMeasurement(0.9, 0.98764)
            ),
            [("onnxcheck_size_bytes", 1_234_567), ("onnxcheck_coverage", 0.9876)],
        ),
        (LATENCY, [("onnxcheck_speedup", 1.2346)]),
        (
            dataclasses.replace(LATENCY, ratios=ratios(torch=1.23456, fp32=0.87654)),
            [("onnxcheck_speedup", 1.2346), ("onnxcheck_speedup_over_fp32", 0.8765)],
        ),
        (MUTATION, [("onnxcheck_mutation_score", 1 / 3)]),
        (MutationMeasurement("cpu", "CPU", ()), [("onnxcheck_mutation_score", None)]),
        (
            equivalence(CaseMeasurement("a", (output(), output("z", max_abs=0.5)))),
            [("onnxcheck_max_abs", 0.5)],
        ),
        (
            equivalence(
                CaseMeasurement("a", (output(rel_rms=0.001), output("z", rel_rms=0.01))),
                CaseMeasurement("b", (output(rel_rms=9.0),), probe=True),
                CaseMeasurement("c", (output(rel_rms=9.0),), lenient="not made for these"),
                CaseMeasurement("d", (output(rel_rms=9.0, expected_dtype="int64"),)),
            ),
            [("onnxcheck_max_abs", 0.25), ("onnxcheck_sqnr_db", 40.0)],
        ),
    ],
)
def test_junit_gets_the_grade_and_the_numbers_that_are_known(measured, expected):
    assert junit_properties(Verdict(), measured) == [("onnxcheck_grade", "pass"), *expected]


def test_junit_gets_the_worst_grade():
    assert junit_properties(Verdict.of(fails(1)), EXPORT) == [("onnxcheck_grade", "fail")]


def test_the_whole_text_leaves_nothing_out():
    warned = [Finding(Grade.WARN, f"warning {i}", "text") for i in range(5)]
    text = failure_text("net", "v", Verdict.of([*fails(20), *warned]), STRUCTURE, whole=True)
    assert text.count("FAIL") == 19
    assert text.count("warn warning") == 5
    assert "more failures" not in text


def test_the_properties_of_a_run():
    def told(entry: Entry) -> str:
        properties = junit_properties(Verdict(entry.findings), entry.measurement)
        return "\n".join([entry.nodeid, *(f"  {name} = {value}" for name, value in properties)])

    every = [*runs.model(fails=True), entries.entry("mutation", MUTATION)]
    same("junit.txt", "\n".join(map(told, every)) + "\n")


def test_every_property_is_documented():
    source = (Path(text.__file__)).read_text(encoding="utf-8")
    page = (Path(__file__).parents[2] / "docs" / "reports.md").read_text(encoding="utf-8")
    names = set(re.findall(r'"(onnxcheck_\w+)"', source))
    assert len(names) > 10
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_a_failure_is_wrapped_but_for_what_is_copied_and_what_stands_in_columns():
    repro = "python .onnxcheck/repro/net/run.py " + "x" * 90
    diagnosis = Diagnosis("a", "export", notes=("a note " * 20,), repro=repro)
    case = CaseMeasurement("a", (output(),))
    measured = dataclasses.replace(equivalence(case), diagnosis=diagnosis)
    verdict = Verdict.of(
        [
            Finding(Grade.FAIL, "output 'y' error", "312 noise floors, " + "allowed 8, " * 20, "a"),
            Finding(Grade.FAIL, "output 'z' error", "300 noise floors, " + "allowed 8, " * 20, "a"),
        ]
    )
    lines = failure_text("net", "v", verdict, measured, width=80).splitlines()
    assert [line[:16] for line in lines if len(line) > 80] == ["  reproduce: pyt"]
    assert any(line.startswith("     index  PyTorch    ONNX") for line in lines)
    begin = next(i for i, line in enumerate(lines) if line.startswith("  FAIL output 'z'"))
    assert lines[begin + 1].startswith("    allowed 8")


def test_without_a_width_nothing_is_wrapped():
    long = Finding(Grade.FAIL, "output 'y' error", "allowed 8, " * 40)
    text = failure_text("net", "v", Verdict.of([*fails(1), long]), STRUCTURE)
    assert f"  FAIL {long}" in text.splitlines()


def test_the_headline_begins_with_the_number():
    worst = Finding(Grade.FAIL, "output 'y' error", "312 noise floors,\n allowed 8", "batch=1")
    assert headline(Verdict.of([*fails(0), worst])) == (
        "312 noise floors, allowed 8 (output 'y' error)"
    )
