"""What people read: the failed check, the table, the summary, the record."""

import dataclasses
import hashlib
import importlib.metadata
import json
import math
import platform
from datetime import datetime

import pytest

from pytest_onnxcheck import __version__
from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    CaseMeasurement,
    CoverageMeasurement,
    Diagnosis,
    Divergence,
    Element,
    EquivalenceMeasurement,
    ExportMeasurement,
    FileCheck,
    FloorMeasurement,
    LatencyMeasurement,
    LayerLoss,
    MutantOutcome,
    MutationMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
    Step,
    StructureMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.report.record import FORMAT, make_record, write_record
from pytest_onnxcheck.report.table import HEADER, cells, markdown, rows, warnings
from pytest_onnxcheck.report.terminal import summary
from pytest_onnxcheck.report.text import failure_text, junit_properties, survivor
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

FILE = FileCheck("net.onnx", "ab" * 32, 1_234_567, None, None)
EXPORT = ExportMeasurement(FILE, "dynamo", 20, 1.0, False, None, ())
QUANTIZATION = QuantizationMeasurement(
    file=FILE,
    precision="int8-static",
    float_bytes=4_938_268,
    converted=3,
    converted_kinds={"QLinearConv": 3},
    remaining={},
    calibration="file",
    seconds=1.0,
)
LATENCY = LatencyMeasurement(
    target="cpu",
    provider="CPUExecutionProvider",
    dims={"batch": 1},
    threads=1,
    boundary="host to host",
    torch=summarised("torch", (0.003,)),
    onnxruntime=summarised("onnxruntime", (0.002,)),
    speedup=1.23456,
    load_seconds=0.1,
)
STRUCTURE = StructureMeasurement(
    inputs=(TensorSpec("x", "float32", (1, 2)),),
    outputs=(TensorSpec("y", "float32", (1, 2)),),
    expected_inputs=(TensorSpec("x", "float32", (1, 2)),),
    expected_outputs=(TensorSpec("y", "float32", (1, 2)),),
    opset=20,
    expected_opset=20,
    nodes=1,
    operators={"Gemm": 1},
    training=(),
    random=(),
    unused_inputs=(),
    unreached_outputs=(),
)
MUTATION = MutationMeasurement(
    target="cpu",
    provider="CPUExecutionProvider",
    mutants=(
        MutantOutcome("weight", "0.9 x fc.weight", "killed", "equivalence, case a", 1e6),
        MutantOutcome("swap", "inputs of Sub sub_3", "survived", ratio=3.14159),
        MutantOutcome("attribute", "epsilon of norm", "equivalent"),
        MutantOutcome("edge", "skips relu_2", "survived"),
    ),
)


def output(name="y", **changes):
    facts = {
        "name": name,
        "expected_dtype": "float32",
        "actual_dtype": "float32",
        "expected_shape": (2, 3),
        "actual_shape": (2, 3),
        "elements": 6,
        "max_abs": 0.25,
        "mean_abs": 0.125,
        "mse": 0.0625,
        "max_rel": 0.5,
        "cosine": 0.875,
        "scale": 4.0,
        "worst": (Element((1, 2), 4.0, 3.75), Element((0, 0), -1.5, -1.625)),
    }
    return OutputMeasurement(**{**facts, **changes})


def equivalence(*cases):
    return EquivalenceMeasurement("cpu", "CPUExecutionProvider", cases)


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
            dataclasses.replace(LATENCY, speedup_over_fp32=0.87654),
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


# entries of a record, as the plugin makes them


def entry(check, measurement=None, *, model="net", variant="dynamo-op20-fp32", **changes):
    made = {
        "nodeid": f"models.toml::{model}::{variant}::test_{check}",
        "manifest": "models.toml",
        "position": [3, 0],
        "model": model,
        "variant": variant,
        "check": check,
        "target": None,
        "outcome": "passed",
        "expected_failure": None,
        "seconds": 1.0,
        "reason": "",
    }
    if measurement is not None:
        made |= {"grade": "pass", "findings": [], "measurement": dataclasses.asdict(measurement)}
    return made | changes


def whole_variant():
    slow = dataclasses.replace(LATENCY, speedup=0.5)
    return [
        entry("export", EXPORT),
        entry("quantization", QUANTIZATION),
        entry("structure", STRUCTURE),
        entry("equivalence", equivalence(CaseMeasurement("a", (output(), output(max_abs=None))))),
        entry("mutation", MUTATION),
        entry("latency", LATENCY),
        entry("latency", slow),
    ]


