"""Every value inside an artefact, computed by ONNX Runtime without optimisations.

Only the top-level graph is opened: what is inside If, Loop and Scan stays inside.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.shapes import value_bytes
from pytest_onnxcheck.engine.runtime import sandbox
from pytest_onnxcheck.engine.runtime.empty import crash_on_empty, has_empty
from pytest_onnxcheck.engine.runtime.libraries import cpu_opening
from pytest_onnxcheck.engine.runtime.session import import_onnxruntime, narrowed_to_float16
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["OpenedGraph", "plain_session", "run_error"]


#: ONNX Runtime's session entry for where the external data of a model in memory lie
_DATA_FOLDER = "session.model_external_initializers_file_folder_path"


class OpenedGraph:
    """An artefact whose values can be looked at.

    Attributes:
        path: The `.onnx` file.
        model: What is run: the file as it was read, without external data, unless it was given.
        libraries: Its custom operators; see `Target`.
    """

    def __init__(
        self,
        path: Path,
        model: onnx.ModelProto | None = None,
        *,
        libraries: tuple[str, ...] = (),
    ) -> None:
        """Reads the file.

        Args:
            path: The `.onnx` file.
            model: What to run in its place; its external data lie beside the file.
            libraries: Its custom operators; see `Target`.
        """
        import onnx

        self.path = path
        self.libraries = libraries
        self.model = onnx.load(path, load_external_data=False) if model is None else model

    @property
    def graph(self) -> onnx.GraphProto:
        """The top-level graph."""
        return self.model.graph

    @functools.cached_property
    def nodes(self) -> list[onnx.NodeProto]:
        """The top-level graph's nodes, in the file's order, which is topological."""
        return list(self.graph.node)

    @functools.cached_property
    def producers(self) -> dict[str, onnx.NodeProto]:
        """Value -> the node that computes it, in topological order."""
        return {name: node for node in self.nodes for name in node.output if name}

    @functools.cached_property
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
        session = plain_session(self.path, self._exposing(names), libraries=self.libraries)
        try:
            feed = self._feed(inputs)
            crash = self._crash_on(feed)
            if crash is None:
                return list(session.run(names, feed))
        except Exception as error:
            raise run_error(self.path, error) from error
        raise RunError(f"{self.path}: {crash}")

    def _crash_on(self, feed: Mapping[str, Array]) -> str | None:
        """How ONNX Runtime crashes on inputs of which one is empty; None where it does not."""
        if not (has_empty(feed) and self.path.is_file()):
            return None
        opening = {**cpu_opening(self.libraries), "optimise": False}
        return crash_on_empty(str(self.path), opening, feed)

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


def plain_session(
    path: Path, model: bytes | None = None, *, libraries: tuple[str, ...] = ()
) -> Any:
    """A session on the CPU that runs an artefact node by node, as it is written.

    Where the artefact is a file, the child process opens it first, once for each file.

    Args:
        path: The artefact.
        model: What to load in its place, serialised; its external data lie beside the artefact.
        libraries: Its custom operators; see `Target`.

    Raises:
        RunError: ONNX Runtime does not load it, a library is not there, or it crashed or hung in
            the child process.
    """
    import_onnxruntime()
    opening = cpu_opening(libraries)
    if model is not None:
        opening["session_options"] = {_DATA_FOLDER: str(path.parent)}
    if path.is_file():
        found = path.stat()
        crash = _crash(path.absolute(), found.st_mtime_ns, found.st_size, libraries)
        if crash is not None:
            raise RunError(f"{path}: {crash}")
    try:
        return open_handle(str(path) if model is None else model, **opening, optimise=False)
    except Exception as error:
        raise run_error(path, error) from error


@functools.lru_cache(maxsize=64)
def _crash(path: Path, changed: int, size: int, libraries: tuple[str, ...]) -> str | None:
    """How a file crashes the child process, unoptimised; None when it does not.

    Args:
        path: The file.
        changed: When it was changed; with its size, what a cached answer is about.
        size: Its bytes.
        libraries: Its custom operators.
    """
    opening = cpu_opening(libraries)
    return sandbox.crash(path, {**opening, "optimise": False})


def run_error(path: Path, error: Exception) -> RunError:
    """What ONNX Runtime said, in one line."""
    return RunError(f"{path}: {type(error).__name__}: {one_line(error)[:600]}")


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
