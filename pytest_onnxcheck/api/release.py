"""What passed leaves the gate in one step: bundled, signed, published and registered."""

from __future__ import annotations

import contextlib
import fnmatch
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pytest_onnxcheck.api.run import gate
from pytest_onnxcheck.errors import OnnxCheckError, ReleaseError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.release import Bundle, Metadata, Registered, bundle, publish, register
from pytest_onnxcheck.release.choice import one_of, released
from pytest_onnxcheck.release.keys import signing_key
from pytest_onnxcheck.release.registration import metrics
from pytest_onnxcheck.release.registry import check_registry
from pytest_onnxcheck.storage import open_store
from pytest_onnxcheck.wording import one_line

__all__ = ["Release", "Wanted", "check", "is_address", "release_all", "release_model", "wanted"]

#: how much of a check's reason is repeated
_MOST = 160


@dataclass(frozen=True)
class Wanted:
    """A model that a manifest releases.

    Attributes:
        manifest: The manifest.
        model: The model.
        registered_model: What a version is made of in the registry, where it is published.
        alias: The alias of that version.
    """

    manifest: Path
    model: str
    registered_model: str | None = None
    alias: str | None = None


@dataclass(frozen=True)
class Release:
    """A model that was released.

    Attributes:
        uri: Where it is published; else the bundle's folder.
        version: What it is published as; else the bundle's version.
        metadata: What is known of it.
        signed_with: Hex SHA-256 of the public key in PEM; None where it is not signed.
        registered: Its version in the registry; None where it was not registered.
        record: What the run of the gate left; None where that was written by the run itself.
        told: What should be told.
    """

    uri: str
    version: str
    metadata: Metadata
    signed_with: str | None = None
    registered: Registered | None = None
    record: Record | None = None
    told: tuple[str, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured, by names as `speedup/cpu-batch1` and `max_abs/cpu/logits`."""
        return metrics(self.metadata)

    @property
    def summary(self) -> str:
        """What was released, and where it is, on a line."""
        parts = [f"{self.metadata.model}::{self.metadata.variant}  {self.uri}"]
        if self.signed_with is not None:
            parts.append(f"signed with {self.signed_with[:12]}…")
        if self.registered is not None:
            alias = "" if self.registered.alias is None else f" ({self.registered.alias})"
            parts.append(f"{self.registered.uri}{alias}")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it, with the metrics and without the record."""
        registered = None if self.registered is None else self.registered.to_json()
        own = asdict(replace(self, record=None, registered=None))
        own.pop("record")
        return {**own, "registered": registered, "metrics": self.metrics}


def release_model(
    manifest: Path | str = "models.toml",
    model: str | None = None,
    *,
    to: Path | str,
    key: Path | str | None = None,
    allow_dirty: bool = False,
    targets: Sequence[str] = (),
    arguments: Sequence[str] = (),
    run: Callable[..., Record] = gate,
) -> Release:
    """Gates a model, and releases it if every check of the run passed.

    What would be refused whatever the checks find is refused before they run: a key that cannot
    sign, a server that is not reached.

    Args:
        manifest: The manifest.
        model: Which model; may be left out where only one is released.
        to: `s3://bucket/prefix` or `file:///folder` to publish it there, and to register it where
            the manifest has `release.registered_model`; or a folder to make the bundle in.
        key: The private key to sign it with, in PEM.
        allow_dirty: Release although a source is not in the commit as it is; the bundle says so.
        targets: Targets in place of the manifest's.
        arguments: More arguments of pytest.
        run: What runs the gate, and leaves the record in a file, as `api.run.gate` does.

    Raises:
        ReleaseError: It is not released; the text has every reason.
        StorageError: Nothing can be published there.
        ManifestError: The manifest is wrong.
        OnnxCheckError: pytest did not run the manifest.
    """
    path, signer = Path(manifest).absolute(), None if key is None else Path(key)
    models = {each.model: each for each in wanted([path])}
    one = models[one_of([*models], model, path)]
    check([one], to, signer)
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        record = Path(folder) / "record.json"
        found = run(path, record, models=[one.model], targets=targets, arguments=arguments)
        if found.exitstatus:
            raise ReleaseError(f"{one.model} is not released", _why_not(found))
        kept = path.parent / ".onnxcheck" / "bundles"
        (made,) = release_all(record, [one], to, kept=kept, key=signer, allow_dirty=allow_dirty)
    return replace(made, record=found)


def wanted(manifests: Iterable[Path], models: Sequence[str] = ("*",)) -> list[Wanted]:
    """The models that manifests release, in their order.

    Args:
        manifests: The manifests.
        models: Only models whose name matches one of these globs.

    Raises:
        ManifestError: A manifest is wrong.
        ReleaseError: They release nothing.
    """
    paths, found = list(manifests), []
    for path in paths:
        found += [
            Wanted(path, model.name, model.release.registered_model, model.release.alias)
            for model in released(path)
            if model.release is not None
            and any(fnmatch.fnmatchcase(model.name, pattern) for pattern in models)
        ]
    if not found:
        raise ReleaseError(
            f"{', '.join(map(str, paths))}: nothing is released",
            ["no model that is run has a table [models.NAME.release]: write one"],
        )
    return found


def check(models: Iterable[Wanted], to: Path | str, key: Path | None) -> None:
    """Looks at what can be looked at before anything is run: the key, the store, the registry.

    Raises:
        ReleaseError: The key cannot sign, or nothing can be registered.
        StorageError: Nothing can be published there.
    """
    if key is not None:
        signing_key(key)
    if not is_address(to):
        return
    open_store(to).refuse_silent_overwriting()
    for one in models:
        if one.registered_model is not None:
            check_registry(one.registered_model, str(to), one.alias)


def is_address(to: Path | str) -> bool:
    """Whether bundles are published there, and not made there: a URI, and no folder."""
    return "://" in str(to)


def release_all(
    record: Path,
    models: Iterable[Wanted],
    to: Path | str,
    *,
    kept: Path,
    key: Path | None = None,
    allow_dirty: bool = False,
) -> Iterator[Release]:
    """Releases models of a record, and gives each as soon as it is released.

    All are bundled before the first is published.

    Args:
        record: What the run of the gate left.
        models: The models.
        to: See `release_model`.
        kept: Where bundles are made that are to be published. One that could not be stays there.
        key: See `release_model`.
        allow_dirty: See `release_model`.

    Raises:
        ReleaseError: One is not released; the text has every reason.
        OSError: A file cannot be read or written.
    """
    if not is_address(to):
        for _, made in _bundled(record, models, Path(to), key, allow_dirty):
            known = made.metadata
            yield Release(str(made.folder), known.version, known, made.signed_with, told=made.told)
        return
    folder = kept / file_sha256(record)[:16]
    bundled = _bundled(record, models, folder, key, allow_dirty)
    for number, (one, made) in enumerate(bundled, 1):
        try:
            handed_on = _handed_on(one, made, str(to))
        except ReleaseError as error:
            others = (_not_published(*other, str(to)) for other in bundled[number:])
            raise ReleaseError(error.what, [*error.reasons, *others]) from error
        yield handed_on
        shutil.rmtree(made.folder)
    with contextlib.suppress(OSError):  # another run may keep some of its own
        folder.rmdir()
        kept.rmdir()


def _bundled(
    record: Path, models: Iterable[Wanted], folder: Path, key: Path | None, allow_dirty: bool
) -> list[tuple[Wanted, Bundle]]:
    """Makes all bundles; those that were made stay where others are refused, which is told."""
    made: list[tuple[Wanted, Bundle]] = []
    refused: list[ReleaseError] = []
    for one in models:
        try:
            found = bundle(
                record, one.manifest, folder, one.model, allow_dirty=allow_dirty, key=key
            )
        except ReleaseError as error:
            refused.append(error)
        else:
            made.append((one, found))
    if not refused:
        return made
    stays = [f"{found.folder} was made all the same" for _, found in made]
    if len(refused) == 1:
        raise ReleaseError(refused[0].what, [*refused[0].reasons, *stays])
    reasons = [f"{error.what}: {reason}" for error in refused for reason in error.reasons]
    raise ReleaseError("several models are not released", [*reasons, *stays])


def _handed_on(one: Wanted, made: Bundle, to: str) -> Release:
    """Publishes a bundle, and registers it."""
    known, folder = made.metadata, made.folder
    try:
        published = publish(folder, to)
    except (OnnxCheckError, OSError) as error:
        raise ReleaseError(
            f"{known.model} passed and is not published",
            [*_reasons(error), f"the bundle is kept, to try again: {_again(one, made, to)}"],
        ) from error
    told, registered = [*made.told, *published.told], None
    if one.registered_model is not None:
        try:
            registered = register(folder, published.uri, one.registered_model, alias=one.alias)
        except (OnnxCheckError, OSError) as error:
            raise ReleaseError(
                f"{known.model} is published, {published.uri}, and not registered",
                [*_reasons(error), f"the bundle is kept, to try again: {_again(one, made, to)}"],
            ) from error
        told += registered.told
    return Release(
        published.uri, published.version, known, made.signed_with, registered, told=tuple(told)
    )


def _not_published(one: Wanted, made: Bundle, to: str) -> str:
    return f"{one.model} passed too and is not published yet: {_again(one, made, to)}"


def _again(one: Wanted, made: Bundle, to: str) -> str:
    """The command that hands a bundle on; what is published already, it finds."""
    command = ["onnxcheck", "publish", str(made.folder), "--to", to]
    if one.registered_model is not None:
        command += ["--register", one.registered_model]
        command += [] if one.alias is None else ["--alias", one.alias]
    return shlex.join(command)


def _reasons(error: Exception) -> Sequence[str]:
    return error.reasons if isinstance(error, ReleaseError) else [one_line(error)]


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
