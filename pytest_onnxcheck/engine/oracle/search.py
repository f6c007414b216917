"""Search: hypothesis looks for inputs on which an artefact fails, and shrinks what it finds.

Every input is a recipe: a kind of array, and a few elements set by hand. A recipe has the same
form at every size, so that dims shrink without disturbing the rest. Small arrays are also drawn
element by element. In the end, elements that do not matter are made plain.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case, dims_of, smallest_dims
from pytest_onnxcheck.engine.inputs.probes import EXTREME, ORDINARY, Probe, probes
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError, OnnxCheckError
from pytest_onnxcheck.manifest.sections import Input
from pytest_onnxcheck.manifest.sizes import dims_in, fits, shape_at

if TYPE_CHECKING:
    import numpy as np
    from hypothesis.strategies import DrawFn, SearchStrategy

    Array = np.ndarray[Any, Any]

__all__ = ["Found", "search"]

#: arrays of at most so many elements are also drawn element by element
_SMALL = 64

#: how far from their mean floats without a range are drawn, in standard deviations
_DEVIATIONS = 10

#: what floats without a range are multiplied by
_MULTIPLIERS = (1.0, -1.0, 0.01, 8.0)

#: the kind that recipes shrink to: the value nearest to zero, everywhere
_PLAIN = "plain"

#: elements set by hand, at most
_POKES = 3

#: what is found late is shrunk for this part of the time more
_SHRINKING = 4

_SEEDS = 2**16
_PLACES = 2**31
_ROWS = 2**8


@dataclass(frozen=True)
class Found:
    """What the search found.

    Attributes:
        case: The smallest inputs it came to that fail; named by their content.
        problem: What is wrong with them.
        tried: How many cases were run in all.
    """

    case: Case
    problem: str
    tried: int


def search(oracle: Oracle, seconds: float, problem: Callable[[Case], str | None]) -> Found | None:
    """Looks for a case that fails. The same every time, as far as time allows.

    Args:
        oracle: Gives the inputs; what it keeps of a case is dropped after each.
        seconds: How long to look. Shrinking what is found takes what is left of it, and a quarter
            of it more.
        problem: Measures and judges a case: its failure, or None. Cases that PyTorch itself does
            not take, and raises an InputError for, are no failures.

    Returns:
        The smallest failing case, or None when none was found.

    Raises:
        OnnxCheckError: hypothesis is not installed.
        Exception: What `problem` raises, InputErrors apart.
    """
    try:
        from hypothesis import HealthCheck, Phase, Verbosity, given, settings
        from hypothesis.errors import Flaky, Unsatisfiable
    except ImportError as error:
        raise OnnxCheckError(
            f"--onnxcheck-search needs hypothesis ({error}): pip install hypothesis, "
            "or pip install 'pytest-onnxcheck[search]'"
        ) from error

    hunt = _Hunt(oracle, seconds, problem)
    varied = _fillings(oracle.reference)

    @settings(
        max_examples=10**9,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(_cases(oracle.reference, varied, hunt.check_time))
    def look(case: Case) -> None:
        hunt.look(case)

    with contextlib.suppress(_Stop, Flaky, Unsatisfiable):
        try:
            look()
        except _Fails:
            hunt.simplify({name: filling.plain for name, filling in varied.items()})
    if hunt.error is not None:
        raise hunt.error
    return hunt.found()


class _Stop(BaseException):
    """Ends the search from inside: hypothesis lets through what is no Exception."""


class _Fails(Exception):  # noqa: N818
    """Tells hypothesis that a case fails; always raised from the same place."""


class _Hunt:
    """Runs cases until the time is up, and keeps the smallest that fails.

    Attributes:
        error: What `problem` raised, and ended the search.
    """

    def __init__(
        self, oracle: Oracle, seconds: float, problem: Callable[[Case], str | None]
    ) -> None:
        self.error: Exception | None = None
        self._oracle = oracle
        self._seconds = seconds
        self._problem = problem
        self._until = time.monotonic() + seconds
        self._tried = 0
        self._passed: set[str] = set()
        self._smallest: tuple[Case, str] | None = None
        self._last: tuple[Case, str] | None = None
        self._shrunk = False

    def check_time(self) -> None:
        """Ends the search when the time is up."""
        if time.monotonic() >= self._until:
            raise _Stop

    def look(self, case: Case) -> None:
        """Runs a case, unless it has passed before, and raises `_Fails` if it fails."""
        if case.name in self._passed:
            return
        self._tried += 1
        try:
            problem = self._problem(case)
        except InputError:
            problem = None
        except Exception as error:
            self.error = error
            raise _Stop from error
        finally:
            self._oracle.forget(case)
        if problem is None:
            self._passed.add(case.name)
            return
        if self._smallest is None:
            self._until += self._seconds / _SHRINKING
        self._last = case, problem
        if self._smallest is None or _size(case) < _size(self._smallest[0]):
            self._smallest = self._last
        raise _Fails

    def simplify(self, plain: Mapping[str, float]) -> None:
        """Makes elements plain, in ever smaller parts, as long as the last case still fails.

        Args:
            plain: Input -> value; the others stay as they are.
        """
        self._shrunk = True
        self._cut()
        assert self._last is not None
        for name, value in plain.items():
            size = part = self._last[0].inputs[name].size
            while part:
                for start in range(0, size, part):
                    self._make_plain(name, slice(start, start + part), value)
                part //= 2

    def _cut(self) -> None:
        """Cuts every dim down to its smallest size, wherever the last case still fails.

        Those that stand in an expression stay: other axes would have to be cut with them.
        """
        import numpy as np

        assert self._last is not None
        model, shapes = self._oracle.reference.model, self._oracle.reference.shapes
        sums = [size for shape in shapes.values() for size in shape if size not in model.dims]
        tied = dims_in([sums], model.dims)
        for dim, size in smallest_dims(model).items():
            if dim in tied:
                continue
            axes = {name: shape.index(dim) for name, shape in shapes.items() if dim in shape}
            held = {self._last[0].inputs[name].shape[axis] for name, axis in axes.items()}
            for start in range(max(held, default=0) - size + 1):
                inputs = dict(self._last[0].inputs)
                for name, axis in axes.items():
                    inputs[name] = inputs[name].take(np.arange(start, start + size), axis)
                cut = _named(inputs, _sizes(dims_of(self._oracle.reference, inputs)))
                with contextlib.suppress(_Fails):
                    self.check_time()
                    self.look(cut)
                if self._last[0] is cut:
                    break

    def _make_plain(self, name: str, part: slice, value: float) -> None:
        self.check_time()
        assert self._last is not None
        case = self._last[0]
        if (case.inputs[name].reshape(-1)[part] == value).all():
            return
        array = case.inputs[name].copy()
        array.reshape(-1)[part] = value
        with contextlib.suppress(_Fails):
            self.look(_named({**case.inputs, name: array}, case.name.partition("/")[2]))

    def found(self) -> Found | None:
        """The smallest failing case; of those shrunk to the end, the simplest."""
        if self._smallest is None or self._last is None:
            return None
        simplest = self._shrunk and _size(self._last[0])[0] <= _size(self._smallest[0])[0]
        return Found(*(self._last if simplest else self._smallest), self._tried)


def _sizes(dims: Mapping[str, int]) -> str:
    """The sizes of the symbolic dims, as a case's name has them."""
    return "/".join(f"{dim}={size}" for dim, size in dims.items())


