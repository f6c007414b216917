"""Every value inside an artefact, computed by ONNX Runtime without optimisations.

Only the top-level graph is opened: what is inside If, Loop and Scan stays inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.shapes import value_bytes
from pytest_onnxcheck.engine.runtime.session import import_onnxruntime, narrowed_to_float16
from pytest_onnxcheck.errors import RunError

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["OpenedGraph", "plain_session", "run_error"]


class OpenedGraph:
    """An artefact whose values can be looked at.

    Attributes:
        path: The `.onnx` file.
        model: The file as it was read, without external data.
    """

    def __init__(self, path: Path) -> None:
        import onnx

        self.path = path
        self.model: onnx.ModelProto = onnx.load(path, load_external_data=False)

    @property
    def graph(self) -> onnx.GraphProto:
        """The top-level graph."""
        return self.model.graph

    @cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """The top-level graph's nodes, in the file's order, which is topological."""
        return list(self.graph.node)

    @cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """Value -> the node that computes it, in topological order."""
        return {name: node for node in self.nodes for name in node.output if name}

    @cached_property
    def inputs(self) -> list[str]:
        """Names of the inputs a caller feeds."""
        constants = {tensor.name for tensor in self.graph.initializer}
        return [value.name for value in self.graph.input if value.name not in constants]

    def values(
        self,
        inputs: Mapping[str, Array],
        names: Iterable[str] | None = None,
        *,
        limit_bytes: float = 256e6,
    ) -> Iterator[tuple[str, Array]]:
        """Computes values, each in its own dtype.

        Args:
            inputs: Arrays by input name.
            names: The values wanted; by default all that nodes compute.
            limit_bytes: About how much is held at a time; beyond it the artefact is run once
                for every part.

        Yields:
            Name and array, in topological order. Sequences and maps are left out.

        Raises:
            RunError: ONNX Runtime refused the artefact or the inputs.
        """
        import numpy as np

        wanted = None if names is None else set(names)
        computed = [name for name in self.producers if wanted is None or name in wanted]
        for chunk in _chunks(computed, self.sizes(inputs), limit_bytes):
            for name, value in zip(chunk, self._run(inputs, chunk), strict=True):
                if isinstance(value, np.ndarray):
                    yield name, value

    def _run(self, inputs: Mapping[str, Array], names: list[str]) -> list[Any]:
        session = plain_session(self.path, self._exposing(names))
        try:
            return list(session.run(names, self._feed(inputs)))
        except Exception as error:
            raise run_error(self.path, error) from error

    def _feed(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs, with float32 as float16 where the file takes that."""
        import numpy as np
        import onnx

        kinds = {value.name: value.type.tensor_type.elem_type for value in self.graph.input}
        return {
            name: narrowed_to_float16(inputs[name])
            if kinds[name] == onnx.TensorProto.FLOAT16 and inputs[name].dtype == np.float32
            else inputs[name]
            for name in self.inputs
        }

    def _exposing(self, names: list[str]) -> bytes:
        """The file with further outputs, serialised; afterwards the model is as it was."""
        import onnx

        outputs = self.graph.output
        before = len(outputs)
        held = {value.name for value in outputs}
        # without a type, ONNX Runtime infers it
        outputs.extend(onnx.ValueInfoProto(name=name) for name in names if name not in held)
        try:
            serialised: bytes = self.model.SerializeToString()
            return serialised
        except Exception as error:  # protobuf refuses more than 2 GB
            raise run_error(self.path, error) from error
        finally:
            del outputs[before:]

    def sizes(self, inputs: Mapping[str, Array]) -> dict[str, int]:
        """Bytes of every value whose shape can be inferred from those of the inputs."""
        return value_bytes(self.model, {name: array.shape for name, array in inputs.items()})


def plain_session(path: Path, model: bytes | None = None) -> Any:
    """A session on the CPU that runs an artefact node by node, as it is written.

    Args:
        path: The artefact.
        model: What to load in its place, serialised; its external data lie beside the artefact.

    Raises:
        RunError: ONNX Runtime does not load it.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if model is not None:
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(path.parent)
        )
    try:
        return onnxruntime.InferenceSession(
            str(path) if model is None else model, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise run_error(path, error) from error


def run_error(path: Path, error: Exception) -> RunError:
    """What ONNX Runtime said, in one line."""
    return RunError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())[:600]}")


def _chunks(names: list[str], sizes: Mapping[str, int], limit: float) -> Iterator[list[str]]:
    """Cuts names into runs of limited size; what is unknown counts as the largest."""
    unknown = max(sizes.values(), default=0)
    chunk: list[str] = []
    held = 0
    for name in names:
        size = sizes.get(name, unknown)
        if chunk and held + size > limit:
            yield chunk
            chunk, held = [], 0
        chunk.append(name)
        held += size
    if chunk:
        yield chunk
