"""Numbers about two arrays: PyTorch's output (expected) and the artefact's (actual)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.alike import distance, masked
from pytest_onnxcheck.manifest.sections import Output, Tolerance
from pytest_onnxcheck.measurement import Element, OutputMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["compare", "sqnr"]

#: how many of the elements that differ most are kept
_WORST = 5


def compare(
    name: str, declared: Output, expected: Array, actual: Array, tolerance: Tolerance
) -> OutputMeasurement:
    """Measures one output.

    Floats are compared in float64 and integers exactly, so that neither rounds nor overflows.
    Elements that are NaN or infinite with the same sign on both sides agree and are left out of
    the metrics, as masks that are the same are; one that is so on one side only is counted in
    `nonfinite`.

    Args:
        name: The output's name.
        declared: Its declared shape and range.
        expected: PyTorch's array, any shape and dtype.
        actual: The artefact's array.
        tolerance: Gives rtol and atol of the allclose measure.
    """
    import numpy as np

    facts: dict[str, Any] = {
        "name": name,
        "expected_dtype": expected.dtype.name,
        "actual_dtype": actual.dtype.name,
        "expected_shape": expected.shape,
        "actual_shape": actual.shape,
        "elements": expected.size,
        "without_elements": 0 in (declared.shape or ()),
    }
    if expected.shape != actual.shape or expected.size == 0:
        return OutputMeasurement(**facts)
    finite = np.isfinite(expected) & np.isfinite(actual)
    same = _same_nonfinite(expected, actual)
    error = np.where(finite, distance(expected, actual, finite), np.where(same, 0.0, np.inf))
    reference = np.where(finite, expected, 0).astype(np.float64)
    counted = finite & ~masked(expected, actual)
    compared = error[counted]
    own = expected[np.isfinite(expected)].astype(np.float64)
    facts["scale"] = float(np.abs(own).max(initial=0.0))
    if own.size:
        facts |= {"lowest": float(own.min()), "highest": float(own.max())}
    facts["nonfinite"] = int((~finite & ~same).sum())
    facts["differing"] = int((error != 0).sum())
    facts["expected_nan"] = int(np.isnan(expected).sum())
    facts["worst"] = _worst(expected, actual, error)
    facts["outside_range"] = _outside(actual, declared)
    facts["expected_outside_range"] = _outside(expected, declared)
    if compared.size:
        magnitude = np.abs(reference[counted])
        nonzero = magnitude > 0
        facts |= {
            "max_abs": float(compared.max()),
            "mean_abs": float(compared.mean()),
            "mse": _mean_square(compared),
            "max_rel": _max_ratio(compared[nonzero], magnitude[nonzero]),
            "rel_rms": _relative_rms(compared, magnitude),
            "cosine": _cosine(reference[counted], actual[counted].astype(np.float64)),
            "top1": _top1(expected, actual),
        }
        if tolerance.rtol is not None and tolerance.atol is not None:
            limit = tolerance.atol + tolerance.rtol * magnitude
            facts["outside_allclose"] = float((compared > limit).mean())
    return OutputMeasurement(**facts)


def _mean_square(values: Array) -> float:
    import numpy as np

    with np.errstate(over="ignore"):  # infinity is the right answer, and fails
        return float((values**2).mean())


def _relative_rms(error: Array, magnitude: Array) -> float:
    """||error|| / ||reference||: 0 when both are 0, infinite when only the reference is."""
    import numpy as np

    largest = max(float(error.max()), float(magnitude.max()))
    if largest == 0 or not np.isfinite(largest):
        return largest
    # scaled first, as in _cosine
    errors, norm = np.linalg.norm(error / largest), np.linalg.norm(magnitude / largest)
    return float(errors / norm) if norm else float("inf") if errors else 0.0


def _max_ratio(values: Array, divisors: Array) -> float:
    import numpy as np

    with np.errstate(over="ignore"):
        return float((values / divisors).max(initial=0.0))


def _same_nonfinite(expected: Array, actual: Array) -> Array:
    import numpy as np

    infinite = np.isinf(expected) & np.isinf(actual)
    same_sign = np.signbit(expected) == np.signbit(actual) if infinite.any() else infinite
    return (np.isnan(expected) & np.isnan(actual)) | (infinite & same_sign)


def _cosine(expected: Array, actual: Array) -> float:
    import numpy as np

    # scaled first: squares of values near 1e200 or 1e-200 leave float64's range
    largest = max(float(np.abs(expected).max()), float(np.abs(actual).max()))
    if largest == 0:
        return 1.0
    expected, actual = expected / largest, actual / largest
    norms = float(np.linalg.norm(expected) * np.linalg.norm(actual))
    return float(np.dot(expected, actual) / norms) if norms else 0.0


def _top1(expected: Array, actual: Array) -> float | None:
    """Share of the rows along the last axis in which the artefact picks a largest element.

    Where several elements of PyTorch's row are the largest, any of them will do; NaN is none.
    None for integers, and for outputs without rows of at least two elements.
    """
    import numpy as np

    if expected.dtype.kind != "f" or expected.ndim < 2 or expected.shape[-1] < 2:
        return None
    own = np.where(np.isnan(expected), -np.inf, expected)
    chosen = np.where(np.isnan(actual), -np.inf, actual).argmax(axis=-1, keepdims=True)
    agree = np.take_along_axis(own, chosen, axis=-1) == own.max(axis=-1, keepdims=True)
    return float(agree.mean())


def _outside(array: Array, declared: Output) -> float:
    if declared.range is None:
        return 0.0
    low, high = declared.range
    # NaN is in no range
    return float((~((array >= low) & (array <= high))).mean())


def _worst(expected: Array, actual: Array, error: Array) -> tuple[Element, ...]:
    import numpy as np

    flat = error.reshape(-1)
    count = min(_WORST, flat.size)
    order = np.argpartition(-flat, count - 1)[:count]
    order = order[np.argsort(-flat[order], kind="stable")]
    return tuple(
        Element(
            tuple(int(i) for i in np.unravel_index(position, error.shape)),
            expected.reshape(-1)[position].item(),
            actual.reshape(-1)[position].item(),
        )
        for position in order
        if flat[position] > 0
    )


def sqnr(exact: Array, quantized: Array) -> float | None:
    """Signal to quantization noise in dB; None where the two cannot be compared."""
    import numpy as np

    if exact.dtype.kind != "f" or quantized.dtype.kind != "f" or exact.shape != quantized.shape:
        return None
    signal, found = exact.astype(np.float64), quantized.astype(np.float64)
    finite = np.isfinite(signal)
    if not finite.any() or not np.isfinite(found[finite]).all():
        return -math.inf if finite.any() else None
    power = float(np.sum(signal[finite] ** 2))
    noise = float(np.sum((signal[finite] - found[finite]) ** 2))
    if not power:
        return None
    return 10 * math.log10(power / noise) if noise else math.inf
