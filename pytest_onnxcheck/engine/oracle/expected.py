"""What one case should give: PyTorch's outputs, in float64 too, and under rounding."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.alike import apart, same
from pytest_onnxcheck.engine.oracle.cost import Cost
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.oracle.oracle import Oracle

    Array = np.ndarray[Any, Any]

__all__ = ["DOUBTFUL", "DRAWS", "Depth", "Expected", "reason"]

#: perturbed runs of a case, at most
DRAWS = 8

#: What a perturbed run moves beside weights and inputs: the results of all operators; those of
#: PyTorch's functions, which are run whole where they are made of operators; or nothing.
Depth = Literal["operators", "functions", "inputs"]

#: those that depend on PyTorch's own ways, the deepest first
_DEPTHS: tuple[Depth, ...] = ("operators", "functions")

#: PyTorch's float32 and float64 runs may be this far apart, as a part of the output, before it is
#: asked whether both take the same way.
DOUBTFUL = 2.0**-10


class Expected:
    """What one case should give.

    Attributes:
        case: The case.
        outputs: PyTorch's outputs as arrays, in order; what a mask hides without its fast path.
        own: PyTorch's outputs as they are.
    """

    def __init__(self, oracle: Oracle, case: Case, outputs: list[Array]) -> None:
        self.case = case
        self.own = outputs
        self.outputs = oracle.beside_the_fast_path(case, outputs)
        self._oracle = oracle
        self._draws: dict[tuple[str, float], list[list[Array] | None]] = {}

    @property
    def size_bytes(self) -> int:
        """Bytes of the inputs and outputs."""
        return sum(array.nbytes for array in (*self.case.inputs.values(), *self.outputs))

    @cached_property
    def exact(self) -> list[Array] | None:
        """The outputs in float64; None where the reference cannot be run so (`problem`)."""
        try:
            outputs = self._oracle.widened_run(self.case)
        except Exception as error:
            self.problem = reason(error)
            return None
        for wide, output in zip(outputs, self.outputs, strict=True):
            if output.dtype.kind == "f" and wide.dtype.name != "float64":
                self.problem = f"it casts to {wide.dtype.name} on the way"
                return None
            if wide.shape != output.shape:
                self.problem = f"shapes change from {output.shape} to {wide.shape}"
                return None
        if not self._comparable(outputs):
            self.problem = "PyTorch takes another way there, which gives other values"
            return None
        return outputs

    def _comparable(self, wide: list[Array]) -> bool:
        """Whether PyTorch computes in float64 what it computes in float32.

        Asked only where the two differ so much that a fault might be excused by it. A layer's
        fused kernel, for one, may be left for another that treats a masked row otherwise.
        """
        doubtful = [
            (index, gap)
            for index, (own, exact) in enumerate(zip(self.outputs, wide, strict=True))
            if (gap := apart(own, exact)) > DOUBTFUL
        ]
        if not doubtful:
            return True
        try:
            same_way = self._oracle.watched_run(self.case)
        except Exception:
            return False
        return all(apart(self.outputs[i], same_way[i]) < gap / 2 for i, gap in doubtful)

    #: why there is no `exact`
    problem: str | None = None

    @cached_property
    def cost(self) -> Cost:
        """A run of the reference, with the magnitudes that its operators give on the way."""
        return self._oracle.counted(self.case)

    def draws(self, precision: str, units: float = 1.0) -> Iterator[list[Array]]:
        """The outputs of `DRAWS` runs perturbed by the rounding of a precision; made as taken."""
        made = self._draws.setdefault((precision, units), [])
        first = 0 if units == 1.0 else DRAWS  # else a tie that some draws miss, all would miss
        for index in range(DRAWS):
            if index == len(made):
                made.append(self._attempt(precision, first + index, units))
            draw = made[index]
            if draw is not None:
                yield draw

    def _attempt(self, precision: str, seed: int, units: float) -> list[Array] | None:
        """A perturbed run; None where the model does not bear it, or gives other shapes."""
        try:
            draw = self._perturbed(precision, seed, units, self._depth)
        except Exception:  # the user's code: assertions on its own values, for one
            return None
        pairs = zip(draw, self.outputs, strict=True)
        return draw if all(one.shape == own.shape for one, own in pairs) else None

    def _perturbed(self, precision: str, seed: int, units: float, depth: Depth) -> list[Array]:
        wide = self.exact is not None
        return self._oracle.perturbed_run(self.case, precision, seed, units, depth, wide=wide)

    @cached_property
    def _depth(self) -> Depth:
        """How deep perturbed runs may go: where they move nothing, they must change nothing."""
        unmoved = self.outputs if self.exact is None else self.exact
        why = ""
        for depth in _DEPTHS:
            try:
                found = self._perturbed("fp32", 0, 0.0, depth)
            except Exception as error:
                why = reason(error)
                continue
            if same(unmoved, found, UNIT["fp32"]):
                return depth
            why = "a run that moves nothing gives other values"
        self._oracle.note(
            f"its operators cannot be perturbed ({why}): the noise floor counts the rounding of "
            "weights and inputs alone, and may be too low"
        )
        return "inputs"


def reason(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {one_line(error)[:200]}"
