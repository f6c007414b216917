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
from pytest_onnxcheck.errors import RunError, StageError, TargetAbsent, Unsupported

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Arrays = Mapping[str, Array]

__all__ = [
    "PROVIDERS",
    "Session",
    "import_onnxruntime",
    "narrowed_to_float16",
    "open_model",
    "open_session",
    "torch_device",
]

#: how much of ONNX Runtime's words is repeated where a check is skipped
_SHORT = 200

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


def narrowed_to_float16(array: Array) -> Array:
    """The array in float16; what is beyond its range becomes infinite."""
    import numpy as np

    with np.errstate(over="ignore"):
        return array.astype(np.float16)


@dataclass(frozen=True)
class Session:
    """An open session that runs on the provider asked for.

    Attributes:
        target: The target.
        provider: Its execution provider.
        inputs: Input name -> ONNX Runtime's name of its type, e.g. `tensor(float)`.
        outputs: Output names.
        narrowed: Inputs and outputs that the manifest declares as float32 and the variant makes
            float16: they are cast on the way in and out.
    """

    target: str
    provider: str
    inputs: dict[str, str]
    outputs: list[str]
    handle: Any
    narrowed: frozenset[str] = frozenset()

    def run(self, inputs: Arrays) -> list[Array]:
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
        named = dict(zip(self.outputs, outputs, strict=True))
        return list(self.widened(named).values())

    def call(self, inputs: Arrays) -> Callable[[], list[Array]]:
        """A bare call of the session on these inputs, for timing; casts are made beforehand.

        Raises:
            RunError: The artefact needs an input that is not among them.
        """
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise RunError(f"the artefact needs inputs {missing}, which the manifest lacks")
        fed = self.fed(inputs)
        return partial(self.handle.run, None, {name: fed[name] for name in self.inputs})

    def fed(self, inputs: Arrays) -> dict[str, Array]:
        """The inputs, with float32 as float16 where the variant takes that, and no other cast."""
        import numpy as np

        return {
            name: narrowed_to_float16(array)
            if name in self.narrowed
            and self.inputs.get(name) == "tensor(float16)"
            and array.dtype == np.float32
            else array
            for name, array in inputs.items()
        }

    def widened(self, outputs: Arrays) -> dict[str, Array]:
        """The outputs, with float16 as float32 where the variant gives that."""
        import numpy as np

        return {
            name: array.astype(np.float32)
            if name in self.narrowed and array.dtype == np.float16
            else array
            for name, array in outputs.items()
        }

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
        Unsupported: The artefact is bfloat16, and the provider has no kernels for it.
        RunError: The artefact does not load, crashes the runtime, or falls back.
    """
    _probe(artefact, target, _provider(target))
    narrowed = frozenset(artefact.notes.get("narrowed", ()))
    return _open(str(artefact.path), target, threads, optimise, narrowed)


def open_model(model: bytes, target: str, narrowed: frozenset[str] = frozenset()) -> Session:
    """Opens a model in memory, without the child process: only for what is known to load.

    Args:
        model: The model, serialised.
        target: Where to run it.
        narrowed: See `Session`.

    Raises:
        TargetAbsent: This onnxruntime has no such provider.
        RunError: ONNX Runtime refuses the model, or falls back.
    """
    try:
        return _open(model, target, None, True, narrowed)
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


def _open(
    model: str | bytes,
    target: str,
    threads: int | None,
    optimise: bool,
    narrowed: frozenset[str],
) -> Session:
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
        narrowed=narrowed,
    )
    session.check_provider("when the session was opened")
    wide = [value.name for value in handle.get_inputs() if value.type == "tensor(bfloat16)"]
    wide += [value.name for value in handle.get_outputs() if value.type == "tensor(bfloat16)"]
    if wide:
        raise RunError(
            f"{', '.join(wide)}: bfloat16, which ONNX Runtime does not exchange with numpy: it "
            "cannot be run from Python. Keep inputs and outputs in float32 (keep_io_types = true)"
        )
    return session


def _probe(artefact: Artefact, target: str, provider: str) -> None:
    key = (artefact.sha256, target)
    if key not in _probed:
        problem = sandbox.load_problem(Path(artefact.path), provider)
        _probed[key] = None if problem is None else _refused(artefact.path, problem, provider)
    error = _probed[key]
    if error is not None:
        raise error


def _refused(path: Path, problem: str, provider: str) -> RunError:
    """Why an artefact does not load: a failure, unless all that is missing is bfloat16."""
    said = problem.rpartition("NOT_IMPLEMENTED : ")[2]
    if said == problem or not _holds_bfloat16(path):
        return RunError(f"{path}: {problem}")
    short = said if len(said) <= _SHORT else said[:_SHORT] + " …"
    return Unsupported(f"bf16 does not load on {provider}: {short}")


def _holds_bfloat16(path: Path) -> bool:
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    held = {tensor.data_type for tensor in graph.initializer}
    held |= {v.type.tensor_type.elem_type for v in (*graph.input, *graph.output, *graph.value_info)}
    return onnx.TensorProto.BFLOAT16 in held
