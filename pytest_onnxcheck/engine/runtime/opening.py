"""Opens ONNX Runtime's sessions as a target asks, and catches what is printed meanwhile.

The sandbox's child uses it too: it imports nothing that is slow, onnxruntime apart.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_onnxcheck.engine.quiet import caught_stderr, logged

__all__ = ["LibraryError", "open_handle", "printed"]

#: graph_optimization_level in the manifest -> in ONNX Runtime
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "layout": "ORT_ENABLE_LAYOUT",
    "all": "ORT_ENABLE_ALL",
}


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
        libraries: Files of custom operators.

    Raises:
        LibraryError: One of them does not load.
        Exception: What ONNX Runtime raises, of several types.
    """
    import onnxruntime

    options = _options(session_options)
    _register(options, libraries)
    if provider != "CPUExecutionProvider":  # who runs which node; see `assignment`
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
            options.register_custom_ops_library(library)
        except Exception as error:
            said = str(error).partition(" : FAIL : ")[2] or error
            raise LibraryError(f"operator_libraries: {library}: {said}") from error


@contextlib.contextmanager
def printed() -> Iterator[list[str]]:
    """Collects what C++ writes to stderr, file descriptor 2, in place of showing it.

    ONNX Runtime says only there why it did not load a provider. Its lines, without colours, times
    and places, are in the list afterwards, errors first; another thread's output may be among them.
    """
    lines: list[str] = []
    caught: list[str] = []
    try:
        with caught_stderr() as caught:
            yield lines
    finally:
        found = [logged(line) for line in "".join(caught).splitlines()]
        found.sort(key=lambda entry: entry[0] not in ("E", "F"))
        lines += [message for _, message in found if message]
