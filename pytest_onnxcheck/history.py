"""The history of latencies: one file a run, and the baseline that was accepted.

::

    DIR/baseline.json         the accepted points, one a check and processor
    DIR/0001_20251121T175500Z.json   one run, with every latency check that passed

Only runs without a failed check are stored, and nothing here is ever overwritten but the
baseline, whose points are replaced one by one.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import HistoryError
from pytest_onnxcheck.files import write_atomically
from pytest_onnxcheck.machine import fingerprint
from pytest_onnxcheck.measurement import Before, SpeedPoint

__all__ = ["FORMAT", "History", "check_key", "entry_key", "points_of", "relative"]

#: version of the files' format
FORMAT = 1

_RUN = re.compile(r"(\d{4,})_.+\.json")
_BASELINE = "baseline.json"
#: share of the rounds in which a call had to wait, from which on a point is called noisy
_NOISY = 0.5


class History:
    """The runs and the baseline in a folder, read once.

    Args:
        folder: The folder; it need not exist.
        accepting: Whether this run is going to be the baseline.

    Attributes:
        folder: The folder.
        runs: Points of each run by check, the oldest run first.
        baseline: The accepted points by check, at most one a processor.
        problems: Files that could not be read, one sentence each.
    """

    def __init__(self, folder: Path, *, accepting: bool = False) -> None:
        self.folder = folder
        self._accepting = accepting
        self.runs: list[dict[str, SpeedPoint]] = []
        self.baseline: dict[str, tuple[SpeedPoint, ...]] = {}
        self.problems: list[str] = []
        self._broken: str | None = None
        for path in self._run_files():
            try:
                self.runs.append(_read_run(path))
            except HistoryError as error:
                self.problems.append(f"{error}; the run is left out")
        try:
            self.baseline = _read_baseline(folder / _BASELINE)
        except HistoryError as error:
            self._broken = f"{error}. Restore it, or delete it and run with --onnxcheck-accept"
            self.problems.append(self._broken)

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return bool(self.runs or self.baseline or self.problems)

    def before(self, model: str, variant: str, point: str) -> Before:
        """What is known of a check from earlier; `point` is its id, `TARGET-DIMS`."""
        check = check_key(model, variant, point)
        return Before(
            folder=str(self.folder),
            machine=fingerprint(),
            accepted=self.baseline.get(check, ()),
            runs=tuple(run[check] for run in self.runs if check in run),
            accepting=self._accepting,
            problem=self._broken,
        )

    def append(self, points: Mapping[str, SpeedPoint]) -> Path:
        """Stores the points of a run in a new file, and returns it."""
        numbers = [int(path.name.partition("_")[0]) for path in self._run_files()]
        number = max(numbers, default=0) + 1
        time = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = self.folder / f"{number:04}_{time}.json"
        checks = {check: _written(point) for check, point in sorted(points.items())}
        _write(path, {"format": FORMAT, "checks": checks})
        self.runs.append(dict(points))
        return path

    def accept(self, points: Mapping[str, SpeedPoint]) -> Path:
        """Makes the points the baseline of their checks and processors; the others stay.

        Raises:
            HistoryError: The baseline that is there cannot be read, and is left as it is.
        """
        if self._broken is not None:
            raise HistoryError(self._broken)
        for check, point in points.items():
            others = [old for old in self.baseline.get(check, ()) if old.cpu != point.cpu]
            self.baseline[check] = (*others, point)
        path = self.folder / _BASELINE
        checks = {
            check: [_written(point) for point in accepted]
            for check, accepted in sorted(self.baseline.items())
        }
        _write(path, {"format": FORMAT, "checks": checks})
        return path

    def _run_files(self) -> list[Path]:
        files = [path for path in self.folder.glob("*.json") if _RUN.fullmatch(path.name)]
        return sorted(files, key=lambda path: (int(path.name.partition("_")[0]), path.name))


def check_key(model: str, variant: str, point: str) -> str:
    """What a latency check is called in the history: `MODEL::VARIANT[TARGET-DIMS]`."""
    return f"{model}::{variant}[{point}]"


def points_of(
    entries: Iterable[Mapping[str, Any]], root: Path, limits: Mapping[str, float | None]
) -> dict[str, SpeedPoint]:
    """The points of a record's latency checks that passed, by check.

    Args:
        entries: What the checks found.
        root: What the manifests' paths are told relative to.
        limits: Their `max_regression`.
    """
    created = datetime.now(timezone.utc).isoformat(timespec="seconds")
    machine = fingerprint()
    points = {}
    for entry in entries:
        measured = entry.get("measurement")
        if entry["check"] != "latency" or entry["outcome"] != "passed" or not measured:
            continue
        if "kernel" not in measured["ratios"]:
            continue
        key = entry_key(entry)
        points[key] = _point(
            measured,
            created=created,
            machine=machine,
            manifest=relative(entry["manifest"], root),
            limit=limits.get(key),
        )
    return points


def entry_key(entry: Mapping[str, Any]) -> str:
    """The key of a record's latency check."""
    point = entry["nodeid"].partition("[")[2].removesuffix("]")
    return check_key(entry["model"], entry["variant"], point)


