"""Engines that a hook gives, behind the part of ONNX Runtime's session that sessions here use."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.runtime.evaluator import Value, described
from pytest_onnxcheck.errors import RunError, TargetAbsent
from pytest_onnxcheck.manifest.targets import Engine, Target
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["OwnEngine"]


class OwnEngine:
    """Stands for an `onnxruntime.InferenceSession`: an artefact that a hook's engine has opened."""

    def __init__(
        self, engine: Engine, target: Target, model: str | bytes, threads: int | None
    ) -> None:
        """Opens it.

        Args:
            engine: The engine.
            target: The target, with its options.
            model: The artefact's path, or the artefact serialised.
            threads: How many it may use; None leaves it to the engine.

        Raises:
            TargetAbsent: A library of the engine is not installed.
            RunError: The engine does not open it.
        """
        import onnx

        if isinstance(model, bytes):
            folder = tempfile.mkdtemp(prefix="onnxcheck-")
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
            path = Path(folder, "model.onnx")
            path.write_bytes(model)
        else:
            path = Path(model)
        try:
            self._run = engine.open(path, target.provider_options, threads)
        except RunError:
            raise
        except ImportError as error:
            raise TargetAbsent(f"{target.name}: {one_line(error)}.") from error
        except Exception as error:  # an engine raises what it likes
            raise RunError(f"does not load in {target.provider}: {one_line(error)}") from error
        graph = onnx.load(path, load_external_data=False).graph
        weights = {tensor.name for tensor in graph.initializer}
        self._name = target.provider
        self._inputs = [value for value in described(graph.input) if value.name not in weights]
        self._outputs = described(graph.output)

    def run(self, names: list[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """Runs it; as ONNX Runtime's, of which only the outputs that are named are given.

        Raises:
            RunError: The engine gives another number of outputs than the artefact has.
        """
        import numpy as np

        found: Sequence[Any] = self._run(dict(feeds))
        if len(found) != len(self._outputs):
            raise RunError(
                f"{self._name} gave {len(found)} outputs, and the artefact has "
                f"{len(self._outputs)}: mend `open` of the engine"
            )
        outputs = dict(zip((value.name for value in self._outputs), found, strict=True))
        return [np.asarray(outputs[name]) for name in names or outputs]

    def get_providers(self) -> list[str]:
        """Itself: whether it falls back is its own affair."""
        return [self._name]

    def get_inputs(self) -> list[Value]:
        """The inputs."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """The outputs."""
        return self._outputs
