"""One question for whatever is measured of a variant: what fails?"""

from __future__ import annotations

from pytest_onnxcheck.judge.accuracy import accuracy
from pytest_onnxcheck.judge.equivalence import equivalence
from pytest_onnxcheck.judge.export import export
from pytest_onnxcheck.judge.latency import latency
from pytest_onnxcheck.judge.mutation import mutation
from pytest_onnxcheck.judge.quantization import quantization
from pytest_onnxcheck.judge.recommend import recommend
from pytest_onnxcheck.judge.release import release
from pytest_onnxcheck.judge.structure import structure
from pytest_onnxcheck.judge.target import target
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    LatencyMeasurement,
    Measurement,
    MutationMeasurement,
    QuantizationMeasurement,
    RecommendMeasurement,
    ReleaseMeasurement,
    StructureMeasurement,
    TargetMeasurement,
)
from pytest_onnxcheck.verdict import Grade, Verdict

__all__ = ["failure"]


def failure(measured: Measurement, variant: Variant) -> str | None:
    """The worst failure of a measurement, in one line; None when nothing fails.

    Args:
        measured: What was measured of the variant.
        variant: Whose tolerance and budget it is held to. What the history knows of its latency
            has no part in it.
    """
    verdict = _judged(measured, variant)
    return verdict.reason if verdict.grade is Grade.FAIL else None


def _judged(measured: Measurement, variant: Variant) -> Verdict:
    match measured:
        case ExportMeasurement():
            return export(measured, variant.budget)
        case StructureMeasurement():
            return structure(measured)
        case QuantizationMeasurement():
            return quantization(measured, variant.budget)
        case TargetMeasurement():
            return target(measured, variant.budget)
        case EquivalenceMeasurement():
            return equivalence(measured, variant.tolerance)
        case AccuracyMeasurement():
            return accuracy(measured, variant.max_drop)
        case MutationMeasurement():
            return mutation(measured, variant.tolerance.min_mutation_score)
        case LatencyMeasurement():
            return latency(measured, variant.precision, variant.budget)
        case RecommendMeasurement():
            return recommend(measured)
        case ReleaseMeasurement():
            return release(measured)
