"""Opens ONNX Runtime's sessions, runs and times them: here, and in a process of its own.

The process may crash, hang, or run another Python with another onnxruntime: this file is run there
by its path (`python worker.py`). So it needs nothing but numpy and onnxruntime, imports nothing of
ours, and keeps to the syntax and the library of Python 3.8.

A question is one JSON object on one line of stdin, and so is its answer on stdout, `{"value": ...}`
or `{"error": text}`; `Worker` lists the questions. What libraries print goes to stderr. Arrays go
through files, one array in `.npy` format after the other, in the order of the artefact's inputs or
outputs; they are never pickled.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Tuple

__all__ = [
    "LibraryError",
    "Times",
    "Turns",
    "Worker",
    "added_peak",
    "kernel",
    "open_handle",
    "read_arrays",
    "serve",
    "write_arrays",
]

#: seconds of one call: wall time, processor time of the thread, and of the process
Times = Tuple[float, float, float]

_CPU = "CPUExecutionProvider"

#: graph_optimization_level in the manifest -> in ONNX Runtime
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}

#: ONNX Runtime's numbers of what it logs
_WARNING, _ERROR = 2, 3

#: how long calls are warmed up, and how little their medians change by then
_WARM_UP_SECONDS = (0.2, 1.0)
_STABLE = 0.05


#: how the events of nodes that ran end in a profile
_RAN = "_kernel_time"


class LibraryError(Exception):
    """A library of custom operators does not load; the text says which, and what was said."""


def open_handle(
    model: str | bytes,
    provider: str,
    provider_options: Mapping[str, Any],
    session_options: Mapping[str, Any],
    *,
    threads: int | None = None,
    optimise: bool = True,
    libraries: Sequence[str] = (),
) -> Any:
    """An `onnxruntime.InferenceSession` that never falls back by itself.

    Without a provider's libraries the session is still created, on the CPU alone; its
    `get_providers()` tells.

    Args:
        model: A path, or a serialised model.
        provider: The execution provider.
        provider_options: Its options.
        session_options: See `manifest.targets.Target`.
        threads: Intra-op threads; None leaves what the options say, or else `OMP_NUM_THREADS`, as
            PyTorch does, or else ONNX Runtime.
        optimise: False turns the rewriting of the graph off, whatever the options say.
        libraries: Custom operators: files, and modules that know theirs.

    Raises:
        LibraryError: One of them does not load.
        Exception: What ONNX Runtime raises, of several types.
    """
    import onnxruntime

    options = _options(session_options)
    _register(options, libraries)
    if provider != _CPU:  # who runs which node; see `assignment`
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    given = {name: str(value) for name, value in provider_options.items()}
    usual = _usual_threads()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        if provider == "OpenVINOExecutionProvider":  # has threads of its own
            given["num_of_threads"] = str(threads)
    elif usual is not None and "intra_op_num_threads" not in session_options:
        options.intra_op_num_threads = usual
    return onnxruntime.InferenceSession(
        model, options, providers=[(provider, given)], enable_fallback=0
    )


def _usual_threads() -> int | None:
    """The environment's number of threads, which ONNX Runtime by itself does not look at."""
    usual = os.environ.get("OMP_NUM_THREADS", "")
    return int(usual) if usual.isdecimal() and int(usual) else None


