"""ONNX Runtime sessions: the right provider or an error, and no crash of the test process."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine import sandbox
from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.errors import RunError, StageError, TargetAbsent

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

__all__ = [
    "PROVIDERS",
    "Session",
    "import_onnxruntime",
    "open_model",
    "open_session",
    "torch_device",
]

#: target -> ONNX Runtime execution provider
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}

#: what the sandbox found out about artefacts of this session: None when one loads
_probed: dict[tuple[str, str], StageError | None] = {}


def import_onnxruntime() -> Any:
    """The onnxruntime module.

    Raises:
        RunError: None is installed.
    """
    try:
        onnxruntime = importlib.import_module("onnxruntime")
    except ImportError as error:
        raise RunError(
            f"onnxruntime cannot be imported ({error}). Install exactly one of "
            "pip install 'pytest-onnxcheck[cpu]', 'pytest-onnxcheck[gpu]' or "
            "'pytest-onnxcheck[openvino]': two of them overwrite each other"
        ) from error
    # its C++ side logs warnings to stderr, among them one per initializer it removes
    onnxruntime.set_default_logger_severity(3)
    return onnxruntime


def torch_device(target: str) -> str:
    """The torch device that PyTorch is compared on: the GPU for CUDA targets.

    Raises:
        TargetAbsent: The target is a GPU and torch has none.
    """
    if target not in ("cuda", "tensorrt"):
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise TargetAbsent(f"{target}: torch {torch.__version__} sees no CUDA device.")
    return "cuda"


@dataclass(frozen=True)
class Session:
    """An open session that runs on the provider asked for.

    Attributes:
        target: The target.
        provider: Its execution provider.
        inputs: Input name -> ONNX Runtime's name of its type, e.g. `tensor(float)`.
        outputs: Output names.
    """

    target: str
    provider: str
    inputs: dict[str, str]
    outputs: list[str]
    handle: Any

    def run(self, inputs: Arrays) -> list[np.ndarray[Any, Any]]:
        """Runs the artefact; arrays by input name, outputs in the artefact's order.

        Raises:
            RunError: ONNX Runtime refused, or fell back to another provider while running.
        """
        call = self.call(inputs)
        try:
            outputs = call()
        except Exception as error:
            shapes = ", ".join(f"{name} {list(inputs[name].shape)}" for name in self.inputs)
            raise RunError(
                f"ONNX Runtime failed on {shapes}: {' '.join(str(error).split())}"
            ) from error
        self.check_provider("while running")
        return list(outputs)

    def call(self, inputs: Arrays) -> Callable[[], list[np.ndarray[Any, Any]]]:
        """A bare call of the session on these inputs, for timing.

        Raises:
            RunError: The artefact needs an input that is not among them.
        """
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise RunError(f"the artefact needs inputs {missing}, which the manifest lacks")
        return partial(self.handle.run, None, {name: inputs[name] for name in self.inputs})

    def check_provider(self, when: str) -> None:
        """Raises a RunError if the session no longer runs on its provider first."""
        providers = self.handle.get_providers()
        if providers[0] != self.provider:
            raise RunError(
                f"{self.target}: ONNX Runtime fell back to {providers[0]} {when}: asked for "
                f"{self.provider}. The library is built with it, but it does not load here: "
                "check its CUDA/cuDNN (or OpenVINO) libraries and drivers"
            )


def open_session(
    artefact: Artefact, target: str, *, threads: int | None = None, optimise: bool = True
) -> Session:
    """Opens an artefact on a target, first in a child process that may crash in our place.

    Args:
        artefact: What to run.
        target: Where to run it.
        threads: Intra-op threads; None leaves ONNX Runtime's default.
        optimise: Whether ONNX Runtime may rewrite the graph, as it does by default.

    Raises:
        TargetAbsent: This onnxruntime has no such provider, or the machine no such device.
        RunError: The artefact does not load, crashes the runtime, or falls back.
    """
    _probe(artefact, target, _provider(target))
    return _open(str(artefact.path), target, threads, optimise)


def open_model(model: bytes, target: str) -> Session:
    """Opens a model in memory, without the child process: only for what is known to load.

    Raises:
        TargetAbsent: This onnxruntime has no such provider.
        RunError: ONNX Runtime refuses the model, or falls back.
    """
    try:
        return _open(model, target, None, True)
    except RunError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise RunError(f"does not load in ONNX Runtime: {text}") from error


def _provider(target: str) -> str:
    """The target's provider, if this onnxruntime has it."""
    onnxruntime = import_onnxruntime()
    provider = PROVIDERS[target]
    available = onnxruntime.get_available_providers()
    if provider not in available:
        raise TargetAbsent(
            f"{target}: {provider} is not in this onnxruntime {onnxruntime.__version__}, "
            f"which has {', '.join(available)}."
        )
    return provider


def _open(model: str | bytes, target: str, threads: int | None, optimise: bool) -> Session:
    provider = _provider(target)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    # threads that wait by spinning take the processor from what runs next, PyTorch too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    handle = onnxruntime.InferenceSession(model, options, providers=[provider])
    handle.disable_fallback()
    session = Session(
        target=target,
        provider=provider,
        inputs={value.name: value.type for value in handle.get_inputs()},
        outputs=[value.name for value in handle.get_outputs()],
        handle=handle,
    )
    session.check_provider("when the session was opened")
    return session


def _probe(artefact: Artefact, target: str, provider: str) -> None:
    key = (artefact.sha256, target)
    if key not in _probed:
        problem = sandbox.load_problem(Path(artefact.path), provider)
        _probed[key] = None if problem is None else RunError(f"{artefact.path}: {problem}")
    error = _probed[key]
    if error is not None:
        raise error
