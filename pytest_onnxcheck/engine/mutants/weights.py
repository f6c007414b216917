"""Faults in weights, quantized weights, their scales and biases.

The first four functions draw their faults, because a model admits more than could be listed. The
others list all faults.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.operators import (
    CHANNEL_AXES,
    INTEGER_WEIGHTS,
    MATRIX_WEIGHTS,
    OPERAND_SCALES,
    OPTIONAL_BIAS,
)
from pytest_onnxcheck.engine.mutants.edit import Edit, Fault
from pytest_onnxcheck.engine.mutants.view import (
    FLOAT_FORMATS,
    Origin,
    View,
    attribute,
    dtype_name,
    name_of,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = [
    "changed_scales",
    "dropped_biases",
    "exponent_bits",
    "integer_bits",
    "scaled_channels",
    "transposed_weights",
]

#: Nodes whose float constants decide shapes.
_SHAPING = {"Range", "Resize", "Upsample"}


def exponent_bits(view: View, rng: np.random.Generator) -> Iterator[Fault]:
    """A bit of the exponent of one element that is not zero."""
    import numpy as np

    names, sizes = [], []
    for name in view.constants:
        array = view.array(name)
        shaping = any(node.op_type in _SHAPING for node in view.readers[name])
        if array.dtype.name in FLOAT_FORMATS and array.size >= 2 and not shaping:
            names.append(name)
            sizes.append(int(np.count_nonzero(array)) * FLOAT_FORMATS[array.dtype.name][2])
    for place, number in _draws(rng, sizes):
        array = view.array(names[place])
        integer, mantissa, exponent = FLOAT_FORMATS[array.dtype.name]
        nth, bit = divmod(number, exponent)
        index = np.unravel_index(np.flatnonzero(array)[nth], array.shape)
        before = array[index]
        array.view(integer)[index] ^= np.array(1 << (mantissa + bit), integer)
        if np.isfinite(array[index]):
            yield Fault(
                names[place],
                f"weight {names[place]!r}{_place(index)}: exponent bit {bit} flipped,"
                f" {before:.6g} -> {array[index]:.6g}",
                partial(_write, view, names[place], array),
            )


def integer_bits(view: View, rng: np.random.Generator) -> Iterator[Fault]:
    """A bit of one element of a quantized weight or bias."""
    import numpy as np

    names = list(
        dict.fromkeys(
            node.input[index]
            for node in view.nodes
            for index in INTEGER_WEIGHTS.get(node.op_type, ())
            if index < len(node.input) and _integers(view.tensor(node.input[index]))
        )
    )
    arrays = [view.array(name) for name in names]
    for place, number in _draws(rng, [array.size * array.itemsize * 8 for array in arrays]):
        array = arrays[place].copy()
        nth, bit = divmod(number, array.itemsize * 8)
        index = np.unravel_index(nth, array.shape)
        before = array[index]
        bits = array.view(f"uint{array.itemsize * 8}")
        bits[index] ^= np.array(1 << bit, bits.dtype)
        yield Fault(
            names[place],
            f"weight {names[place]!r}{_place(index)}: bit {bit} flipped,"
            f" {before} -> {array[index]}",
            partial(_write, view, names[place], array),
        )


def _integers(tensor: onnx.TensorProto | None) -> bool:
    """Whether a tensor holds two or more integers of whole bytes."""
    import onnx

    kinds = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32)
    return tensor is not None and tensor.data_type in kinds and math.prod(tensor.dims) >= 2


def scaled_channels(view: View, rng: np.random.Generator) -> Iterator[Fault]:
    """An output channel of a weight times 1.01; of a quantized one, the channel's scale."""
    import numpy as np

    places: dict[tuple[str, int], tuple[str, int]] = {}  # what is changed -> what it stands for
    for node in view.nodes:
        for index, name in enumerate(node.input):
            axis = CHANNEL_AXES.get((node.op_type, index))
            if node.op_type == "Gemm" and index == 1:
                axis = 0 if attribute(node, "transB", 0) else 1
            for origin in view.origins(name, axis) if axis is not None else ():
                if channels := _channels(view, origin):
                    places.setdefault(*channels)
    keys = list(places)
    sizes = [view.shape(name)[axis] for name, axis in keys]
    for place, channel in _draws(rng, sizes):
        changed, along = keys[place]
        weight, axis = places[keys[place]]
        array = view.array(changed)
        part = np.moveaxis(array, along, 0)[channel : channel + 1]
        before = part.copy()
        part *= array.dtype.type(1.01)
        if not np.array_equal(part, before):
            via = "" if changed == weight else f" by way of {changed!r}"
            yield Fault(
                changed,
                f"weight {weight!r}: channel {channel} of axis {axis} scaled by 1.01{via}",
                partial(_write, view, changed, array),
            )


