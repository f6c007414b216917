"""One question for all measurements: what of it fails, as the check itself would say."""

from __future__ import annotations

import dataclasses

import pytest
from entries import ratios

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import NOISE_FLOOR
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    CaseMeasurement,
    CoverageMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    FallenNode,
    FileCheck,
    FloorMeasurement,
    LatencyMeasurement,
    MutantOutcome,
    MutationMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
    RecommendMeasurement,
    StructureMeasurement,
    TargetMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.verdict import Grade

MANIFEST = """
schema = 1
[models.net]
factory = "nets.py:net"
inputs.x.shape = ["batch", 64]
outputs.y.shape = ["batch", 8]
dims = { batch = [1, 4] }
exporters = ["torchscript"]
opsets = [17]
"""


@pytest.fixture
def variant(tmp_path):
    (tmp_path / "models.toml").write_text(
        MANIFEST + 'precisions = ["int8-static"]\nbudget.int8-static.max_size_ratio = 0.2\n'
        "budget.int8-static.min_speedup = 2.0\nbudget.int8-static.max_size_mb = 1e-6\n"
        'accuracy = { file = "x.npz", max_drop = 0.01 }\n'
    )
    return load_manifest(tmp_path / "models.toml").models["net"].variants[0]


def test_each_measurement_is_judged_as_its_own_check_would(variant):
    small, large = (FileCheck("m.onnx", "0", size, None, None) for size in (0, 30))
    exported = ExportMeasurement(large, "torchscript", 17, 1.0, False, None, ())
    assert "budget.max_size_mb" in judge.failure(exported, variant)
    assert judge.failure(dataclasses.replace(exported, file=small), variant) is None
    file = QuantizationMeasurement(
        large,
        "int8-static",
        100,
        converted=2,
        converted_kinds={"Gemm": 2},
        remaining={},
        calibration=None,
        seconds=1.0,
        coverage=CoverageMeasurement(1.0, 1.0),
    )
    assert "0.300 of the fp32" in judge.failure(file, variant)
    timing = summarised("torch", (1.0,)), summarised("onnxruntime", (1.0,))
    speed = LatencyMeasurement("cpu", "CPU", {}, 1, "host to host", *timing, 0.1, ratios(torch=1.0))
    assert "budget.min_speedup" in judge.failure(speed, variant)
    drop = AccuracyMeasurement(
        *("cpu", "CPU", "accuracy", "x.npz", "0", 1000),
        *(0.9, 0.8, 0.1, 0.08, 0.12, 0.95),
    )
    assert "max_drop" in judge.failure(drop, variant)


def one(**facts):
    facts = {
        "name": "y",
        "expected_dtype": "float32",
        "actual_dtype": "float32",
        "expected_shape": (1, 2),
        "actual_shape": (1, 2),
        "elements": 2,
        **facts,
    }
    case = CaseMeasurement("probe", (OutputMeasurement(**facts),))
    return EquivalenceMeasurement("cpu", "CPU", (case,))


def test_it_is_the_worst_failure_and_no_warning(variant):
    variant = dataclasses.replace(variant, tolerance=NOISE_FLOOR)
    assert judge.equivalence(one(), NOISE_FLOOR).grade is Grade.WARN  # zero in every case
    assert judge.failure(one(), variant) is None
    floor = FloorMeasurement("float64", 9.0, 9e-6, 4.5e-6, 1e-6, 5e-7, 1e-6, 0.5, 0, 0)
    wrong = judge.failure(one(scale=1.0, floor=floor), variant)
    assert wrong.startswith("output 'y' error [probe]: 9 noise floors")


def test_structure_is_held_to_what_is_declared(variant):
    x = (TensorSpec("x", "float32", (1, 64)),)
    measured = StructureMeasurement(x, x, x, x, 17, 17, 1, {"Gemm": 1}, (), (), (), ())
    assert judge.failure(measured, variant) is None
    renamed = (TensorSpec("input", "float32", (1, 64)),)
    assert "'x'" in judge.failure(dataclasses.replace(measured, inputs=renamed), variant)


def test_nodes_on_the_cpu_are_held_to_the_budget(variant):
    conv = FallenNode("Conv", "stem", multiplies=True)
    nodes = {"CUDAExecutionProvider": 3, "CPUExecutionProvider": 1}
    measured = TargetMeasurement("cuda", "CUDAExecutionProvider", (), (), nodes, 4, (conv,), 0.5)
    assert "budget.max_cpu_fallback" in judge.failure(measured, variant)
    budget = variant.budget.model_copy(update={"max_cpu_fallback": {"cuda": 1.0}})
    assert judge.failure(measured, dataclasses.replace(variant, budget=budget)) is None


def test_unnoticed_faults_are_held_to_the_score_asked_for(variant):
    measured = MutationMeasurement("cpu", "CPU", (MutantOutcome("swap", "what", "survived"),))
    assert judge.failure(measured, variant) is None
    tolerance = variant.tolerance.model_copy(update={"min_mutation_score": 0.5})
    strict = dataclasses.replace(variant, tolerance=tolerance)
    assert "tolerance.min_mutation_score" in judge.failure(measured, strict)


def test_a_recommendation_never_fails(variant):
    assert judge.failure(RecommendMeasurement("cpu", 60.0, (), 3), variant) is None
