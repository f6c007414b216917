"""Which model and which variant of a record is released."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.judge.frontier import Candidate, Frontier, frontiers
from pytest_onnxcheck.manifest import Model, load_manifest
from pytest_onnxcheck.manifest.terms import FRONTIER
from pytest_onnxcheck.manifest.writing import table_name
from pytest_onnxcheck.measurement import ReleaseMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.rows import Row, rows

__all__ = ["Choice", "choose", "one_of", "released"]


@dataclass(frozen=True)
class Choice:
    """The variant of a record that is to be released.

    Attributes:
        row: Its checks.
        candidate: What they come to.
        others: The checks of the model's other variants.
    """

    row: Row
    candidate: Candidate
    others: tuple[Entry, ...]

    @property
    def stripped(self) -> tuple[ReleaseMeasurement, ...]:
        """What the check `release` measured, on each target that was there."""
        return tuple(self.row.measured(ReleaseMeasurement))


def released(manifest: Path) -> list[Model]:
    """The models of a manifest that have `[models.NAME.release]`, in its order.

    Raises:
        ManifestError: The manifest is wrong.
    """
    loaded = load_manifest(manifest)
    loaded.check()
    return [model for model in loaded.models.values() if model.release is not None]


def one_of(models: Sequence[str], model: str | None, manifest: Path) -> str:
    """The model that is meant, of those that a manifest releases.

    Args:
        models: Their names.
        model: The one that was asked for; None: the only one.
        manifest: The manifest.

    Raises:
        ReleaseError: There is no such model, none at all, or it is not clear which is meant.
    """
    if not models:
        raise ReleaseError(
            f"{manifest} releases nothing",
            ["no model has a table [models.NAME.release]: write one, and run the gate again"],
        )
    named = [name for name in models if model in (None, name)]
    if len(named) == 1:
        return named[0]
    there = ", ".join(models)
    why = (
        f"the manifest releases several models ({there}): say which (--model NAME)"
        if model is None
        else f"it has no table [{_table(manifest, model)}.release] (models that have one: {there})"
    )
    raise ReleaseError(f"{model or manifest} is not released", [why])


def _table(manifest: Path, name: str) -> str:
    """The table of a model, which models of one glob share; as it would be, where it has none."""
    model = load_manifest(manifest).models.get(name)
    return f"models.{name}" if model is None else table_name(model)


def choose(entries: Iterable[Entry], model: str, variant: str) -> Choice:
    """The checks of the variant that is to be released.

    Args:
        entries: The checks of one manifest.
        model: Name of the model.
        variant: Name of the variant; `frontier` for the one that the budgets choose.

    Raises:
        ReleaseError: The record has no such model or variant, or the budgets choose none.
    """
    own = [entry for entry in entries if entry.model == model]
    found = next(iter(frontiers(own)), None)
    if found is None:
        raise ReleaseError(
            f"{model} is not released",
            [f"the record has no check of it: run pytest --onnxcheck --onnxcheck-model={model}"],
        )
    candidate = _frontiers(found) if variant == FRONTIER else _named(found, variant)
    row = next(row for row in rows(own) if row.variant == candidate.variant)
    others = tuple(entry for entry in own if entry.variant != candidate.variant)
    return Choice(row, candidate, others)


def _named(found: Frontier, variant: str) -> Candidate:
    for candidate in found.candidates:
        if candidate.variant == variant:
            return candidate
    there = ", ".join(candidate.variant for candidate in found.candidates)
    raise ReleaseError(
        f"{found.model}::{variant} is not released",
        [f"the record has no check of this variant (there are: {there}): run it whole, without -k"],
    )


def _frontiers(found: Frontier) -> Candidate:
    if found.released is not None:
        return found.released
    if not found.whole:
        why = (
            "the run left out checks or variants of the model, and the budgets choose among all: "
            "run it whole, without -k, -m and --lf"
        )
    else:
        states = "; ".join(
            f"{one.variant} {_blocked(one)}" for one in found.candidates if not one.passes
        )
        why = f"no variant passes: {states}"
    raise ReleaseError(f"{found.model} is not released", [why])


def _blocked(candidate: Candidate) -> str:
    failed = f"fails {', '.join(candidate.failed)}" if candidate.failed else ""
    unjudged = f"was not judged by {', '.join(candidate.unjudged)}" if candidate.unjudged else ""
    return " and ".join(filter(None, (failed, unjudged)))
