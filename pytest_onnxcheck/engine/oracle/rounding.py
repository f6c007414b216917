"""The reference in float64, and perturbed: what rounding alone does to its outputs.

Perturbing every operator's result at random by half a unit in the last place, and looking at how
far the outputs spread, is Monte Carlo arithmetic (D. S. Parker, 1997).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.modes import each_operator, elements, uncompiled
from pytest_onnxcheck.manifest.precisions import PRECISIONS

if TYPE_CHECKING:
    import torch

__all__ = ["UNIT", "perturb", "perturbed", "watched", "widened"]

#: half a unit in the last place, relative: the largest error of one rounding (IEEE 754)
_UNITS = {"float32": 2.0**-24, "float16": 2.0**-11}
#: the same by precision, of those that have a noise floor
UNIT = {name: _UNITS[row.floats] for name, row in PRECISIONS.items() if row.noise_floor}

#: float32's smallest normal number: what is smaller may turn to zero. By this much zeros are told
#: apart where they are put in order.
_TIE = 2.0**-126

#: Operators that put elements in order. Elsewhere zero stays zero: what is masked by it stays so.
_ORDERS = frozenset(
    ["argmax", "argmin", "argsort", "kthvalue", "max", "median", "min", "msort", "sort", "topk"]
)

#: Smallest numbers that are not zero, where weights and inputs may be smaller. What is computed is
#: not moved by them: ONNX Runtime computes most of float16 in float32, and on a provider that does
#: not, a result that underflows and matters is wrong.
_SMALLEST = {"float16": 2.0**-24}

#: Where a weight or an example of an input is nowhere larger than this many of those, it is not
#: rounded but lost: what a converter makes of a constant of 1e-9 (6e-8) is no rounding.
_LOST = 32

#: What is below this masks a score that it is added to, which it swallows: scores masked by one
#: value stay alike, and rounding does not choose among them. Of its digits, 12 bits are kept.
_MASKS = -(2.0**60)
_KEPT = 2.0**12

#: What is below this may be a mask, and no measure of the terms of a sum.
_APART = -(2.0**20)

_SUMS = frozenset(["aten::cumsum", "aten::mean", "aten::sum"])

#: Operators that take the mean of their terms away, and give that mean too.
_CENTRED = frozenset(
    ["_native_batch_norm_legit", "native_batch_norm", "native_group_norm", "native_layer_norm"]
)

#: Functions that libraries approximate to within a rounding of their range, not of the value.
_BOUNDED = frozenset(["cos", "erf", "sigmoid", "sin", "tanh"])

#: The same, times their argument.
_GATED = frozenset(["gelu", "mish", "silu"])

#: Operators whose elements are sums of products: where terms cancel, their error follows the
#: terms and not the sum.
_PRODUCTS = frozenset(
    """
    _fft_c2c _fft_c2r _fft_r2c _scaled_dot_product_flash_attention_for_cpu addmm baddbmm bmm conv1d
    conv2d conv3d convolution einsum linear matmul mm scaled_dot_product_attention
    """.split()  # noqa: SIM905 - as below
)

#: Operators that move, choose or compare values without rounding them.
_EXACT = frozenset(
    """
    _reshape_alias _to_copy _unsafe_view abs adaptive_max_pool1d adaptive_max_pool2d alias amax
    amin arange argmax argmin as_strided bernoulli bucketize cat ceil clamp clamp_max clamp_min
    clone complex constant_pad_nd contiguous copy detach diagonal_copy embedding empty empty_like
    eye fill flip floor full full_like gather hardtanh imag index index_fill index_put
    index_select isfinite isinf isnan lift_fresh lift_fresh_copy masked_fill masked_scatter
    masked_select max max_pool2d_with_indices max_pool3d_with_indices maximum min minimum
    mkldnn_max_pool2d neg new_empty new_full new_ones new_zeros nonzero one_hot ones ones_like
    pad permute_copy pixel_shuffle pixel_unshuffle randint real reflection_pad1d reflection_pad2d
    relu repeat repeat_interleave replication_pad1d replication_pad2d resize roll rot90 round
    scalar_tensor scatter searchsorted select_copy select_scatter sgn sign slice_copy
    slice_scatter sort stack topk tril triu trunc unfold_copy unique_consecutive
    upsample_nearest1d upsample_nearest2d where zero zeros zeros_like
    """.split()  # noqa: SIM905 - a table of a hundred names
)


@contextlib.contextmanager
def widened(*, finfo_of_float32: bool = True) -> Iterator[None]:
    """Inside, what asks for float32 by name or by default gets float64.

    Args:
        finfo_of_float32: Whether `torch.finfo(torch.float64)` is answered for float32: masks and
            epsilons taken from it belong to a float32 model, not to the precision of a run.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    methods = {torch.Tensor.float: torch.Tensor.double}

    def widen(value: Any) -> Any:
        return wide.get(value, value) if isinstance(value, torch.dtype) else value

    class Widen(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            function = methods.get(func, func)
            named = {name: widen(value) for name, value in (kwargs or {}).items()}
            return function(*(widen(value) for value in args), **named)

    finfo, default = torch.finfo, torch.get_default_dtype()

    def narrow_finfo(dtype: torch.dtype = torch.float32) -> torch.finfo:
        return finfo(torch.float32 if dtype is torch.float64 else dtype)

    if finfo_of_float32:
        torch.finfo = narrow_finfo  # type: ignore[misc, assignment]
    torch.set_default_dtype(torch.float64)
    try:
        with uncompiled(), Widen():
            yield
    finally:
        torch.set_default_dtype(default)
        torch.finfo = finfo  # type: ignore[misc]


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Inside, PyTorch takes the ways it takes in `widened`, and nothing is widened."""
    from torch.overrides import TorchFunctionMode

    class Watch(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return func(*args, **(kwargs or {}))

    with uncompiled(), Watch():
        yield


@contextlib.contextmanager
def perturbed(precision: str, seed: int, units: float = 1.0) -> Iterator[None]:
    """Inside, every operator's floating result is moved as if rounded to a precision.

    Each element that is not zero is multiplied by 1 + u r, with r uniform in [-1, 1] and
    u = `UNIT[precision]`, and moved by at most `_TIE`. Operators that round nothing are left alone.
    Those that put elements in order get zeros and masks that are moved, which breaks ties.

    - Sums of products are moved by u times the root mean square of the elements of their example
      (the first axis) besides, which is about the size of their terms; masks added to them are not
      counted.
    - Huge negative elements, which mask what they are added to, are moved alike.
    - Sigmoid and its like are moved by u times their range besides.
    - Sums and running sums are moved by u times the magnitude of their terms besides, and for fp32
      by the error of adding these very terms one after the other in float32. Equal terms are
      rounded the same way, so that their errors add up (N. J. Higham, Accuracy and Stability of
      Numerical Algorithms, 2002, chapter 4). What a norm gives is moved for fp32 by that error of
      its mean, times what it is scaled by: 316 where all terms are equal.

    Args:
        precision: `fp32`, `fp16` or `half`.
        seed: Seeds the draws.
        units: Moves everything this many times further.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)

    def move(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = func._schema.name.partition("::")[2].removesuffix("_")
        # before the call: an operator in place overwrites its argument
        reach = elements(args[0]).abs() if name in _GATED else 1.0
        if name in _ORDERS and args[0].is_floating_point():
            args = (_untied(args[0], precision, generator, units), *args[1:])
        outputs = func(*args, **kwargs)
        if func.is_view or name in _EXACT:
            return outputs
        if name in _CENTRED and precision == "fp32":
            _miss_the_mean(outputs, name, args, generator, units)
        for entry in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if not isinstance(entry, torch.Tensor):
                continue
            output = elements(entry)
            if func._schema.name in _SUMS and output.is_floating_point():
                size = _sum_error(output, name, args, kwargs, precision)
                _add(output, _uniform(output, generator) * size * units)
            _move(output, precision, generator, units)
            if name in _PRODUCTS:
                _cancel(output, precision, generator, units)
            elif name in _BOUNDED or name in _GATED:
                noise = _uniform(output, generator) * reach * UNIT[precision]
                _add(output, noise * units)
        return outputs

    with each_operator(move):
        yield


def perturb(
    tensor: torch.Tensor, precision: str, generator: torch.Generator, units: float = 1.0
) -> None:
    """Moves a weight or an input, in place, as storing it in a precision does.

    In float16, what is not zero is moved by its smallest number besides, where the largest along
    all axes but the first is at least `_LOST` of those. What is not floating is left alone.
    """
    smallest, more = _SMALLEST.get(PRECISIONS[precision].floats), None
    if smallest is not None and tensor.is_floating_point() and tensor.numel():
        magnitude = tensor.abs()
        axes = tuple(range(1, tensor.ndim))
        largest = magnitude.amax(axes, keepdim=True) if axes else magnitude
        more = smallest * ((magnitude > 0) & (largest >= _LOST * smallest))
    _move(tensor, precision, generator, units, more)


def _move(
    tensor: torch.Tensor,
    precision: str,
    generator: torch.Generator,
    units: float,
    more: torch.Tensor | None = None,
) -> None:
    """Moves a floating tensor, in place, by its own rounding and by something more.

    One that is nowhere negative, or nowhere positive, stays so: no rounding makes a square
    negative, and the logarithm of a mask is a number or -inf, but never NaN.
    """
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    low, high = bool((real >= 0).all()), bool((real <= 0).all())
    size = real.abs() * UNIT[precision] + _TIE * (real != 0)
    if more is not None:
        size += more
    masks = (real < _MASKS) & real.isfinite()
    _add(real, _uniform(real, generator) * size * units)
    if units and bool(masks.any()):
        real.copy_(torch.where(masks, _alike(real), real))
    if low:
        real.clamp_(min=0.0)
    elif high:
        real.clamp_(max=0.0)


def _untied(
    tensor: torch.Tensor, precision: str, generator: torch.Generator, units: float
) -> torch.Tensor:
    """A copy in which equal zeros, and equal masks, differ."""
    size = tensor.abs() * UNIT[precision] * (tensor < _MASKS) + _TIE
    untied = tensor.clone()
    _add(untied, _uniform(tensor, generator) * size * units)
    return untied


def _alike(masks: torch.Tensor) -> torch.Tensor:
    """Without the last digits, so that those of one value are alike, and finite."""
    import torch

    digits, power = torch.frexp(masks)
    least = torch.finfo(masks.dtype).min
    return torch.ldexp((digits * _KEPT).round() / _KEPT, power).clamp_(min=least)


def _add(tensor: torch.Tensor, noise: torch.Tensor) -> None:
    """Adds noise, in place; infinity stays what it is, and does not turn into NaN."""
    tensor.add_(noise.nan_to_num_(0.0, 0.0, 0.0))


def _cancel(tensor: torch.Tensor, precision: str, generator: torch.Generator, units: float) -> None:
    import torch

    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    axes = tuple(range(1 if real.ndim > 1 else 0, real.ndim))
    terms = real > _APART
    total = torch.where(terms, real, 0.0).square().sum(axes, keepdim=True)
    count = terms.sum(axes, keepdim=True).clamp(min=1)
    size = (total / count).sqrt() * UNIT[precision]
    _add(real, _uniform(real, generator) * size * units)


def _uniform(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch

    return torch.empty_like(like, memory_format=torch.contiguous_format).uniform_(
        -1, 1, generator=generator
    )


def _sum_error(
    output: torch.Tensor,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    precision: str,
) -> torch.Tensor | float:
    """How far a sum or running sum may be off, in the shape of the output."""
    import numpy as np
    import torch

    terms = args[0]
    if not terms.is_floating_point() or not terms.numel():
        return 0.0
    given = kwargs.get("dim", args[1] if len(args) > 1 else None)
    dims = [given] if isinstance(given, int) else list(given or range(terms.ndim))
    last = list(range(-len(dims), 0))
    array = np.moveaxis(terms.detach().cpu().numpy().astype(np.float32), dims, last)
    flat = array.reshape(*array.shape[: array.ndim - len(dims)], -1)
    with np.errstate(over="ignore", invalid="ignore"):
        naive = np.add.accumulate(flat, axis=-1, dtype=np.float32)
        magnitude = np.add.accumulate(np.abs(flat), axis=-1, dtype=np.float64)
    if name == "cumsum":
        naive, magnitude = (
            np.moveaxis(running.reshape(array.shape), last, dims) for running in (naive, magnitude)
        )
    else:
        count = flat.shape[-1] if name == "mean" else 1
        naive, magnitude = naive[..., -1] / count, magnitude[..., -1] / count

    def shaped(values: Any) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, np.float64)).reshape(output.shape)

    size = shaped(magnitude) * UNIT[precision]
    if precision == "fp32":
        size += (shaped(naive) - output).abs()
    return size.nan_to_num(0.0, 0.0, 0.0)


