"""What a check is held to, and how much of it is used up."""

from __future__ import annotations

import dataclasses
import math

import pytest
from entries import (
    EXPORT,
    LATENCY,
    MUTATION,
    QUANTIZATION,
    entry,
    equivalence,
    output,
)

from pytest_onnxcheck.judge import limits, margins
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import CaseMeasurement, CoverageMeasurement, FloorMeasurement
from pytest_onnxcheck.verdict import Limit

BUDGET = {
    "max_size_mb": 2,
    "max_transferred_mb": 1,
    "max_size_ratio": 0.5,
    "min_coverage": 0.9,
    "min_speedup": {"cpu": 1.5},
    "max_p95_ms": 4,
    "max_cpu_fallback": 0.1,
    "max_regression": "10%",
}


def variant(precision="int8-static", tolerance=None, **budget):
    return Variant(
        name=f"dynamo-op20-{precision}",
        exporter="dynamo",
        opset=20,
        precision=precision,
        tolerance=s.Tolerance.model_validate(tolerance or {"rel_rms": [0.1, 0.2], "top1": 0.9}),
        budget=s.Budget.model_validate(budget or BUDGET),
        quantization=s.Quantization(),
        cpus=("arm64",),
        max_drop=0.01,
    )


@pytest.mark.parametrize(
    ("check", "keys"),
    [
        ("export", []),
        ("structure", []),
        ("own", []),
        (
            "quantization",
            [
                *("budget.max_size_mb", "budget.max_transferred_mb"),
                *("budget.max_size_ratio", "budget.min_coverage"),
            ],
        ),
        ("target", ["budget.max_cpu_fallback.cpu"]),
        ("equivalence", ["tolerance.rel_rms", "tolerance.top1"]),
        ("accuracy", ["accuracy.max_drop"]),
        ("mutation", []),
        (
            "latency",
            ["budget.min_speedup.cpu", "budget.max_p95_ms.cpu", "budget.max_regression"],
        ),
    ],
)
def test_what_a_check_is_held_to(check: str, keys: list[str]):
    assert [limit.key for limit in limits(check, "cpu", variant())] == keys


def test_another_target_has_another_budget():
    assert [limit.key for limit in limits("latency", "cuda", variant())] == [
        "budget.max_regression"
    ]


def test_fp32_is_held_to_its_size_by_export():
    found, transferred = limits("export", None, variant("fp32"))
    assert transferred == Limit("budget.max_transferred_mb", 1, 1)
    assert found == Limit("budget.max_size_mb", 2, 2)


def test_a_noise_floor_is_a_limit():
    found = variant(tolerance={"policy": "noise-floor", "min_mutation_score": 0.9})
    assert limits("equivalence", "cpu", found) == (Limit("tolerance.safety", 8, 8),)
    assert limits("mutation", "cpu", found) == (
        Limit("tolerance.min_mutation_score", 0.9, 0.9, True),
    )


def test_a_bound_has_two_ends():
    found = limits("equivalence", "cpu", variant())
    assert found == (
        Limit("tolerance.rel_rms", 0.1, 0.2),
        Limit("tolerance.top1", 0.9, 0.9, True),
    )


def used(check, measured, **changes):
    held_to = limits(check, "cpu", variant(**changes))
    found = margins(entry(check, measured, limits=held_to))
    return {margin.limit.key: (margin.value, round(margin.share, 3)) for margin in found}


def test_how_much_of_a_size_is_used_up():
    coverage = CoverageMeasurement(weights=0.95, compute=0.5)
    measured = dataclasses.replace(QUANTIZATION, coverage=coverage)
    assert used("quantization", measured) == {
        "budget.max_size_mb": (1.234567, 0.617),
        "budget.max_size_ratio": (0.25, 0.5),
        "budget.min_coverage": (0.5, 5.0),
    }
    whole = dataclasses.replace(measured, coverage=CoverageMeasurement(weights=1.0, compute=1.0))
    assert used("quantization", whole)["budget.min_coverage"] == (1.0, 0.0)
    assert used("export", EXPORT, precision="fp32") == {"budget.max_size_mb": (1.234567, 0.617)}
    packed = dataclasses.replace(EXPORT.file, transferred_bytes=1_500_000)
    found = used("export", dataclasses.replace(EXPORT, file=packed), precision="fp32")
    assert found["budget.max_transferred_mb"] == (1.5, 1.5)


def test_how_much_of_a_speed_is_used_up():
    assert used("latency", LATENCY) == {
        "budget.min_speedup.cpu": (1.23456, 1.215),
        "budget.max_p95_ms.cpu": (2.0, 0.5),
    }


def test_mutants():
    tolerance = {"min_mutation_score": 0.5}
    assert used("mutation", MUTATION, tolerance=tolerance) == {
        "tolerance.min_mutation_score": (1 / 3, 1.333)
    }


def test_the_worst_case_and_output_count():
    measured = equivalence(
        CaseMeasurement("a", (output(rel_rms=0.05, top1=1.0),)),
        CaseMeasurement("b", (output(rel_rms=0.1, top1=0.95), output("z", rel_rms=0.3))),
        CaseMeasurement("odd", (output(rel_rms=9.0),), probe=True),
        CaseMeasurement("told", (output(rel_rms=9.0),), lenient="not made for it"),
    )
    rel_rms, top1 = margins(
        entry("equivalence", measured, limits=limits("equivalence", "cpu", variant()))
    )
    assert (rel_rms.value, round(rel_rms.share, 3)) == (0.3, 1.5)
    assert rel_rms.where == "b, output 'z'"
    assert (top1.value, round(top1.share, 3), top1.where) == (0.95, 0.5, "b, output 'y'")


def test_floors_count_on_probes_too():
    floor = FloorMeasurement("float64", 4.0, 1, 1, 1, 1, 1, 0, 0, 0)
    measured = equivalence(
        CaseMeasurement("a", (output(),)),
        CaseMeasurement("odd", (output(floor=floor),), probe=True),
    )
    held_to = limits("equivalence", "cpu", variant(tolerance={"policy": "noise-floor"}))
    (found,) = margins(entry("equivalence", measured, limits=held_to))
    assert (found.value, found.share, found.where) == (4.0, 0.5, "odd, output 'y'")


def test_a_limit_of_nothing_is_used_up_by_anything():
    measured = equivalence(CaseMeasurement("a", (output(max_abs=1e-9),)))
    held_to = (Limit("tolerance.max_abs", 0.0, 0.0),)
    (found,) = margins(entry("equivalence", measured, limits=held_to))
    assert found.share == math.inf


def test_what_was_not_measured_has_no_margin():
    assert margins(entry("latency", limits=limits("latency", "cpu", variant()))) == []