def _options(session_options: Mapping[str, Any]) -> Any:
    """ONNX Runtime's options for the manifest's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # threads that wait by spinning take the processor from what runs next, PyTorch too
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in session_options.items():
        if name == "graph_optimization_level":
            level = getattr(onnxruntime.GraphOptimizationLevel, _LEVELS[value])
            options.graph_optimization_level = level
        elif "." not in name:
            setattr(options, name, value)
        else:
            value = int(value) if isinstance(value, bool) else value
            options.add_session_config_entry(name, str(value))
    return options


def _register(options: Any, libraries: Sequence[str]) -> None:
    """Lets a session know the custom operators of libraries."""
    for library in libraries:
        try:
            if not os.path.isfile(library):
                library = importlib.import_module(library).get_library_path()
            options.register_custom_ops_library(library)
        except Exception as error:
            said = str(error).partition(" : FAIL : ")[2] or error
            raise LibraryError("operator_libraries: {}: {}".format(library, said)) from error


def write_arrays(path: str, arrays: Iterable[Any]) -> None:
    """Writes arrays into a file, one after the other; text as `str_`, nothing pickled.

    Raises:
        ValueError: One cannot be written without pickling it.
        OSError: The file cannot be written.
    """
    import numpy as np

    with open(path, "wb") as file:
        for array in arrays:
            plain = np.asarray(array)
            if plain.dtype == object and all(isinstance(each, str) for each in plain.flat):
                plain = plain.astype(np.str_)
            np.save(file, plain, allow_pickle=False)


def read_arrays(path: str) -> list[Any]:
    """The arrays of a file, in the order in which they were written.

    Raises:
        ValueError: It holds something else.
        OSError: It cannot be read.
    """
    import numpy as np

    arrays = []
    with open(path, "rb") as file:
        end = os.fstat(file.fileno()).st_size
        while file.tell() < end:
            arrays.append(np.load(file, allow_pickle=False))
    return arrays


def added_peak(run: Callable[[], Any]) -> int | None:
    """Bytes that a call adds to this process's peak of resident memory, as the kernel counts it.

    Python's own tools see nothing of what native code allocates.

    Args:
        run: The call; what it returns lives until the peak was read.
    """
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)  # freed pages would be used again, and not be seen
    try:
        with contextlib.suppress(OSError):  # some containers forbid it
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before, reset = _status("VmRSS"), _status("VmHWM")
        kept = run()
        after = _status("VmHWM")
        del kept
    except (OSError, ValueError):
        return None
    # an earlier peak that could not be reset hides this one unless it is higher
    hidden = reset > before and after <= reset
    return None if hidden else after - before


def _status(key: str) -> int:
    """A line of `/proc/self/status`, which counts in kB."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in text.splitlines() if line.startswith(key + ":"))
    return int(line.split()[1]) * 1024


def kernel() -> Callable[[], None]:
    """The fixed piece of work: about 1.2 ms of multiply-adds and `tanh` on one thread, no BLAS.

    Shorter ones suffer more than an artefact does from the caches that other processes empty.
    """
    import numpy as np

    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((128, 128), dtype=np.float32) for _ in range(2))

    def work() -> None:
        for _ in range(4):
            np.tanh(np.einsum("ij,jk->ik", left, right, optimize=False))

    return work


class Turns:
    """Calls that take turns, timed on the clocks of this process."""

    def __init__(self, calls: Sequence[Callable[[], Any]]) -> None:
        self._calls = calls
        self._cost = (0.0, 0.0, 0.0)

    def warm_up(self) -> list[float]:
        """Calls until no call's median time changes by more than 5% over 0.1 s; 0.2 to 1 s.

        Returns:
            The calls' last median times, in seconds.
        """
        shortest, longest = _WARM_UP_SECONDS
        started, before = time.perf_counter(), None
        while True:
            now = self._medians(shortest / 2)
            stable = before is not None and all(
                abs(late - early) <= _STABLE * early for late, early in zip(now, before)
            )
            if stable or time.perf_counter() - started >= longest:
                break
            before = now
        self._cost = _clock_cost()
        return now

    def round(self, order: Sequence[int], untimed: Sequence[int]) -> list[Times]:
        """Times calls once each, one after the other.

        Args:
            order: The calls, by their numbers.
            untimed: How often each of these is called just before it is timed.
        """
        return [
            _timed(self._calls[number], self._cost, times) for number, times in zip(order, untimed)
        ]

    def _medians(self, seconds: float) -> list[float]:
        times: list[list[float]] = [[] for _ in self._calls]
        until = time.perf_counter() + seconds
        while not times[0] or time.perf_counter() < until:
            for call, found in zip(self._calls, times):
                started = time.perf_counter()
                call()
                found.append(time.perf_counter() - started)
        return [statistics.median(found) for found in times]


