"""ONNX Runtime's libraries of custom operators: where they are, and which operators lack one."""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest.targets import CPU, Target, is_library_file
from pytest_onnxcheck.measurement import HashedFile

__all__ = ["cpu_opening", "library_files", "library_hashes", "opening_of", "unregistered"]

#: the package of the operators of `ai.onnx.contrib`, and the domain
EXTENSIONS, CONTRIB = "onnxruntime_extensions", "ai.onnx.contrib"

#: how ONNX Runtime says that it does not know an operator
_UNREGISTERED = re.compile(r"([\w.\-]+):(\w+)\(-?\d+\) is not a registered function/op")

#: domains whose operators are ONNX Runtime's own: no library has them
_OWN = ("ai.onnx", "ai.onnx.ml", "com.microsoft")


def opening_of(target: Target) -> dict[str, Any]:
    """What a session on a target is opened with: arguments of `worker.open_handle`.

    Raises:
        RunError: One of its libraries is not there.
    """
    if target.elsewhere:  # modules are looked for there
        own = [str(_at(it)) if is_library_file(it) else it for it in target.libraries]
        return {**target.opening(), "libraries": own}
    files = library_files(target.libraries)
    return {**target.opening(), "libraries": [str(file) for file in files]}


def cpu_opening(libraries: tuple[str, ...]) -> dict[str, Any]:
    """The same of ONNX Runtime's CPU as it comes, with these custom operators.

    Raises:
        RunError: One of the libraries is not there.
    """
    return opening_of(replace(CPU, libraries=libraries))


def library_files(entries: Iterable[str]) -> list[Path]:
    """The files of `operator_libraries`: paths, or modules that know theirs.

    Raises:
        RunError: A file is missing, or a module cannot be imported or knows no library.
    """
    return [_at(entry) if is_library_file(entry) else _of_module(entry) for entry in entries]


def library_hashes(entries: Iterable[str]) -> tuple[HashedFile, ...]:
    """The files of `operator_libraries` that are there, with their hashes."""
    found = []
    for entry in entries:
        try:
            (file,) = library_files([entry])
            found.append(HashedFile(file.name, file.stat().st_size, file_sha256(file)))
        except (RunError, OSError):  # the check that opens a session says so
            continue
    return tuple(found)


def unregistered(problem: str, libraries: Sequence[str]) -> str:
    """What to write where ONNX Runtime does not know an operator; empty where that is no reason.

    Args:
        problem: What ONNX Runtime said.
        libraries: The libraries that the session had.
    """
    match = _UNREGISTERED.search(problem)
    if match is None or match[1] in _OWN:
        return ""
    domain, operator = match.groups()
    if domain == CONTRIB and EXTENSIONS not in libraries:
        listed = ", ".join(f'"{entry}"' for entry in (*libraries, EXTENSIONS))
        return (
            f". {operator} is one of onnxruntime-extensions: pip install onnxruntime-extensions, "
            f"and write operator_libraries = [{listed}] (docs/custom-operators.md)"
        )
    if libraries:
        return (
            f". None of operator_libraries ({', '.join(libraries)}) has {operator} of {domain}: "
            "see how it is spelled there, or add the library that has it"
        )
    return (
        f". {operator} of {domain} is a custom operator: name the library that has it, "
        'operator_libraries = ["PATH/TO/LIBRARY.so"] (docs/custom-operators.md)'
    )


def _at(path: str) -> Path:
    """The library at a path.

    Raises:
        RunError: There is none.
    """
    if not Path(path).is_file():
        raise RunError(
            f"operator_libraries: {path}: no such file. Build it, or mend the path, which is "
            "relative to the manifest"
        )
    return Path(path)


def _of_module(name: str) -> Path:
    """The library that an installed module says it has.

    Raises:
        RunError: There is none.
    """
    where = f"operator_libraries: {name!r}"
    try:
        return Path(importlib.import_module(name).get_library_path())
    except ImportError as error:
        meant = difflib.get_close_matches(name, [EXTENSIONS], cutoff=0.9)
        hint = f"write {EXTENSIONS!r}, and " if meant and name != EXTENSIONS else ""
        mend = f"{hint}pip install onnxruntime-extensions" if meant else "install what has it"
        raise RunError(
            f"{where} cannot be imported ({error}): {mend}; a file is written with a / in its "
            "path, ./library.so"
        ) from error
    except AttributeError as error:
        raise RunError(
            f"{where} is no module of custom operators: it has no get_library_path(). Name the "
            "library's file"
        ) from error
