"""Texts that are compared with files in `tests/data/reports/`."""

from __future__ import annotations

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "data" / "reports"


def same(name: str, text: str) -> None:
    """Asserts that a text is what the file holds; with `SNAPSHOTS=write` it is what it will."""
    path = FOLDER / name
    if os.environ.get("SNAPSHOTS") == "write":
        path.write_text(text, encoding="utf-8", newline="\n")
    assert text == path.read_text(encoding="utf-8"), (
        f"{path.name} differs: if that is meant, run the test with SNAPSHOTS=write, and look at it"
    )
