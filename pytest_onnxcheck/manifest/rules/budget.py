"""Rules for budgets."""

from __future__ import annotations

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.model import Variant
from pytest_onnxcheck.manifest.rules.base import Found

__all__ = ["PER_TARGET", "check_against_fp32", "check_fp32_artefact"]

#: budgets that are given per target
PER_TARGET = (
    *("min_speedup", "min_speedup_over_fp32", "max_cpu_fallback", "max_p95_ms"),
    *("min_throughput", "max_load_s", "max_memory_mb"),
)


def check_against_fp32(key: str, budget: s.Budget, chosen: list[Variant]) -> Found:
    """Bounds that compare with fp32, where nothing but fp32 is selected."""
    if {variant.precision for variant in chosen} == {"fp32"}:
        for name in ("max_size_ratio", "min_speedup_over_fp32", "min_coverage"):
            if getattr(budget, name) is not None:
                yield ("budget", key, name), f"{name} has no effect on fp32: it is the measure"


def check_fp32_artefact(key: str, budget: s.Budget, section: s.ModelSection) -> Found:
    """Bounds that compare with fp32, where the files of the model hold no fp32 artefact."""
    if section.onnx is None or "fp32" in section.onnx:
        return
    for name in ("max_size_ratio", "min_speedup_over_fp32"):
        if getattr(budget, name) is not None:
            yield (
                ("budget", key, name),
                f"{name} has no effect: there is no fp32 artefact to compare with; "
                "name one in onnx = { fp32 = ... }",
            )
