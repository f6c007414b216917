"""Where things are: this package's own code, which is not the user's, and the history."""

from __future__ import annotations

import os
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath

__all__ = [
    "ARTEFACTS",
    "ENVIRONMENTS",
    "HISTORY",
    "PACKAGE",
    "is_ours",
    "leads_out",
    "machine_paths",
    "relative",
]

#: the package's folder
PACKAGE = Path(__file__).parent

#: where artefacts are by default; and, in the folder that keeps them, environments of targets
ARTEFACTS, ENVIRONMENTS = ".onnxcheck", ".environments"

#: where the history is by default: below pytest-benchmark's own storage, and not in it, where it
#: would take our files for its own
HISTORY = ".benchmarks/onnxcheck/history"


def relative(path: Path, root: Path) -> str:
    """A path as a manifest in the folder `root` names it: relative where it is inside."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def leads_out(name: str) -> bool:
    """Whether a file's name, by its text alone, leads out of the folder it is looked for in.

    That of Windows counts on every system: a file is not to mean one thing here and another there.
    """
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive:
        return True
    return ".." in PureWindowsPath(name).parts


def is_ours(file: str) -> bool:
    """Whether a source file, by its absolute path, belongs to this package."""
    return file.startswith(f"{PACKAGE}{os.sep}")


def machine_paths(root: Path) -> tuple[str, ...]:
    """Folders whose paths tell of this machine, the longest first.

    Those of one name, as `/root`, are left out: nodes and layers are named so too.

    Args:
        root: The manifest's folder.
    """
    folders = [root, Path.cwd(), PACKAGE.parent, Path(sys.prefix), Path.home()]
    every = {path for folder in folders for path in (folder, folder.resolve())}
    telling = {str(path) for path in every if len(path.parts) > 2}
    return tuple(sorted(telling, key=lambda path: (-len(path), path)))
