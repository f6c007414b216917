"""Faults in what nodes compute: epsilons, padding, activations, axes and reductions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, product
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.operators import GATE_ACTIVATIONS
from pytest_onnxcheck.engine.mutants.edit import Edit, Fault
from pytest_onnxcheck.engine.mutants.view import FLOAT_FORMATS, View, attribute, name_of

if TYPE_CHECKING:
    import onnx

__all__ = [
    "changed_epsilons",
    "changed_pads",
    "changed_perms",
    "changed_reductions",
    "replaced_activations",
]

#: Operators with an attribute `epsilon`.
_NORMALIZATIONS = {
    "BatchNormalization",
    "GroupNormalization",
    "InstanceNormalization",
    "LayerNormalization",
    "RMSNormalization",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
}

#: Operators with padding whose kernel must reach over it.
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

#: pad mode -> one that is valid for the same shapes
_PAD_MODES = {"constant": "edge", "edge": "constant", "reflect": "edge", "wrap": "edge"}

#: reduction -> one that gives the same shape
_REDUCTIONS = {
    "GlobalAveragePool": "GlobalMaxPool",
    "GlobalMaxPool": "GlobalAveragePool",
    "ReduceMax": "ReduceMean",
    "ReduceMean": "ReduceMax",
    "ReduceSum": "ReduceMax",
}


def changed_epsilons(view: View) -> Iterator[Fault]:
    """The epsilon of a normalisation, an attribute or a constant, times 10 or 100."""
    for node, factor in product(view.nodes, (10, 100)):
        if node.op_type in _NORMALIZATIONS:
            before = attribute(node, "epsilon", 1e-5)
            after = before * factor
            yield Fault(
                name_of(node),
                f"epsilon of {node.op_type} {name_of(node)!r}: {before:.6g} -> {after:.6g}",
                partial(Edit.attribute, node=node, name="epsilon", value=after),
            )
        elif node.op_type in ("Add", "Max") and _guards(view, node):
            for index in range(len(node.input)):
                value = view.value(node, index)
                if value is None or value.size != 1 or value.dtype.kind != "f":
                    continue
                if 0 < value.item() < 1e-2:
                    yield Fault(
                        name_of(node),
                        f"epsilon of {node.op_type} {name_of(node)!r}:"
                        f" {value.item():.6g} -> {value.item() * factor:.6g}",
                        partial(
                            Edit.feed,
                            node=node,
                            index=index,
                            array=(value * factor).astype(value.dtype),
                        ),
                    )


def _guards(view: View, node: onnx.NodeProto) -> bool:
    """Whether a node's output is one that an epsilon keeps from zero."""
    return any(
        reader.op_type in ("Pow", "Reciprocal", "Sqrt")
        or (reader.op_type == "Div" and reader.input[1] == node.output[0])
        for reader in view.readers[node.output[0]]
    )


