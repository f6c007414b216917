"""Sessions in other environments: a worker in each, behind the part of a session's interface used.

What crashes or hangs there is an error here, and the next question goes to a new worker, in which
the sessions that are still in use are opened again.
"""

from __future__ import annotations

import atexit
import contextlib
import re
import shutil
import subprocess
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.external import data_files
from pytest_onnxcheck.engine.environments import made
from pytest_onnxcheck.engine.graph.runtimes import lowest_release
from pytest_onnxcheck.engine.runtime import workers
from pytest_onnxcheck.engine.runtime.nodejs import javascript_child
from pytest_onnxcheck.engine.runtime.opening import messages
from pytest_onnxcheck.engine.runtime.worker import Times, read_arrays, write_arrays
from pytest_onnxcheck.errors import RunError, TargetAbsent, Unsupported
from pytest_onnxcheck.manifest.targets import WEB, Target
from pytest_onnxcheck.processes import Child, NoAnswerError
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
    Arrays = Mapping[str, Array]

__all__ = ["Runtime", "Session", "Turns", "Unopened", "opened", "packages_of", "runtime_of"]


#: how ONNX Runtime says what it takes at most
_OPSET = re.compile(r"support for domain ai\.onnx is till opset (\d+)")
_IR_VERSION = re.compile(r"max supported IR version: (\d+)")


#: what to do where the environment that `deploy` asks for cannot be made
_NO_DEPLOY = 'name an interpreter that has it ([targets."{}"] python), set deploy.run = false'


class Unopened(Exception):  # noqa: N818 - whether it is a fault is for others to say
    """A session does not open in another environment; the text says where and why."""


@dataclass(frozen=True)
class Value:
    """An input or output, as ONNX Runtime describes it."""

    name: str
    type: str


@dataclass(frozen=True)
class Node:
    """A node that a provider runs, as ONNX Runtime describes it."""

    op_type: str
    name: str
    domain: str


@dataclass(frozen=True)
class Part:
    """Nodes that one provider runs."""

    ep_name: str
    nodes: tuple[Node, ...]

    def get_nodes(self) -> tuple[Node, ...]:
        """The nodes."""
        return self.nodes


class Runtime:
    """The onnxruntime of another environment.

    Attributes:
        version: Its version.
        packages: Versions of Python and of the packages there that decide what is computed.
        available: The providers that it is built with.
        known: All providers that it knows.
    """

    def __init__(
        self, child: Child, named: str, mend: tuple[str, str], *, in_javascript: bool = False
    ) -> None:
        """Starts a worker there.

        Args:
            child: The worker.
            named: What runs it, for a person, e.g. the interpreter.
            mend: What to do where it has no onnxruntime, and where it does not answer.
            in_javascript: Whether it is a worker in JavaScript.

        Raises:
            RunError: It does not start, or lacks numpy or onnxruntime.
        """
        self.child = child
        self.in_javascript = in_javascript
        self.forgotten: list[tuple[subprocess.Popen[bytes], int]] = []
        atexit.register(self.child.close)
        try:
            found = workers.ask(self.child, "hello")
            self.version = str(found["version"])
            self.packages = {str(key): str(value) for key, value in found["packages"].items()}
            self.available = [str(each) for each in found["available"]]
            self.known = [str(each) for each in found["known"]]
        except workers.Refused as error:
            raise RunError(
                f"{named} cannot import onnxruntime ({one_line(error)}): {mend[0]}"
            ) from error
        except (OSError, NoAnswerError, TypeError, KeyError, AttributeError) as error:
            said = "; ".join(getattr(error, "stderr_tail", ()))
            what = "a node" if in_javascript else "a Python"
            raise RunError(
                f"{named} does not answer as {what} with onnxruntime does: "
                f"{one_line(error)}{f': {said}' if said else ''}. {mend[1]}"
            ) from error

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Drops sessions whose owners are gone, unless the worker that had them is gone too.

        A finalizer cannot: it may run in the middle of a question.
        """
        forgotten, self.forgotten[:] = self.forgotten[:], []
        for owner, number in forgotten:
            if owner is process:
                workers.ask(self.child, "close", session=number)


#: what is known of environments in this process, by how targets name them
_known: dict[tuple[object, ...], Runtime | RunError] = {}


def runtime_of(target: Target, threads: int = 1) -> Runtime:
    """The onnxruntime of a target's environment, which is made where it is to be.

    Args:
        target: The target.
        threads: In WebAssembly all sessions of a process have as many.

    Raises:
        TargetAbsent: There is no such interpreter or browser, or no such environment and none may
            be made.
        RunError: The environment cannot be made, or has no onnxruntime.
    """
    key = _key(target, threads)
    if key not in _known:
        try:
            _known[key] = _started(target)
        except RunError as error:  # one failure, which the other checks then name
            _known[key] = type(error)(f"{target.name}: {error}")
    found = _known[key]
    if isinstance(found, RunError):
        raise found
    return found


def packages_of(target: Target) -> dict[str, str]:
    """Versions in a target's environment; empty where it was not asked, or is not there."""
    found = _known.get(_key(target, 1))
    return dict(found.packages) if isinstance(found, Runtime) else {}


