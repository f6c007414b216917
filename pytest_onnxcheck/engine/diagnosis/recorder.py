"""Runs a reference and records every value it computes, with how far rounding moves each of them.

The reference runs in float64. Beside every float64 tensor a float32 one is kept, its shadow. The
same operators run on both in lockstep, so that integers and control flow are the same on both
sides. The difference of the two is the noise floor of that very value.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.diagnosis.provenance import users_file
from pytest_onnxcheck.engine.diagnosis.trace import INPUT, Record, Sketch, Trace, sketch
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.fast_path import slow_attention
from pytest_onnxcheck.engine.oracle.modes import each_operator
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import widened
from pytest_onnxcheck.engine.reference.copying import doubled
from pytest_onnxcheck.engine.reference.tensors import tensors_of

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["trace"]


def trace(oracle: Oracle, case: Case, *, limit_bytes: float = 1e9) -> Trace:
    """Runs the reference on a case and records what every operator gives.

    Args:
        oracle: Gives the reference, and says whether it runs in float64.
        case: The inputs.
        limit_bytes: How many bytes of values are kept. Of later values only their sketch is.

    Returns:
        The values. Where the reference does not run in float64 they are float32's, without floors.

    Raises:
        Exception: PyTorch does not run on the case, or not where its operators are recorded.
    """
    if oracle.expected(case).exact is not None:
        # operators may refuse to be recorded beside their shadows
        with contextlib.suppress(Exception):
            return _traced(oracle, case, limit_bytes, in_float64=True)
    return _traced(oracle, case, limit_bytes, in_float64=False)


def _traced(oracle: Oracle, case: Case, limit_bytes: float, *, in_float64: bool) -> Trace:
    import torch

    reference = oracle.reference
    module = reference.copy()
    tensors = tensors_of(case.inputs)
    if in_float64:
        module = doubled(module)
        tensors = {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
    recorder = _Recorder(in_float64, limit_bytes)
    names = {id(child): name for name, child in module.named_modules()}
    for name, tensor in tensors.items():
        recorder.trace.inputs[name] = recorder.add(tensor, INPUT, ())
    with torch.inference_mode(), slow_attention(), _running_modules(recorder.modules, names):
        with widened() if in_float64 else contextlib.nullcontext(), recorder.mode():
            outputs = _call(reference, module, tensors)
        recorder.trace.outputs = [recorder.index_of(output) for output in outputs]
    if not in_float64:
        recorder.trace.note = "PyTorch's values are those of float32, which are rounded themselves"
    return recorder.trace


def _call(reference: Any, module: Any, tensors: Any) -> Any:
    """Calls the model; `_source` looks no further up the stack than this frame."""
    return reference.call(module, tensors)


class _Recorder:
    """Records what operators give.

    Attributes:
        trace: What was recorded so far.
        modules: Paths of the modules that are running, the innermost last.
    """

    def __init__(self, in_float64: bool, limit_bytes: float) -> None:
        """Begins with nothing recorded.

        Args:
            in_float64: Whether the run is in float64, so that there are shadows in float32.
            limit_bytes: How many bytes of values are kept.
        """
        from torch.utils.weak import WeakTensorKeyDictionary

        self.trace = Trace(in_float64=in_float64)
        self.modules: list[str] = []
        self._in_float64 = in_float64
        self._bytes_left = limit_bytes
        #: tensor -> index of its record
        self._indices: Any = WeakTensorKeyDictionary()
        #: tensor in float64 -> the same in float32
        self._shadows: Any = WeakTensorKeyDictionary()
        #: storage -> index of the last record that wrote into it
        self._written: dict[int, int] = {}

    def mode(self) -> Any:
        """A context manager in which every operator is recorded."""
        import torch

        def record(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            # what asks for float32 here means it
            with torch._C.DisableTorchFunction():
                return self.run(func, args, kwargs)

        return each_operator(record)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operator, on the shadows too, and records its outputs."""
        given = _tensors((args, kwargs))
        inputs = tuple(sorted({i for tensor in given if (i := self.index_of(tensor)) is not None}))
        shadowed = self._shadowed(func, given, args, kwargs)
        outputs = func(*args, **kwargs)
        results = _tensors(outputs)
        shadows: list[torch.Tensor] = []
        if shadowed is not None:
            # it may refuse float32; then the float64 result goes on, rounded
            with contextlib.suppress(Exception):
                shadows = _tensors(func(*shadowed[0], **shadowed[1]))
        operator = func._schema.name.replace("::", ".")
        for place, result in enumerate(results):
            if place < len(shadows) and _is_shadow(shadows[place], result):
                self._shadows[result] = shadows[place]
            index = self.add(result, operator, inputs)
            if func._schema.is_mutable and any(result is tensor for tensor in given):
                self._written[result.untyped_storage()._cdata] = index
        return outputs

    def index_of(self, tensor: torch.Tensor) -> int | None:
        """Index of the record of what a tensor holds now; None where it was not seen.

        That is its own, or a later one that was written into its storage through a view.
        """
        own: int | None = self._indices.get(tensor)
        if own is None or not self._written:
            return own
        return max(own, self._written.get(tensor.untyped_storage()._cdata, own))

    def add(self, tensor: torch.Tensor, operator: str, inputs: tuple[int, ...]) -> int:
        """Records a tensor.

        Args:
            tensor: The tensor.
            operator: What computed it.
            inputs: Indices of the records it was computed from.

        Returns:
            Index of its record.
        """
        index = len(self.trace.records)
        source = _source() if operator != INPUT else ""
        module = self.modules[-1] if self.modules else ""
        base = self._base(tensor, inputs)
        if base is None:
            value, sketched, floor = self._measured(tensor)
        else:
            value, sketched, floor = base.value, base.sketch, base.floor
        shape = tuple(tensor.shape)
        record = Record(index, operator, module, source, inputs, shape, sketched, floor, value)
        self.trace.records.append(record)
        self._indices[tensor] = index
        return index

    def _measured(self, tensor: torch.Tensor) -> tuple[Array | None, Sketch, tuple[float, float]]:
        """A tensor's elements as far as they are kept, its sketch and its floor."""
        import numpy as np

        exact = _elements(tensor)
        sketched = sketch(exact)
        if sketched.kind != "f":
            return self._kept(exact.copy()), sketched, (0.0, 0.0)
        floor = self._floor(tensor, exact)
        with np.errstate(over="ignore"):
            rounded = exact.astype(np.float32)  # always a copy
        return self._kept(rounded), sketched, floor

    def _floor(self, tensor: torch.Tensor, exact: Array) -> tuple[float, float]:
        """How far a tensor's shadow is from its elements: at most, and root mean square."""
        import numpy as np

        shadow = self._shadows.get(tensor)
        if shadow is None:
            return 0.0, 0.0
        with np.errstate(invalid="ignore", over="ignore"):
            error = np.abs(_elements(shadow) - exact)
        error = error[np.isfinite(error)]
        if not error.size:
            return 0.0, 0.0
        return float(error.max()), math.sqrt(float(np.mean(error**2)))

    def _kept(self, value: Array) -> Array | None:
        """The array, or None beyond the bytes that are kept."""
        self._bytes_left -= value.nbytes
        if self._bytes_left < 0:
            self.trace.note = "PyTorch's later values are known by their statistics only"
            return None
        return value

    def _base(self, tensor: torch.Tensor, inputs: tuple[int, ...]) -> Record | None:
        """The record of a view's base, if it holds the same elements in the same order."""
        if len(inputs) != 1 or not tensor.is_contiguous():
            return None
        place = (tensor.data_ptr(), tensor.numel(), tensor.dtype, inputs[0])
        if tensor._base is not None and tensor._base.is_contiguous():
            base = tensor._base
            if place == (base.data_ptr(), base.numel(), base.dtype, self.index_of(base)):
                return self.trace.records[inputs[0]]
        return None

    def _shadowed(
        self, func: Any, given: list[torch.Tensor], args: Any, kwargs: Any
    ) -> tuple[Any, Any] | None:
        """An operator's arguments with float32 in place of float64; None where it must not run."""
        from torch.utils._pytree import tree_map

        narrower = _narrower()
        floats = [tensor for tensor in given if tensor.dtype in narrower]
        if not self._in_float64 or not floats or _is_random(func):
            return None
        if func._schema.is_mutable and len(floats) < len(given) and not _writes_floats(func, args):
            return None  # integers have no shadow, and would be written twice

        import torch

        def narrowed(value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.dtype in narrower:
                if value not in self._shadows:
                    self._shadows[value] = value.to(narrower[value.dtype])
                return self._shadows[value]
            return narrower.get(value, value) if isinstance(value, torch.dtype) else value

        return tree_map(narrowed, args), tree_map(narrowed, kwargs)


def _tensors(tree: Any) -> list[torch.Tensor]:
    """The tensors in nested lists, tuples and dicts; not those that are nested or sparse."""
    import torch
    from torch.utils._pytree import tree_leaves

    leaves = (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor))
    return [leaf for leaf in leaves if leaf.layout is torch.strided and not leaf.is_nested]


