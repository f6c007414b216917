"""`release.json`, the last file of a published bundle: what has one is released."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_onnxcheck import __version__
from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest.terms import NAME
from pytest_onnxcheck.measurement import HashedFile
from pytest_onnxcheck.record.encoding import as_json, read
from pytest_onnxcheck.release.metadata import Metadata
from pytest_onnxcheck.storage import Store
from pytest_onnxcheck.storage.address import checked_key

__all__ = [
    *("RELEASE", "ReleaseFile", "as_bytes", "bundle_sha256", "hashed_files"),
    *("read_release", "written"),
]

RELEASE = "release.json"
#: version of the format of `release.json`
_FORMAT = 1


@dataclass(frozen=True)
class ReleaseFile:
    """What `release.json` holds.

    Attributes:
        format: Version of this format.
        name: Name of the bundle.
        version: What it is published as: the name of its folder.
        bundle_version: The bundle's own version.
        sha256: Hash of the bundle: of the lines of `sha256sum` of all its files, sorted by name.
        model_sha256: Hash of the ONNX file and its external data, one after the other.
        model: The model in the manifest.
        variant: The variant.
        architecture: Class of the PyTorch module.
        precision: The precision asked for.
        opset: Version of the default operator set.
        size_bytes: Bytes of the ONNX file and its external data.
        run_id: The run of the gate.
        date: When that ended, in UTC, as ISO 8601.
        published: When this file was written, in UTC, by the publisher's clock.
        publisher: Random digits of the call that wrote it: of several at once, which was first.
        onnxcheck: Version of pytest-onnxcheck.
        files: All files of the bundle.
    """

    format: int
    name: str
    version: str
    bundle_version: str
    sha256: str
    model_sha256: str
    model: str
    variant: str
    architecture: str
    precision: str
    opset: int
    size_bytes: int
    run_id: str
    date: str
    published: str
    publisher: str
    onnxcheck: str
    files: tuple[HashedFile, ...]


def written(known: Metadata, version: str, files: Sequence[HashedFile]) -> ReleaseFile:
    """What is to be said of a bundle that is being published."""
    return ReleaseFile(
        format=_FORMAT,
        name=known.name,
        version=version,
        bundle_version=known.version,
        sha256=bundle_sha256(files),
        model_sha256=known.sha256,
        model=known.model,
        variant=known.variant,
        architecture=known.architecture,
        precision=known.precision,
        opset=known.opset,
        size_bytes=known.size_bytes,
        run_id=known.run.id,
        date=known.run.date,
        published=datetime.now(UTC).isoformat(timespec="seconds"),
        publisher=secrets.token_hex(8),
        onnxcheck=__version__,
        files=tuple(files),
    )


def as_bytes(release: ReleaseFile) -> bytes:
    """The file's content."""
    return as_json(asdict(release)).encode()


def read_release(store: Store, key: str) -> ReleaseFile | None:
    """The `release.json` at a key; None where there is none.

    Raises:
        StorageError: It is no such file.
    """
    content = store.read(key)
    if content is None:
        return None
    try:
        found: Any = json.loads(content.data)
        if isinstance(found, dict) and found.get("format") != _FORMAT:
            raise StorageError(
                f"{store.uri(key)}: format {found.get('format')!r}, and this version reads "
                f"{_FORMAT}: use the version of pytest-onnxcheck that published it"
            )
        return _sound(read(ReleaseFile, found))
    except ValueError as error:
        raise StorageError(
            f"{store.uri(key)} was changed, or is of something else: {error}: move it away, and "
            "publish again"
        ) from error


def _sound(release: ReleaseFile) -> ReleaseFile:
    """The same, if all names in it lead into its own folder.

    Raises:
        ValueError: One may not.
    """
    for name in (release.name, release.version):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name")
    for file in release.files:
        try:
            checked_key(file.name)
        except StorageError as error:
            raise ValueError(f"files: {error}") from error
    return release


def hashed_files(folder: Path, names: Sequence[str]) -> list[HashedFile]:
    """Files of a folder with their sizes and hashes."""
    return [
        HashedFile(name, (folder / name).stat().st_size, file_sha256(folder / name))
        for name in names
    ]


def bundle_sha256(files: Sequence[HashedFile]) -> str:
    """Hash of a bundle: of what `sha256sum` prints of all its files, sorted by name."""
    by_name = sorted(files, key=lambda file: file.name)
    lines = (f"{file.sha256}  {file.name}\n" for file in by_name)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
