"""The recipes that were tried."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RecipeTrial", "RecommendMeasurement"]


@dataclass(frozen=True)
class RecipeTrial:
    """One recipe that was tried.

    Attributes:
        precision: Its precision.
        options: Options that differ from the precision's defaults.
        size_bytes: Bytes on disk; None when it could not be built.
        size_ratio: The same as a share of the fp32 artefact's.
        speedup: PyTorch's time / ONNX Runtime's; None when it was not measured.
        speedup_over_fp32: The fp32 artefact's time / this one's, likewise.
        rel_rms: Worst `rel_rms` over the declared cases' outputs.
        coverage: Share of the multiply-accumulates that carry the precision.
        problem: The first tolerance or budget it does not meet; None when it meets all.
        seconds: What trying it took.
    """

    precision: str
    options: dict[str, object]
    size_bytes: int | None = None
    size_ratio: float | None = None
    speedup: float | None = None
    speedup_over_fp32: float | None = None
    rel_rms: float | None = None
    coverage: float | None = None
    problem: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class RecommendMeasurement:
    """Recipes tried for one model, exporter and opset on one target.

    Attributes:
        target: The target.
        seconds: The time that was allowed.
        tried: The recipes in the order they were tried.
        untried: Recipes for which no time was left.
        best: Which of those tried is best; None when none meets its tolerance and budget.
        pays: Whether that one is preferred to fp32.
        toml: What to put into the manifest for it; None unless it pays.
    """

    target: str
    seconds: float
    tried: tuple[RecipeTrial, ...]
    untried: int = 0
    best: int | None = None
    pays: bool = True
    toml: str | None = None