def _clock_cost() -> Times:
    """What reading the clocks adds to the time of a call that does nothing."""
    found = [_timed(lambda: None, (0.0, 0.0, 0.0)) for _ in range(200)]
    wall, thread, process = (statistics.median(times) for times in zip(*found))
    return wall, thread, process


def _timed(call: Callable[[], Any], cost: Times, untimed: int = 0) -> Times:
    """Wall, thread and process time of a call; the wall clock, the cheapest, is read innermost."""
    for _ in range(untimed):
        call()
    process = time.process_time()
    thread = time.thread_time()
    wall = time.perf_counter()
    call()
    wall = time.perf_counter() - wall
    thread = time.thread_time() - thread
    process = time.process_time() - process
    least = 1e-9  # what took no longer than reading a clock took some time nevertheless
    return max(wall - cost[0], least), max(thread - cost[1], least), max(process - cost[2], least)


class Worker:
    """Answers questions about sessions. A method is a question, its arguments the object's keys."""

    def __init__(self) -> None:
        self._sessions: dict[int, Any] = {}
        self._opened = 0
        self._turns = Turns([])

    def hello(self) -> dict[str, Any]:
        """Versions; the providers that this onnxruntime is built with, and all that it knows."""
        import numpy
        import onnxruntime

        return {
            "version": onnxruntime.__version__,
            "packages": {
                "python": platform.python_version(),
                "numpy": numpy.__version__,
                **_builds(),
            },
            "available": onnxruntime.get_available_providers(),
            "known": onnxruntime.get_all_providers(),
        }

    def load(self, path: str, opening: dict[str, Any]) -> None:
        """Opens a session and drops it."""
        open_handle(path, **opening)

    def open(self, path: str, opening: dict[str, Any]) -> dict[str, Any]:
        """Opens a session and keeps it: its number, names and types of its values, its providers.

        Meanwhile ONNX Runtime prints its warnings: why a provider does not load is one of them.
        """
        import onnxruntime

        onnxruntime.set_default_logger_severity(_WARNING)
        try:
            handle = open_handle(path, **opening)
        finally:
            onnxruntime.set_default_logger_severity(_ERROR)
        self._opened += 1
        self._sessions[self._opened] = handle
        return {
            "session": self._opened,
            "inputs": [[value.name, value.type] for value in handle.get_inputs()],
            "outputs": [[value.name, value.type] for value in handle.get_outputs()],
            "providers": handle.get_providers(),
        }

    def close(self, session: int) -> None:
        """Drops a session."""
        self._sessions.pop(session, None)

    def run(self, session: int, inputs: str, outputs: str) -> dict[str, Any]:
        """Runs a session on the arrays of a file, and writes its outputs into another.

        Gives what the run took, in seconds, and the session's providers after it.
        """
        handle = self._sessions[session]
        feeds = _feeds(handle, inputs)
        started = time.perf_counter()
        found = handle.run(None, feeds)
        seconds = time.perf_counter() - started
        write_arrays(outputs, found)
        return {"seconds": seconds, "providers": handle.get_providers()}

    def try_run(self, path: str, opening: dict[str, Any], inputs: str) -> None:
        """Opens a session, runs it once and drops it."""
        handle = open_handle(path, **opening)
        handle.run(None, _feeds(handle, inputs))

    def peak(self, path: str, opening: dict[str, Any], inputs: str) -> int | None:
        """Bytes that opening a session and one run add to the peak of memory; None: unknown."""
        arrays = read_arrays(inputs)

        def run() -> Any:
            handle = open_handle(path, **opening)
            return handle, handle.run(None, _named(handle, arrays))

        return added_peak(run)

    def assigned(self, session: int) -> list[list[str]] | None:
        """Provider, operator, name and domain of each node; None where it cannot be told."""
        asked = getattr(self._sessions[session], "get_provider_graph_assignment_info", None)
        if asked is None:
            return None
        return [
            [part.ep_name, node.op_type, node.name, node.domain]
            for part in asked()
            for node in part.get_nodes()
        ]

    def profiled(self, path: str, opening: dict[str, Any], inputs: str) -> list[list[str]]:
        """The same by ONNX Runtime's profile of one run: for releases before 1.24.

        A node that ran is counted once; what a provider has fused is one node. Domains are unknown.
        """
        folder = tempfile.mkdtemp(prefix="onnxcheck-")
        try:
            profiling = {"enable_profiling": True, "profile_file_prefix": folder + "/profile"}
            options = {**opening["session_options"], **profiling}
            handle = open_handle(path, **{**opening, "session_options": options})
            handle.run(None, _feeds(handle, inputs))
            events = json.loads(Path(handle.end_profiling()).read_text(encoding="utf-8"))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return _ran(events)

    def take_turns(self, sides: list[list[Any]]) -> list[float]:
        """Makes calls of sessions on the arrays of files, and of the kernel, and warms them up.

        Nothing is collected from then on, until `rest`. Gives the calls' median times, in seconds;
        the kernel's is the last.
        """
        calls = [_call(self._sessions[number], inputs) for number, inputs in sides]
        self._turns = Turns([*calls, kernel()])
        gc.disable()
        return self._turns.warm_up()

    def take_round(self, order: list[int], untimed: list[int]) -> list[Times]:
        """See `Turns.round`."""
        return self._turns.round(order, untimed)

    def rest(self) -> None:
        """Ends what `take_turns` began."""
        self._turns = Turns([])
        gc.enable()