def _size(case: Case) -> tuple[int, int, float]:
    """Number of elements, how many of them are NaN or infinite, and the sum of the others."""
    import numpy as np

    elements = nonfinite = 0
    total = 0.0
    for array in case.inputs.values():
        magnitude = np.abs(array.astype(np.float64))
        finite = np.isfinite(magnitude)
        elements += array.size
        nonfinite += int((~finite).sum())
        total += float(magnitude[finite].sum())
    return elements, nonfinite, total


def _cases(
    reference: Reference, varied: Mapping[str, _Filling], check_time: Callable[[], None]
) -> SearchStrategy[Case]:
    from hypothesis import reject
    from hypothesis import strategies as st

    model = reference.model
    from_file = any(entry.fill == "file" for entry in model.inputs.values())

    @st.composite
    def cases(draw: DrawFn) -> Case:
        check_time()
        dims = {dim: draw(st.sampled_from(sizes)) for dim, sizes in model.sizes.items()}
        if not fits(reference.shapes.values(), dims):
            reject()
        row = draw(st.integers(0, _ROWS - 1)) if from_file else 0
        seed = draw(st.integers(0, _SEEDS - 1)) if varied else 0
        recipes = {name: filling.recipe(draw, dims) for name, filling in varied.items()}
        kinds = {name: recipe.kind for name, recipe in recipes.items() if recipe.kind != _PLAIN}
        try:
            arrays = Probe(f"search/{seed}", dims, kinds, row).case(reference).inputs
        except InputError:  # the examples of a file do not fit sizes that nobody declared
            reject()
        for name, recipe in recipes.items():
            arrays[name] = varied[name].filled(recipe, arrays[name])
        return _named(arrays, _sizes(dims))

    return cases()


def _named(arrays: dict[str, Array], sizes: str) -> Case:
    """A case named by its content, so that no two cases share a name."""
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    name = f"search:{digest.hexdigest()[:12]}"
    return Case(f"{name}/{sizes}" if sizes else name, arrays, probe=True)


