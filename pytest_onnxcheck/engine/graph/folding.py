"""Sizes that a graph computes, as constants: shape inference does not follow all of its ways.

onnxscript's optimizer does more, and its import takes most of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import attributes

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["fold_sizes"]

#: operators that give something else each time
_RANDOM = ("Bernoulli", "Dropout", "Multinomial", "Random")


def fold_sizes(
    model: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], most_bytes: int
) -> None:
    """Makes constants of what standard nodes compute from constants and from shapes alone.

    Args:
        model: The model, in topological order; changed in place.
        shapes: Known shapes by value.
        most_bytes: Larger values are left alone.
    """
    import onnx

    graph = model.graph
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        found = _computed(node, held, shapes, model.opset_import)
        if found is None or sum(array.nbytes for array in found.values()) > most_bytes:
            kept.append(node)
            continue
        held |= found
        graph.initializer.extend(
            onnx.numpy_helper.from_array(array, name) for name, array in found.items()
        )
    del graph.node[:]
    graph.node.extend(kept)


def _computed(
    node: onnx.NodeProto,
    held: Mapping[str, Array],
    shapes: Mapping[str, tuple[int, ...]],
    opsets: Any,
) -> dict[str, Array] | None:
    """What a node gives, by name; None where that is not known here."""
    import numpy as np
    import onnx

    if node.domain or node.op_type.startswith(_RANDOM):
        return None
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        return None
    if node.op_type == "Shape" and node.input[0] in shapes:
        part = slice(*(attributes(node).get(key) for key in ("start", "end")))
        return {node.output[0]: np.array(shapes[node.input[0]], np.int64)[part]}
    if not all(name in held for name in node.input if name):
        return None
    from onnx.reference import ReferenceEvaluator

    inputs = [name for name in dict.fromkeys(node.input) if name]
    outputs = [name for name in node.output if name]
    unknown = onnx.TypeProto()
    alone = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node],
            "node",
            [onnx.helper.make_value_info(name, unknown) for name in inputs],
            [onnx.helper.make_value_info(name, unknown) for name in outputs],
        ),
        opset_imports=opsets,
    )
    try:
        found = ReferenceEvaluator(alone).run(outputs, {name: held[name] for name in inputs})
    except Exception:  # an operator it does not have, or inputs that do not fit
        return None
    if not all(isinstance(value, np.ndarray | np.generic) for value in found):
        return None  # sequences
    return {name: np.asarray(value) for name, value in zip(outputs, found, strict=True)}