def _channels(view: View, origin: Origin) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """The tensor and axis to scale for a weight's channels, and the weight and axis meant."""
    weight = view.tensor(origin.name)
    if weight is None or len(weight.dims) < 2:
        return None
    axis = origin.axis % len(weight.dims)
    if dtype_name(weight.data_type) in FLOAT_FORMATS:
        return (origin.name, axis), (origin.name, axis)
    if origin.dequantized is None or attribute(origin.dequantized, "block_size", 0):
        return None
    scale = view.tensor(origin.dequantized.input[1])
    along = attribute(origin.dequantized, "axis", 1) % len(weight.dims)
    if scale is None or len(scale.dims) != 1 or along != axis:
        return None
    return (origin.dequantized.input[1], 0), (origin.name, axis)


def changed_scales(view: View, rng: np.random.Generator) -> Iterator[Fault]:
    """One scale of a quantized value times 1.1, for one reader: Q and DQ often share theirs."""
    import numpy as np

    places = [
        (node, index)
        for node in view.nodes
        for index in (*OPERAND_SCALES.get(node.op_type, ()), *_dynamic_scale(view, node))
        if index < len(node.input) and view.tensor(node.input[index]) is not None
    ]
    sizes = [math.prod(view.shape(node.input[index])) for node, index in places]
    for place, number in _draws(rng, sizes):
        node, index = places[place]
        array = view.array(node.input[index])
        at = np.unravel_index(number, array.shape)
        before = array[at]
        array[at] *= array.dtype.type(1.1)
        if array[at] != before:
            yield Fault(
                node.input[index],
                f"scale {node.input[index]!r}{_place(at)} of {node.op_type} {name_of(node)!r}:"
                f" {before:.6g} -> {array[at]:.6g}",
                partial(Edit.feed, node=node, index=index, array=array),
            )


def _dynamic_scale(view: View, node: onnx.NodeProto) -> list[int]:
    """Where a Mul reads the weight's scale, beside the scale of a dynamically quantized value."""
    if node.op_type != "Mul":
        return []
    scales = [
        (other := view.producers.get(name)) is not None
        and other.op_type == "DynamicQuantizeLinear"
        and name == other.output[1]
        for name in node.input
    ]
    return [1 - scales.index(True)] if scales in ([True, False], [False, True]) else []


def _write(view: View, name: str, array: np.ndarray[Any, Any], edit: Edit) -> None:
    tensor = view.tensor(name)
    assert tensor is not None
    edit.write(tensor, array)


def dropped_biases(view: View) -> Iterator[Fault]:
    """A bias left out, or made zero where an Add reads it."""
    for node in view.nodes:
        adds = node.op_type == "Add"
        for index in (
            (0, 1)
            if adds
            else [OPTIONAL_BIAS[node.op_type]]
            if node.op_type in OPTIONAL_BIAS
            else ()
        ):
            value = view.value(node, index)
            if value is None or value.dtype.kind != "f" or not value.any():
                continue
            if adds and value.ndim != 1:
                continue
            yield Fault(
                name_of(node),
                f"bias {node.input[index]!r} of {node.op_type} {name_of(node)!r} dropped,"
                f" largest {abs(value).max():.6g}",
                # without the Add, dtype or shape could change
                partial(Edit.feed, node=node, index=index, array=value * 0)
                if adds
                else partial(_leave_out, node, index),
            )


def _leave_out(node: onnx.NodeProto, index: int, edit: Edit) -> None:
    edit.keep(node)
    if index == len(node.input) - 1:
        del node.input[index]
    else:
        node.input[index] = ""


def transposed_weights(view: View) -> Iterator[Fault]:
    """A square matrix transposed that is not symmetric."""
    import numpy as np

    names = dict.fromkeys(
        origin.name
        for node in view.nodes
        for index in MATRIX_WEIGHTS.get(node.op_type, ())
        for origin in view.origins(node.input[index], 0)
    )
    for name in names:
        tensor = view.tensor(name)
        if tensor is None or len(tensor.dims) != 2 or tensor.dims[0] != tensor.dims[1]:
            continue
        array = view.array(name)
        if not np.array_equal(array, array.T):
            size = "x".join(map(str, array.shape))
            yield Fault(
                name, f"weight {name!r} ({size}) transposed", partial(_transpose, view, name)
            )


def _transpose(view: View, name: str, edit: Edit) -> None:
    import numpy as np

    _write(view, name, np.ascontiguousarray(view.array(name).T), edit)


def _draws(rng: np.random.Generator, sizes: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of a place and a number below its size, each once: first the place, then the number."""
    drawn: list[set[int]] = [set() for _ in sizes]
    places = [place for place, size in enumerate(sizes) if size]
    while places:
        place = places[rng.integers(len(places))]
        number = int(rng.integers(sizes[place]))
        if number not in drawn[place]:
            drawn[place].add(number)
            if len(drawn[place]) == sizes[place]:
                places.remove(place)
            yield place, number


def _place(index: Iterable[Any]) -> str:
    text = ",".join(str(i) for i in index)
    return f"[{text}]" if text else ""
