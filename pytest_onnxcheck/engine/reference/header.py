"""The beginning of a checkpoint file: whether it can be one, without torch or reading it all."""

from __future__ import annotations

import difflib
import json
import pickle
import zipfile
from pathlib import Path

__all__ = ["header_problem", "not_found"]

#: bytes of the length that a safetensors file begins with
_LENGTH = 8
#: a header longer than this is none: safetensors itself refuses more than 100 MB
_LONGEST = 100_000_000


def header_problem(path: Path) -> str | None:
    """What keeps a file from being a checkpoint, as far as its beginning or directory tells.

    Args:
        path: A state_dict, safetensors, TorchScript or `.pt2` file.
    """
    if path.is_dir():
        return f"{path}: is a folder; name the checkpoint file in it"
    if not path.is_file():
        return f"checkpoint {not_found(path)}"
    try:
        problem = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except OSError as error:
        problem = f"cannot be read: {error}"
    return None if problem is None else f"{path}: {problem}"


def not_found(path: Path) -> str:
    """That there is no such file, and which one beside it may have been meant."""
    siblings = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"not found: {path}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _safetensors(path: Path) -> str | None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if not 0 < length <= min(_LONGEST, size - _LENGTH):
            return "no safetensors file: its header is not there, or the file was cut"
        try:
            tensors = json.loads(file.read(length))
            tensors.pop("__metadata__", None)
            end = max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            return "no safetensors file: its header is damaged"
    needed = _LENGTH + length + end
    if size < needed:
        return f"cut short: {size} bytes, and its header speaks of {needed}"
    return None


def _pickled(path: Path) -> str | None:
    if zipfile.is_zipfile(path):
        return None
    with path.open("rb") as file:
        first = file.read(2)
    if not first:
        return "is empty"
    if first == b"PK":
        return "cut short: it begins as a zip archive and does not end as one"
    if first[:1] != pickle.PROTO:
        return "neither a zip archive nor a pickle, and so no checkpoint that torch wrote"
    return None
