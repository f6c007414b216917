"""What a store can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

__all__ = ["Content", "Store", "Stored"]


@dataclass(frozen=True)
class Stored:
    """What is known of an object.

    Attributes:
        key: Its key.
        size: Its bytes.
        modified: When it was written, in seconds since 1970, by the store's clock.
        sha256: Hex SHA-256 of its content; None in a list, and where whoever wrote it did not say.
        metadata: What it was stored with; empty in a list, and in a folder, which keeps none.
    """

    key: str
    size: int
    modified: float
    sha256: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Content:
    """A small object as it was read.

    Attributes:
        data: Its bytes.
        etag: What `Store.replace` compares.
    """

    data: bytes
    etag: str


class Store(Protocol):
    """Objects by key, each of them whole or not there.

    Keys are parts between slashes (`address.checked_key`). Every method raises `StorageError`,
    whose text says where, what, and what to do.
    """

    def uri(self, key: str = "") -> str:
        """The address of an object, or of the store itself."""
        ...

    def put(
        self,
        key: str,
        source: Path | bytes,
        metadata: Mapping[str, str] | None = None,
        sha256: str | None = None,
    ) -> None:
        """Stores a file or bytes in place of what is there; the same content is left as it is.

        Args:
            key: The key.
            source: The content. A large file goes in parts, and takes up an upload that was cut.
            metadata: Short ASCII texts by name, kept as headers where the store has such.
            sha256: Hex SHA-256 of the content, where it is known; another content is refused.
        """
        ...

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """Stores bytes where nothing is; False where something else is there by then.

        Of several at once one alone is True, if their contents differ. The answer of a server that
        was lost does not make it False: what is there is read.
        """
        ...

    def replace(self, key: str, content: bytes, etag: str) -> bool:
        """Stores bytes in place of those that were read with `etag`; False where others are there.

        A server that has no such condition overwrites.
        """
        ...

    def get(self, key: str, to: Path, sha256: str | None = None) -> None:
        """Writes an object into a file, the whole of it or nothing.

        Args:
            key: The key.
            to: The file; its folder is there. One that is there already is replaced.
            sha256: Hex SHA-256 to hold it to; default: what it was stored with.

        Raises:
            ChangedError: It has another.
        """
        ...

    def read(self, key: str) -> Content | None:
        """A small object; None where there is none."""
        ...

    def head(self, key: str) -> Stored | None:
        """What is known of an object; None where there is none."""
        ...

    def listed(self, prefix: str = "") -> Iterator[Stored]:
        """All objects whose keys begin with a text, in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""
        ...

    def refuse_silent_overwriting(self) -> None:
        """Tries whether `put_if_absent` can be relied upon, with the object `.onnxcheck-probe`.

        Raises:
            StorageError: The server overwrites all the same.
        """
        ...
