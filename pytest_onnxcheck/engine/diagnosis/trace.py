"""Every value PyTorch computes while a reference runs, with how far rounding moves each of them.

The reference runs in float64. Beside every float64 tensor a float32 one is kept, on which the same
operators run in lockstep, so that the difference of the two is the noise floor of that very value,
and integers and control flow are the same on both sides.
"""

from __future__ import annotations

import contextlib
import copy
import math
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT, widened
from pytest_onnxcheck.engine.reference.tensors import tensors_of
from pytest_onnxcheck.places import is_ours

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["INPUT", "Record", "Sketch", "Trace", "sketch", "trace"]

#: operator of the records that hold the model's inputs
INPUT = "input"

#: Relative margin beside the floor: an exporter that folds one layer's weights into another's
#: rounds them once more. A share of the largest magnitude.
_MARGIN = 2e-6

#: How many standard deviations the floor of a single element may be too low.
_CHANCE = 4.0

#: How many floors apart equal values of an fp16 artefact may be.
_COARSE_SAFETY = 1.0


@dataclass(frozen=True)
class Sketch:
    """What an array looks like whatever the order of its elements.

    Attributes:
        kind: `f` for floats, `i` for integers, `b` for booleans, as numpy names kinds.
        size: Number of elements.
        low: Smallest finite element.
        high: Largest finite element.
        mean: Mean of the finite elements.
        rms: Root mean square of the finite elements.
        nonfinite: Numbers of NaN, of positive and of negative infinity.
    """

    kind: str
    size: int
    low: float
    high: float
    mean: float
    rms: float
    nonfinite: tuple[int, int, int]

    @property
    def scale(self) -> float:
        """Largest finite magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def telling(self) -> bool:
        """Whether an equal value elsewhere is hardly an accident: floats, not one constant."""
        return self.kind == "f" and self.low < self.high and not self.binary

    @property
    def binary(self) -> bool:
        """Whether it may be a mask of zeros and ones."""
        ones = self.mean * self.size
        return (self.low, self.high) == (0.0, 1.0) and math.isclose(
            self.rms**2 * self.size, ones, rel_tol=1e-9
        )


@dataclass
class Record:
    """One value of PyTorch's.

    Attributes:
        index: Its place in the order of execution.
        operator: What computed it, e.g. `aten.linear`; `INPUT` for an input of the model.
        module: Path of the innermost module that was running, empty for the model itself.
        source: `file:line` of the innermost line of the user's code, empty where there is none.
        inputs: Indices of the records it was computed from.
        shape: Its shape.
        sketch: What it looks like.
        floor: How far rounding moves it: its worst element, and the root mean square.
        value: The elements in row-major order, floats as float32; None beyond the memory allowed.
    """

    index: int
    operator: str
    module: str
    source: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    sketch: Sketch
    floor: tuple[float, float]
    value: Array | None


@dataclass
class Trace:
    """The values of one run.

    Attributes:
        records: Every value, in the order of execution.
        outputs: Index of the record of every output of the model; None where none was seen.
        named: Input name -> index of its record.
        note: What is missing, if anything.
    """

    records: list[Record] = field(default_factory=list)
    outputs: list[int | None] = field(default_factory=list)
    named: dict[str, int] = field(default_factory=dict)
    note: str = ""

    def find(self, value: Array, safety: float, unit: float) -> tuple[list[int], list[int]]:
        """Looks for records that hold a value.

        Args:
            value: An array of any shape.
            safety: How many floors apart two equal values may be.
            unit: Half a unit in the last place of the precision it was computed in.

        Returns:
            Indices of the records with the same elements in the same order, whatever the shape,
            and, where there are none, of those with the same elements in another order.
        """
        looks = sketch(value)
        near = [
            record
            for record in self._by_size[looks.kind, looks.size]
            if _alike(looks, record.sketch, _allowed(record, safety, unit))
        ]
        same, reordered = [], []
        for record in near:
            if self._equal(value, record, safety, unit, ordered=True):
                same.append(record.index)
        if not same and value.size > 2:
            for record in near:
                if self._equal(value, record, safety, unit, ordered=False):
                    reordered.append(record.index)
        return same, reordered

    def ratio(self, value: Array, index: int, unit: float) -> float | None:
        """How many floors a value is away from a record; None where the two cannot be compared."""
        import numpy as np

        record = self.records[index]
        if record.value is None or value.size != record.value.size or record.sketch.kind != "f":
            return None
        errors = np.abs(value.reshape(-1).astype(np.float64) - record.value.astype(np.float64))
        if not np.isfinite(errors).all():
            return math.inf
        worst, rms = _floor(record, unit)
        error = float(errors.max(initial=0.0)), float(np.sqrt(np.mean(errors**2)))
        return max(_over(error[0], worst), _over(error[1], rms))

    @property
    def _by_size(self) -> dict[tuple[str, int], list[Record]]:
        if self._grouped is None:
            self._grouped = defaultdict(list)
            for record in self.records:
                self._grouped[record.sketch.kind, record.sketch.size].append(record)
        return self._grouped

    _grouped: dict[tuple[str, int], list[Record]] | None = None

    def _equal(
        self, value: Array, record: Record, safety: float, unit: float, *, ordered: bool
    ) -> bool:
        import numpy as np

        if record.value is None:  # its sketch has to do
            return True
        one, other = value.reshape(-1), record.value
        if record.sketch.kind != "f":
            return ordered and bool(np.array_equal(one, other))
        if not ordered:
            one, other = np.sort(one), np.sort(other)
        with np.errstate(invalid="ignore"):  # infinities of one sign cancel to NaN
            errors = np.abs(one.astype(np.float64) - other)
        same = (one == other) | (np.isnan(one) & np.isnan(other))
        errors[same] = 0.0
        worst, rms = _allowed(record, safety, unit)
        return bool(errors.max(initial=0.0) <= worst and np.sqrt(np.mean(errors**2)) <= rms)


def sketch(value: Array) -> Sketch:
    """What an array looks like whatever the order of its elements."""
    import numpy as np

    kind = {"u": "i", "c": "f"}.get(value.dtype.kind, value.dtype.kind)
    flat = value.reshape(-1)
    wide = (np.abs(flat) if value.dtype.kind == "c" else flat).astype(np.float64)
    finite = np.isfinite(wide)
    counts = (0, 0, 0)
    if not finite.all():
        odd = wide[~finite]
        counts = int(np.isnan(odd).sum()), int((odd > 0).sum()), int((odd < 0).sum())
        wide = wide[finite]
    if not wide.size:
        return Sketch(kind, value.size, 0.0, 0.0, 0.0, 0.0, counts)
    scale = float(np.abs(wide).max()) or 1.0
    mean, rms = float(wide.mean()), scale * math.sqrt(float(np.mean((wide / scale) ** 2)))
    return Sketch(kind, value.size, float(wide.min()), float(wide.max()), mean, rms, counts)


def trace(oracle: Oracle, case: Case, *, limit_bytes: float = 1e9) -> Trace:
    """Runs the reference on a case and records what every operator gives.

    Args:
        oracle: Gives the reference, and says whether it runs in float64.
        case: The inputs.
        limit_bytes: How much of the values is kept; of the rest, only what they look like.

    Raises:
        Exception: PyTorch does not run on the case.
    """
    import torch

    wide = oracle.expected(case).exact is not None
    reference = oracle.reference
    module = copy.deepcopy(reference.module)
    tensors = tensors_of(case.inputs)
    if wide:
        module = module.double()
        tensors = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
    recorder = _Recorder(wide, limit_bytes)
    names = {id(child): name for name, child in module.named_modules()}
    for name, tensor in tensors.items():
        recorder.trace.named[name] = recorder.add(tensor, INPUT, ())
    with torch.inference_mode(), _slow_attention(), _module_paths(recorder.path, names):
        with widened() if wide else contextlib.nullcontext(), recorder.mode():
            outputs = _call(reference, module, tensors)
        recorder.trace.outputs = [recorder.of(output) for output in outputs]
    if not wide:
        recorder.trace.note = "PyTorch's values are those of float32, which are rounded themselves"
    return recorder.trace


def _call(reference: Any, module: Any, tensors: Any) -> Any:
    """Where the model's own frames begin: `_source` looks no further."""
    return reference.call(module, tensors)