def _fillings(reference: Reference) -> dict[str, _Filling]:
    """The inputs that take other values than the manifest fills them with."""
    return {
        name: _Filling(name, reference)
        for name, entry in reference.model.inputs.items()
        if entry.fill not in ("constant", "file", "mask")
        and (entry.range is None or entry.range[0] < entry.range[1])
    }


@dataclass(frozen=True)
class _Recipe:
    """How an input is filled.

    Attributes:
        kind: One of `probes`' kinds, or `_PLAIN`.
        scale: What the array is multiplied by.
        pokes: Elements set by hand: place, modulo the size, and value.
        elements: All elements; the others are then of no account.
    """

    kind: str = ORDINARY
    scale: float = 1.0
    pokes: tuple[tuple[int, float], ...] = ()
    elements: Array | None = None


class _Filling:
    """How one input may be filled.

    Attributes:
        plain: The value nearest to zero.
    """

    def __init__(self, name: str, reference: Reference) -> None:
        self._entry = reference.model.inputs[name]
        self._shape = reference.shapes[name]
        self._low, self._high = _ends(self._entry)
        self.plain = min(max(0, self._low), self._high)
        self._free = self._entry.range is None and self._entry.dtype.startswith("float")
        found = [probe.kinds[name] for probe in probes(reference)]
        # what nobody declared is told of a probe, and no failure to look for
        usual = [kind for kind in found if kind not in EXTREME]
        self._kinds = list(dict.fromkeys([_PLAIN, ORDINARY, *usual]))

    def recipe(self, draw: DrawFn, dims: Mapping[str, int]) -> _Recipe:
        """Draws a recipe; the plainest is zeros."""
        from hypothesis import strategies as st
        from hypothesis.extra.numpy import arrays

        elements = self._elements()
        shape = shape_at(self._shape, dims)
        # drawn at every size, so that the draws behind it keep their meaning
        if draw(st.booleans()) and math.prod(shape) <= _SMALL:
            dense = arrays(self._entry.dtype, shape, elements=elements, fill=st.nothing())
            return _Recipe(elements=draw(dense))
        places = st.integers(0, _PLACES - 1)
        return _Recipe(
            draw(st.sampled_from(self._kinds)),
            draw(st.sampled_from(_MULTIPLIERS)) if self._free else 1.0,
            tuple(draw(st.lists(st.tuples(places, elements), max_size=_POKES))),
        )

    def filled(self, recipe: _Recipe, array: Array) -> Array:
        """The array of a recipe, made from the one of its kind."""
        import numpy as np

        if recipe.elements is not None:
            return recipe.elements
        if recipe.kind == _PLAIN:
            array = np.full_like(array, self.plain)
        elif self._free:
            with np.errstate(over="ignore"):  # what overflows is clipped
                scaled = np.clip(array * array.dtype.type(recipe.scale), self._low, self._high)
            array = np.where(np.isfinite(array), scaled, array).astype(array.dtype)
        for place, value in recipe.pokes if array.size else ():
            array.flat[place % array.size] = value
        return array

    def _elements(self) -> SearchStrategy[Any]:
        import numpy as np
        from hypothesis import strategies as st

        dtype = np.dtype(self._entry.dtype)
        if dtype.kind == "b":
            return st.booleans()
        if dtype.kind != "f" or self._entry.fill == "integers":
            whole = st.integers(int(self._low), int(self._high))
            return whole if dtype.kind != "f" else whole.map(lambda value: float(dtype.type(value)))
        width: Any = 8 * dtype.itemsize
        floats = st.floats(self._low, self._high, width=width, allow_subnormal=False)
        if self._entry.nonfinite:
            return floats | st.sampled_from([math.nan, math.inf, -math.inf])
        return floats


def _ends(entry: Input) -> tuple[float, float]:
    """The lowest and highest value to draw, exact in the input's dtype."""
    import numpy as np

    if entry.dtype == "bool":
        return 0, 1
    is_float = entry.dtype.startswith("float")
    if entry.range is not None and (not is_float or entry.fill == "integers"):
        return math.ceil(entry.range[0]), math.floor(entry.range[1])
    spread = _DEVIATIONS * entry.std
    low, high = entry.range or (entry.mean - spread, entry.mean + spread)
    info = np.finfo(entry.dtype)
    return _rounded(low, info), _rounded(high, info)


def _rounded(value: float, info: np.finfo[Any]) -> float:
    """The finite number of a dtype next to a value; 0 for what is smaller than normal."""
    clipped = min(max(value, float(info.min)), float(info.max))
    return 0.0 if abs(clipped) < float(info.tiny) else float(info.dtype.type(clipped))
