"""Histories of latencies that several jobs added to, made one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_onnxcheck.errors import MergeError
from pytest_onnxcheck.history import History
from pytest_onnxcheck.measurement import SpeedPoint

__all__ = ["join_histories"]

_Points = dict[str, SpeedPoint]


def join_histories(folders: Sequence[Path], to: Path) -> None:
    """Writes one history: the runs that all have, and then what each added, as one run.

    The baseline has of each check, processor and accelerator the point that was accepted last.

    Args:
        folders: Histories that began as copies of one.
        to: A folder that is not there yet, or is empty.

    Raises:
        MergeError: A folder is none, the new one is not empty, or two histories added the same
            check.
        HistoryError: A history cannot be read or written.
    """
    histories = [History(folder) for folder in folders]
    problems = [problem for history in histories for problem in history.problems]
    problems += [f"{folder}: no such folder" for folder in folders if not folder.is_dir()]
    if to.is_dir() and any(to.iterdir()):
        problems.append(f"{to} is there already: name another folder, --to")
    shared = _shared([history.runs for history in histories])
    added: _Points = {}
    for folder, history in zip(folders, histories, strict=True):
        for run in history.runs[len(shared) :]:
            double = sorted(added.keys() & run.keys())
            problems += [f"{check} was added twice, also in {folder}" for check in double[:1]]
            added |= run
    if problems:
        raise MergeError("the histories are not merged", problems)
    joined = History(to)
    for run in [*shared, *([added] if added else [])]:
        joined.append(run)
    for number in range(max(map(len, _accepted(histories).values()), default=0)):
        joined.accept(
            {
                check: points[number]
                for check, points in _accepted(histories).items()
                if number < len(points)
            }
        )


def _shared(all_runs: Sequence[Sequence[_Points]]) -> list[_Points]:
    """The runs at the beginning that all have."""
    shared = []
    for runs in zip(*all_runs, strict=False):
        if any(run != runs[0] for run in runs):
            break
        shared.append(runs[0])
    return shared


def _accepted(histories: Sequence[History]) -> dict[str, list[SpeedPoint]]:
    """Check -> its points, one a processor and accelerator, each the last that was accepted."""
    found: dict[str, dict[tuple[str, str], SpeedPoint]] = {}
    for history in histories:
        for check, points in history.baseline.items():
            own = found.setdefault(check, {})
            for point in points:
                key = (point.cpu, point.device or "")
                if key not in own or own[key].created < point.created:
                    own[key] = point
    return {check: list(own.values()) for check, own in found.items()}
