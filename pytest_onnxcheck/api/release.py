"""What passed leaves the gate in one step: gated, bundled and signed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.api.run import gate
from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.release import Bundle, Metadata, bundle, released_models
from pytest_onnxcheck.release.keys import signing_key
from pytest_onnxcheck.wording import one_line

__all__ = ["Release", "bundle_all", "deliver", "ready", "release_model"]

#: how much of a check's reason is repeated
_MOST = 160


@dataclass(frozen=True)
class Release:
    """A model that was released.

    Attributes:
        uri: Where it is: the bundle's folder.
        version: Its version.
        metadata: What is known of it.
        signed_with: Hex SHA-256 of the public key in PEM; None where it is not signed.
        told: What should be told.
    """

    uri: str
    version: str
    metadata: Metadata
    signed_with: str | None = None
    told: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What was released, and where it is, on a line."""
        signed = "" if self.signed_with is None else f", signed with {self.signed_with[:12]}…"
        return f"{self.metadata.model}::{self.metadata.variant}  {self.uri}{signed}"

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)


def release_model(
    manifest: Path | str = "models.toml",
    model: str | None = None,
    *,
    to: Path | str,
    key: Path | str | None = None,
    allow_dirty: bool = False,
    targets: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> Release:
    """Gates a model, and releases it if every check of the run passed.

    Args:
        manifest: The manifest.
        model: Which model; may be left out where only one is released.
        to: The folder to make the bundle in.
        key: The private key to sign it with, in PEM.
        allow_dirty: Release although a source is not in the commit as it is; the bundle says so.
        targets: Targets in place of the manifest's.
        arguments: More arguments of pytest.

    Raises:
        ReleaseError: It is not released; the text has every reason.
        ManifestError: The manifest is wrong.
        OnnxCheckError: pytest did not run the manifest.
    """
    path, signer = Path(manifest).absolute(), None if key is None else Path(key)
    chosen = _one(path, ready([path], signer), model)
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        record = Path(folder) / "record.json"
        found = gate(path, record, models=[chosen], targets=targets, arguments=arguments)
        if found.exitstatus:
            raise ReleaseError(f"{chosen} is not released", _why_not(found))
        (made,) = bundle_all(
            record, {path: [chosen]}, Path(to), key=signer, allow_dirty=allow_dirty
        )
    return deliver(made)


def ready(manifests: Iterable[Path], key: Path | None) -> list[str]:
    """The models that manifests release; looks at what can be looked at before anything is run.

    Args:
        manifests: The manifests.
        key: The private key to sign with, in PEM.

    Raises:
        ReleaseError: Nothing is released, or the key cannot sign.
        ManifestError: A manifest is wrong.
    """
    if key is not None:
        signing_key(key)
    paths = list(manifests)
    models = [model for path in paths for model in released_models(path)]
    if not models:
        raise ReleaseError(
            f"{', '.join(map(str, paths))} releases nothing",
            ["no model has a table [models.NAME.release]: write one"],
        )
    return models


def bundle_all(
    record: Path,
    models: Mapping[Path, Iterable[str]],
    folder: Path,
    *,
    key: Path | None = None,
    allow_dirty: bool = False,
) -> list[Bundle]:
    """Makes the bundles of several models.

    Args:
        record: What the run of the gate left.
        models: Manifest -> models of it, which have `[models.NAME.release]`.
        folder: The folder to make them in.
        key: See `release_model`.
        allow_dirty: See `release_model`.

    Raises:
        ReleaseError: One is refused; the text has every reason of all of them.
    """
    made: list[Bundle] = []
    refused: list[ReleaseError] = []
    for manifest, names in models.items():
        for name in names:
            try:
                made.append(
                    bundle(record, manifest, folder, name, allow_dirty=allow_dirty, key=key)
                )
            except ReleaseError as error:
                refused.append(error)
    if len(refused) == 1:
        raise refused[0]
    if refused:
        reasons = (f"{error.what}: {reason}" for error in refused for reason in error.reasons)
        raise ReleaseError("nothing is released", reasons)
    return made


def deliver(made: Bundle) -> Release:
    """Hands on a bundle that was made."""
    known = made.metadata
    return Release(str(made.folder), known.version, known, made.signed_with, made.told)


def _one(manifest: Path, released: Sequence[str], model: str | None) -> str:
    """The model that is meant."""
    if model is None and len(released) == 1:
        return released[0]
    if model in released:
        return str(model)
    there = ", ".join(released)
    why = (
        f"the manifest releases several models ({there}): say which"
        if model is None
        else f"it has no table [models.{model}.release] (models that have one: {there})"
    )
    raise ReleaseError(f"{model or manifest} is not released", [why])


def _why_not(record: Record) -> list[str]:
    reasons = [
        f"{entry.nodeid} {entry.outcome}: {one_line(entry.reason, _MOST)}"
        for entry in record.checks
        if entry.outcome in ("failed", "xpassed")
    ]
    reasons += [
        f"{error.nodeid} could not be collected: {one_line(error.error, _MOST)}"
        for error in record.errors
    ]
    return reasons or [f"pytest ended with exit status {record.exitstatus}"]