def _key(target: Target, threads: int) -> tuple[object, ...]:
    own = threads if target.runtime == WEB else 1
    return (
        *(target.python, target.environment, target.oldest, target.runtime, target.browser),
        *(target.kept, own),
    )


def _started(target: Target) -> Runtime:
    """Starts a worker in a target's environment."""
    if target.runtime:
        named = target.browser or "node"
        mend = (f"see whether {named} starts here", "See whether it starts here")
        return Runtime(javascript_child(target), named, mend, in_javascript=True)
    python = _python(target)
    mend = (f"{python} -m pip install onnxruntime", "Name another interpreter")
    return Runtime(workers.child(str(python)), str(python), mend)


def _python(target: Target) -> Path:
    """The interpreter of a target."""
    kept = Path(target.kept)
    if target.oldest:
        wanted = [f"onnxruntime=={lowest_release(target.oldest)}"]
        return made(wanted, kept, make=target.makes, mend=_NO_DEPLOY.format(target.name))
    found = shutil.which(target.python) if target.python else None
    if target.python and found is None:
        raise TargetAbsent(
            f"there is no interpreter {target.python}. Make it there, or name one with onnxruntime "
            f"([targets.{target.name}] python)."
        )
    if not target.environment:
        assert found is not None
        return Path(found)
    given = {} if found is None else {"python": found}
    return made(target.environment, kept, make=target.makes, **given)


