"""What an artefact's outputs may differ from PyTorch's, and what holds when nothing is written."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.sections.base import Positive, Section, invalid

__all__ = [
    "BUILTIN_TOLERANCE",
    "FIXED_TOLERANCE",
    "METRICS",
    "NOISE_FLOOR",
    "Bounds",
    "Tolerance",
    "share_used",
]


def _bounds_of(value: object) -> object:
    if value == "off" or isinstance(value, Bounds):
        return value
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    finite = all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    if len(numbers) not in (1, 2) or not finite:
        raise invalid(
            f'expected a number, a pair [pass, fail] or "off", got {value!r}: '
            "below the first is a pass, beyond the second a failure, between them a warning"
        )
    return Bounds(passes=float(numbers[0]), fails=float(numbers[-1]))


class Bounds(Section):
    """The two bounds of a graded metric: a pass up to one, a failure beyond the other."""

    passes: float
    fails: float

    def passed(self, value: float, larger_is_better: bool) -> bool:
        """Whether a value is on the good side of the first bound; NaN never is."""
        return value >= self.passes if larger_is_better else value <= self.passes


Graded = Annotated[
    Bounds | Literal["off"] | None,
    BeforeValidator(_bounds_of),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {
                    "type": "array",
                    "items": {"type": "number"},
                    "minItems": 1,
                    "maxItems": 2,
                },
                {"const": "off"},
            ]
        }
    ),
]

#: noise floors that an error may be, where the manifest does not say how many
_SAFETY = 8.0

#: metric name -> whether a larger value is better
METRICS = {
    "max_abs": False,
    "mean_abs": False,
    "mse": False,
    "max_rel": False,
    "rel_rms": False,
    "cosine": True,
    "sqnr_db": True,
    "top1": True,
}


def share_used(metric: str, value: float, allowed: float) -> float:
    """A metric's value as a share of its bound; above 1 it is beyond it.

    For a cosine and an agreement it is the distance from 1, for decibels the error they stand for.

    Args:
        metric: One of `METRICS`.
        value: What was measured.
        allowed: The bound.
    """
    if metric == "sqnr_db":
        value, allowed = (10 ** (-decibels / 20) for decibels in (value, allowed))
    elif METRICS[metric]:
        value, allowed = 1 - value, 1 - allowed
    return value / allowed if allowed else math.inf if value > 0 else 0.0


class Tolerance(Section):
    """What an artefact's outputs may differ from PyTorch's."""

    policy: Literal["noise-floor", "fixed"] | None = Field(
        None,
        description="How the outputs are judged: `noise-floor`, against what rounding alone does "
        "to them (fp32, fp16 and half only, and their default), or `fixed`, by thresholds on the "
        "metrics below (default of the others, and wherever thresholds other than `top1` and "
        "`sqnr_db` are written without a policy). Where a threshold of your own is in force, no "
        "built-in one is; `top1` alone is added to them. Thresholds written beside `noise-floor` "
        "hold as well. On probes a threshold counts only beyond the noise floor.",
    )
    safety: Positive | None = Field(
        None,
        description="How many noise floors an error may be; default: 8. With `fixed` it is "
        "inherited for probes alone, where thresholds count only beyond them.",
    )
    max_abs: Graded = Field(None, description="Largest |ONNX - PyTorch| over all elements.")
    mean_abs: Graded = Field(None, description="Mean |ONNX - PyTorch|.")
    mse: Graded = Field(None, description="Mean squared difference.")
    max_rel: Graded = Field(None, description="Largest |ONNX - PyTorch| / |PyTorch|.")
    rel_rms: Graded = Field(
        None,
        description="Norm of the difference as a share of PyTorch's norm; in decibels, "
        "-20 log10 of it is the signal-to-quantization-noise ratio.",
    )
    cosine: Graded = Field(None, description="Cosine similarity; larger is better.")
    sqnr_db: Graded = Field(
        None,
        description="Signal-to-quantization-noise ratio in dB, -20 log10 of `rel_rms`; larger is "
        "better. It replaces an inherited `rel_rms`, and the other way round.",
    )
    top1: Graded = Field(
        None,
        description="Share of the rows (along the last axis) whose largest element is the same, "
        "from 0 to 1; larger is better.",
    )
    rtol: float | None = Field(
        None, ge=0, description="With `atol`: every element within atol + rtol x |PyTorch|."
    )
    atol: float | None = Field(None, ge=0, description="See `rtol`.")
    min_mutation_score: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the injected faults (`--onnxcheck-mutants`) that must be noticed.",
    )

    @property
    def fixed(self) -> set[str]:
        """The keys that were written and mean `policy = "fixed"` where none is written.

        `top1` and `sqnr_db` do not: they are what a release is held to, whatever the policy.
        """
        others = {"policy", "safety", "min_mutation_score", "top1", "sqnr_db"}
        return self.model_fields_set - others

    @property
    def floors(self) -> float:
        """How many noise floors an error may be, where one is measured."""
        return _SAFETY if self.safety is None else self.safety

    def passes(self, metric: str, value: float | None) -> bool:
        """Whether a metric's value passes, as all do that have no bounds or were not measured.

        Args:
            metric: One of `METRICS`.
            value: What was measured of it.
        """
        bounds = getattr(self, metric)
        if value is None or not isinstance(bounds, Bounds):
            return True
        return bounds.passed(value, METRICS[metric])

    @property
    def replaces(self) -> bool:
        """Whether built-in thresholds do not hold beside these.

        `top1` says nothing of how large the outputs are: alone, it would let most faults pass.
        """
        bounds = (getattr(self, metric) for metric in METRICS if metric != "top1")
        return self.rtol is not None or any(isinstance(found, Bounds) for found in bounds)


def _fixed(**bounds: tuple[float, float]) -> Tolerance:
    return Tolerance.model_validate({"policy": "fixed", **bounds})


#: The thresholds of `policy = "fixed"` when the manifest gives none. int8 is judged relative to
#: the outputs: the size of its rounding error follows their scale. A cosine alone would not see a
#: rescaled output.
FIXED_TOLERANCE: dict[str, Tolerance] = {
    "fp32": _fixed(max_abs=(1e-5, 1e-4), mse=(1e-10, 1e-8), cosine=(0.9999, 0.999)),
    "fp16": _fixed(max_abs=(1e-2, 1e-1), mse=(1e-5, 1e-3), cosine=(0.999, 0.99)),
    "bf16": _fixed(rel_rms=(0.05, 0.15), cosine=(0.999, 0.99)),
    "half": _fixed(max_abs=(1e-2, 1e-1), mse=(1e-5, 1e-3), cosine=(0.999, 0.99)),
    "int8-dynamic": _fixed(rel_rms=(0.15, 0.35), cosine=(0.99, 0.95)),
    "int8-static": _fixed(rel_rms=(0.15, 0.35), cosine=(0.99, 0.95)),
    "int4-weight": _fixed(rel_rms=(0.25, 0.5), cosine=(0.97, 0.9)),
}

#: What holds for the precisions whose rounding a noise floor can be measured for.
NOISE_FLOOR = Tolerance.model_validate({"policy": "noise-floor", "safety": _SAFETY})

#: What holds when the manifest says nothing.
BUILTIN_TOLERANCE = {
    name: NOISE_FLOOR if traits.noise_floor else FIXED_TOLERANCE[name]
    for name, traits in PRECISIONS.items()
}
