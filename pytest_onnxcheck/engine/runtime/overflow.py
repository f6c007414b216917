"""float16 values that overflow or underflow, which ONNX Runtime's CPU provider hides.

It has few float16 kernels: most operators run in float32 between casts, and casts there and back
are removed, so that a value beyond 65504, or below 2^-25, lives on. A GPU stores it as infinity,
or as zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import nodes_of
from pytest_onnxcheck.engine.runtime.values import OpenedGraph, plain_session, run_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["LARGE", "TINY", "stored_outputs", "underflowed"]

#: Where no operator of the reference gives more than this, no value inside one is taken to reach
#: 65504. It is so far below because a norm's sum of squares is larger than what the norm returns.
LARGE = 100.0

#: float16's smallest normal number. A value whose largest element is above it loses nothing that
#: matters by underflow: the tails of a softmax, for one. Where every operator of the reference
#: gives more than this somewhere, no value is looked at.
TINY = 2.0**-14


def stored_outputs(
    path: Path, inputs: Mapping[str, Array], libraries: tuple[str, ...] = ()
) -> tuple[list[str], dict[str, Array]] | None:
    """What an artefact gives where every float16 value is stored as one.

    Args:
        path: The artefact.
        inputs: Arrays by input name.
        libraries: Its custom operators; see `Target`.

    Returns:
        The names of the values that overflow, in topological order, and the outputs by name when
        they do; None when none overflows.

    Raises:
        RunError: ONNX Runtime refused the artefact or the inputs.
    """
    import numpy as np

    opened = OpenedGraph(path, libraries=libraries)
    overflowed = {
        name: array
        for name, array in opened.values(inputs)
        if array.dtype == np.float16 and np.isinf(array).any()
    }
    if not overflowed:
        return None
    outputs = [value.name for value in opened.graph.output]
    _cut(opened.graph, overflowed)
    session = plain_session(path, opened.model.SerializeToString(), libraries=libraries)
    read = {value.name for value in session.get_inputs()}
    feed = {name: array for name, array in {**inputs, **overflowed}.items() if name in read}
    try:
        found = session.run(outputs, feed)
    except Exception as error:
        raise run_error(path, error) from error
    return list(overflowed), dict(zip(outputs, found, strict=True))


def underflowed(
    path: Path, inputs: Mapping[str, Array], libraries: tuple[str, ...] = ()
) -> Iterator[str]:
    """Looks for values that are lost by storing them in float16.

    Sets every float16 value beside what the same graph computes in float32.

    Args:
        path: The artefact.
        inputs: Arrays by input name.
        libraries: Its custom operators; see `Target`.

    Yields:
        Names of values that are nowhere above `TINY`, and of whose elements that are not zero in
        float32 more than half are zero in float16; in topological order.

    Raises:
        RunError: ONNX Runtime refused the artefact or the inputs.
    """
    import numpy as np

    stored = {
        name: int(np.count_nonzero(array))
        for name, array in OpenedGraph(path, libraries=libraries).values(inputs)
        if array.dtype == np.float16
    }
    wide = OpenedGraph(path, _in_float32(path), libraries=libraries)
    floats = {
        name: array.astype(np.float32) if array.dtype == np.float16 else array
        for name, array in inputs.items()
    }
    for name, array in wide.values(floats, stored):
        largest = np.abs(array).max(initial=0.0)
        if 0 < largest < TINY and 2 * stored[name] < np.count_nonzero(array):
            yield name


def _in_float32(path: Path) -> onnx.ModelProto:
    """A float16 artefact that computes in float32, with the same weights.

    External data stays where it is: a cast stands behind it.
    """
    import numpy as np
    import onnx

    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    model = onnx.load(path, load_external_data=False)
    del model.graph.value_info[:]
    nodes = list(nodes_of(model.graph))
    tensors = [*model.graph.initializer]
    tensors += [entry.t for node in nodes for entry in node.attribute if entry.HasField("t")]
    casts = []
    for tensor in tensors:
        if tensor.data_type != half:
            continue
        if onnx.external_data_helper.uses_external_data(tensor):
            stored, name = f"{tensor.name}.float16", tensor.name
            tensor.name = stored
            casts.append(onnx.helper.make_node("Cast", [stored], [name], to=single))
        else:
            array = onnx.numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    for node in nodes:
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype") and attribute.i == half:
                attribute.i = single
    ordered = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    return model


def _cut(graph: onnx.GraphProto, values: Mapping[str, Array]) -> None:
    """Turns computed values into inputs."""
    import onnx

    for node in graph.node:
        for index, name in enumerate(node.output):
            if name in values:
                node.output[index] = f"{name}.computed"
    for name, array in values.items():
        kind = onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT16, array.shape)
        graph.input.append(kind)
