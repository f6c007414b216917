"""The exported file."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["ExportMeasurement", "FileCheck", "HashedFile"]


@dataclass(frozen=True)
class HashedFile:
    """One file of an artefact.

    Attributes:
        name: Its name in the artefact's folder.
        size_bytes: Its size.
        sha256: Hash of its contents.
    """

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class FileCheck:
    """What `onnx.checker` and shape inference said of a file re-loaded from disk.

    Attributes:
        path: The file.
        sha256: Hash of `files`: of their contents, one after the other.
        size_bytes: Bytes on disk, external data included.
        checker_error: What the full check said; None when it was content.
        inference_error: What strict shape inference said; None when it was content.
        unsorted: Whether the nodes are out of topological order, and fine once sorted.
        files: The `.onnx` file, then its external data by name; empty in an earlier version's
            record.
        unread: Bytes at the end of data files that no weight is read from, by file.
        source: `built` by this run, `local`, which an earlier run or another job has built,
            `remote`, which came from the remote cache, or `given`; empty in an earlier version's
            record.
        transferred_bytes: `files` as gzip makes them; None where no budget asks for it.
    """

    path: str
    sha256: str
    size_bytes: int
    checker_error: str | None
    inference_error: str | None
    unsorted: bool = False
    files: tuple[HashedFile, ...] = ()
    unread: dict[str, int] = field(default_factory=dict)
    source: str = ""
    transferred_bytes: int | None = None


@dataclass(frozen=True)
class ExportMeasurement:
    """The exported file.

    Attributes:
        file: The file as read back.
        exporter: `dynamo`, `torchscript`, or `file` for one that was given.
        opset: The opset asked for.
        seconds: What building it took, also when it came from the cache.
        cached: Whether an earlier run built it.
        checkpoint_sha256: Hash of the checkpoint its weights come from.
        notes: What should be told about the reference.
        libraries: The libraries of custom operators that it is run with.
    """

    file: FileCheck
    exporter: str
    opset: int | None
    seconds: float
    cached: bool
    checkpoint_sha256: str | None
    notes: tuple[str, ...]
    libraries: tuple[HashedFile, ...] = ()
