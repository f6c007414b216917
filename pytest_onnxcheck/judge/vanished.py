"""Tells which latency checks of the baseline are gone, which were not measured, which are new."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_onnxcheck.measurement import SpeedPoint

__all__ = ["unmatched", "vanished"]

#: lines about checks that were not measured, of which a run may have many
_MOST_LINES = 5


def vanished(
    baseline: Mapping[str, Sequence[SpeedPoint]],
    points: Mapping[str, SpeedPoint],
    checks: Mapping[str, Collection[str]],
    root: Path,
    targets: Sequence[str] = (),
) -> dict[str, str]:
    """The baseline's checks that are no longer there, each with a line that says so.

    Args:
        baseline: The accepted points before this run, by check.
        points: What this run measured.
        checks: Manifest of this run -> the checks it has. Those of other manifests are missed only
            when their file is gone.
        root: What the manifests' names are relative to.
        targets: The targets asked for on the command line; others are not missed.
    """
    found = {}
    for check, accepted in baseline.items():
        point = accepted[-1]
        if targets and point.target not in targets:
            continue
        if point.manifest in checks:
            gone = check not in checks[point.manifest]
            where = f"no longer in {point.manifest}"
        else:
            gone = not (root / point.manifest).exists()
            where = f"{point.manifest} is gone"
        if gone:
            alike = [
                other
                for other in points
                if other not in baseline and points[other].sha256 == point.sha256
            ]
            id_ = check.rpartition("[")[2]
            twin = max(alike, key=lambda other: other.endswith(f"[{id_}"), default=None)
            hint = f"; {twin} has the same artefact: renamed?" if twin else ""
            found[check] = (
                f"vanished: {check} is in the baseline of {point.created[:10]}, and {where}{hint}"
            )
    return found


def unmatched(
    baseline: Mapping[str, Sequence[SpeedPoint]],
    points: Mapping[str, SpeedPoint],
    skipped: Mapping[str, str],
) -> Iterator[str]:
    """The checks that only the baseline or only this run measured, besides `vanished`, a line each.

    Args:
        baseline: The accepted points before this run, by check.
        points: What this run measured.
        skipped: Checks of this run that were skipped -> why.
    """
    new = [check for check in points if check not in baseline] if baseline else []
    unmeasured = [f"{check}: {why}" for check, why in skipped.items() if check in baseline]
    for text in unmeasured[:_MOST_LINES]:
        yield f"not measured, and in the baseline: {text}"
    if len(unmeasured) > _MOST_LINES:
        yield f"not measured, and in the baseline: {len(unmeasured) - _MOST_LINES} more"
    for check in new:
        yield f"new: {check} is in no baseline: --onnxcheck-accept adds it"
