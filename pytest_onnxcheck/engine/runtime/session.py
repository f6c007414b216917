"""ONNX Runtime sessions: the right provider or an error, and no crash of the test process."""

from __future__ import annotations

import contextlib
import importlib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.graph.bfloat16 import Bfloat16, find_bfloat16
from pytest_onnxcheck.engine.runtime import remote, sandbox
from pytest_onnxcheck.engine.runtime.empty import crash_on_empty, has_empty
from pytest_onnxcheck.engine.runtime.engines import OwnEngine
from pytest_onnxcheck.engine.runtime.evaluator import Evaluator
from pytest_onnxcheck.engine.runtime.libraries import opening_of, unregistered
from pytest_onnxcheck.engine.runtime.opening import printed
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.errors import RunError, StageError, TargetAbsent, Unsupported
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.targets import EVALUATOR, Target
from pytest_onnxcheck.progress import staged
from pytest_onnxcheck.wording import closest, one_line, several

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Arrays = Mapping[str, Array]

__all__ = [
    "Session",
    "import_onnxruntime",
    "narrowed_to_float16",
    "open_model",
    "open_session",
    "torch_device",
]

#: how much of ONNX Runtime's words is repeated where a check is skipped
_SHORT = 200

#: what comes before the words that a kernel is missing: in Python, in a browser; nothing in node
_NOT_IMPLEMENTED = re.compile(
    "NOT_IMPLEMENTED : |ERROR_CODE: 9, ERROR_MESSAGE: |(?=Could not find an implementation for )"
)

#: how ONNX Runtime names the node for which it has no kernel
_NODE = re.compile(r"node with name '([^']*)'")

#: ONNX Runtime's numbers of what it logs
_WARNING, _ERROR = 2, 3

#: lines of what ONNX Runtime printed that are repeated where it falls back
_SAID = 2

#: what is known about opening artefacts on targets in this process: None when the child did
_probed: dict[tuple[str, str, str], StageError | None] = {}


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
    onnxruntime.set_default_logger_severity(_ERROR)
    return onnxruntime


def torch_device(target: Target) -> str:
    """The torch device that PyTorch is timed on; on a GPU, TF32 is turned off for good.

    Raises:
        TargetAbsent: The target's device is a GPU and torch has none.
        RunError: Torch knows no such device.
    """
    import torch

    try:
        torch.device(target.device)
    except RuntimeError as error:
        first = str(error).partition(":")[0]
        raise RunError(
            f"[targets.{target.name}] torch_device {target.device!r}: {first}"
        ) from error
    if target.device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise TargetAbsent(f"{target.name}: torch {torch.__version__} sees no CUDA device.")
        index, count = torch.device(target.device).index or 0, torch.cuda.device_count()
        if index >= count:
            raise TargetAbsent(f"{target.name}: torch sees {count} GPUs, and no {target.device}.")
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return target.device


def narrowed_to_float16(array: Array) -> Array:
    """The array in float16; what is beyond its range becomes infinite."""
    import numpy as np

    with np.errstate(over="ignore"):
        return array.astype(np.float16)


