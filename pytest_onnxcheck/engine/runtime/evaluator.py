"""onnx's reference evaluator behind the part of ONNX Runtime's session that sessions here use.

It is the specification in Python: float16 and bfloat16 are computed as they are, where ONNX
Runtime's CPU provider has no kernels or computes in float32. It is slow, and takes small models.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.macs import multiply_accumulates
from pytest_onnxcheck.engine.graph.shapes import inferred
from pytest_onnxcheck.engine.graph.walk import nodes_of
from pytest_onnxcheck.errors import RunError, Unsupported
from pytest_onnxcheck.manifest.targets import EVALUATOR
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["Evaluator", "Value", "described", "reference_evaluator", "too_large"]

#: It is written in Python, its recurrences are loops: beyond these it may take minutes.
_MAX_NODES = 500
_MAX_ELEMENTS = 4_000_000
_MAX_MACS = 20_000_000


@dataclass(frozen=True)
class Value:
    """An input or output, as ONNX Runtime describes it."""

    name: str
    type: str


def reference_evaluator(model: str | onnx.ModelProto) -> Any:
    """Onnx's evaluator of a model, or of the file at a path."""
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class MatMul(OpRun):
        """In the type of its inputs: onnx before 1.23 makes float32 of bfloat16, and then fails."""

        op_domain = ""

        def _run(self, left: Array, right: Array) -> tuple[Array]:
            return ((left @ right).astype(left.dtype, copy=False),)

    return ReferenceEvaluator(model, new_ops=[MatMul])


class Evaluator:
    """Stands for an `onnxruntime.InferenceSession`."""

    def __init__(self, model: str | bytes, *, limited: bool = True) -> None:
        """Reads a model.

        Args:
            model: Its path, or the model serialised.
            limited: Whether a model that would take long is refused.

        Raises:
            Unsupported: The model is too large for it, or has operators that onnx does not
                specify.
            RunError: onnx cannot read the model.
        """
        import onnx

        with _refusals():
            loaded = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
            if limited:
                _check(loaded.graph, Path(model) if isinstance(model, str) else None)
            self._evaluator = reference_evaluator(loaded)
        self._inputs = described(loaded.graph.input)
        self._outputs = described(loaded.graph.output)

    def run(self, names: list[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Runs the model."""
        import numpy as np

        with np.errstate(all="ignore"):
            outputs: list[Array] = self._evaluator.run(names, dict(feeds))
        return outputs

    def get_providers(self) -> list[str]:
        """Itself: it never falls back."""
        return [EVALUATOR]

    def get_inputs(self) -> list[Value]:
        """The inputs."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """The outputs."""
        return self._outputs


def described(values: Any) -> list[Value]:
    """Inputs or outputs of a graph, as ONNX Runtime describes them."""
    import onnx

    def kind(value: onnx.ValueInfoProto) -> str:
        element = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        return f"tensor({element})"

    return [Value(value.name, kind(value)) for value in values]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Turns what the evaluator does not take into a reason to skip, and the rest into a failure."""
    try:
        yield
    except RunError:
        raise
    except RuntimeError as error:  # how it says that it has no such operator, in several forms
        raise Unsupported(f"the reference evaluator does not run it: {one_line(error)}") from error
    except Exception as error:
        raise RunError(f"does not load in the reference evaluator: {one_line(error)}") from error


def too_large(graph: onnx.GraphProto, values: int | None = None) -> str | None:
    """Of what a graph has more than is run in reasonable time.

    Args:
        graph: The graph; external data need not be loaded.
        values: How many elements its nodes compute, where that is known.

    Returns:
        What, how much and how much at most, e.g. `501 nodes, at most 500 are run`; None where it is
        small enough.
    """
    nodes = sum(1 for _ in nodes_of(graph))
    weights = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    elements, what = weights, "weights"
    if values is not None:
        elements, what = weights + values, "elements of weights and values"
    return _beyond("nodes", nodes, _MAX_NODES) or _beyond(what, elements, _MAX_ELEMENTS)


def _beyond(what: str, count: int, most: int) -> str | None:
    return f"{count:,} {what}, at most {most:,} are run" if count > most else None


def _check(graph: onnx.GraphProto, path: Path | None) -> None:
    """Refuses a graph that would take long; without a path, its operations are not counted.

    Raises:
        Unsupported: It would.
    """
    reason = too_large(graph)
    if reason is None and path is not None:
        macs = _multiply_accumulates(path, graph)
        reason = _beyond("multiply-accumulates", macs, _MAX_MACS)
    if reason is not None:
        raise Unsupported(
            f"the reference evaluator is for tiny models: {reason}. Leave the target reference "
            "out for this model"
        )


def _multiply_accumulates(path: Path, graph: onnx.GraphProto) -> int:
    """Counts at the sizes the graph states, symbolic ones as 1."""
    shapes = {
        value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in graph.input
    }
    inlined, found, _ = inferred(path, shapes)
    return sum(count for _, count in multiply_accumulates(inlined, found) if count is not None)
