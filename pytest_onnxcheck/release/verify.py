"""Whether a folder is still the bundle that was made."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import RecordError, ReleaseError
from pytest_onnxcheck.files import file_sha256, not_found
from pytest_onnxcheck.record.encoding import read
from pytest_onnxcheck.record.record import Record, load
from pytest_onnxcheck.release import refusals
from pytest_onnxcheck.release.bundle import Bundle
from pytest_onnxcheck.release.card import model_card
from pytest_onnxcheck.release.choice import choose
from pytest_onnxcheck.release.contents import (
    CARD,
    METADATA,
    RECORD,
    SIGNATURE,
    SUMS,
    files_in,
    sums_of,
)
from pytest_onnxcheck.release.metadata import FORMAT, Metadata, describe
from pytest_onnxcheck.release.signature import faults, statement
from pytest_onnxcheck.wording import several

__all__ = ["verify"]


def verify(folder: Path, key: Path | None = None) -> Bundle:
    """Checks a bundle: its hashes, its signature, and that its parts say the same as its record.

    Without a key, whoever changes a file and every hash of it, and the record to fit, is not found
    out.

    Args:
        folder: The bundle.
        key: The public key that it must be signed with, in PEM.

    Raises:
        ReleaseError: It is not what it was, or not signed with the key; the text has every reason.
        OSError: A file cannot be read.
    """
    if not folder.is_dir():
        why = "it is no folder" if folder.exists() else not_found(folder)
        raise ReleaseError(f"{folder} is no bundle", [why])
    hashes = {name: file_sha256(folder / name) for name in files_in(folder)}
    reasons = [*_of_sums(folder, hashes), *faults(folder, hashes, key)]
    known = _metadata(folder, reasons)
    record = _record(folder, reasons)
    if known is not None:
        reasons += _of_artefact(folder, known)
    if known is not None and record is not None:
        reasons += _of_record(known, record)
    if known is not None and _text(folder / CARD) != model_card(known):
        reasons.append(f"{CARD}: not the card that {METADATA} gives")
    if reasons:
        raise ReleaseError(f"{folder} is not the bundle that was made", dict.fromkeys(reasons))
    assert known is not None
    signed = statement(folder)
    return Bundle(folder, known, tuple(hashes), signed_with=signed.key if signed else None)


def _of_sums(folder: Path, hashes: Mapping[str, str]) -> Iterator[str]:
    """What is not as `SHA256SUMS` says: another hash, a file that is gone, or one too many."""
    text = _text(folder / SUMS)
    if text is None:
        yield f"{SUMS}: missing or unreadable: this is no bundle, or not all of it"
        return
    try:
        sums = sums_of(text)
    except ValueError as error:
        yield f"{SUMS}: {error}"
        return
    for name in sorted(set(hashes) - {SUMS, SIGNATURE} - set(sums)):
        yield f"{name}: not in {SUMS}: it was added"
    for name, sha256 in sums.items():
        if name not in hashes:
            yield f"{name}: missing"
        elif (found := hashes[name]) != sha256:
            yield f"{name}: changed: SHA-256 {found[:12]}…, {SUMS} has {sha256[:12]}…"


def _metadata(folder: Path, reasons: list[str]) -> Metadata | None:
    text = _text(folder / METADATA)
    if text is None:
        reasons.append(f"{METADATA}: missing or unreadable")
        return None
    try:
        written: Any = json.loads(text)
        if isinstance(written, dict) and written.get("format") != FORMAT:
            reasons.append(
                f"{METADATA}: format {written.get('format')!r}, and this version reads {FORMAT}: "
                "verify it with the version that made it"
            )
            return None
        known = read(Metadata, written)
        if not known.files:
            raise ValueError("files: there is none")
        return known
    except ValueError as error:
        reasons.append(f"{METADATA}: not what a bundle has: {error}")
        return None


def _record(folder: Path, reasons: list[str]) -> Record | None:
    try:
        return load(folder / RECORD)
    except OSError:
        reasons.append(f"{RECORD}: missing or unreadable")
    except RecordError as error:
        reasons.append(f"{RECORD}: {error}")
    return None


def _of_artefact(folder: Path, known: Metadata) -> Iterator[str]:
    for text in refusals.changed_files(known.files, folder):
        yield f"the artefact is not the one that {METADATA} names: {text}"
    expected = {*(file.name for file in known.files), METADATA, RECORD, CARD, SUMS, SIGNATURE}
    for name in files_in(folder):
        if name not in expected:
            yield f"{name}: no part of a bundle"


def _of_record(known: Metadata, record: Record) -> Iterator[str]:
    """What the record says against the release, or otherwise than the metadata."""
    try:
        choice = choose(record.checks, known.model, known.variant)
    except ReleaseError as error:
        yield from (f"{RECORD}: {reason}" for reason in error.reasons)
        return
    refused = [*refusals.of_run(record), *refusals.of_record(choice)]
    yield from (f"{RECORD}: {reason}" for reason in refused)
    if refused or not record.manifests:
        return
    again = asdict(
        describe(
            record,
            choice,
            name=known.name,
            version=known.version,
            source=known.source,
            run_id=known.run.id,
        )
    )
    other = [key for key, value in asdict(known).items() if value != again[key]]
    if other:
        yield f"{METADATA}: says otherwise than {RECORD} of {several(other)}"


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
