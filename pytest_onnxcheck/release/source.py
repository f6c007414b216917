"""The source of a registered version: where its bundle is published, for all to read."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.release.published import RELEASE, read_release
from pytest_onnxcheck.storage import open_store

__all__ = ["of_folder", "of_source", "refuse_other_bundle"]


def of_source(source: str) -> Iterator[str]:
    """What is wrong with a source by its text alone."""
    parts = urlsplit(source)
    if not parts.scheme:
        yield f"source {source!r} is no URI: write where it is published, e.g. s3://bucket/net/v1"
    if "@" in parts.netloc or parts.query:
        yield "the source has credentials or a query in it, which all would see: leave them out"


def of_folder(source: str, server: str) -> Iterator[str]:
    """A folder of this machine is no source for a server."""
    if urlsplit(source).scheme == "file" and urlsplit(server).scheme in ("http", "https"):
        yield (
            f"{source} is a folder, which a server does not take as a source, since others do not "
            "reach it: publish the bundle to object storage first (onnxcheck publish BUNDLE --to "
            "s3://BUCKET/PREFIX)"
        )


def refuse_other_bundle(what: str, source: str, sha256: str) -> None:
    """Refuses a source at which a bundle is not released.

    Args:
        what: What is not done then.
        source: Where it should be.
        sha256: The bundle's hash.

    Raises:
        ReleaseError: Nothing is released there, or another bundle.
        StorageError: It cannot be read.
    """
    there = read_release(open_store(source), RELEASE)
    if there is None:
        why = (
            f"{source} has no {RELEASE}: nothing is released there: write the address that "
            "onnxcheck publish printed, with the version"
        )
        raise ReleaseError(what, [why])
    if there.sha256 != sha256:
        why = (
            f"{source} holds another bundle, {there.sha256[:12]}…, and this one is {sha256[:12]}…: "
            "write where this one is published, or register the other"
        )
        raise ReleaseError(what, [why])