def test_a_row_holds_every_check_of_a_variant():
    (row,) = rows(whole_variant())
    assert dict(zip(HEADER, cells(row), strict=True)) == {
        "model": "net",
        "variant": "dynamo-op20-fp32",
        "export": "pass",
        "quant": "pass",
        "struct": "pass",
        "equal": "pass",
        "loss": "2.5e-01",
        "drop": "-",
        "size": "1.23 MB",
        "ratio": "0.25",
        "coverage": "-",
        "mutants": "1/3",
        "speed-up": "0.50-1.23",
        "x fp32": "-",
        "latency": "pass",
        "verdict": "pass",
    }


def test_what_was_not_run_is_a_dash():
    (row,) = rows([entry("export", EXPORT)])
    shown = dict(zip(HEADER, cells(row), strict=True))
    assert [key for key, value in shown.items() if value == "-"] == [
        *("quant", "struct", "equal", "loss", "drop", "ratio", "coverage", "mutants"),
        *("speed-up", "x fp32", "latency"),
    ]
    assert (shown["size"], shown["verdict"]) == ("1.23 MB", "pass")


STATIC = "dynamo-op20-int8-static"


def shown_of(*entries, variant=STATIC):
    """The one row's cells by column."""
    (row,) = rows([{**found, "variant": variant} for found in entries])
    return dict(zip(HEADER, cells(row), strict=True))


def test_a_quantized_variant_shows_the_worst_sqnr_of_what_the_manifest_declares():
    cases = (
        CaseMeasurement("a", (output(rel_rms=0.01), output("z", rel_rms=0.1, max_abs=None))),
        CaseMeasurement("b", (output(rel_rms=9.0),), probe=True),
        CaseMeasurement("c", (output(rel_rms=9.0),), lenient="not made for these"),
        CaseMeasurement("d", (output(rel_rms=9.0, expected_dtype="int64"),)),
    )
    found = entry("equivalence", equivalence(*cases))
    assert shown_of(found)["loss"] == "20.0 dB"
    assert shown_of(found, variant="dynamo-op20-fp32")["loss"] == "2.5e-01"
    same = entry("equivalence", equivalence(CaseMeasurement("a", (output(rel_rms=0.0),))))
    assert shown_of(same)["loss"] == "exact"


@pytest.mark.parametrize(
    ("outcome", "shown"), [("passed", "0.0056"), ("failed", "FAIL 0.0056"), ("skipped", "skip")]
)
def test_a_drop_is_told_with_the_state_of_its_check(outcome, shown):
    measured = AccuracyMeasurement(
        *("cpu", "CPU", "accuracy", "digits.npz", "ab", 360, 0.98, 0.9744, 0.0056, 0.0, 0.01, 0.95)
    )
    found = entry("accuracy", None if outcome == "skipped" else measured, outcome=outcome)
    assert shown_of(found)["drop"] == shown


def test_coverage_and_the_smallest_speed_up_over_fp32_are_shown():
    covered = dataclasses.replace(QUANTIZATION, coverage=CoverageMeasurement(0.9, 0.987))
    fast = dataclasses.replace(LATENCY, speedup_over_fp32=2.5)
    slow = dataclasses.replace(LATENCY, speedup_over_fp32=0.8)
    shown = shown_of(entry("quantization", covered), entry("latency", fast), entry("latency", slow))
    assert (shown["coverage"], shown["x fp32"]) == ("0.99", "0.80")
    uncounted = dataclasses.replace(QUANTIZATION, coverage=CoverageMeasurement(0.9, None))
    assert shown_of(entry("quantization", uncounted))["coverage"] == "-"


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(4_321, "4.32 kB"), (99_999, "100 kB"), (100_000, "0.100 MB"), (46_824_049, "46.8 MB")],
)
def test_sizes_have_three_digits(size_bytes, shown):
    file = dataclasses.replace(FILE, size_bytes=size_bytes)
    made = entry("quantization", dataclasses.replace(QUANTIZATION, file=file))
    assert shown_of(made)["size"] == shown


def test_without_a_file_of_its_own_a_quantized_variant_shows_no_size():
    assert shown_of(entry("export", EXPORT))["size"] == "-"