@dataclass(frozen=True)
class Session:
    """An open session that runs on the provider asked for.

    Attributes:
        target: What it runs on.
        inputs: Input name -> ONNX Runtime's name of its type, e.g. `tensor(float)`.
        outputs: Output names.
        narrowed: See `Notes`: those that are float16 are cast on the way in and out.
        startup_log: What ONNX Runtime printed to stderr while it was opened.
        model: Path or bytes of what it runs; None where nothing native runs it in this process.
        optimised: Whether ONNX Runtime may have rewritten the graph.
    """

    target: Target
    inputs: dict[str, str]
    outputs: list[str]
    handle: Any
    narrowed: frozenset[str] = frozenset()
    startup_log: tuple[str, ...] = ()
    model: str | bytes | None = field(default=None, repr=False)
    optimised: bool = True

    @property
    def provider(self) -> str:
        """Its execution provider."""
        return self.target.provider

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
            what = "ONNX Runtime" if self.target.engine is None else self.provider
            raise RunError(f"{what} failed on {shapes}: {one_line(error)}") from error
        self.check_provider("while running")
        named = dict(zip(self.outputs, outputs, strict=True))
        return list(self.cast_outputs(named).values())

    def call(self, inputs: Arrays) -> Callable[[], list[Array]]:
        """A bare call of the session on these inputs, for timing; casts are made beforehand.

        Raises:
            RunError: The artefact needs an input that is not among them, or crashes the runtime
                where one is empty.
        """
        cast = self.cast_inputs(inputs)
        if self.model is not None and has_empty(cast):
            opening = {**opening_of(self.target), "optimise": self.optimised}
            problem = crash_on_empty(self.model, opening, cast)
            if problem is not None:
                raise RunError(problem)
        return partial(self.handle.run, None, cast)

    def check_names(self, given: Collection[str]) -> None:
        """Whether the artefact takes these inputs.

        Raises:
            RunError: It needs an input that is not among them.
        """
        missing = [name for name in self.inputs if name not in given]
        if missing:
            raise RunError(
                f"the artefact needs inputs {missing}, which the manifest lacks; it has "
                f"{list(given)}: give the inputs the same names here and there"
            )

    def cast_inputs(self, inputs: Arrays) -> dict[str, Array]:
        """What the artefact takes, with float32 as float16 where the variant takes that.

        Raises:
            RunError: The artefact needs an input that is not among them.
        """
        import numpy as np

        self.check_names(inputs)
        return {
            name: narrowed_to_float16(array)
            if name in self.narrowed
            and self.inputs[name] == "tensor(float16)"
            and array.dtype == np.float32
            else array
            for name, array in ((name, inputs[name]) for name in self.inputs)
        }

    def cast_outputs(self, outputs: Arrays) -> dict[str, Array]:
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
                f"{self.target.name}: ONNX Runtime fell back to {providers[0]} {when}: asked for "
                f"{self.provider}. {self._why()}"
            )

    def _why(self) -> str:
        """What ONNX Runtime printed, its errors first, or what may be the matter."""
        if self.startup_log:
            return f"It said: {'; '.join(self.startup_log[:_SAID])}"
        return (
            "The library is built with it, but it does not load here: check its CUDA/cuDNN (or "
            "OpenVINO) libraries and drivers"
        )


def _named(artefact: Artefact, target: Target, **_: object) -> tuple[str, str]:
    """An artefact by the end of its path: what is built is called alike in every folder."""
    return "/".join(Path(artefact.path).parts[-3:]), target.name


@staged("opening a session", _named)
def open_session(
    artefact: Artefact, target: Target, *, threads: int | None = None, optimise: bool = True
) -> Session:
    """Opens an artefact on a target, first in a child process that may crash in our place.

    Args:
        artefact: What to run.
        target: Where to run it, and with which options.
        threads: Intra-op threads; None leaves what the target's options or ONNX Runtime say.
        optimise: Whether ONNX Runtime may rewrite the graph, as it does by default.

    Raises:
        TargetAbsent: This onnxruntime has no such provider, or the machine no such device.
        Unsupported: The artefact is to be bf16, and the provider has no kernels for it; or the
            target is the reference evaluator, and the artefact too large for it.
        RunError: The artefact does not load, crashes the runtime, or falls back.
    """
    _check_available(target)
    if target.elsewhere or target.engine is not None:  # a worker may crash; an engine is trusted
        _raise_known(artefact, target)
    else:
        _probe(artefact, target)
    narrowed = frozenset(artefact.notes.narrowed)
    try:
        return _open(str(artefact.path), target, threads, optimise, narrowed)
    except RunError as error:  # one failure, which the other checks then name
        _probed[_key(artefact, target)] = error
        raise
    except remote.Unopened as error:
        refused = _refused(artefact, str(error), target)
        _probed[_key(artefact, target)] = refused
        raise refused from error
    except Exception as error:  # it opened in the child, with the target's own number of threads
        raise _does_not_load(error) from error


def open_model(model: bytes, target: Target, narrowed: frozenset[str] = frozenset()) -> Session:
    """Opens a model in memory, without the child process: only for what is known to load.

    Args:
        model: The model, serialised.
        target: Where to run it.
        narrowed: See `Session`.

    Raises:
        TargetAbsent: This onnxruntime has no such provider.
        RunError: ONNX Runtime refuses the model, or falls back.
    """
    _check_available(target)
    try:
        return _open(model, target, None, True, narrowed)
    except RunError:
        raise
    except remote.Unopened as error:
        raise RunError(str(error)) from error
    except Exception as error:
        raise _does_not_load(error) from error


def _does_not_load(error: Exception) -> RunError:
    return RunError(f"does not load in ONNX Runtime: {one_line(error)}")


