"""The reference in float64, and perturbed: what rounding alone does to its outputs.

Perturbing every operator's result at random by half a unit in the last place, and looking at how
far the outputs spread, is Monte Carlo arithmetic (D. S. Parker, 1997).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["UNIT", "perturb", "perturbed", "widened"]

#: half a unit in the last place, relative: the largest error of one rounding (IEEE 754)
UNIT = {"fp32": 2.0**-24, "fp16": 2.0**-11}

#: smallest normal numbers: what is smaller may be rounded to zero
_SMALLEST = {"fp32": 2.0**-126, "fp16": 2.0**-24}

_SUMS = frozenset(["mean", "nansum", "sum"])

#: Functions that libraries approximate to within a rounding of their range, not of the value.
_BOUNDED = frozenset(["cos", "erf", "sigmoid", "sin", "tanh"])

#: The same, times their argument.
_GATED = frozenset(["gelu", "mish", "silu"])

#: Operators whose elements are sums of products: where terms cancel, their error follows the
#: terms and not the sum.
_PRODUCTS = frozenset(
    ["_fft_c2c", "_fft_c2r", "_fft_r2c", "addmm", "baddbmm", "bmm", "convolution", "mm"]
)

#: Operators that move, choose or compare values without rounding them.
_EXACT = frozenset(
    """
    _reshape_alias _to_copy _unsafe_view abs adaptive_max_pool1d
    adaptive_max_pool2d alias amax amin arange argmax argmin as_strided bernoulli bucketize cat
    ceil clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clone complex constant_pad_nd
    contiguous copy copy_
    detach diagonal_copy embedding empty empty_like eye fill fill_ flip floor full full_like
    gather hardtanh imag index index_fill index_put index_put_ index_select isfinite isinf isnan
    lift_fresh lift_fresh_copy masked_fill masked_fill_ masked_scatter masked_select
    max max_pool2d_with_indices max_pool3d_with_indices maximum mkldnn_max_pool2d min minimum neg
    new_empty new_full new_ones new_zeros nonzero one_hot ones ones_like pad permute_copy
    pixel_shuffle pixel_unshuffle randint real reflection_pad1d reflection_pad2d relu relu_ repeat
    repeat_interleave replication_pad1d replication_pad2d resize_ roll rot90 round scalar_tensor
    scatter scatter_ searchsorted select_copy select_scatter sgn sign slice_copy slice_scatter sort
    stack topk tril triu trunc unfold_copy unique_consecutive upsample_nearest1d upsample_nearest2d
    where zero_ zeros zeros_like
    """.split()  # noqa: SIM905 - a table of a hundred names
)


@contextlib.contextmanager
def widened() -> Iterator[None]:
    """Inside, what asks for float32 by name or by default gets float64."""
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
        # masks and epsilons taken from it belong to the model, not to the precision of a run
        return finfo(torch.float32 if dtype is torch.float64 else dtype)

    torch.finfo = narrow_finfo  # type: ignore[misc, assignment]
    torch.set_default_dtype(torch.float64)
    try:
        with Widen():
            yield
    finally:
        torch.set_default_dtype(default)
        torch.finfo = finfo  # type: ignore[misc]


@contextlib.contextmanager
def perturbed(precision: str, seed: int, units: float = 1.0) -> Iterator[None]:
    """Inside, every operator's floating result is moved as if rounded to a precision.

    Each element is multiplied by 1 + u r, with r uniform in [-1, 1] and u = `UNIT[precision]`,
    and moved by at most the smallest normal number, which breaks ties between equal values.
    Operators that round nothing are left alone.

    - Sums of products are moved by u times the root mean square of all elements besides, which is
      about the size of their terms.
    - Sigmoid and its like are moved by u times their range besides.
    - Sums are moved as other orders of summation would: by u max(1, sqrt(n) / 4) of the mean
      magnitude of their n terms.
    - Running sums are moved by the rounding of every partial sum, half of it with a sign common to
      all: equal terms are rounded the same way, so that their errors add up (N. J. Higham,
      Accuracy and Stability of Numerical Algorithms, 2002, chapter 4).

    Args:
        precision: `fp32` or `fp16`.
        seed: Seeds the draws.
        units: Moves everything this many times further.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    generator = torch.Generator().manual_seed(seed)

    class Perturb(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            outputs = func(*args, **(kwargs or {}))
            name = func._schema.name.partition("::")[2]
            if func.is_view or name in _EXACT:
                return outputs
            for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
                if not isinstance(output, torch.Tensor):
                    continue
                if name == "cumsum" and output.is_floating_point():
                    noise = _running_noise(output, args[1], precision, generator)
                    output.add_(noise, alpha=units)
                elif name in _SUMS and args[0].is_floating_point():
                    noise = _sum_noise(output, func, args, kwargs or {}, precision, generator)
                    output.add_(noise, alpha=units)
                else:
                    perturb(output, precision, generator, units)
                    if name in _PRODUCTS:
                        _cancel(output, precision, generator, units)
                    elif name in _BOUNDED or name in _GATED:
                        size = args[0].abs() if name in _GATED else 1.0
                        noise = _uniform(output, generator) * size * UNIT[precision]
                        output.add_(noise, alpha=units)
            return outputs

    with Perturb():  # type: ignore[no-untyped-call]
        yield


def perturb(
    tensor: torch.Tensor, precision: str, generator: torch.Generator, units: float = 1.0
) -> None:
    """Moves a floating tensor, in place, by the rounding of a precision; others are left alone."""
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()):
        return
    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    size = real.abs() * UNIT[precision] + _SMALLEST[precision]
    real.add_(_uniform(real, generator) * size, alpha=units)


def _cancel(tensor: torch.Tensor, precision: str, generator: torch.Generator, units: float) -> None:
    import torch

    real = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    size = float(real.square().mean().sqrt()) * UNIT[precision]
    if math.isfinite(size):
        real.add_(_uniform(real, generator), alpha=units * size)


def _uniform(like: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    import torch

    return torch.empty_like(like, memory_format=torch.contiguous_format).uniform_(
        -1, 1, generator=generator
    )


def _running_noise(
    output: torch.Tensor, dim: int, precision: str, generator: torch.Generator
) -> torch.Tensor:
    common = _uniform(output.new_empty(()), generator)
    steps = (_uniform(output, generator) + common) / 2
    return (steps * (output.abs() * UNIT[precision] + _SMALLEST[precision])).cumsum(dim)


def _sum_noise(
    output: torch.Tensor,
    func: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    precision: str,
    generator: torch.Generator,
) -> torch.Tensor:
    terms = args[0]
    magnitude: torch.Tensor = (
        func(terms.abs(), *args[1:], **kwargs).to(output.dtype).reshape(output.shape)
    )
    count = terms.numel() / max(1, output.numel())
    unit = UNIT[precision] * max(1.0, math.sqrt(count) / 4)
    noise = _uniform(output, generator) * (magnitude * unit + _SMALLEST[precision])
    return noise