def test_one_speed_up_is_shown_alone():
    (row,) = rows([entry("latency", LATENCY), entry("latency", LATENCY)])
    assert cells(row)[HEADER.index("speed-up")] == "1.23"


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ([("passed", MUTATION), ("passed", MUTATION)], "2/6"),
        ([("failed", MUTATION)], "1/3"),
        ([("passed", MutationMeasurement("cpu", "CPU", MUTATION.mutants[2:3]))], "0/0"),
        ([("skipped", None)], "-"),
    ],
)
def test_mutants_are_those_noticed_of_those_that_change_an_output(entries, shown):
    (row,) = rows([entry("mutation", measured, outcome=state) for state, measured in entries])
    assert cells(row)[HEADER.index("mutants")] == shown


def test_a_mutation_check_that_fails_or_was_skipped_makes_the_verdict():
    (row,) = rows([entry("export"), entry("mutation", MUTATION, outcome="failed")])
    assert cells(row)[-1] == "FAIL"
    (row,) = rows([entry("export"), entry("mutation", outcome="skipped")])
    assert cells(row)[-1] == "partial"


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


def test_a_survivor_read_back_from_a_record_reads_the_same(tmp_path):
    moved = MutantOutcome("edge", "skips relu_2", "survived", ratio=math.inf)
    measured = dataclasses.replace(MUTATION, mutants=(moved,))
    write_record({"checks": [entry("mutation", measured)]}, tmp_path / "record.json")
    read = json.loads((tmp_path / "record.json").read_text())["checks"]
    assert list(summary(read)) == list(summary([entry("mutation", measured)]))
    assert survivor(moved) == "edge: skips relu_2 (inf noise floors)"


def test_a_variant_whose_quantization_failed_shows_no_size_of_another_file():
    failed = entry("quantization", outcome="failed", reason="no calibration data")
    assert shown_of(entry("export", EXPORT), failed)["size"] == "-"


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
        entry("export", outcome="passed", grade="warn")
        if state == "warn"
        else entry("export", outcome=state)
        for state in states
    ]
    (row,) = rows(entries)
    assert row.state() == row.state("export") == shown


def test_rows_come_in_the_order_of_the_manifest():
    entries = [
        entry("export", variant="b", position=[3, 1]),
        entry("export", model="last", position=[30, 0]),
        entry("export", variant="a", position=[3, 0]),
        entry("structure", variant="b", position=[3, 1]),
    ]
    assert [(row.model, row.variant, len(row.entries)) for row in rows(entries)] == [
        ("net", "a", 1),
        ("net", "b", 2),
        ("last", "dynamo-op20-fp32", 1),
    ]


def test_markdown_is_a_table():
    assert markdown([entry("export", EXPORT)]) == (
        "| model | variant | export | quant | struct | equal | loss | drop "
        "| size | ratio | coverage | mutants | speed-up | x fp32 | latency | verdict |\n"
        f"|{' --- |' * 16}\n"
        "| net | dynamo-op20-fp32 | pass | - | - | - | - | - "
        "| 1.23 MB | - | - | - | - | - | - | pass |\n"
    )


def test_a_record_read_back_gives_the_same_table(tmp_path):
    strange = equivalence(CaseMeasurement("a", (output(), output("z", max_abs=math.inf))))
    slow = dataclasses.replace(LATENCY, speedup=math.inf)
    entries = [*whole_variant(), entry("equivalence", strange), entry("latency", slow)]
    write_record({"checks": entries}, tmp_path / "record.json")
    read = json.loads((tmp_path / "record.json").read_text())["checks"]
    assert markdown(read) == markdown(entries)


def test_a_kind_of_check_that_was_only_skipped_makes_the_verdict_partial():
    skipped = entry("latency", outcome="skipped")
    (row,) = rows([entry("export"), skipped])
    assert cells(row)[-1] == "partial"
    (row,) = rows([entry("export"), skipped, entry("latency")])
    assert cells(row)[-1] == "pass"
    (row,) = rows([entry("export"), entry("target", outcome="skipped")])
    assert cells(row)[-1] == "pass"


