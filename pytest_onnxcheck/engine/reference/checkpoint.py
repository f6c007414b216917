"""Checkpoint files: what kind they are, and what is in them.

Read: state_dict files (`.pt`, `.pth`, `.bin`, plain or nested), safetensors, folders that
`save_pretrained` wrote, TorchScript archives and `torch.export` programs (`.pt2`).
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.reference.folders import CONFIG, weight_files, without_weights
from pytest_onnxcheck.engine.reference.formats import (
    is_safetensors,
    is_torchscript,
    unpacked_too_far,
    unreadable,
)
from pytest_onnxcheck.engine.reference.names import entries_under
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.files import not_found
from pytest_onnxcheck.wording import meant

if TYPE_CHECKING:
    import torch

    StateDict = Mapping[str, torch.Tensor]

__all__ = ["Checkpoint", "load_checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint read into memory: either a whole module or the content of a file.

    Attributes:
        path: The file, or the folder.
        files: The files that were read: itself, or the shards in the folder and its config.
        module: The module, for a TorchScript archive or a `.pt2` program.
        content: Nested dicts with tensors, otherwise.
        tied: Whether one name of tied weights is enough, as in safetensors.
    """

    path: Path
    files: tuple[Path, ...]
    module: torch.nn.Module | None = None
    content: Any = None
    tied: bool = False

    def at(self, dotted: str) -> Any:
        """The entry under a dotted key.

        Raises:
            CheckpointError: There is none; the text lists what is there.
        """
        current = self.content
        for depth, key in enumerate(dotted.split(".")):
            if not isinstance(current, Mapping) or key not in current:
                reached = ".".join(dotted.split(".")[:depth]) or "the top level"
                there = list(current) if isinstance(current, Mapping) else type(current).__name__
                raise CheckpointError(
                    f"{self.path}: no entry {dotted!r}: {reached} has {_shortened(there)}"
                    f"{_close(key, there)}"
                )
            current = current[key]
        return current

    def state_dict(self, dotted: str | None) -> StateDict:
        """The state_dict under a dotted key, or the whole file.

        Where a key leads into a state_dict, the rest of it is a prefix of the names there.

        Raises:
            CheckpointError: What is there is not a mapping of names to tensors.
        """
        state = (self._inside(dotted) or self.at(dotted)) if dotted else self.content
        if _is_state_dict(state):
            return state
        here = f"the entry {dotted!r}" if dotted else "the file"
        found = [key for key, value in _entries(state) if _is_state_dict(value)]
        hint = (
            "set state_dict = " + " or ".join(repr(f"{dotted}.{k}" if dotted else k) for k in found)
            if found
            else f"it holds {_shortened([key for key, _ in _entries(state)])}"
            if isinstance(state, Mapping)
            else f"it is a {type(state).__name__}, and not names with tensors"
        )
        raise CheckpointError(f"{self.path}: {here} is not a state_dict: {hint}")

    def state_dicts(self) -> list[str | None]:
        """Where state_dicts are, one level deep at most; None stands for the whole file."""
        if _is_state_dict(self.content):
            return [None]
        return [key for key, value in _entries(self.content) if _is_state_dict(value)]

    def configs(self) -> dict[str, Mapping[str, Any]]:
        """The entries that may be a model's config: named values that are no tensors, by key."""
        return {
            key: value
            for key, value in _entries(self.content)
            if isinstance(value, Mapping) and value and not _is_state_dict(value)
        }

    def _inside(self, dotted: str) -> StateDict | None:
        """The entries of the outermost state_dict on the way whose names begin with the rest."""
        current, rest = self.content, dotted
        while not _is_state_dict(current):
            key, _, rest = rest.partition(".")
            if not rest or not isinstance(current, Mapping) or key not in current:
                return None
            current = current[key]
        return entries_under(current, rest)


