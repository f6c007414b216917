"""Whether records are parts of one run: what is missing or double, and what is not the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from pytest_onnxcheck.record.merging import manifest_name
from pytest_onnxcheck.record.record import ManifestFile, Record
from pytest_onnxcheck.record.shard import Shard
from pytest_onnxcheck.wording import several

__all__ = ["Named", "apart"]

#: a record and what texts call it
Named = tuple[str, Record]

#: exit statuses of a run that came to its end: all passed, some failed
_ENDED = (0, 1)


def apart(records: Sequence[Named], expected: ManifestFile | None = None) -> list[str]:
    """Why records are not one whole run, a sentence each; nothing where they are.

    Args:
        records: The records.
        expected: The manifest that they must be of, with all its models.
    """
    unnamed = list(_without_manifest(records))
    if unnamed:
        return unnamed
    reasons = [*_unfinished(records), *_differing(records), *_shards(records)]
    return [*reasons, *_double(records), *_models(records, expected), *_checks(records)]


def _without_manifest(records: Sequence[Named]) -> Iterator[str]:
    """Records that do not say what their checks are of, as where a project's hook took it out."""
    for name, record in records:
        known = {manifest.path for manifest in record.manifests}
        if any(entry.manifest not in known for entry in record.checks):
            yield f"{name} does not say which manifest its checks are of (its key `manifests`)"


def _unfinished(records: Sequence[Named]) -> Iterator[str]:
    for name, record in records:
        if not record.finished:
            of = "" if record.selected is None else f" of {record.selected}"
            yield (
                f"{name} is unfinished ({len(record.checks)}{of} checks): go on with its run, "
                "--onnxcheck-resume"
            )
        elif record.exitstatus not in _ENDED:
            yield (
                f"{name}: its run did not come to its end (pytest's exit status "
                f"{record.exitstatus}): run it again"
            )


def _differing(records: Sequence[Named]) -> Iterator[str]:
    """Versions, commits and manifests that are not those of the first record."""
    first, one = records[0]
    for name, record in records[1:]:
        for what, was, now in _facts(one, record):
            if was != now:
                yield (
                    f"{what} {now or 'none'} in {name}, and {was or 'none'} in {first}: what is "
                    "merged must be run with the same"
                )
    hashes: dict[str, tuple[str, str]] = {}
    for name, record in records:
        own = {manifest.path: manifest.sha256 for manifest in record.manifests}
        for manifest, path in {manifest_name(e.nodeid): e.manifest for e in record.checks}.items():
            before, sha256 = hashes.setdefault(manifest, (name, own[path]))
            if sha256 != own[path]:
                yield (
                    f"{manifest} is another manifest: {name} has SHA-256 {own[path][:12]}…, "
                    f"{before} {sha256[:12]}…: run all parts on one commit"
                )


def _facts(one: Record, other: Record) -> Iterator[tuple[str, str, str]]:
    yield "onnxcheck", one.onnxcheck, other.onnxcheck
    yield "Python", one.environment.python, other.environment.python
    packages = (one.environment.packages, other.environment.packages)
    for package in sorted({*packages[0], *packages[1]}):
        yield package, packages[0].get(package, ""), packages[1].get(package, "")
    yield "commit", one.source.commit[:12], other.source.commit[:12]


def _shards(records: Sequence[Named]) -> Iterator[str]:
    """Shards that are missing; where a run has none, its models are all it can be asked for."""
    shards = [record.shard for _, record in records if record.shard is not None]
    counts = sorted({shard.count for shard in shards})
    if len(counts) > 1:
        yield f"there are shards of {' and of '.join(map(str, counts))}: merge those of one run"
        return
    for index in range(1, counts[0] + 1) if counts else ():
        if Shard(index, counts[0]) not in shards:
            yield f"shard {index}/{counts[0]} is missing: no record is of it"


def _double(records: Sequence[Named]) -> Iterator[str]:
    """Checks that two records have: a shard that is there twice, or else a model."""
    seen: dict[str, Named] = {}
    doubles: dict[tuple[str, str], list[str]] = defaultdict(list)
    shards = {name: record.shard for name, record in records}
    for name, record in records:
        for entry in record.checks:
            before = seen.setdefault(entry.nodeid, (name, record))
            if before[1] is not record:
                model = "::".join(entry.nodeid.split("::")[:2])
                doubles[before[0], name].append(model)
    for (first, second), models in doubles.items():
        shard = shards[first]
        if shard is not None and shard == shards[second]:
            yield f"shard {shard} is there twice: {first} and {second}"
        else:
            each = list(dict.fromkeys(models))
            yield f"{several(each)} is in {first} and in {second}: each check belongs into one"


def _models(records: Sequence[Named], expected: ManifestFile | None) -> Iterator[str]:
    """Models of the manifests that no record has a check of, or an error."""
    asked: dict[str, dict[str, None]] = defaultdict(dict)
    found: set[str] = set()
    names: dict[str, str] = {}
    for _, record in records:
        known = {manifest.path: manifest for manifest in record.manifests}
        for entry in record.checks:
            name = manifest_name(entry.nodeid)
            found.add(f"{name}::{entry.model}")
            names[known[entry.manifest].sha256] = name
            asked[name] |= dict.fromkeys(known[entry.manifest].models)
        found |= {error.nodeid for error in record.errors}
    if expected is not None:
        if expected.sha256 not in names:
            recorded = several([f"{sha256[:12]}…" for sha256 in names]) or "none"
            yield (
                f"{expected.path} is not the manifest of the records: it has SHA-256 "
                f"{expected.sha256[:12]}…, recorded {recorded}: run all parts on one commit"
            )
        name = names.get(expected.sha256) or next(iter(names.values()), expected.path)
        asked[name] |= dict.fromkeys(expected.models)
    for name, models in asked.items():
        for model in models:
            if f"{name}::{model}" not in found:
                yield f"{name}::{model} is in none of the records: run it, or its shard"


def _checks(records: Sequence[Named]) -> Iterator[str]:
    """Variants and checks that a model is missing, by what its own entries say there should be."""
    variants: dict[str, set[str]] = defaultdict(set)
    checks: dict[str, set[str]] = defaultdict(set)
    planned: dict[str, tuple[int, int]] = {}
    for _, record in records:
        for entry in record.checks:
            model = f"{manifest_name(entry.nodeid)}::{entry.model}"
            variants[model].add(entry.variant)
            checks[f"{model}::{entry.variant}"].add(entry.nodeid)
            planned[model] = planned[f"{model}::{entry.variant}"] = (
                entry.planned.variants,
                entry.planned.checks,
            )
    for model, found in variants.items():
        if len(found) < planned[model][0]:
            yield f"{model} has {len(found)} of {planned[model][0]} variants: run it whole"
    for variant, nodeids in checks.items():
        if len(nodeids) < planned[variant][1]:
            yield (
                f"{variant} has {len(nodeids)} of {planned[variant][1]} checks: run it whole, or "
                "merge the record of the rest (as of -m latency) too"
            )
