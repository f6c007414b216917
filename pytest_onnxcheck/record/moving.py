"""What another machine wrote, with the paths of this one."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

__all__ = ["moved"]


def moved(value: Any, old: PurePath, new: PurePath) -> Any:
    """The same with a folder, and paths that lie in it, being another and lying in that.

    Args:
        value: What JSON holds, and tuples.
        old: The folder.
        new: The one in its place.
    """
    if isinstance(value, dict):
        return {key: moved(entry, old, new) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(moved(entry, old, new) for entry in value)
    if isinstance(value, str) and (value == str(old) or value.startswith(f"{old}/")):
        return f"{new}{value[len(str(old)) :]}"
    return value