def load_checkpoint(path: Path, root: Path, *, trust: bool) -> Checkpoint:
    """Reads a checkpoint.

    Args:
        path: The file, or a folder that `save_pretrained` wrote.
        root: The manifest's folder.
        trust: Unpickle without restrictions: the file can then run any code.

    Raises:
        CheckpointError: The file is missing, unreadable, or wants to run code and is not trusted.
    """
    if path.is_dir():
        return _load_folder(path, root, trust=trust)
    if not path.is_file():
        raise CheckpointError(f"checkpoint {not_found(path)}")
    bomb = unpacked_too_far(path)
    if bomb is not None:
        raise CheckpointError(f"{path}: refused: it {bomb}")
    try:
        return _load_file(path, trust=trust)
    except Exception as error:
        what = unreadable(path)
        if what is not None:
            raise CheckpointError(f"{path}: cannot be read: it {what}") from error
        if not _wants_code(error, path):
            raise CheckpointError(f"{path}: cannot be read: {_first_line(error)}") from error
        raise CheckpointError(
            f"{path}: refused: it holds more than tensors and plain values, so that loading it "
            f"could run code of whoever made it ({_first_line(error)}). Save "
            "`model.state_dict()` instead, or, only if you made the file yourself, set "
            "trust = true in its [models.NAME] table (--trust where there is no manifest)"
        ) from error


def _load_file(path: Path, *, trust: bool) -> Checkpoint:
    """Reads a file with what its content asks for; a `.pt2` by its suffix, which runs code."""
    import torch

    if path.suffix == ".pt2":
        return Checkpoint(path, (path,), module=torch.export.load(path).module())
    if is_safetensors(path):
        from safetensors.torch import load_file

        return Checkpoint(path, (path,), content=load_file(path), tied=True)
    if is_torchscript(path):
        return Checkpoint(path, (path,), module=_load_torchscript(path))
    with path.open("rb") as file:  # by its path, torch goes by the suffix too
        content = torch.load(file, map_location="cpu", weights_only=not trust)
    if isinstance(content, torch.nn.Module):
        return Checkpoint(path, (path,), module=content)
    return Checkpoint(path, (path,), content=content)


def _load_folder(folder: Path, root: Path, *, trust: bool) -> Checkpoint:
    """Reads all shards of a folder that `save_pretrained` wrote."""
    files = weight_files(folder)
    if not files:
        raise CheckpointError(f"{folder}: {without_weights(folder, root, 'checkpoint')}")
    content: dict[str, Any] = {}
    parts = [load_checkpoint(file, root, trust=trust) for file in files]
    for part in parts:
        content |= part.state_dict(None)
    config = folder / CONFIG
    read = (*files, *([config] if config.is_file() else []))
    return Checkpoint(folder, read, content=content, tied=all(part.tied for part in parts))


def _wants_code(error: Exception, path: Path) -> bool:
    """Whether the restricted unpickler refused what is in a pickle, rather than met garbage."""
    if not isinstance(error, pickle.UnpicklingError):
        return False
    if "GLOBAL" in str(error) or "Unsupported global" in str(error):
        return True
    with path.open("rb") as file:  # a bare pickle of a protocol that torch does not read
        return "Unsupported operand" in str(error) and file.read(1) == pickle.PROTO


def _load_torchscript(path: Path) -> torch.nn.Module:
    import torch

    with quiet():  # where warnings are errors, torch's of its own deprecation would be one
        module: torch.nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    return module


def _is_state_dict(value: object) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(
            isinstance(name, str)
            and (isinstance(entry, torch.Tensor) or name.endswith("_extra_state"))
            for name, entry in value.items()
        )
    )


def _entries(value: object) -> list[tuple[str, Any]]:
    return [(str(k), v) for k, v in value.items()] if isinstance(value, Mapping) else []


def _shortened(items: object, limit: int = 8) -> str:
    if not isinstance(items, list):
        return f"a {items}"
    shown = ", ".join(repr(item) for item in items[:limit])
    return f"{shown}, … ({len(items)} in all)" if len(items) > limit else shown or "nothing"


def _close(key: str, there: object) -> str:
    names = [str(item) for item in there] if isinstance(there, list) else []
    return meant(key, names)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wanted = next((line for line in lines if "GLOBAL" in line or "Unsupported" in line), None)
    return wanted or (lines[0] if lines else type(error).__name__)