def _ran(events: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Provider, operator, name and an empty domain of each node in a profile."""
    found = {}
    for event in events:
        about = event.get("args", {})
        name = str(event.get("name"))
        if event.get("cat") == "Node" and name.endswith(_RAN) and about.get("provider"):
            name = name[: -len(_RAN)]
            found[name] = [about["provider"], about.get("op_name", ""), name, ""]
    return list(found.values())


def _builds() -> dict[str, str]:
    """The installed packages of onnxruntime, of which each has other providers, and versions."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"]).lower()
        if name.startswith("onnxruntime") and "extensions" not in name:
            found[name] = distribution.version
    return found


def _named(handle: Any, arrays: Sequence[Any]) -> dict[str, Any]:
    return {value.name: array for value, array in zip(handle.get_inputs(), arrays)}


def _feeds(handle: Any, inputs: str) -> dict[str, Any]:
    return _named(handle, read_arrays(inputs))


def _call(handle: Any, inputs: str) -> Callable[[], Any]:
    feeds = _feeds(handle, inputs)
    return lambda: handle.run(None, feeds)


def serve() -> None:
    """Answers the questions on stdin until it ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer
    missing = _import()
    worker = Worker()
    for line in sys.stdin:
        question = json.loads(line)
        try:
            if missing:
                raise ImportError(missing)
            answer = {"value": getattr(worker, question.pop("do"))(**question)}
        except LibraryError as error:
            answer = {"error": str(error), "kind": "library"}
        except ImportError as error:
            answer = {"error": str(error), "kind": "import"}
        except Exception as error:  # of ONNX Runtime, of several types
            answer = {"error": str(error) or type(error).__name__, "kind": "run"}
        print(json.dumps(answer), flush=True, file=answers)


def _import() -> str:
    """Imports what takes a while; what is missing."""
    try:
        import numpy  # noqa: F401
        import onnxruntime

        onnxruntime.set_default_logger_severity(_ERROR)
    except Exception as error:  # numpy 2 beside an onnxruntime that needs 1: of several types
        return "{}: {}".format(type(error).__name__, error)
    return ""


if __name__ == "__main__":
    # not our modules: this folder is in the path, because the file is run by its path
    sys.path[:] = [
        entry for entry in sys.path if entry != os.path.dirname(os.path.abspath(__file__))
    ]
    serve()