def _check_available(target: Target) -> None:
    """Raises where this onnxruntime lacks the target's provider."""
    if target.provider == EVALUATOR or target.engine is not None:
        return
    if target.elsewhere:
        there = remote.runtime_of(target)
        version, available, known = there.version, there.available, there.known
    else:
        onnxruntime = import_onnxruntime()
        version, available = onnxruntime.__version__, onnxruntime.get_available_providers()
        known = onnxruntime.get_all_providers()
    if target.provider in available:
        return
    if target.provider not in known:
        close = closest(target.provider, [*known, EVALUATOR])
        hint = f"did you mean {close!r}?" if close else f"it knows {', '.join(known)}"
        raise RunError(
            f"{target.name}: onnxruntime {version} knows no provider "
            f"{target.provider!r} ({hint}); mend [targets.{target.name}] provider"
        )
    missing = "is not in that onnxruntime" if target.elsewhere else "is not in this onnxruntime"
    raise TargetAbsent(
        f"{target.name}: {target.provider} {missing} {version}, which has {', '.join(available)}."
    )


def _open(
    model: str | bytes,
    target: Target,
    threads: int | None,
    optimise: bool,
    narrowed: frozenset[str],
) -> Session:
    log: list[str] = []
    if target.provider == EVALUATOR:
        handle: Any = Evaluator(model)
    elif target.engine is not None:
        handle = OwnEngine(target.engine, target, model, threads)
    elif target.elsewhere:
        opening = {**opening_of(target), "threads": threads, "optimise": optimise}
        handle = remote.opened(target, model, opening)
        log = handle.said
    else:
        with _talkative(), printed() as log:
            handle = open_handle(model, **opening_of(target), threads=threads, optimise=optimise)
    native = not target.elsewhere and target.engine is None and target.provider != EVALUATOR
    session = Session(
        target=target,
        inputs={value.name: value.type for value in handle.get_inputs()},
        outputs=[value.name for value in handle.get_outputs()],
        handle=handle,
        narrowed=narrowed,
        startup_log=tuple(log),
        model=model if native else None,
        optimised=optimise,
    )
    session.check_provider("when the session was opened")
    wide = [value.name for value in handle.get_inputs() if value.type == "tensor(bfloat16)"]
    wide += [value.name for value in handle.get_outputs() if value.type == "tensor(bfloat16)"]
    if wide:
        raise RunError(
            f"{', '.join(wide)}: bfloat16, which ONNX Runtime does not exchange with numpy: it "
            "cannot be run from Python. Keep inputs and outputs in float32 (keep_io_types = true); "
            "of another precision than bf16, cast them in forward"
        )
    return session


@contextlib.contextmanager
def _talkative() -> Iterator[None]:
    """Lets ONNX Runtime tell its warnings: why a provider does not load is one of them."""
    onnxruntime = import_onnxruntime()
    onnxruntime.set_default_logger_severity(_WARNING)
    try:
        yield
    finally:
        onnxruntime.set_default_logger_severity(_ERROR)


def _probe(artefact: Artefact, target: Target) -> None:
    key = _key(artefact, target)
    if key not in _probed and target.provider != EVALUATOR:
        _probed[key] = _problem(artefact, target)
    _raise_known(artefact, target)


def _raise_known(artefact: Artefact, target: Target) -> None:
    """Raises the error that the artefact met on the target before."""
    error = _probed.get(_key(artefact, target))
    if error is not None:
        raise error


def _problem(artefact: Artefact, target: Target) -> RunError | None:
    """Why an artefact does not load in the child process; None where it does."""
    try:
        opening = opening_of(target)
    except RunError as error:
        return error
    problem = sandbox.load_problem(Path(artefact.path), opening)
    return None if problem is None else _refused(artefact, problem, target)


def _key(artefact: Artefact, target: Target) -> tuple[str, str, str]:
    return artefact.sha256, artefact.precision, target.key


def _refused(artefact: Artefact, problem: str, target: Target) -> RunError:
    """Why an artefact does not load: a failure, unless bfloat16 was asked for and is the reason."""
    provider = target.provider
    said = _NOT_IMPLEMENTED.split(problem)[-1]
    if "'tensor(bfloat16)'" in problem and artefact.precision != "bf16":  # invalid at its opset
        said = problem.rpartition("Type Error: ")[2]
    found = Bfloat16() if said == problem else find_bfloat16(artefact.path)
    node = _NODE.search(said)
    if not found.held or (node is not None and node[1] in found.free):
        return RunError(f"{artefact.path}: {problem}{unregistered(problem, target.libraries)}")
    short = one_line(said, _SHORT).rstrip(".")
    if PRECISIONS[artefact.precision].floats == "bfloat16":
        return Unsupported(f"{artefact.precision} does not load on {provider}: {short}")
    return RunError(
        f"{artefact.path}: does not load on {provider}, which lacks kernels for bfloat16: {short}. "
        f"The manifest asks for {artefact.precision}, and bfloat16 is in "
        f"{several(list(found.held.values()))}. Keep them in float32 (no .bfloat16(), "
        ".to(torch.bfloat16) or autocast in the model), or ask for precision bf16"
    )
