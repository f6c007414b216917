"""Puts a bundle together: a folder with all it takes, or nothing and every reason."""

from __future__ import annotations

import filecmp
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.files import file_sha256, flush, flush_all, write_atomically
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.measurement import ReleaseMeasurement
from pytest_onnxcheck.record.encoding import as_json
from pytest_onnxcheck.record.record import ManifestFile, Record, load, loads, write
from pytest_onnxcheck.release import refusals
from pytest_onnxcheck.release.card import model_card
from pytest_onnxcheck.release.choice import Choice, choose, one_of, released
from pytest_onnxcheck.release.contents import (
    CARD,
    METADATA,
    RECORD,
    SIGNATURE,
    files_in,
    write_sums,
)
from pytest_onnxcheck.release.git import Source, source_of
from pytest_onnxcheck.release.keys import SigningKey, fingerprint, signing_key
from pytest_onnxcheck.release.metadata import Metadata, describe
from pytest_onnxcheck.release.scrub import scrubbed
from pytest_onnxcheck.release.signature import faults, sign
from pytest_onnxcheck.release.workspace import workspace
from pytest_onnxcheck.wording import several

__all__ = ["Bundle", "bundle", "released_models"]


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        folder: Where it is.
        metadata: What is known of it.
        files: Its files, by their path in the folder.
        told: What should be told although it is no reason to refuse.
        signed_with: Hex SHA-256 of the public key in PEM; None where it is not signed.
    """

    folder: Path
    metadata: Metadata
    files: tuple[str, ...]
    told: tuple[str, ...] = ()
    signed_with: str | None = None

    @property
    def what(self) -> str:
        """What it is, on a line."""
        known = self.metadata
        return (
            f"{known.model}::{known.variant}, {known.size_bytes:,} bytes, {len(self.files)} files"
        )

    @property
    def summary(self) -> str:
        """Where it is, and what, on a line."""
        return f"{self.folder}  {self.what}"

    def to_json(self) -> dict[str, Any]:
        """What a machine reads of it."""
        return {**asdict(self), "folder": str(self.folder)}


def released_models(manifest: Path) -> list[str]:
    """The models of a manifest that have `[models.NAME.release]`, in its order.

    Raises:
        ManifestError: The manifest is wrong.
    """
    return [model.name for model in released(manifest)]


def bundle(
    record: Path,
    manifest: Path,
    to: Path,
    model: str | None = None,
    *,
    allow_dirty: bool = False,
    key: Path | None = None,
) -> Bundle:
    """Makes the bundle of a model: `to/NAME-VERSION`.

    A bundle that is there already and is the same to the byte is left as it is; of one that is
    signed the signature must be by the same key, since no two signatures are the same.

    Args:
        record: What the run of the gate left (`--onnxcheck-json`).
        manifest: The manifest that it was run with.
        to: The folder to make the bundle in; it is made too.
        model: Which model; may be left out where only one is released.
        allow_dirty: Release although a source is not in the commit as it is; the bundle says so.
        key: The private key to sign it with, in PEM, on the curve P-256, P-384 or P-521; its
            password, if it has one, is in `ONNXCHECK_SIGN_PASSWORD`.

    Raises:
        ReleaseError: It is not released; the text has every reason.
        RecordError: The record cannot be read.
        ManifestError: The manifest is wrong.
        OSError: A file cannot be read or written.
    """
    signer = None if key is None else signing_key(key)
    content = record.read_bytes()  # once: what is judged is what is bundled
    found = loads(content, str(record))
    chosen = _model(manifest, model)
    release = chosen.release
    assert release is not None
    if not found.finished:
        raise ReleaseError(f"{chosen.name} is not released", refusals.of_run(found))
    written_as = _manifest_of(found, manifest, chosen.name)
    entries = [entry for entry in found.checks if entry.manifest == written_as.path]
    choice = choose(entries, chosen.name, release.variant)
    source = _source(choice, chosen, manifest)
    reasons = [
        *refusals.of_run(found),
        *refusals.of_record(choice),
        *refusals.of_required_targets(choice, chosen),
        *_of_files(choice, chosen),
        *(() if allow_dirty else _of_source(source)),
    ]
    if reasons:
        raise ReleaseError(f"{chosen.name}::{choice.row.variant} is not released", reasons)
    with workspace(to) as temporary:
        work = temporary / "bundle"
        work.mkdir()
        known = _filled(work, content, written_as, chosen, choice, source)
        work = work.rename(temporary / f"{known.name}-{known.version}")
        if signer is not None:
            sign(work, signer)
        flush_all(work)
        folder = _placed(work, to / work.name, signer)
        flush(to)
    signed_with = None if signer is None else fingerprint(signer.public)
    return Bundle(folder, known, tuple(files_in(folder)), tuple(_told(known)), signed_with)


def _filled(
    work: Path,
    record: bytes,
    manifest: ManifestFile,
    model: Model,
    choice: Choice,
    source: Source,
) -> Metadata:
    """Puts all files into a folder.

    The metadata is made from the record that is in the bundle: whoever has that can make it again.
    """
    _copy_artefact(choice.stripped[0], work, model.name)
    write(scrubbed(json.loads(record), manifest.path, model.name, model.root), work / RECORD)
    own, release = load(work / RECORD), model.release
    assert release is not None
    known = describe(
        own,
        choose(own.checks, model.name, choice.row.variant),
        name=release.name or model.name,
        version=release.version or "",
        source=source,
        run_id=hashlib.sha256(record).hexdigest()[:16],
    )
    write_atomically(work / METADATA, as_json(asdict(known)))
    write_atomically(work / CARD, model_card(known))
    write_sums(work)
    return known


def _model(manifest: Path, name: str | None) -> Model:
    models = {model.name: model for model in released(manifest)}
    return models[one_of([*models], name, manifest)]


def _manifest_of(record: Record, manifest: Path, model: str) -> ManifestFile:
    """How the record names a manifest, which must be the one that it was run with."""
    sha256 = file_sha256(manifest)
    for written in record.manifests:
        if written.sha256 == sha256:
            return written
    recorded = several([f"{Path(one.path).name} {one.sha256[:12]}…" for one in record.manifests])
    raise ReleaseError(
        f"{model} is not released",
        [
            f"the record was made with another manifest: {manifest} has SHA-256 {sha256[:12]}…, "
            f"recorded {recorded or 'none'}: run pytest --onnxcheck --onnxcheck-json=PATH again"
        ],
    )


def _source(choice: Choice, model: Model, manifest: Path) -> Source:
    names = [file.name for measured in choice.stripped[:1] for file in measured.sources]
    return source_of(model.root, [*names, manifest.name])


def _of_files(choice: Choice, model: Model) -> Iterator[str]:
    """Sources and artefact that are not what they were when the record was made."""
    for measured in choice.stripped[:1]:
        changed = refusals.changed_files(measured.sources, model.root)
        if changed:
            yield (
                f"made from other sources: {several(changed)}: run the gate again, or go back to "
                "what the record was made from"
            )
        folder = Path(measured.file.path).parent
        changed = refusals.changed_files(measured.file.files, folder)
        if changed:
            yield (
                f"the artefact in {folder} is not the one that was checked: {several(changed)}: "
                "run the gate again, which builds it anew"
            )


def _of_source(source: Source) -> Iterator[str]:
    if source.dirty:
        yield (
            f"{_dirty(source)}: commit, and release again (or allow it, --allow-dirty, and the "
            "bundle says so)"
        )


def _dirty(source: Source) -> str:
    return (
        f"the working tree is dirty: commit {str(source.commit)[:12]} does not hold "
        f"{several(source.dirty)} as it is here"
    )


def _copy_artefact(measured: ReleaseMeasurement, work: Path, model: str) -> None:
    """Copies the file and its data, and reads the copies back."""
    folder = Path(measured.file.path).parent
    for file in measured.file.files:
        (work / file.name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / file.name, work / file.name)
    changed = refusals.changed_files(measured.file.files, work)
    if changed:
        raise ReleaseError(
            f"{model} is not released",
            [f"the copy of the artefact is not what was checked: {several(changed)}: try again"],
        )


def _placed(work: Path, folder: Path, signer: SigningKey | None) -> Path:
    """Gives the finished bundle its name, or finds the same one there.

    Raises:
        ReleaseError: Another one is there.
    """
    try:
        if not folder.exists():
            return work.rename(folder)
    except OSError:
        if not folder.is_dir():  # it was not made by another process in between
            raise
    difference = _difference(work, folder, signer)
    if difference is None:
        return folder
    raise ReleaseError(
        f"{folder} exists already {difference}",
        ["a bundle is never overwritten: give it another release.version, or delete it yourself"],
    )


def _difference(work: Path, folder: Path, signer: SigningKey | None) -> str | None:
    """How a folder is another bundle than the one that was made; None where it is the same."""
    if not folder.is_dir() or ({*files_in(folder)} ^ {*files_in(work)}) - {SIGNATURE}:
        return "with other files"
    names = [name for name in files_in(work) if name != SIGNATURE]
    _, other, unread = filecmp.cmpfiles(work, folder, names, shallow=False)
    if other or unread:
        return f"in {several(sorted([*other, *unread]))}"
    if signer is None:
        return "and is signed" if (folder / SIGNATURE).exists() else None
    public = work.with_name("public.pem")
    public.write_bytes(signer.public)
    hashes = {name: file_sha256(folder / name) for name in names}
    return "and is not signed with this key" if list(faults(folder, hashes, public)) else None


def _told(known: Metadata) -> Iterator[str]:
    if known.source.commit is None:
        yield "the sources are in no git repository: the bundle names no commit"
    if known.source.dirty:
        yield f"{_dirty(known.source)}: the bundle says so"
    if not known.run.latency:
        yield "latency was not measured: the bundle says nothing of speed"
