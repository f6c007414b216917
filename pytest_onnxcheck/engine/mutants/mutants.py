"""Faulty copies of an artefact: small seeded faults, to prove that the gate notices them.

Each operator lists the faults of one kind that a model admits; `mutants` applies them one after
the other to a single copy in memory, and takes each back before it makes the next. Only nodes of
the top-level graph that an output depends on are changed, not the bodies of If, Loop and Scan.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import combinations, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import nodes_of, reads

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["OPERATORS", "Mutant", "mutants"]

#: float dtype -> the integer of its width, bits of its mantissa, bits of its exponent
_FORMATS = {
    "float16": ("uint16", 10, 5),
    "float32": ("uint32", 23, 8),
    "float64": ("uint64", 52, 11),
}

#: Where a weight is read -> the axis of its output channels; Gemm depends on transB.
_CHANNEL_AXES = {
    ("Conv", 1): 0,
    ("ConvTranspose", 1): 1,
    ("MatMul", 0): -2,
    ("MatMul", 1): -1,
    ("LSTM", 1): 1,
    ("LSTM", 2): 1,
    ("GRU", 1): 1,
    ("GRU", 2): 1,
    ("RNN", 1): 1,
    ("RNN", 2): 1,
    ("Gather", 0): -1,
}

_QUANTIZED_WEIGHTS = {
    "DequantizeLinear": (0,),
    "MatMulInteger": (0, 1),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "DynamicQuantizeLSTM": (1, 2),
    "DynamicQuantizeMatMul": (1,),
    "MatMulIntegerToFloat": (0, 1),
}

_SCALES = {
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4),
    "QLinearMatMul": (1, 4),
    "DynamicQuantizeLSTM": (8, 10),
    "DynamicQuantizeMatMul": (2,),
    "MatMulIntegerToFloat": (2, 3),
}

#: Where an optional bias is read.
_BIASES = {
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
    "LayerNormalization": 2,
    "LSTM": 3,
    "GRU": 3,
    "RNN": 3,
    "DynamicQuantizeLSTM": 3,
}

_SQUARE_WEIGHTS = {
    "Gemm": (1,),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "DynamicQuantizeMatMul": (1,),
    "MatMulIntegerToFloat": (0, 1),
}

_NORMALIZATIONS = {
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
}

_POOLS = {"AveragePool", "LpPool", "MaxPool"}

#: Functions of one input, with default attributes, that every opset in use has.
_ACTIVATIONS = {
    "Celu": "Relu",
    "Elu": "Relu",
    "Erf": "Tanh",
    "HardSigmoid": "Sigmoid",
    "HardSwish": "Relu",
    "LeakyRelu": "Relu",
    "Mish": "Relu",
    "PRelu": "Relu",
    "Relu": "LeakyRelu",
    "Selu": "Elu",
    "Sigmoid": "HardSigmoid",
    "Softplus": "Relu",
    "Softsign": "Tanh",
    "Swish": "HardSwish",
    "Tanh": "Softsign",
}

_RECURRENT = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "DynamicQuantizeLSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}

#: pad mode -> one that is valid for the same shapes
_PAD_MODES = {"constant": "edge", "edge": "constant", "reflect": "edge", "wrap": "edge"}

_REDUCTIONS = {
    "GlobalAveragePool": "GlobalMaxPool",
    "GlobalMaxPool": "GlobalAveragePool",
    "ReduceMax": "ReduceMean",
    "ReduceMean": "ReduceMax",
    "ReduceSum": "ReduceMax",
}

_CASTS = {
    "float16": ("float32",),
    "float32": ("float16", "float64"),
    "float64": ("float32",),
    "int32": ("int64",),
    "int64": ("int32",),
}

#: Nodes whose float constants decide shapes.
_SHAPING = {"Range", "Resize", "Upsample"}

#: What a symbolic dim becomes; cases rarely have this size.
_STATIC = 3


@dataclass(frozen=True)
class Mutant:
    """An artefact with one fault.

    Attributes:
        operator: The kind of fault, one of `OPERATORS`.
        description: What was changed, on one line.
        where: Name of the tensor, node, output or dim that was changed. A node without a name
            goes by its first output.
        model: The faulty model with its weights. All mutants of a run share it: it is valid until
            the next one is taken, and is the original model after the last one.
    """

    operator: str
    description: str
    where: str
    model: onnx.ModelProto = field(repr=False, compare=False)


def mutants(path: Path, count: int, seed: str) -> Iterator[Mutant]:
    """Seeded mutants of an artefact, no two with the same description.

    They come in rounds: every kind that still applies once, in random order.

    Args:
        path: The `.onnx` file; its external data is loaded.
        count: How many to make; fewer come where the model admits no more.
        seed: The same seed gives the same mutants.
    """
    import numpy as np
    import onnx

    view = _View(onnx.load(path))
    rng = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest()))
    kinds = {operator: find(view, rng) for operator, find in _FINDERS.items()}
    made: set[str] = set()
    while kinds:
        for operator in [list(kinds)[i] for i in rng.permutation(len(kinds))]:
            if len(made) >= count:
                return
            fault = next((f for f in kinds[operator] if f.description not in made), None)
            if fault is None:
                del kinds[operator]
                continue
            made.add(fault.description)
            edit = _Edit(view.proto.graph)
            try:
                fault.change(edit)
                yield Mutant(operator, fault.description, fault.where, view.proto)
            finally:
                edit.undo()


@dataclass(frozen=True)
class _Fault:
    """A fault that a model admits, not yet applied."""

    where: str
    description: str
    change: Callable[[_Edit], None]


class _Edit:
    """Changes a graph in place and takes the changes back."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._undo: list[Callable[[], object]] = []

    def undo(self) -> None:
        """Takes everything back, the last change first."""
        while self._undo:
            self._undo.pop()()

    def keep(self, message: Any) -> None:
        """Remembers a message of the graph as it is; the caller may change it freely."""
        before = type(message)()
        before.CopyFrom(message)
        self._undo.append(partial(message.CopyFrom, before))

    def write(self, tensor: onnx.TensorProto, array: np.ndarray[Any, Any]) -> None:
        """Gives a constant another value."""
        import onnx

        self.keep(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    def feed(self, node: onnx.NodeProto, index: int, array: np.ndarray[Any, Any]) -> None:
        """Makes one node, and no other reader, read another constant."""
        import numpy as np
        import onnx

        name = self._fresh(node.input[index])
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name)
        self.graph.initializer.append(tensor)
        self._undo.append(self.graph.initializer.pop)
        self.keep(node)
        node.input[index] = name

    def retype(self, node: onnx.NodeProto, operator: str) -> None:
        """Makes a node compute another function of its first input, with default attributes."""
        self.keep(node)
        node.op_type = operator
        del node.attribute[:]
        del node.input[1:]

    def attribute(self, node: onnx.NodeProto, name: str, value: Any) -> None:
        """Sets an attribute."""
        import onnx

        self.keep(node)
        kept = [entry for entry in node.attribute if entry.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    def rename(self, names: Mapping[str, str]) -> None:
        """Renames values in all nodes; the declarations of inputs and outputs stay."""
        for node in nodes_of(self.graph):
            for values in (node.input, node.output):
                for index, name in enumerate(values):
                    if name in names:
                        self._undo.append(partial(values.__setitem__, index, name))
                        values[index] = names[name]

    def cast(self, output: onnx.ValueInfoProto, dtype: int) -> None:
        """Puts a Cast in front of an output and declares its dtype."""
        import onnx

        inner = self._fresh(output.name)
        self.rename({output.name: inner})
        self.graph.node.append(onnx.helper.make_node("Cast", [inner], [output.name], to=dtype))
        self._undo.append(self.graph.node.pop)
        self.keep(output)
        output.type.tensor_type.elem_type = dtype

    def _fresh(self, name: str) -> str:
        taken = {value for node in nodes_of(self.graph) for value in (*node.input, *node.output)}
        taken.update(tensor.name for tensor in self.graph.initializer)
        name = f"{name}_mutant"
        while name in taken:
            name += "_"
        return name


@dataclass(frozen=True)
class _Origin:
    """The constant that a weight is made of.

    Attributes:
        name: The constant's name.
        axis: Which of its axes is the one asked for; negative if counted from the end.
        dequantized: The DequantizeLinear between it and the weight.
    """

    name: str
    axis: int
    dequantized: onnx.NodeProto | None = None


class _View:
    """What operators ask about a model.

    It keeps nodes and names, no attributes: taking back a change replaces a node's attributes.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        graph = proto.graph
        self.initializers: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.nodes = self._live()
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in reads(node):
                self.readers[name].append(node)

    @cached_property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The graph's inputs; before IR version 4 initializers were listed among them."""
        return [v for v in self.proto.graph.input if v.name not in self.initializers]

    @property
    def constants(self) -> list[str]:
        """Names of the constants that a node reads."""
        return [name for name in self.readers if self.tensor(name) is not None]

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """A constant of the graph, an initializer or a Constant node's value."""
        node = self.producers.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor: onnx.TensorProto = node.attribute[0].t
            return tensor
        return self.initializers.get(name)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """The value of a constant, to be changed at will."""
        import onnx

        tensor = self.tensor(name)
        assert tensor is not None
        return onnx.numpy_helper.to_array(tensor).copy()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a constant."""
        tensor = self.tensor(name)
        assert tensor is not None
        return tuple(tensor.dims)

    @cached_property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        versions = [e.version for e in self.proto.opset_import if e.domain in ("", "ai.onnx")]
        return max(versions, default=1)

    def value(self, node: onnx.NodeProto, index: int) -> np.ndarray[Any, Any] | None:
        """What a node reads, if it is a constant, also behind Identity or DequantizeLinear."""
        import numpy as np
        import onnx

        name = node.input[index] if index < len(node.input) else ""
        if not name:
            return None
        if (tensor := self.tensor(name)) is not None:
            # packed and narrow dtypes are beyond numpy
            array: np.ndarray[Any, Any] = onnx.numpy_helper.to_array(tensor)
            return array if array.dtype.isbuiltin == 1 else None
        producer = self.producers.get(name)
        if producer is not None and producer.op_type == "Identity":
            return self.value(producer, 0)
        if producer is not None and producer.op_type == "DequantizeLinear":
            integers, scale, zero = (self.value(producer, index) for index in range(3))
            if integers is not None and integers.ndim == 1 and scale is not None:
                shifted = integers.astype(np.float64) - (0 if zero is None else zero)
                array = (shifted * scale).astype(scale.dtype)
                return array
        return None

    def origins(self, name: str, axis: int) -> Iterator[_Origin]:
        """The constants that a weight is made of by moving values around.

        Args:
            name: The weight.
            axis: The axis of interest, followed through what moves it.
        """
        if self.tensor(name) is not None:
            yield _Origin(name, axis)
            return
        node = self.producers.get(name)
        if node is None:
            return
        if node.op_type in ("Cast", "Identity", "Slice"):
            yield from self.origins(node.input[0], axis)
        elif node.op_type == "DequantizeLinear":
            if self.tensor(node.input[0]) is not None:
                yield _Origin(node.input[0], axis, node)
        elif node.op_type == "Transpose":
            if perm := _attribute(node, "perm"):
                yield from self.origins(node.input[0], perm[axis])
        elif node.op_type == "Unsqueeze" and axis >= 0:
            axes = self.value(node, 1)
            if axes is not None and (axes >= 0).all() and axis not in axes:
                yield from self.origins(node.input[0], axis - int((axes < axis).sum()))
        elif node.op_type == "Concat":
            for part in node.input:
                yield from self.origins(part, axis)

    @cached_property
    def types(self) -> dict[str, tuple[str | None, tuple[int | str | None, ...]]]:
        """Dtype and shape of every value that ONNX can infer."""
        import onnx

        graph = self.proto.graph
        skeleton = onnx.ModelProto(ir_version=self.proto.ir_version)
        skeleton.opset_import.extend(self.proto.opset_import)
        skeleton.graph.node.extend(graph.node)
        skeleton.graph.input.extend(graph.input)
        skeleton.graph.output.extend(graph.output)
        skeleton.graph.value_info.extend(graph.value_info)
        for tensor in graph.initializer:
            if math.prod(tensor.dims) <= 64:  # shapes depend on the values of small ones only
                skeleton.graph.initializer.append(tensor)
            else:
                skeleton.graph.initializer.add(
                    name=tensor.name, dims=tensor.dims, data_type=tensor.data_type
                )
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton).graph
        except onnx.shape_inference.InferenceError:
            inferred = skeleton.graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        found = {v.name: _type(v) for v in values if v.type.tensor_type.HasField("shape")}
        for name, tensor in self.initializers.items():
            found[name] = (_dtype(tensor.data_type), tuple(tensor.dims))
        return found

    @cached_property
    def outputs(self) -> list[onnx.ValueInfoProto]:
        """The outputs that a node computes, and that are tensors."""
        return [
            v
            for v in self.proto.graph.output
            if v.name in self.producers and v.type.HasField("tensor_type")
        ]

    def _live(self) -> list[onnx.NodeProto]:
        needed = {value.name for value in self.proto.graph.output}
        live = []
        for node in reversed(self.proto.graph.node):
            if needed.intersection(node.output):
                needed.update(reads(node))
                live.append(node)
        return live[::-1]


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    import onnx

    for attribute in node.attribute:
        if attribute.name == name:
            value = onnx.helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def _label(node: onnx.NodeProto) -> str:
    return node.name or next(name for name in node.output if name)


def _dtype(data_type: int) -> str | None:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(data_type).name if data_type else None


def _type(value: onnx.ValueInfoProto) -> tuple[str | None, tuple[int | str | None, ...]]:
    tensor = value.type.tensor_type
    dims = [getattr(dim, dim.WhichOneof("value") or "", None) for dim in tensor.shape.dim]
    return _dtype(tensor.elem_type), tuple(dims)


def _place(index: Iterable[Any]) -> str:
    text = ",".join(str(i) for i in index)
    return f"[{text}]" if text else ""


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


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


# weights: more faults than could be listed, so they are drawn


def _exponent_bits(view: _View, rng: np.random.Generator) -> Iterator[_Fault]:
    """A bit of the exponent of one element that is not zero."""
    import numpy as np

    names, sizes = [], []
    for name in view.constants:
        array = view.array(name)
        shaping = any(node.op_type in _SHAPING for node in view.readers[name])
        if array.dtype.name in _FORMATS and array.size >= 2 and not shaping:
            names.append(name)
            sizes.append(int(np.count_nonzero(array)) * _FORMATS[array.dtype.name][2])
    for place, number in _draws(rng, sizes):
        array = view.array(names[place])
        integer, mantissa, exponent = _FORMATS[array.dtype.name]
        nth, bit = divmod(number, exponent)
        index = np.unravel_index(np.flatnonzero(array)[nth], array.shape)
        before = array[index]
        array.view(integer)[index] ^= np.array(1 << (mantissa + bit), integer)
        if np.isfinite(array[index]):
            yield _Fault(
                names[place],
                f"weight {names[place]!r}{_place(index)}: exponent bit {bit} flipped,"
                f" {before:.6g} -> {array[index]:.6g}",
                partial(_write, view, names[place], array),
            )


def _integer_bits(view: _View, rng: np.random.Generator) -> Iterator[_Fault]:
    """A bit of one element of a quantized weight or bias."""
    import numpy as np

    names = _unique(
        node.input[index]
        for node in view.nodes
        for index in _QUANTIZED_WEIGHTS.get(node.op_type, ())
        if index < len(node.input) and _integers(view.tensor(node.input[index]))
    )
    arrays = [view.array(name) for name in names]
    for place, number in _draws(rng, [array.size * array.itemsize * 8 for array in arrays]):
        array = arrays[place].copy()
        nth, bit = divmod(number, array.itemsize * 8)
        index = np.unravel_index(nth, array.shape)
        before = array[index]
        bits = array.view(f"uint{array.itemsize * 8}")
        bits[index] ^= np.array(1 << bit, bits.dtype)
        yield _Fault(
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


def _scaled_channels(view: _View, rng: np.random.Generator) -> Iterator[_Fault]:
    """An output channel of a weight times 1.01; of a quantized one, the channel's scale."""
    import numpy as np

    places: dict[tuple[str, int], tuple[str, int]] = {}  # what is changed -> what it stands for
    for node in view.nodes:
        for index, name in enumerate(node.input):
            axis = _CHANNEL_AXES.get((node.op_type, index))
            if node.op_type == "Gemm" and index == 1:
                axis = 0 if _attribute(node, "transB", 0) else 1
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
            yield _Fault(
                changed,
                f"weight {weight!r}: channel {channel} of axis {axis} scaled by 1.01{via}",
                partial(_write, view, changed, array),
            )


def _channels(view: _View, origin: _Origin) -> tuple[tuple[str, int], tuple[str, int]] | None:
    """The tensor and axis to scale for a weight's channels, and the weight and axis meant."""
    weight = view.tensor(origin.name)
    if weight is None or len(weight.dims) < 2:
        return None
    axis = origin.axis % len(weight.dims)
    if _dtype(weight.data_type) in _FORMATS:
        return (origin.name, axis), (origin.name, axis)
    if origin.dequantized is None or _attribute(origin.dequantized, "block_size", 0):
        return None
    scale = view.tensor(origin.dequantized.input[1])
    along = _attribute(origin.dequantized, "axis", 1) % len(weight.dims)
    if scale is None or len(scale.dims) != 1 or along != axis:
        return None
    return (origin.dequantized.input[1], 0), (origin.name, axis)


def _scales(view: _View, rng: np.random.Generator) -> Iterator[_Fault]:
    """One scale of a quantized value times 1.1, for one reader: Q and DQ often share theirs."""
    import numpy as np

    places = [
        (node, index)
        for node in view.nodes
        for index in (*_SCALES.get(node.op_type, ()), *_dynamic_scale(view, node))
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
            yield _Fault(
                node.input[index],
                f"scale {node.input[index]!r}{_place(at)} of {node.op_type} {_label(node)!r}:"
                f" {before:.6g} -> {array[at]:.6g}",
                partial(_Edit.feed, node=node, index=index, array=array),
            )


def _dynamic_scale(view: _View, node: onnx.NodeProto) -> list[int]:
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


def _write(view: _View, name: str, array: np.ndarray[Any, Any], edit: _Edit) -> None:
    tensor = view.tensor(name)
    assert tensor is not None
    edit.write(tensor, array)


# everything else: all faults are listed, and taken in random order


def _dropped_biases(view: _View) -> Iterator[_Fault]:
    for node in view.nodes:
        adds = node.op_type == "Add"
        for index in (0, 1) if adds else [_BIASES[node.op_type]] if node.op_type in _BIASES else ():
            value = view.value(node, index)
            if value is None or value.dtype.kind != "f" or not value.any():
                continue
            if adds and value.ndim != 1:
                continue
            yield _Fault(
                _label(node),
                f"bias {node.input[index]!r} of {node.op_type} {_label(node)!r} dropped,"
                f" largest {abs(value).max():.6g}",
                # without the Add, dtype or shape could change
                partial(_Edit.feed, node=node, index=index, array=value * 0)
                if adds
                else partial(_leave_out, node, index),
            )


def _leave_out(node: onnx.NodeProto, index: int, edit: _Edit) -> None:
    edit.keep(node)
    if index == len(node.input) - 1:
        del node.input[index]
    else:
        node.input[index] = ""


def _transposed_weights(view: _View) -> Iterator[_Fault]:
    import numpy as np

    names = _unique(
        origin.name
        for node in view.nodes
        for index in _SQUARE_WEIGHTS.get(node.op_type, ())
        for origin in view.origins(node.input[index], 0)
    )
    for name in names:
        tensor = view.tensor(name)
        if tensor is None or len(tensor.dims) != 2 or tensor.dims[0] != tensor.dims[1]:
            continue
        array = view.array(name)
        if not np.array_equal(array, array.T):
            size = "x".join(map(str, array.shape))
            yield _Fault(
                name, f"weight {name!r} ({size}) transposed", partial(_transpose, view, name)
            )


def _transpose(view: _View, name: str, edit: _Edit) -> None:
    import numpy as np

    _write(view, name, np.ascontiguousarray(view.array(name).T), edit)


def _epsilons(view: _View) -> Iterator[_Fault]:
    for node, factor in product(view.nodes, (10, 100)):
        if node.op_type in _NORMALIZATIONS:
            before = _attribute(node, "epsilon", 1e-5)
            after = before * factor
            yield _Fault(
                _label(node),
                f"epsilon of {node.op_type} {_label(node)!r}: {before:.6g} -> {after:.6g}",
                partial(_Edit.attribute, node=node, name="epsilon", value=after),
            )
        elif node.op_type in ("Add", "Max") and _guards(view, node):
            for index in range(len(node.input)):
                value = view.value(node, index)
                if value is None or value.size != 1 or value.dtype.kind != "f":
                    continue
                if 0 < value.item() < 1e-2:
                    yield _Fault(
                        _label(node),
                        f"epsilon of {node.op_type} {_label(node)!r}:"
                        f" {value.item():.6g} -> {value.item() * factor:.6g}",
                        partial(
                            _Edit.feed,
                            node=node,
                            index=index,
                            array=(value * factor).astype(value.dtype),
                        ),
                    )


def _guards(view: _View, node: onnx.NodeProto) -> bool:
    """Whether a node's output is one that an epsilon keeps from zero."""
    return any(
        reader.op_type in ("Pow", "Reciprocal", "Sqrt")
        or (reader.op_type == "Div" and reader.input[1] == node.output[0])
        for reader in view.readers[node.output[0]]
    )


def _pads(view: _View) -> Iterator[_Fault]:
    for node in view.nodes:
        if node.op_type in ("Conv", "ConvTranspose") or node.op_type in _POOLS:
            pads = _attribute(node, "pads", [])
            # a pool's kernel must reach over its padding
            limits = _attribute(node, "kernel_shape") if node.op_type in _POOLS else None
            for moved in _moved(pads, limits):
                yield _Fault(
                    _label(node),
                    f"pads of {node.op_type} {_label(node)!r}: {list(pads)} -> {moved}",
                    partial(_Edit.attribute, node=node, name="pads", value=moved),
                )
        elif node.op_type == "Pad" and len(node.input) > 1:
            yield from _padding(view, node)


def _moved(pads: Sequence[int], limits: Sequence[int] | None = None) -> Iterator[list[int]]:
    """Pads with one element moved to the other side of its axis: the shape stays."""
    half = len(pads) // 2
    for axis in range(half):
        for giver, taker in ((axis, axis + half), (axis + half, axis)):
            moved = list(pads)
            moved[giver] -= 1
            moved[taker] += 1
            if moved[giver] >= 0 and (limits is None or moved[taker] < limits[axis]):
                yield moved


def _padding(view: _View, node: onnx.NodeProto) -> Iterator[_Fault]:
    import numpy as np

    pads = view.value(node, 1)
    if pads is not None and not (pads > 0).any():
        return
    label = f"Pad {_label(node)!r}"
    mode = _attribute(node, "mode", "constant")
    yield _Fault(
        _label(node),
        f"mode of {label}: {mode} -> {_PAD_MODES[mode]}",
        partial(_Edit.attribute, node=node, name="mode", value=_PAD_MODES[mode]),
    )
    if pads is not None and mode == "constant":
        before = pads.tolist()
        for moved in _moved(before):
            yield _Fault(
                _label(node),
                f"pads of {label}: {before} -> {moved}",
                partial(_Edit.feed, node=node, index=1, array=np.array(moved, pads.dtype)),
            )
    value = view.value(node, 2)
    if value is not None and mode == "constant" and np.isfinite(value + 1).all():
        yield _Fault(
            _label(node),
            f"value of {label}: {value.item():.6g} -> {(value + 1).item():.6g}",
            partial(_Edit.feed, node=node, index=2, array=(value + 1).astype(value.dtype)),
        )


def _swapped_outputs(view: _View) -> Iterator[_Fault]:
    for left, right in combinations(view.outputs, 2):
        (left_dtype, left_shape), (right_dtype, right_shape) = _type(left), _type(right)
        if left_dtype == right_dtype and len(left_shape) == len(right_shape):
            yield _Fault(
                left.name,
                f"outputs {left.name!r} and {right.name!r} swapped",
                partial(_swap, left, right),
            )


def _swap(left: onnx.ValueInfoProto, right: onnx.ValueInfoProto, edit: _Edit) -> None:
    names = {left.name: right.name, right.name: left.name}
    edit.rename(names)
    for value in edit.graph.value_info:
        if value.name in names:
            edit.keep(value)
            value.name = names[value.name]
    # the values keep their declared shapes
    edit.keep(left)
    edit.keep(right)
    before = type(left.type)()
    before.CopyFrom(left.type)
    left.type.CopyFrom(right.type)
    right.type.CopyFrom(before)


def _activations(view: _View) -> Iterator[_Fault]:
    for node in view.nodes:
        label = f"{node.op_type} {_label(node)!r}"
        if node.op_type in _ACTIVATIONS and node.domain in ("", "ai.onnx"):
            replacement = _ACTIVATIONS[node.op_type]
            yield _Fault(
                _label(node),
                f"{label} replaced by {replacement}",
                partial(_Edit.retype, node=node, operator=replacement),
            )
        elif node.op_type == "Gelu" and node.domain == "com.microsoft":
            yield _Fault(
                _label(node),
                f"{label} replaced by FastGelu",
                partial(_Edit.retype, node=node, operator="FastGelu"),
            )
        elif node.op_type == "Gelu":
            before = _attribute(node, "approximate", "none")
            after = "tanh" if before == "none" else "none"
            yield _Fault(
                _label(node),
                f"approximation of {label}: {before} -> {after}",
                partial(_Edit.attribute, node=node, name="approximate", value=after),
            )
        elif node.op_type in ("LogSoftmax", "Softmax"):
            yield from _softmax_axes(view, node)
        elif node.op_type == "Clip":
            yield from _bounds(view, node)
        elif node.op_type in _RECURRENT and not _attribute(node, "activation_alpha"):
            yield from _gates(node)


def _softmax_axes(view: _View, node: onnx.NodeProto) -> Iterator[_Fault]:
    _, shape = view.types.get(node.input[0], (None, ()))
    if not shape:
        return
    # before opset 13 all axes from this one on were normalised together
    before = _attribute(node, "axis", 1 if view.opset < 13 else -1) % len(shape)
    for axis in range(len(shape)):
        if axis != before:
            yield _Fault(
                _label(node),
                f"axis of {node.op_type} {_label(node)!r}: {before} -> {axis}",
                partial(_Edit.attribute, node=node, name="axis", value=axis),
            )


def _bounds(view: _View, node: onnx.NodeProto) -> Iterator[_Fault]:
    for index, bound in ((1, "min"), (2, "max")):
        value = view.value(node, index)
        if value is None or value.dtype.kind != "f" or abs(value.item()) > 1e4:
            continue  # a bound at the end of the dtype's range does nothing
        # moved inwards: a wider one shows only where values lie beyond it
        step = max(abs(value.item()) / 2, 0.1)
        after = (value + (step if bound == "min" else -step)).astype(value.dtype)
        yield _Fault(
            _label(node),
            f"{bound} of Clip {_label(node)!r}: {value.item():.6g} -> {after.item():.6g}",
            partial(_Edit.feed, node=node, index=index, array=after),
        )


def _gates(node: onnx.NodeProto) -> Iterator[_Fault]:
    directions = 2 if _attribute(node, "direction", "forward") == "bidirectional" else 1
    given = _attribute(node, "activations")
    before = [name.decode() for name in given or ()] or [*_RECURRENT[node.op_type]] * directions
    for index, name in enumerate(before):
        if name not in ("Sigmoid", "Tanh"):
            continue
        after = list(before)
        after[index] = _ACTIVATIONS[name]
        yield _Fault(
            _label(node),
            f"activation {index} of {node.op_type} {_label(node)!r}: {name} -> {after[index]}",
            partial(_Edit.attribute, node=node, name="activations", value=after),
        )


def _static_dims(view: _View) -> Iterator[_Fault]:
    symbols = _unique(
        dim.dim_param
        for value in view.inputs
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    )
    for symbol in symbols:
        yield _Fault(symbol, f"dim {symbol!r} made static: {_STATIC}", partial(_fix, symbol))


def _fix(symbol: str, edit: _Edit) -> None:
    for value in (*edit.graph.input, *edit.graph.output):
        if any(dim.dim_param == symbol for dim in value.type.tensor_type.shape.dim):
            edit.keep(value)
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == symbol:
                    dim.dim_value = _STATIC


def _dtypes(view: _View) -> Iterator[_Fault]:
    import numpy as np
    import onnx

    for output in view.outputs:
        before, _ = _type(output)
        for after in _CASTS.get(before or "", ()):
            yield _Fault(
                output.name,
                f"output {output.name!r} cast: {before} -> {after}",
                partial(
                    _Edit.cast,
                    output=output,
                    dtype=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(after)),
                ),
            )


def _perms(view: _View) -> Iterator[_Fault]:
    """Two axes of a Transpose exchanged that have the same size."""
    for node in view.nodes:
        perm = _attribute(node, "perm") if node.op_type == "Transpose" else None
        _, shape = view.types.get(node.input[0], (None, ())) if perm else (None, ())
        if not perm or len(shape) != len(perm):
            continue
        for left, right in combinations(range(len(perm)), 2):
            size = shape[perm[left]]
            if size == shape[perm[right]] and size not in (None, 1):
                after = list(perm)
                after[left], after[right] = after[right], after[left]
                yield _Fault(
                    _label(node),
                    f"perm of Transpose {_label(node)!r}: {list(perm)} -> {after}",
                    partial(_Edit.attribute, node=node, name="perm", value=after),
                )


def _reductions(view: _View) -> Iterator[_Fault]:
    for node in view.nodes:
        dtype, _ = view.types.get(node.input[0], (None, ())) if node.input else (None, ())
        after = _REDUCTIONS.get(node.op_type)
        # ONNX Runtime lacks some of them for integers, where they compute shapes
        if after and dtype in _FORMATS and not _axes_differ(view, node, after):
            yield _Fault(
                _label(node),
                f"{node.op_type} {_label(node)!r} replaced by {after}",
                partial(_reduce, node, after),
            )


def _axes_differ(view: _View, node: onnx.NodeProto, after: str) -> bool:
    """Between opset 13 and 18, ReduceSum alone took its axes as an input."""
    return "ReduceSum" in (node.op_type, after) and 13 <= view.opset < 18


def _reduce(node: onnx.NodeProto, operator: str, edit: _Edit) -> None:
    edit.keep(node)
    node.op_type = operator


_Finder = Callable[["_View", "np.random.Generator"], Iterator[_Fault]]


def _shuffled(listed: Callable[[_View], Iterator[_Fault]]) -> _Finder:
    def find(view: _View, rng: np.random.Generator) -> Iterator[_Fault]:
        faults = list(listed(view))
        for index in rng.permutation(len(faults)):
            yield faults[index]

    return find


_FINDERS: dict[str, _Finder] = {
    "exponent-bit": _exponent_bits,
    "integer-bit": _integer_bits,
    "scaled-channel": _scaled_channels,
    "scale-changed": _scales,
    "dropped-bias": _shuffled(_dropped_biases),
    "transposed-weight": _shuffled(_transposed_weights),
    "epsilon-changed": _shuffled(_epsilons),
    "pads-changed": _shuffled(_pads),
    "swapped-outputs": _shuffled(_swapped_outputs),
    "replaced-activation": _shuffled(_activations),
    "static-dim": _shuffled(_static_dims),
    "dtype-changed": _shuffled(_dtypes),
    "perm-changed": _shuffled(_perms),
    "reduction-changed": _shuffled(_reductions),
}

#: The kinds of faults.
OPERATORS = tuple(_FINDERS)
