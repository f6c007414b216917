"""What checks find: measurements, and the entries of them."""

from __future__ import annotations

import dataclasses
import json

from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    Element,
    EquivalenceMeasurement,
    ExportMeasurement,
    FileCheck,
    LatencyMeasurement,
    MutantOutcome,
    MutationMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
    Ratio,
    StructureMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.record.encoding import as_json
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.verdict import Grade

FILE = FileCheck("net.onnx", "ab" * 32, 1_234_567, None, None)
EXPORT = ExportMeasurement(FILE, "dynamo", 20, 1.0, False, None, ())
QUANTIZATION = QuantizationMeasurement(
    file=FILE,
    precision="int8-static",
    float_bytes=4_938_268,
    converted=3,
    converted_kinds={"QLinearConv": 3},
    remaining={},
    calibration=None,
    seconds=1.0,
)


def ratios(**values):
    """How many times as long the other sides take, by name."""
    return {
        side: Ratio(value, value, value, "processor", value, rounds=3, interrupted=0.0)
        for side, value in values.items()
    }


LATENCY = LatencyMeasurement(
    target="cpu",
    provider="CPUExecutionProvider",
    dims={"batch": 1},
    threads=1,
    boundary="host to host",
    torch=summarised("torch", (0.003,)),
    onnxruntime=summarised("onnxruntime", (0.002,)),
    load_seconds=0.1,
    ratios=ratios(torch=1.23456),
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


def entry(check, measurement=None, *, model="net", variant="dynamo-op20-fp32", **changes):
    facts = {
        "nodeid": f"models.toml::{model}::{variant}::test_{check}",
        "manifest": "models.toml",
        "position": (3, 0),
        "model": model,
        "variant": variant,
        "precision": "fp32" if variant.endswith("-fp32") else variant.removeprefix("dynamo-op20-"),
        "check": check,
        "outcome": "passed",
        "seconds": 1.0,
    }
    if measurement is not None:
        facts |= {"grade": Grade.PASS, "measurement": measurement}
    return Entry(**{**facts, **changes})


def read_back(entries):
    """The entries after they were written as JSON and read again."""
    written = as_json([found.to_json() for found in entries])
    return [Entry.from_json(found) for found in json.loads(written)]


def whole_variant():
    slow = dataclasses.replace(LATENCY, ratios=ratios(torch=0.5))
    return [
        entry("export", EXPORT),
        entry("quantization", QUANTIZATION),
        entry("structure", STRUCTURE),
        entry("equivalence", equivalence(CaseMeasurement("a", (output(), output(max_abs=None))))),
        entry("mutation", MUTATION),
        entry("latency", LATENCY),
        entry("latency", slow),
    ]
