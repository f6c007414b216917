"""The record of one model, without what is not the model's and without the machine's paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_onnxcheck.places import machine_paths

__all__ = ["scrubbed"]

#: what may be an absolute path, or the name of a node
_PATH = re.compile(r"(?<![\w.~/-])/[\w.@+-]+(?:/[\w.@+-]+)+")


def scrubbed(record: Mapping[str, Any], manifest: str, model: str, root: Path) -> dict[str, Any]:
    """A record as JSON with one model's checks, whose texts name no folder of this machine.

    Paths below the folder of the manifest, and below the one from which the record names it, become
    relative to them, others below known folders begin with `~`, and of what else lies on this
    machine the name is kept. The working directory has no part in it.

    Args:
        record: The record as JSON.
        manifest: The manifest, as the record names it.
        model: The model's name.
        root: The manifest's folder.
    """
    own = {
        **record,
        "manifests": [
            {**one, "models": [model]}
            for one in record.get("manifests", ())
            if one["path"] == manifest
        ],
        "errors": [],
        "frontier": _of(record.get("frontier", ()), manifest, model),
        "checks": _of(record["checks"], manifest, model),
        "history": [],
    }
    folders = (root.absolute(), _top(root.absolute(), manifest))
    near = {str(folder) for path in folders for folder in (path, path.resolve())}
    replaced = {path: "." if path in near else "~" for path in machine_paths(*folders)}
    return {key: _texts(value, replaced) for key, value in own.items()}


def _top(root: Path, manifest: str) -> Path:
    """The folder from which the manifest in `root` is called as the record calls it."""
    below = PurePosixPath(manifest).parent
    named = root.as_posix().endswith(f"/{below}")
    return root.parents[len(below.parts) - 1] if named else root


def _of(found: Iterable[Mapping[str, Any]], manifest: str, model: str) -> list[Mapping[str, Any]]:
    return [one for one in found if (one["manifest"], one["model"]) == (manifest, model)]


def _texts(value: Any, replaced: Mapping[str, str]) -> Any:
    """The same with every text in it without paths of this machine."""
    if isinstance(value, str):
        return _text(value, replaced)
    if isinstance(value, Mapping):
        return {key: _texts(entry, replaced) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_texts(entry, replaced) for entry in value]
    return value


def _text(text: str, replaced: Mapping[str, str]) -> str:
    if "/" not in text and "\\" not in text:
        return text
    for path, short in replaced.items():  # the longest first
        if short == ".":
            text = text.replace(f"{path}/", "")
        text = text.replace(path, short)
    return _PATH.sub(lambda match: _name(match[0]), text)


def _name(path: str) -> str:
    """The last part of a path on this machine; a text that is none as it is."""
    beginning = Path(*Path(path).parts[:3])
    return Path(path).name if beginning.exists() else path
