"""Records of runs that shared a manifest, as the one of a run that had it alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.moving import moved
from pytest_onnxcheck.record.origin import job
from pytest_onnxcheck.record.record import Environment, ManifestFile, Part, Record

__all__ = ["manifest_name", "merged"]


def manifest_name(nodeid: str) -> str:
    """How pytest names the manifest of a check: its path from the rootdir."""
    return nodeid.partition("::")[0]


def merged(records: Sequence[Record]) -> Record:
    """One record with all checks, in the order of a single run; without the frontier.

    Paths are those of the first record that has the manifest.

    Args:
        records: Of one manifest, one commit and the same versions, see `judge.apart`.
    """
    ordered = sorted(records, key=lambda one: (one.shard is None, one.shard and one.shard.index))
    manifests: dict[str, ManifestFile] = {}
    checks: list[Entry] = []
    for record in ordered:
        known = {written.path: written for written in record.manifests}
        for entry in record.checks:
            own = manifests.setdefault(manifest_name(entry.nodeid), known[entry.manifest])
            checks.append(_moved(entry, own.path))
    names = list(manifests)
    checks.sort(key=lambda entry: (names.index(manifest_name(entry.nodeid)), entry.position))
    first = ordered[0]
    return dataclasses.replace(
        first,
        created=max(record.created for record in records),
        environment=_environment([record.environment for record in ordered]),
        exitstatus=max(record.exitstatus for record in records),
        checks=tuple(checks),
        manifests=tuple(manifests.values()),
        errors=tuple(dict.fromkeys(error for record in ordered for error in record.errors)),
        frontier=(),
        history=tuple(dict.fromkeys(line for record in ordered for line in record.history)),
        source=dataclasses.replace(
            first.source, dirty=_dirty([record.source.dirty for record in records])
        ),
        job=job(),
        selected=len(checks),
        shard=None,
        parts=tuple(
            Part(one.created, one.environment, one.job, one.shard, len(one.checks))
            for one in ordered
        ),
    )


def _moved(entry: Entry, manifest: str) -> Entry:
    if entry.manifest == manifest:
        return entry
    old, new = PurePath(entry.manifest).parent, PurePath(manifest).parent
    return Entry.from_json(moved(entry.to_json(), old, new))


def _environment(all_of_them: Sequence[Environment]) -> Environment:
    """What they have in common; of machines that differ, every processor."""
    first = all_of_them[0]
    cpus = {environment.cpus for environment in all_of_them}
    return dataclasses.replace(
        first,
        platform=_each(environment.platform for environment in all_of_them),
        machine=_each(environment.machine for environment in all_of_them),
        cpu=_each(environment.cpu for environment in all_of_them),
        cpus=cpus.pop() if len(cpus) == 1 else None,
    )


def _each(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def _dirty(told: Sequence[bool | None]) -> bool | None:
    return True if True in told else None if None in told else False
