"""What tells processes that a folder is ours, and that a thing in it is another's at the moment."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from pytest_onnxcheck.files import write_atomically

__all__ = ["Mark", "lock_of"]


class Mark:
    """The file by which git ignores a folder, and which says who made it.

    Args:
        root: The folder.
        text: How the file begins.
    """

    def __init__(self, root: Path, text: str) -> None:
        self._path = root / ".gitignore"
        self._text = f"# {text}"

    def set(self) -> None:
        """Makes the folder, and marks it where nobody has.

        Raises:
            OSError: Nothing can be written there.
        """
        if not self._path.exists():
            write_atomically(self._path, f"{self._text}; may be deleted at any time\n*\n")

    @property
    def is_there(self) -> bool:
        """Whether the folder was marked so: nothing is removed from another."""
        try:
            return self._path.read_text(encoding="utf-8").startswith(self._text)
        except (OSError, UnicodeDecodeError):
            return False


def lock_of(home: Path, timeout: float = -1) -> FileLock:
    """The lock of a folder, beside it; one that is a link would be opened, and cut, elsewhere.

    Args:
        home: The folder, which need not be there.
        timeout: Seconds to wait for it; default: for as long as it takes.

    Raises:
        OSError: It is a link.
    """
    path = home.with_name(f"{home.name}.lock")
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    return FileLock(path, timeout=timeout)
