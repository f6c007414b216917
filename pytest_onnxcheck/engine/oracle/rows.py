"""The examples of a batch, each on its own: what a loud one hides of a quiet one.

A number over a whole output is decided by its largest examples. One that is a hundredth as large
may be wholly wrong beside them, in int8 for one, where a batch shares one scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.batches import leading_dim, led_inputs, scalable
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.alike import masked
from pytest_onnxcheck.measurement import RowMeasurement

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.reference.reference import Reference

    Array = np.ndarray[Any, Any]

__all__ = ["Batch", "batch_of", "quiet_floors", "row_errors"]

#: An example is quiet whose inputs are less than this share of the loudest one's. Only a quiet one
#: is held to its own magnitude: another may be small because its terms happen to cancel.
_QUIET = 1 / 8

#: An output this much smaller than the batch's is nothing, of which no share is asked.
_NOTHING = 1e-6


@dataclass(frozen=True)
class Batch:
    """The examples of a case.

    Attributes:
        dim: The symbolic dim that counts them: the first of inputs and outputs.
        loudness: How large each example's inputs are, as a share of the loudest's; float64, shape
            [examples], in [0, 1]. Ones where the inputs are not floats.
        outputs: The outputs that have them, by name.
    """

    dim: str
    loudness: Array
    outputs: frozenset[str]

    @property
    def quiet(self) -> Array:
        """Which examples are quiet; booleans, shape [examples]."""
        quiet: Array = self.loudness < _QUIET
        return quiet

    @property
    def share(self) -> Array:
        """How large each example is expected to be beside the batch: 1 unless it is quiet."""
        import numpy as np

        return np.where(self.quiet, self.loudness, 1.0)

    def row(self, metric: str, index: int, value: float) -> RowMeasurement:
        """A metric of one of the examples."""
        loudest = int(self.loudness.argmax())
        return RowMeasurement(metric, index, value, loudest, float(self.loudness[index]))


def batch_of(reference: Reference, case: Case) -> Batch | None:
    """The examples of a case; None where it has fewer than two, or inputs that disagree on it."""
    import numpy as np

    dim = leading_dim(reference)
    if dim is None:
        return None
    led = led_inputs(reference, dim)
    sizes = {case.inputs[name].shape[:1] for name in led}
    if len(sizes) != 1 or min(sizes) < (2,):
        return None
    loudness = np.zeros(*sizes)
    for name in scalable(reference, [name for name in led if case.inputs[name].size]):
        magnitude = np.nan_to_num(np.abs(case.inputs[name].astype(np.float64)), posinf=0.0)
        size = np.sqrt((magnitude.reshape(len(loudness), -1) ** 2).mean(1))
        if size.max():
            loudness = np.maximum(loudness, size / size.max())
    outputs = reference.model.outputs.items()
    return Batch(
        dim,
        loudness if loudness.any() else np.ones_like(loudness),
        frozenset(name for name, output in outputs if (output.shape or ())[:1] == (dim,)),
    )


def row_errors(batch: Batch, expected: Array, actual: Array) -> Iterator[RowMeasurement]:
    """The relative error and the cosine of the examples on which they are worst.

    An example's error is a share of its own magnitude, and of the whole output's unless its inputs
    are quiet.

    Args:
        batch: The examples.
        expected: PyTorch's output, floating; the first axis has the examples.
        actual: The artefact's, of the same shape.
    """
    import numpy as np

    count = len(batch.loudness)
    finite = np.isfinite(expected) & np.isfinite(actual) & ~masked(expected, actual)
    own = np.where(finite, expected, 0).astype(np.float64).reshape(count, -1)
    found = np.where(finite, actual, 0).astype(np.float64).reshape(count, -1)
    largest = max(float(np.abs(own).max(initial=0.0)), float(np.abs(found).max(initial=0.0)))
    if not largest:
        return
    own, found = own / largest, found / largest  # squares would leave float64's range
    error, size = np.linalg.norm(found - own, axis=1), np.linalg.norm(own, axis=1)
    whole = np.sqrt((size**2).mean())
    beside = np.maximum(size, whole * batch.share)
    told = beside > _NOTHING * whole
    relative = np.divide(error, beside, out=np.zeros(count), where=told)
    worst = int(relative.argmax())
    yield batch.row("rel_rms", worst, float(relative[worst]))
    # a direction means something where the example is not small by chance
    sizes = size * np.linalg.norm(found, axis=1)
    told &= (size >= whole * batch.share) & (sizes > 0)
    cosine = np.divide((own * found).sum(1), sizes, out=np.ones(count), where=told)
    worst = int(cosine.argmin())
    yield batch.row("cosine", worst, float(cosine[worst]))


def quiet_floors(
    batch: Batch, exact: Array, error: Array, moved: Array, floor: float, usual: float
) -> RowMeasurement | None:
    """The quiet example that is most floors of its own away; None where none is quiet.

    Its floor is how far rounding moves its own elements, and at least as much of its magnitude as
    the whole output's floor is of the whole output's.

    Args:
        batch: The examples.
        exact: The output in float64; this and the next two are 0 where not compared.
        error: |artefact - exact|.
        moved: How far rounding was seen to move the elements.
        floor: How far it moves the worst element of the whole output.
        usual: The largest magnitude of this output in an ordinary case.
    """
    import numpy as np

    count = len(batch.loudness)
    sizes, errors, moves = (
        np.abs(array).reshape(count, -1).max(1, initial=0.0) for array in (exact, error, moved)
    )
    whole = max(float(sizes.max()), usual)
    beside = np.maximum(sizes, whole * batch.share)
    told = batch.quiet & (beside > _NOTHING * whole)
    if not told.any():
        return None
    floors = np.maximum(moves, floor / whole * beside)
    ratios = np.divide(errors, floors, out=np.where(errors > 0, np.inf, 0.0), where=floors > 0)
    worst = int(np.where(told, ratios, -1.0).argmax())
    return batch.row("floors", worst, float(ratios[worst]))