def _miss_the_mean(
    outputs: tuple[torch.Tensor, ...],
    name: str,
    args: tuple[Any, ...],
    generator: torch.Generator,
    units: float,
) -> None:
    """Moves what a norm of float32 gives, in place, by how far the mean of its terms may be off.

    Args:
        outputs: The output, the means and the factors of the rows, empty where a batch norm has
            statistics of its own.
        name: One of `_CENTRED`.
        args: Of the operator: its input first.
        generator: Draws how far each row is moved.
        units: Moves everything this many times further.
    """
    output, mean, factor = outputs
    terms = args[0]
    batch_norm = name.endswith(("batch_norm", "batch_norm_legit"))
    if not mean.numel() or not terms.numel() or (batch_norm and terms.shape[0] != 1):
        return
    rows = terms.reshape(mean.numel(), -1)
    size = _sum_error(rows.mean(1), "mean", (rows, [1]), {}, "fp32") * factor.flatten()
    shift = (_uniform(size, generator) * size * units)[:, None].expand_as(rows)
    weight = args[2 if name == "native_layer_norm" else 1]
    if weight is not None and name != "native_layer_norm":
        weight = weight.reshape(-1, *[1] * (terms.ndim - 2))
    _add(output, shift.reshape(output.shape) * (1.0 if weight is None else weight))