def test_a_warning_is_told_once_with_the_number_of_checks():
    warned = {"outcome": "passed", "grade": "warn", "reason": "output 'y': vacuous"}
    entries = [
        entry("equivalence", **warned, variant="a"),
        entry("equivalence", **warned, variant="b"),
        entry("equivalence", **warned, model="other", variant="a"),
        entry("export"),
        entry("structure", outcome="failed", grade="warn", reason="not a warning"),
    ]
    assert list(warnings(entries)) == [
        "warn  models.toml::net::a::test_equivalence (and 1 more checks): output 'y': vacuous",
        "warn  models.toml::other::a::test_equivalence: output 'y': vacuous",
    ]


def test_the_summary_is_an_aligned_table_with_warnings_below():
    entries = [
        entry("export", EXPORT, variant="file-fp32", position=[3, 0]),
        entry("export", EXPORT, variant="longer-fp32", position=[3, 1], outcome="failed"),
        entry("export", variant="third", position=[3, 2], grade="warn", reason="train mode"),
        entry("export", variant="fourth", position=[3, 3], outcome="skipped"),
    ]
    assert list(summary(iter(entries))) == [
        ("model  variant      export  size     verdict", {"bold": True}),
        ("net    file-fp32    pass    1.23 MB  pass", {"green": True}),
        ("net    longer-fp32  FAIL    1.23 MB  FAIL", {"red": True}),
        ("net    third        warn    -        warn", {"yellow": True}),
        ("net    fourth       skip    -        skip", {}),
        ("warn  models.toml::net::third::test_export: train mode", {"yellow": True}),
    ]


# the record

MANIFEST = """
schema = 1
seed = 42

[models.net]
factory = "zoo:net"
inputs.x.shape = [1]
outputs.y.shape = [1]
"""


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text(MANIFEST, encoding="utf-8")
    return path


def test_a_record_tells_on_what_it_was_made(manifest):
    record = make_record([entry("export", EXPORT, manifest=str(manifest))] * 2)
    assert (record["format"], record["onnxcheck"]) == (FORMAT, __version__)
    assert datetime.fromisoformat(record["created"]).utcoffset().total_seconds() == 0
    environment = record["environment"]
    assert environment["python"] == platform.python_version()
    assert environment["platform"] == platform.platform()
    assert environment["machine"] == platform.machine()
    assert environment["cpus"] > 0
    for package in ("torch", "onnx", "numpy", "pytest", "onnxscript"):
        assert environment["packages"][package] == importlib.metadata.version(package)
    assert any(name.startswith("onnxruntime") for name in environment["packages"])
    assert record["manifests"] == [
        {
            "path": str(manifest),
            "sha256": hashlib.sha256(MANIFEST.encode()).hexdigest(),
            "seed": 42,
        }
    ]


def test_a_record_holds_what_the_checks_found(manifest):
    found = entry("export", EXPORT, manifest=str(manifest))
    (check,) = make_record([found])["checks"]
    assert check == found
    assert check["measurement"]["file"]["sha256"] == FILE.sha256


def test_every_manifest_is_named_once(manifest, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(MANIFEST.replace("42", "43"), encoding="utf-8")
    entries = [entry("export", manifest=str(path)) for path in (manifest, other, manifest)]
    assert [found["seed"] for found in make_record(entries)["manifests"]] == [42, 43]


def test_a_written_record_reads_back_the_same(manifest, tmp_path):
    path = tmp_path / "deep" / "folder" / "record.json"
    record = make_record([entry("structure", STRUCTURE, manifest=str(manifest))])
    write_record(record, path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(record))
    assert path.read_text().endswith("}\n")


def test_nan_and_infinity_become_strings(tmp_path):
    path = tmp_path / "record.json"
    write_record({"a": [math.nan, (math.inf, {"b": -math.inf})], "c": 1.5, 3: None}, path)
    assert json.loads(path.read_text(), parse_constant=pytest.fail) == {
        "a": ["nan", ["inf", {"b": "-inf"}]],
        "c": 1.5,
        "3": None,
    }


def test_a_record_replaces_the_last_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    write_record({"run": 1}, path)
    write_record({"run": 2}, path)
    assert json.loads(path.read_text()) == {"run": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_record_that_cannot_be_written_leaves_the_last_one(tmp_path):
    path = tmp_path / "record.json"
    write_record({"run": 1}, path)
    with pytest.raises(TypeError):
        write_record({"run": object()}, path)
    assert json.loads(path.read_text()) == {"run": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]