def relative(manifest: str | Path, root: Path) -> str:
    """How the history calls a manifest."""
    path = Path(manifest)
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


def _point(measured: Mapping[str, Any], **where: Any) -> SpeedPoint:
    kernel, torch = measured["ratios"]["kernel"], measured["ratios"]["torch"]
    sides = ("torch", "onnxruntime", "fp32", "kernel", "baseline")
    timed = {side: measured[side] for side in sides if measured.get(side)}
    return SpeedPoint(
        target=measured["target"],
        normalised=1 / kernel["value"],
        interval=(1 / kernel["high"], 1 / kernel["low"]),
        speedup=torch["value"],
        speedup_interval=(torch["low"], torch["high"]),
        median_seconds={side: timing["median"] for side, timing in timed.items()},
        sha256=measured["sha256"],
        kernel=measured["kernel_name"],
        threads=measured["threads"],
        noisy=kernel["interrupted"] > _NOISY,
        **where,
    )


def _written(point: SpeedPoint) -> dict[str, Any]:
    """As JSON has it: times and ratios to six digits, so that files in a repository stay small."""

    def short(value: Any) -> Any:
        if isinstance(value, float):
            return float(f"{value:.6g}")
        if isinstance(value, dict):
            return {key: short(entry) for key, entry in value.items()}
        return [short(entry) for entry in value] if isinstance(value, tuple) else value

    written: dict[str, Any] = short(dataclasses.asdict(point))
    return written


def _write(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def _read_run(path: Path) -> dict[str, SpeedPoint]:
    checks = _checks(path)
    return {check: _read_point(path, check, point) for check, point in checks.items()}


def _read_baseline(path: Path) -> dict[str, tuple[SpeedPoint, ...]]:
    if not path.exists():
        return {}
    return {
        check: tuple(_read_point(path, check, point) for point in points)
        for check, points in _checks(path).items()
    }


def _checks(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HistoryError(f"{path}: not readable: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("checks"), dict):
        raise HistoryError(f"{path}: not a file of --onnxcheck-history")
    if content.get("format") != FORMAT:
        raise HistoryError(
            f"{path}: written in format {content.get('format')!r}, and this version reads {FORMAT}"
        )
    checks: dict[str, Any] = content["checks"]
    return checks


def _read_point(path: Path, check: str, point: Any) -> SpeedPoint:
    try:
        intervals = {key: tuple(map(float, point[key])) for key in ("interval", "speedup_interval")}
        read = SpeedPoint(**{**point, **intervals})
        if not (read.normalised > 0 and read.interval[0] > 0 and read.machine["cpu"] is not None):
            raise ValueError("its times are not positive")
        return read
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise HistoryError(
            f"{path}: {check}: not a point of --onnxcheck-history: {error}"
        ) from error
