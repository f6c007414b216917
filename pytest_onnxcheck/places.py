"""Where this package's own code lies: what is ours is not the user's."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["PACKAGE", "is_ours"]

#: the package's folder
PACKAGE = Path(__file__).parent


def is_ours(file: str) -> bool:
    """Whether a source file, by its absolute path, belongs to this package."""
    return file.startswith(f"{PACKAGE}{os.sep}")