def changed_pads(view: View) -> Iterator[Fault]:
    """Padding moved to the other side of its axis, of another mode or of another value."""
    for node in view.nodes:
        if node.op_type in ("Conv", "ConvTranspose") or node.op_type in _POOLS:
            pads = attribute(node, "pads", [])
            # a pool's kernel must reach over its padding
            limits = attribute(node, "kernel_shape") if node.op_type in _POOLS else None
            for moved in _moved(pads, limits):
                yield Fault(
                    name_of(node),
                    f"pads of {node.op_type} {name_of(node)!r}: {list(pads)} -> {moved}",
                    partial(Edit.attribute, node=node, name="pads", value=moved),
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


def _padding(view: View, node: onnx.NodeProto) -> Iterator[Fault]:
    import numpy as np

    pads = view.value(node, 1)
    if pads is not None and not (pads > 0).any():
        return
    label = f"Pad {name_of(node)!r}"
    mode = attribute(node, "mode", "constant")
    yield Fault(
        name_of(node),
        f"mode of {label}: {mode} -> {_PAD_MODES[mode]}",
        partial(Edit.attribute, node=node, name="mode", value=_PAD_MODES[mode]),
    )
    if pads is not None and mode == "constant":
        before = pads.tolist()
        for moved in _moved(before):
            yield Fault(
                name_of(node),
                f"pads of {label}: {before} -> {moved}",
                partial(Edit.feed, node=node, index=1, array=np.array(moved, pads.dtype)),
            )
    value = view.value(node, 2)
    if value is not None and mode == "constant" and np.isfinite(value + 1).all():
        yield Fault(
            name_of(node),
            f"value of {label}: {value.item():.6g} -> {(value + 1).item():.6g}",
            partial(Edit.feed, node=node, index=2, array=(value + 1).astype(value.dtype)),
        )


def replaced_activations(view: View) -> Iterator[Fault]:
    """An activation replaced by a similar one, or with another axis, bound or approximation."""
    for node in view.nodes:
        label = f"{node.op_type} {name_of(node)!r}"
        if node.op_type in _ACTIVATIONS and node.domain in ("", "ai.onnx"):
            replacement = _ACTIVATIONS[node.op_type]
            yield Fault(
                name_of(node),
                f"{label} replaced by {replacement}",
                partial(Edit.retype, node=node, operator=replacement),
            )
        elif node.op_type == "Gelu" and node.domain == "com.microsoft":
            yield Fault(
                name_of(node),
                f"{label} replaced by FastGelu",
                partial(Edit.retype, node=node, operator="FastGelu"),
            )
        elif node.op_type == "Gelu":
            before = attribute(node, "approximate", "none")
            after = "tanh" if before == "none" else "none"
            yield Fault(
                name_of(node),
                f"approximation of {label}: {before} -> {after}",
                partial(Edit.attribute, node=node, name="approximate", value=after),
            )
        elif node.op_type in ("LogSoftmax", "Softmax"):
            yield from _softmax_axes(view, node)
        elif node.op_type == "Clip":
            yield from _bounds(view, node)
        elif node.op_type in GATE_ACTIVATIONS and not attribute(node, "activation_alpha"):
            yield from _gates(node)


def _softmax_axes(view: View, node: onnx.NodeProto) -> Iterator[Fault]:
    _, shape = view.types.get(node.input[0], (None, ()))
    if not shape:
        return
    # before opset 13 all axes from this one on were normalised together
    before = attribute(node, "axis", 1 if view.opset < 13 else -1) % len(shape)
    for axis in range(len(shape)):
        if axis != before:
            yield Fault(
                name_of(node),
                f"axis of {node.op_type} {name_of(node)!r}: {before} -> {axis}",
                partial(Edit.attribute, node=node, name="axis", value=axis),
            )


def _bounds(view: View, node: onnx.NodeProto) -> Iterator[Fault]:
    for index, bound in ((1, "min"), (2, "max")):
        value = view.value(node, index)
        if value is None or value.dtype.kind != "f" or abs(value.item()) > 1e4:
            continue  # a bound at the end of the dtype's range does nothing
        # moved inwards: a wider one shows only where values lie beyond it
        step = max(abs(value.item()) / 2, 0.1)
        after = (value + (step if bound == "min" else -step)).astype(value.dtype)
        yield Fault(
            name_of(node),
            f"{bound} of Clip {name_of(node)!r}: {value.item():.6g} -> {after.item():.6g}",
            partial(Edit.feed, node=node, index=index, array=after),
        )


def _gates(node: onnx.NodeProto) -> Iterator[Fault]:
    directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
    given = attribute(node, "activations")
    before = [name.decode() for name in given or ()] or [
        *GATE_ACTIVATIONS[node.op_type]
    ] * directions
    for index, name in enumerate(before):
        if name not in ("Sigmoid", "Tanh"):
            continue
        after = list(before)
        after[index] = _ACTIVATIONS[name]
        yield Fault(
            name_of(node),
            f"activation {index} of {node.op_type} {name_of(node)!r}: {name} -> {after[index]}",
            partial(Edit.attribute, node=node, name="activations", value=after),
        )


def changed_perms(view: View) -> Iterator[Fault]:
    """Two axes of a Transpose exchanged that have the same size."""
    for node in view.nodes:
        perm = attribute(node, "perm") if node.op_type == "Transpose" else None
        _, shape = view.types.get(node.input[0], (None, ())) if perm else (None, ())
        if not perm or len(shape) != len(perm):
            continue
        for left, right in combinations(range(len(perm)), 2):
            size = shape[perm[left]]
            if size == shape[perm[right]] and size not in (None, 1):
                after = list(perm)
                after[left], after[right] = after[right], after[left]
                yield Fault(
                    name_of(node),
                    f"perm of Transpose {name_of(node)!r}: {list(perm)} -> {after}",
                    partial(Edit.attribute, node=node, name="perm", value=after),
                )


def changed_reductions(view: View) -> Iterator[Fault]:
    """A mean, sum or maximum replaced by another reduction."""
    for node in view.nodes:
        dtype, _ = view.types.get(node.input[0], (None, ())) if node.input else (None, ())
        after = _REDUCTIONS.get(node.op_type)
        # ONNX Runtime lacks some of them for integers, where they compute shapes
        if after and dtype in FLOAT_FORMATS and not _axes_differ(view, node, after):
            yield Fault(
                name_of(node),
                f"{node.op_type} {name_of(node)!r} replaced by {after}",
                partial(_reduce, node, after),
            )


def _axes_differ(view: View, node: onnx.NodeProto, after: str) -> bool:
    """Between opset 13 and 18, ReduceSum alone took its axes as an input."""
    return "ReduceSum" in (node.op_type, after) and 13 <= view.opset < 18


def _reduce(node: onnx.NodeProto, operator: str, edit: Edit) -> None:
    edit.keep(node)
    node.op_type = operator
