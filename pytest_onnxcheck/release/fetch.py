"""Downloads a published bundle, the whole of it or nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_onnxcheck.errors import ReleaseError, StorageError
from pytest_onnxcheck.files import flush, flush_all
from pytest_onnxcheck.release.bundle import Bundle
from pytest_onnxcheck.release.current import CURRENT, read_current
from pytest_onnxcheck.release.metadata import Metadata
from pytest_onnxcheck.release.published import RELEASE, ReleaseFile, bundle_sha256, read_release
from pytest_onnxcheck.release.verify import verify
from pytest_onnxcheck.release.workspace import workspace
from pytest_onnxcheck.storage import Store, open_store

__all__ = ["fetch", "is_published"]


def is_published(source: str) -> bool:
    """Whether an address is one of a published bundle, and not a bundle's own folder."""
    return "://" in source or any((Path(source) / name).is_file() for name in (RELEASE, CURRENT))


def fetch(uri: str | Path, to: Path, key: Path | None = None) -> Bundle:
    """Downloads a bundle to `to/NAME-VERSION`, and verifies it there.

    Every file is held to the hash in `release.json`, and their list to the bundle's.

    Args:
        uri: A release, `…/NAME/VERSION`; or a name, `…/NAME`, for its current version.
        to: The folder to put it into; it is made too.
        key: The public key that it must be signed with, in PEM.

    Raises:
        ReleaseError: It is not what was published, or not signed with the key, or it is there
            already.
        StorageError: It cannot be read.
    """
    store, release = _found(open_store(uri))
    folder = to / f"{release.name}-{release.version}"
    if folder.exists():
        raise ReleaseError(
            f"{folder} exists already", ["remove it, or download elsewhere (--to FOLDER)"]
        )
    with workspace(to) as temporary:
        work = temporary / folder.name
        for file in release.files:
            target = work / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            store.get(file.name, target, file.sha256)
        found = verify(work, key)
        _check(store, release, found.metadata)
        flush_all(work)
        work.rename(folder)
        flush(to)
        return replace(found, folder=folder)


def _found(store: Store) -> tuple[Store, ReleaseFile]:
    """The store with the files, and its `release.json`; of a name, its current version's."""
    release = read_release(store, RELEASE)
    if release is not None:
        return store, release
    current = read_current(store)
    if current is not None:
        store = open_store(f"{store.uri().rstrip('/')}/{current.version}")
        release = read_release(store, RELEASE)
        if release is not None:
            return store, release
    raise StorageError(
        f"{store.uri()} is no release: it has no {RELEASE}, and no {CURRENT} that leads to one. "
        "onnxcheck releases lists what is published at an address"
    )


def _check(store: Store, release: ReleaseFile, known: Metadata) -> None:
    """That `release.json` is of what was downloaded, and of nothing else."""
    said = (release.name, release.bundle_version, release.model_sha256, release.run_id)
    if (known.name, known.version, known.sha256, known.run.id) != said:
        raise ReleaseError(
            f"{store.uri()} is not what was published", [f"{RELEASE} is of another bundle"]
        )
    if bundle_sha256(release.files) != release.sha256:
        raise ReleaseError(
            f"{store.uri()} is not what was published",
            [f"{RELEASE} lists other files than its own hash is of"],
        )
