"""The noise floor: how far rounding alone moves an output, and how far the artefact is from it.

Two estimates, and the floor is the larger: the error of PyTorch's own float32 run against float64
(for fp16 and half, in proportion), and the spread of runs perturbed by the rounding of the
precision under test (`rounding`). The second costs several runs and can only raise the floor, so
runs are added one by one while an error is not explained. Nothing is expected to be more exact
than one rounding of the output itself.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.alike import distance, masked, nonfinite_kinds
from pytest_onnxcheck.engine.oracle.expected import Expected
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.oracle.rows import Batch, quiet_floors
from pytest_onnxcheck.measurement import FloorMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Of thousands of elements that tie, some draws move none: where all but this share are seen to
#: tie, the others are taken to.
_TIED = 0.95

__all__ = ["in_floors", "measure_floor", "tied_elements"]


def measure_floor(
    expected: Expected,
    index: int,
    actual: Array,
    precision: str,
    safety: float,
    usual_magnitude: float,
    batch: Batch | None = None,
) -> FloorMeasurement:
    """Measures the error of a floating output in noise floors.

    Args:
        expected: What the case should give.
        index: Which output.
        actual: The artefact's output, of PyTorch's shape.
        precision: `fp32`, `fp16` or `half`.
        safety: Up to this many floors the second estimate is not needed.
        usual_magnitude: max |y| of this output in an ordinary case. An output that happens to be
            small is not asked to be more exact than it usually is.
        batch: The examples in it, each of which is measured by itself if it is quiet.
    """
    import numpy as np

    own = expected.outputs[index]
    exact = own if expected.exact is None else expected.exact[index]
    source = "float64" if expected.exact is not None else "float32"
    unstable = nonfinite_kinds(own) != nonfinite_kinds(exact)
    finite = _finite(own, exact, actual) & ~masked(own, exact, actual)
    floors = _rounding(exact[finite], precision, usual_magnitude)
    # to first order, rounding errors grow in proportion to the unit of rounding
    scale = UNIT[precision] / UNIT["fp32"]
    moved = distance(own, exact, finite) * scale
    worst, rms = _size(own[finite] - exact[finite])
    floors = _larger(floors, (worst * scale, rms * scale))

    def measure(told: str) -> FloorMeasurement:
        whole = _measured(own, exact, actual, finite, unstable, floors, told, safety)
        if batch is None or not batch.quiet.any():
            return whole
        known, error = np.where(finite, exact, 0.0), distance(actual, exact, finite)
        row = quiet_floors(batch, known, error, moved, floors[0], usual_magnitude)
        return dataclasses.replace(whole, row=row)

    measured = measure(source)
    draws = expected.draws(precision)
    count = 0
    while _needs_more_runs(measured, safety):
        draw = next(draws, None)
        if draw is None:
            break
        count += 1
        unstable |= nonfinite_kinds(draw[index]) != nonfinite_kinds(exact)
        finite &= _finite(draw[index])
        floors = _larger(floors, _size(draw[index][finite] - exact[finite]))
        moved = np.maximum(moved, distance(draw[index], exact, finite))
        measured = measure(f"{source}, {count} perturbed run{'s' * (count > 1)}")
    return dataclasses.replace(measured, perturbed_runs=count)


def _needs_more_runs(measured: FloorMeasurement, safety: float) -> bool:
    """Whether perturbed runs may still explain something."""
    return measured.farthest > safety or measured.nonfinite > 0


def tied_elements(
    expected: Expected, index: int, actual: Array, precision: str
) -> tuple[int, float]:
    """How many of the elements that differ rounding alone changes too, for exact outputs.

    Args:
        expected: What the case should give.
        index: Which output, of an integer or boolean dtype.
        actual: The artefact's output, of PyTorch's shape.
        precision: The precision under test.

    Returns:
        Their number, and by how many roundings at most everything was moved to change them all.
    """
    import numpy as np

    own = expected.outputs[index]
    differs = own != actual
    if not differs.any():
        return 0, 0.0
    tied = np.zeros_like(differs)
    if expected.exact is not None:
        tied |= expected.exact[index] != own
    margin = 0.0
    for margin in (1.0, 8.0):
        for draw in expected.draws(precision, margin):
            tied |= draw[index] != own
        if tied[differs].mean() >= _TIED:
            return int(differs.sum()), margin
    return int((tied & differs).sum()), margin


def _measured(
    own: Array,
    exact: Array,
    actual: Array,
    finite: Array,
    unstable: Array,
    floors: tuple[float, float],
    source: str,
    safety: float,
) -> FloorMeasurement:
    import numpy as np

    error = np.abs(actual[finite].astype(np.float64) - exact[finite])
    worst, rms = _size(error)
    differs = _differs(own, actual, unstable)
    return FloorMeasurement(
        source=source,
        ratio=max(in_floors(worst, floors[0]), in_floors(rms, floors[1])),
        error_worst=worst,
        error_rms=rms,
        floor_worst=floors[0],
        floor_rms=floors[1],
        torch_worst=_size(own[finite] - exact[finite])[0],
        outside=float((error > safety * floors[0]).mean()) if error.size else 0.0,
        unstable=int(unstable.sum()),
        nonfinite=int(differs.sum()),
        broken=int((differs & np.isfinite(own)).sum()),
    )


def in_floors(error: float, floor: float) -> float:
    """An error in floors: infinite where nothing is allowed and something is wrong."""
    if not floor:
        return math.inf if error else 0.0
    return error / floor


def _differs(own: Array, actual: Array, unstable: Array) -> Array:
    """Elements that are NaN or infinite in another way, which rounding does not explain."""
    differs: Array = (nonfinite_kinds(own) != nonfinite_kinds(actual)) & ~unstable
    return differs


def _finite(*arrays: Array) -> Array:
    import numpy as np

    finite: Array = np.logical_and.reduce([np.isfinite(array) for array in arrays])
    return finite


def _rounding(exact: Array, precision: str, usual_magnitude: float) -> tuple[float, float]:
    """One rounding of the output itself; uniform errors have an RMS of 1 / sqrt(3) of the most."""
    unit = UNIT[precision]
    worst, rms = _size(exact)
    return unit * max(worst, usual_magnitude), unit * max(rms, usual_magnitude) / 3**0.5


def _larger(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return max(one[0], other[0]), max(one[1], other[1])


def _size(values: Array) -> tuple[float, float]:
    """Largest magnitude and root mean square; scaled first, so that squares do not overflow."""
    import numpy as np

    if not values.size:
        return 0.0, 0.0
    magnitude = np.abs(values.astype(np.float64))
    worst = float(magnitude.max())
    if not worst:
        return 0.0, 0.0
    return worst, worst * float(np.sqrt(np.mean((magnitude / worst) ** 2)))