class Session:
    """Stands for an `onnxruntime.InferenceSession` in another environment.

    Attributes:
        said: What ONNX Runtime printed while it was opened, its errors first.
        seconds: What the last run took there, without the arrays' way.
    """

    def __init__(self, runtime: Runtime, model: str | bytes, opening: Mapping[str, Any]) -> None:
        """Opens it.

        Args:
            runtime: Where.
            model: The artefact's path, or the artefact serialised.
            opening: The arguments of `worker.open_handle`.

        Raises:
            Refused: ONNX Runtime refuses it.
            NoAnswerError: The worker crashed or hung.
        """
        self._runtime, self._opening = runtime, dict(opening)
        self._folder = tempfile.mkdtemp(prefix="onnxcheck-")
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        if isinstance(model, bytes):
            path = Path(self._folder, "model.onnx")
            path.write_bytes(model)
        else:
            path = Path(model).absolute()
        self._path = path
        self.seconds = 0.0
        self._fed = ""
        self._process, self._number = self._open()

    def _open(self) -> tuple[subprocess.Popen[bytes], int]:
        child = self._runtime.child
        process = child.start()
        self._runtime.forget(process)
        child.told()
        found = workers.ask(child, "open", path=str(self._path), opening=self._opening)
        self.said = messages(child.told())
        self._inputs = [Value(*each) for each in found["inputs"]]
        self._outputs = [Value(*each) for each in found["outputs"]]
        self._providers = [str(each) for each in found["providers"]]
        number = int(found["session"])
        weakref.finalize(self, self._runtime.forgotten.append, (process, number))
        return process, number

    @property
    def number(self) -> int:
        """The worker's number of it; opened again in a new worker, where the last one died.

        Raises:
            RunError: It does not open there any more.
        """
        if self._process is not self._runtime.child.start():
            try:
                self._process, self._number = self._open()
            except (workers.Refused, NoAnswerError) as error:
                raise RunError(f"does not open again: {one_line(error)}") from error
        return self._number

    def run(self, names: list[str] | None, feeds: Arrays) -> list[Array]:
        """Runs it; as ONNX Runtime's, of which only the outputs that are named are given.

        Raises:
            RuntimeError: ONNX Runtime failed there, crashed or hung.
        """
        self._fed = self.written(feeds)
        file, child = str(Path(self._folder, "outputs")), self._runtime.child
        try:
            found = workers.ask(child, "run", session=self.number, inputs=self._fed, outputs=file)
        except workers.Refused as error:
            raise RuntimeError(str(error)) from error
        except NoAnswerError as error:
            raise RuntimeError(f"ONNX Runtime {error}{_tail(error)}") from error
        self.seconds, self._providers = float(found["seconds"]), list(found["providers"])
        outputs = [
            array.astype(object) if array.dtype.kind == "U" else array
            for array in read_arrays(file)
        ]
        if names is None:
            return outputs
        by_name = dict(zip((value.name for value in self._outputs), outputs, strict=True))
        return [by_name[name] for name in names]

    def written(self, feeds: Arrays, name: str = "inputs") -> str:
        """The path of a file with its inputs; it lives as long as this."""
        file = str(Path(self._folder, name))
        write_arrays(file, (feeds[value.name] for value in self._inputs))
        return file

    def added_peak(self, feeds: Arrays, threads: int) -> int | None:
        """Bytes that opening another one and a run of it add to the peak of memory there."""
        opening = {**self._opening, "threads": threads}
        return workers.added_peak(
            self._runtime.child, self._path, opening, Path(self.written(feeds))
        )

    def get_providers(self) -> list[str]:
        """Its providers, after it was opened or run last."""
        return self._providers

    def get_inputs(self) -> list[Value]:
        """The inputs."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """The outputs."""
        return self._outputs

    def get_provider_graph_assignment_info(self) -> list[Part]:
        """Which provider runs which nodes; before 1.24 that is which one ran them, last.

        Raises:
            Unsupported: ONNX Runtime does not say so in JavaScript.
            RunError: It does not say, crashed or hung.
        """
        if self._runtime.in_javascript:
            raise Unsupported(
                "ONNX Runtime does not tell JavaScript which provider runs which node; what it "
                "computes is checked"
            )
        try:
            found = workers.ask(self._runtime.child, "assigned", session=self.number)
            if found is None:
                found = workers.ask(
                    self._runtime.child,
                    "profiled",
                    path=str(self._path),
                    opening=self._opening,
                    inputs=self._fed,
                )
        except (workers.Refused, NoAnswerError) as error:
            raise RunError(f"does not say which provider runs which node: {error}") from error
        return [Part(provider, (Node(*node),)) for provider, *node in found]

    def turns(self, others: Sequence[Session], feeds: Sequence[Arrays]) -> Turns:
        """Calls of this, of others in the same environment, and of the kernel, on their inputs."""
        sides = [self, *others]
        files = [side.written(arrays, "timed") for side, arrays in zip(sides, feeds, strict=True)]
        return Turns(self._runtime, sides, files)


def opened(target: Target, model: str | bytes, opening: Mapping[str, Any]) -> Session:
    """A session in a target's environment.

    Args:
        target: The target.
        model: The artefact's path, or the artefact serialised.
        opening: The arguments of `worker.open_handle`.

    Raises:
        TargetAbsent: The environment is not there.
        RunError: It has no onnxruntime.
        Unopened: The artefact does not load there, or crashes the runtime.
    """
    threads = 1
    if target.runtime:
        opening = {**opening, "data": _data(model)}
    if target.runtime == WEB:
        asked = opening["threads"] or target.session_options.get("intra_op_num_threads")
        threads = int(asked or 1)
        opening = {**opening, "threads": threads}
    runtime = runtime_of(target, threads)
    try:
        return Session(runtime, model, opening)
    except workers.Refused as error:
        if error.kind == "library":
            raise Unopened(str(error)) from error
        text = f"does not load in onnxruntime {runtime.version} ({target.name}): {one_line(error)}"
        raise Unopened(f"{text.rstrip('.')}{_advice(text)}") from error
    except NoAnswerError as error:
        raise Unopened(workers.failure(error)) from error


def _data(model: str | bytes) -> dict[str, str]:
    """The external data of an artefact: how it names them, and where they are."""
    if isinstance(model, bytes):
        return {}
    folder = Path(model).parent
    names = {str(file.relative_to(folder)): file for file in data_files(Path(model))}
    return {name: str(file.absolute()) for name, file in names.items()}


def _advice(said: str) -> str:
    """What to do about an artefact that is too new; empty where that is not the reason."""
    older = "or leave the target out for this model"
    opset = _OPSET.search(said)
    if opset is not None:
        return f". Export it with opsets = [{opset[1]}] or lower, {older}"
    version = _IR_VERSION.search(said)
    if version is not None:
        return f". Write the file with IR version {version[1]} (onnx: model.ir_version), {older}"
    return ""


class Turns:
    """Calls in another environment that take turns there; the kernel is the last."""

    def __init__(self, runtime: Runtime, sides: Sequence[Session], files: Sequence[str]) -> None:
        self._runtime, self._sides, self._files = runtime, sides, files

    def warm_up(self) -> list[float]:
        """Warms the calls up; their median times in seconds."""
        numbered = [
            [side.number, file] for side, file in zip(self._sides, self._files, strict=True)
        ]
        with _told():
            found = workers.ask(self._runtime.child, "take_turns", sides=numbered)
        return [float(each) for each in found]

    def round(self, order: Sequence[int], untimed: Sequence[int]) -> list[Times]:
        """Times calls, by their numbers; each is called so many times before."""
        numbers, times = list(order), list(untimed)
        with _told():
            found = workers.ask(self._runtime.child, "take_round", order=numbers, untimed=times)
        return [(wall, thread, process) for wall, thread, process in found]

    def rest(self) -> None:
        """Ends what `warm_up` began."""
        with contextlib.suppress(workers.Refused, NoAnswerError):
            workers.ask(self._runtime.child, "rest")


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Raises what ended the timing there as a RuntimeError, as ONNX Runtime's own."""
    try:
        yield
    except workers.Refused as error:
        raise RuntimeError(str(error)) from error
    except NoAnswerError as error:
        raise RuntimeError(f"ONNX Runtime {error}{_tail(error)}") from error


def _tail(error: NoAnswerError) -> str:
    return "".join(f"\n  {line}" for line in error.stderr_tail)
