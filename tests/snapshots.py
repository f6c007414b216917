"""Texts that are compared with files in `tests/report/snapshots/`."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "report" / "snapshots"


def same(name: str, text: str) -> None:
    """Asserts that a text is what the file holds; with `UPDATE_SNAPSHOTS=1` it is what it will."""
    path = FOLDER / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), (
        f"{name} differs: if that is meant, run the test with UPDATE_SNAPSHOTS=1, and look at it"
    )
