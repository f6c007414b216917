"""float16 values that overflow, which ONNX Runtime's CPU provider hides.

It has few float16 kernels: most operators run in float32 between casts, and casts there and back
are removed, so that a value beyond 65504 lives on. A GPU stores it as infinity.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.exposed import Exposed, plain_session, run_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["LARGE", "stored_outputs"]

#: Where no operator of the reference gives more than this, none inside it is taken to reach 65504:
#: sums of squares inside norms are larger than what they return.
LARGE = 100.0


def stored_outputs(
    path: Path, inputs: Mapping[str, Array]
) -> tuple[list[str], dict[str, Array]] | None:
    """What an artefact gives where every float16 value is stored as one.

    Args:
        path: The artefact.
        inputs: Arrays by input name.

    Returns:
        The names of the values that overflow, in topological order, and the outputs by name when
        they do; None when none overflows.

    Raises:
        RunError: ONNX Runtime refused the artefact or the inputs.
    """
    import numpy as np

    exposed = Exposed(path)
    overflowed = {
        name: array
        for name, array in exposed.values(inputs)
        if array.dtype == np.float16 and np.isinf(array).any()
    }
    if not overflowed:
        return None
    outputs = [value.name for value in exposed.graph.output]
    _cut(exposed.graph, overflowed)
    session = plain_session(path, exposed.model.SerializeToString())
    read = {value.name for value in session.get_inputs()}
    feed = {name: array for name, array in {**inputs, **overflowed}.items() if name in read}
    try:
        found = session.run(outputs, feed)
    except Exception as error:
        raise run_error(path, error) from error
    return list(overflowed), dict(zip(outputs, found, strict=True))


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