def _elements(tensor: torch.Tensor) -> Array:
    """A tensor's elements in row-major order; of complex ones both parts, as ONNX lays them out."""
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.is_complex():
        plain = torch.view_as_real(plain)
    if plain.dtype is torch.bfloat16:
        plain = plain.float()
    elements: Array = plain.numpy().reshape(-1)
    return elements


def _is_random(func: Any) -> bool:
    """Whether an operator draws random numbers. Dropout does not count: in eval mode it is off."""
    import torch

    names = {argument.name for argument in func._schema.arguments}
    return torch.Tag.nondeterministic_seeded in func.tags and not names & {"dropout", "dropout_p"}


def _narrower() -> dict[torch.dtype, torch.dtype]:
    """The dtypes that are shadowed, and their shadows' dtypes."""
    import torch

    return {torch.float64: torch.float32, torch.complex128: torch.complex64}


def _is_shadow(shadow: torch.Tensor, tensor: torch.Tensor) -> bool:
    """Whether a tensor has the dtype and shape that another's shadow must have."""
    return _narrower().get(tensor.dtype) is shadow.dtype and shadow.shape == tensor.shape


def _writes_floats(func: Any, args: Any) -> bool:
    """Whether everything an operator writes into is floating. `out=` is not looked at."""
    import torch

    for argument, value in zip(func._schema.arguments, args, strict=False):
        alias = argument.alias_info
        if alias is None or not alias.is_write:
            continue
        if not isinstance(value, torch.Tensor) or value.dtype not in _narrower():
            return False
    return True


def _source() -> str:
    """`file:line` of the innermost frame of the user's code; empty where there is none."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code is not _call.__code__:
        name = frame.f_code.co_filename
        if users_file(name):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return ""


@contextlib.contextmanager
def _running_modules(running: list[str], names: dict[int, str]) -> Iterator[None]:
    """Keeps a list of the modules that are running.

    Args:
        running: The list: paths, the innermost last.
        names: `id` of a module -> its path.
    """
    from torch.nn.modules import module as hooks

    def enter(module: Any, args: Any) -> None:
        if id(module) in names:
            running.append(names[id(module)])

    def leave(module: Any, args: Any, output: Any) -> None:
        if id(module) in names and running:
            running.pop()

    before = hooks.register_module_forward_pre_hook(enter)
    after = hooks.register_module_forward_hook(leave, always_call=True)
    try:
        yield
    finally:
        before.remove()
        after.remove()