class _Recorder:
    """Writes down what operators give.

    Attributes:
        trace: What was written.
        path: Paths of the modules that are running, the innermost last.
    """

    def __init__(self, wide: bool, limit_bytes: float) -> None:
        from torch.utils.weak import WeakTensorKeyDictionary

        self.trace = Trace()
        self.path: list[str] = []
        self._wide = wide
        self._left = limit_bytes
        self._records: Any = WeakTensorKeyDictionary()
        self._shadows: Any = WeakTensorKeyDictionary()
        #: storage -> the last record that wrote into it
        self._written: dict[int, int] = {}

    def mode(self) -> Any:
        """Inside, every operator is recorded."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode

        recorder = self

        class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(
                self, func: Any, types: Any, args: Any = (), kwargs: Any = None
            ) -> Any:
                # what asks for float32 here means it
                with torch._C.DisableTorchFunction():
                    return recorder.run(func, args, kwargs or {})

        return Mode()  # type: ignore[no-untyped-call]

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operator, in float32 too, and records its outputs."""
        import torch
        from torch.utils._pytree import tree_leaves

        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        inputs = tuple(sorted({i for tensor in given if (i := self.of(tensor)) is not None}))
        shadow = self._shadowed(func, given, args, kwargs)
        outputs = func(*args, **kwargs)
        results = [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, torch.Tensor)]
        narrow: list[Any] = [None] * len(results)
        if shadow is not None:
            # it may refuse; then the float64 result goes on, rounded
            with contextlib.suppress(Exception):
                found = tree_leaves(func(*shadow[0], **shadow[1]))
                narrow = [leaf for leaf in found if isinstance(leaf, torch.Tensor)]
        operator = func._schema.name.replace("::", ".")
        for result, beside in zip(results, narrow, strict=False):
            if beside is not None and _is_shadow(beside, result):
                self._shadows[result] = beside
            index = self.add(result, operator, inputs)
            if func._schema.is_mutable and any(result is tensor for tensor in given):
                self._written[result.untyped_storage()._cdata] = index
        return outputs

    def of(self, tensor: torch.Tensor) -> int | None:
        """The record a tensor holds: its own, or a later one that was written through a view."""
        own: int | None = self._records.get(tensor)
        written = self._written.get(tensor.untyped_storage()._cdata) if self._written else None
        found = [index for index in (own, written) if index is not None]
        return max(found, default=None) if own is not None else own

    def add(self, tensor: torch.Tensor, operator: str, inputs: tuple[int, ...]) -> int:
        """Records a tensor."""
        index = len(self.trace.records)
        source = _source() if operator != INPUT else ""
        module = self.path[-1] if self.path else ""
        twin = self._twin(tensor, inputs)
        if twin is None:
            value, looks, floor = self._kept(tensor)
        else:
            value, looks, floor = twin.value, twin.sketch, twin.floor
        shape = tuple(tensor.shape)
        record = Record(index, operator, module, source, inputs, shape, looks, floor, value)
        self.trace.records.append(record)
        self._records[tensor] = index
        return index

    def _kept(self, tensor: torch.Tensor) -> tuple[Array | None, Sketch, tuple[float, float]]:
        import numpy as np
        import torch

        plain = tensor.detach().cpu()
        if plain.is_complex():
            plain = torch.view_as_real(plain)
        if plain.dtype is torch.bfloat16:
            plain = plain.float()
        exact = plain.numpy().reshape(-1)
        looks = sketch(exact)
        if looks.kind != "f":
            return self._afforded(exact.copy()), looks, (0.0, 0.0)
        shadow = self._shadows.get(tensor)
        floor = (0.0, 0.0)
        if shadow is not None and not shadow.is_complex():
            with np.errstate(invalid="ignore", over="ignore"):
                error = np.abs(shadow.detach().cpu().numpy().reshape(-1) - exact)
            error = error[np.isfinite(error)]
            if error.size:
                floor = float(error.max()), math.sqrt(float(np.mean(error**2)))
        with np.errstate(over="ignore"):
            narrow = exact.astype(np.float32)  # always a copy
        return self._afforded(narrow), looks, floor

    def _afforded(self, value: Array) -> Array | None:
        self._left -= value.nbytes
        if self._left < 0:
            self.trace.note = "PyTorch's later values are known by their statistics only"
            return None
        return value

    def _twin(self, tensor: torch.Tensor, inputs: tuple[int, ...]) -> Record | None:
        """The record that holds the very same elements in the same order: a view's base."""
        if len(inputs) != 1 or not tensor.is_contiguous():
            return None
        place = (tensor.data_ptr(), tensor.numel(), tensor.dtype, inputs[0])
        if tensor._base is not None and tensor._base.is_contiguous():
            base = tensor._base
            if place == (base.data_ptr(), base.numel(), base.dtype, self.of(base)):
                return self.trace.records[inputs[0]]
        return None

    def _shadowed(
        self, func: Any, given: list[torch.Tensor], args: Any, kwargs: Any
    ) -> tuple[Any, Any] | None:
        """The arguments with float32 in place of float64; None where they must not be run."""
        from torch.utils._pytree import tree_map

        floats = [tensor for tensor in given if tensor.dtype in _narrow()]
        if not self._wide or not floats or _draws(func):
            return None
        if func._schema.is_mutable and len(floats) < len(given) and not _writes_floats(func, args):
            return None  # integers have no shadow, and would be written twice

        import torch

        def narrow(value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.dtype in _narrow():
                if value not in self._shadows:
                    self._shadows[value] = value.to(_narrow()[value.dtype])
                return self._shadows[value]
            return _narrow().get(value, value) if isinstance(value, torch.dtype) else value

        return tree_map(narrow, args), tree_map(narrow, kwargs)


def _draws(func: Any) -> bool:
    """Whether an operator draws random numbers; those that merely could drop out do not."""
    import torch

    names = {argument.name for argument in func._schema.arguments}
    return torch.Tag.nondeterministic_seeded in func.tags and not names & {"dropout", "dropout_p"}


def _narrow() -> dict[torch.dtype, torch.dtype]:
    import torch

    return {torch.float64: torch.float32, torch.complex128: torch.complex64}


def _is_shadow(shadow: torch.Tensor, tensor: torch.Tensor) -> bool:
    return _narrow().get(tensor.dtype) is shadow.dtype and shadow.shape == tensor.shape


def _writes_floats(func: Any, args: Any) -> bool:
    """Whether all an operator writes into is floating; `out=` arguments are not looked at."""
    import torch

    for argument, value in zip(func._schema.arguments, args, strict=False):
        alias = argument.alias_info
        if alias is None or not alias.is_write:
            continue
        if not isinstance(value, torch.Tensor) or value.dtype not in _narrow():
            return False
    return True


def _source() -> str:
    """`file:line` of the innermost frame that is neither a library's nor ours."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not _call.__code__:
        name = frame.f_code.co_filename
        if users_file(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


def users_file(name: str) -> bool:
    """Whether a source file is the user's: no library's, not ours, and no generated code."""
    return not (name.startswith("<") or is_ours(name) or "-packages" in name or "/torch/" in name)


@contextlib.contextmanager
def _slow_attention() -> Iterator[None]:
    """Transformer layers of torch.nn skip their submodules where they can; here they must not."""
    import torch

    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


@contextlib.contextmanager
def _module_paths(path: list[str], names: dict[int, str]) -> Iterator[None]:
    """Keeps in `path` which modules are running; names are by identity."""
    from torch.nn.modules import module as hooks

    def enter(module: Any, args: Any) -> None:
        if id(module) in names:
            path.append(names[id(module)])

    def leave(module: Any, args: Any, output: Any) -> None:
        if id(module) in names and path:
            path.pop()

    before = hooks.register_module_forward_pre_hook(enter)
    after = hooks.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()


def _floor(record: Record, unit: float) -> tuple[float, float]:
    """The floor in a precision: errors of first order grow with its unit.

    It comes from one run, and the fewer elements there are, the likelier is it too low by chance.
    """
    worst, rms = record.floor
    looks = record.sketch
    grown = unit / UNIT["fp32"] * (1 + _CHANCE / math.sqrt(max(1, looks.size)))
    return (
        max(worst * grown, unit * looks.scale),
        max(rms * grown, unit * looks.rms / 3**0.5),
    )


def _allowed(record: Record, safety: float, unit: float) -> tuple[float, float]:
    if unit > UNIT["fp32"]:
        # sums are kept in float32, so that the floor grows by less than the unit
        safety = min(safety, _COARSE_SAFETY)
    worst, rms = _floor(record, unit)
    margin = max(_MARGIN, unit)
    return (
        safety * worst + margin * record.sketch.scale,
        safety * rms + margin * record.sketch.rms,
    )


def _alike(one: Sketch, other: Sketch, allowed: tuple[float, float]) -> bool:
    """Whether two arrays can be equal up to an error: no more than necessary, and cheap."""
    worst, rms = allowed
    return (
        one.nonfinite == other.nonfinite
        and abs(one.low - other.low) <= worst
        and abs(one.high - other.high) <= worst
        and abs(one.mean - other.mean) <= rms
        and abs(one.rms - other.rms) <= rms
    )


def _over(error: float, floor: float) -> float:
    if not floor:
        return math.inf if error else 0.0
    return error / floor
