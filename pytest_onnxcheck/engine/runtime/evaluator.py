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

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["Evaluator", "reference_evaluator"]

#: Its convolutions and recurrences are loops in Python: beyond these it takes minutes.
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

    def __init__(self, model: str | bytes) -> None:
        """Reads a model, by its path or serialised.

        Raises:
            Unsupported: The model is too large for it, or has operators that onnx does not
                specify.
            RunError: onnx cannot read the model.
        """
        import onnx

        with _told():
            loaded = onnx.load(model) if isinstance(model, str) else onnx.load_from_string(model)
            _check_size(loaded.graph)
            if isinstance(model, str):
                _check_cost(Path(model), loaded.graph)
            self._evaluator = reference_evaluator(loaded)
        self._inputs = _values(loaded.graph.input)
        self._outputs = _values(loaded.graph.output)

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


def _values(values: Any) -> list[Value]:
    import onnx

    def kind(value: onnx.ValueInfoProto) -> str:
        element = onnx.TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
        return f"tensor({element})"

    return [Value(value.name, kind(value)) for value in values]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turns what the evaluator does not take into a reason to skip, and the rest into a failure."""
    try:
        yield
    except RunError:
        raise
    except RuntimeError as error:  # how it says that it has no such operator, in several forms
        text = " ".join(str(error).split())
        raise Unsupported(f"the reference evaluator does not run it: {text}") from error
    except Exception as error:
        text = " ".join(str(error).split())
        raise RunError(f"does not load in the reference evaluator: {text}") from error


def _check_size(graph: onnx.GraphProto) -> None:
    nodes = sum(1 for _ in nodes_of(graph))
    elements = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    _check("nodes", nodes, _MAX_NODES)
    _check("weights", elements, _MAX_ELEMENTS)


def _check_cost(path: Path, graph: onnx.GraphProto) -> None:
    """Counts at the sizes the graph states, symbolic ones as 1."""
    shapes = {
        value.name: tuple(dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim)
        for value in graph.input
    }
    inlined, found, _ = inferred(path, shapes)
    counts = [count for _, count in multiply_accumulates(inlined, found) if count is not None]
    _check("multiply-accumulates", sum(counts), _MAX_MACS)


def _check(what: str, count: int, most: int) -> None:
    if count > most:
        raise Unsupported(
            f"the reference evaluator is for tiny models: {count:,} {what}, at most {most:,} are "
            "run. Leave the target reference out for this model"
        )
