"""Folders in which something is put together; what a killed process left of one is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["workspace"]

_PREFIX = ".bundling-"


@contextlib.contextmanager
def workspace(inside: Path) -> Iterator[Path]:
    """A folder inside another one, made with it, that is gone afterwards.

    While it is used it is locked, which ends with the process however that ends: a folder of this
    kind that nobody locks is removed first.

    Args:
        inside: The folder to make it in, so that what is made can be renamed into that.
    """
    inside.mkdir(parents=True, exist_ok=True)
    for left in inside.glob(f"{_PREFIX}*"):
        with _locked(left, wait=False) as mine:
            if mine:
                shutil.rmtree(left, ignore_errors=True)
    while True:
        folder = Path(tempfile.mkdtemp(dir=inside, prefix=_PREFIX))
        with _locked(folder, wait=True) as mine:
            if not mine:  # another process took it for a leftover before it was locked
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether the folder is there and locked for this process."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError:
            yield False
            return
        yield folder.exists()
    finally:
        os.close(opened)
