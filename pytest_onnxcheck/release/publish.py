"""Puts a bundle where others find it: its files first, and `release.json` when all are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import ReleaseError, StorageError
from pytest_onnxcheck.release.current import move
from pytest_onnxcheck.release.metadata import Metadata
from pytest_onnxcheck.release.pattern import PATTERN, version_of
from pytest_onnxcheck.release.published import (
    RELEASE,
    ReleaseFile,
    as_bytes,
    bundle_sha256,
    hashed_files,
    read_release,
    written,
)
from pytest_onnxcheck.release.verify import verify
from pytest_onnxcheck.storage import Store, open_store

__all__ = ["Published", "publish"]


@dataclass(frozen=True)
class Published:
    """A bundle that is published.

    Attributes:
        uri: Where: the folder with its files.
        release: What its `release.json` holds.
        already: Whether it was published before this call, by an earlier one or by another at the
            same time.
        current: The version that is current now.
        signed_with: Hex SHA-256 of the public key in PEM; None where it is not signed.
    """

    uri: str
    release: ReleaseFile
    already: bool
    current: str
    signed_with: str | None = None

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.release.name

    @property
    def version(self) -> str:
        """What it is published as."""
        return self.release.version

    @property
    def summary(self) -> str:
        """Where it is, and what, on a line."""
        known = self.release
        return (
            f"{self.uri}  {known.model}::{known.variant}, {known.size_bytes:,} bytes, "
            f"{len(known.files)} files"
        )

    @property
    def told(self) -> Iterator[str]:
        """What should be told besides."""
        if self.signed_with is None:
            yield (
                "not signed: nobody can tell who made it, nor whether all of it was replaced "
                "(onnxcheck release RECORD --sign KEY, or --onnxcheck-sign=KEY)"
            )
        if self.already:
            yield (
                f"published already, {self.release.published}, by publisher "
                f"{self.release.publisher}: left as it is"
            )
        if self.current != self.version:
            yield (
                f"current is {self.current}: this one was current before, and publishing it again "
                "does not undo that: onnxcheck releases --rollback does"
            )

    def to_json(self) -> dict[str, Any]:
        """What a machine reads of it."""
        return asdict(self)


def publish(bundle: Path, to: str | Path, pattern: str = PATTERN) -> Published:
    """Publishes a bundle as `TO/NAME/VERSION/`, and makes it current.

    Nothing is released until `release.json` is there, which is stored last, and only where none is.
    The folder follows from the bundle: publishing the same one again finds it, and completes what a
    call that was cut off has begun. Nothing is ever overwritten.

    Args:
        bundle: Its folder, as `bundle` made it; it is verified first.
        to: `s3://bucket/prefix`, `file:///folder`, or a folder.
        pattern: What VERSION is made from, see `pattern.version_of`.

    Raises:
        ReleaseError: It is not the bundle that was made, or the pattern is none.
        StorageError: It could not be stored; publishing it again goes on where this stopped.
    """
    known = verify(bundle)
    files = hashed_files(bundle, known.files)
    version = version_of(pattern, known.metadata, bundle_sha256(files))
    mine = written(known.metadata, version, files)
    store = open_store(to)
    store.refuse_silent_overwriting()
    base = f"{mine.name}/{version}"
    there = read_release(store, f"{base}/{RELEASE}")
    if there is None:
        for file in mine.files:
            headers = _headers(known.metadata, file.size_bytes)
            store.put(f"{base}/{file.name}", bundle / file.name, headers, file.sha256)
        there = _decided(store, f"{base}/{RELEASE}", mine)
    if there.sha256 != mine.sha256:
        raise ReleaseError(
            f"{store.uri(base)} holds another bundle, {there.sha256[:16]}…",
            ["more digits of {sha256} in the pattern keep them apart (--pattern)"],
        )
    current = move(
        store, mine.name, version, "published", unless=lambda pointer: pointer.was(version)
    )
    return Published(store.uri(base), there, there != mine, current.version, known.signed_with)


def _decided(store: Store, key: str, mine: ReleaseFile) -> ReleaseFile:
    """Stores `release.json` where none is, and reads what is there then: ours, or another's."""
    won = store.put_if_absent(key, as_bytes(mine))
    there = read_release(store, key)
    if there is None or (won and there != mine):
        raise StorageError(
            f"{store.uri(key)} was stored, and something else is there: the server overwrites what "
            "is there, or somebody removed it. Use a server with conditional writes"
        )
    return there


def _headers(known: Metadata, size_bytes: int) -> dict[str, str]:
    """What is stored with every file, beside its hash: ASCII, as headers must be."""
    told = {
        "bundle": f"{known.name} {known.version}",
        "opset": str(known.opset),
        "precision": known.precision,
        "run-id": known.run.id,
        "date": known.run.date,
        "model-type": known.architecture,
        "model-sha256": known.sha256,
        "size": str(size_bytes),
    }
    found = {key: text.encode("ascii", "backslashreplace").decode() for key, text in told.items()}
    return {key: text for key, text in found.items() if text}
