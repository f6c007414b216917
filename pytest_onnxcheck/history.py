"""The history of latencies: one file a run, and the baseline that was accepted.

::

    DIR/baseline.json         the accepted points, one a check, processor and accelerator
    DIR/0001_20251121T175500Z.json   one run, with every latency check that passed

Only runs without a failed check are stored, and nothing here is ever overwritten but the
baseline, whose points are replaced one by one. `.lock` keeps runs at the same time apart.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_onnxcheck import places
from pytest_onnxcheck.errors import HistoryError
from pytest_onnxcheck.files import write_atomically
from pytest_onnxcheck.machine import fingerprint
from pytest_onnxcheck.measurement import LatencyMeasurement, PastRuns, SpeedPoint
from pytest_onnxcheck.record.encoding import read
from pytest_onnxcheck.record.entry import Entry

__all__ = ["FORMAT", "History", "check_key", "entry_key", "points_of", "relative"]

#: version of the files' format
FORMAT = 1

_RUN = re.compile(r"(\d{4,})_.+\.json")
_BASELINE = "baseline.json"
_LOCK = ".lock"
#: seconds to wait for another run that writes
_PATIENCE = 60.0
#: share of the rounds in which a call had to wait, from which on a point is called noisy
_NOISY = 0.5


class History:
    """The runs and the baseline in a folder, read once.

    Args:
        folder: The folder; it need not exist.
        accepting: Whether this run is going to be the baseline.
        manifest: Whose checks `before` is asked for, as `relative` has it.

    Attributes:
        folder: The folder.
        runs: Points of each run by check, the oldest run first.
        baseline: The accepted points by check, at most one a processor and accelerator.
        problems: Files that could not be read, one sentence each.
    """

    def __init__(self, folder: Path, *, accepting: bool = False, manifest: str = "") -> None:
        self.folder = folder
        self._accepting = accepting
        self._manifest = manifest
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

    def before(self, model: str, variant: str, point: str) -> PastRuns:
        """What is known of a check from earlier; `point` is its id, `TARGET-DIMS`."""
        check = check_key(self._manifest, model, variant, point)
        return PastRuns(
            folder=str(self.folder),
            machine=fingerprint(),
            accepted=self.baseline.get(check, ()),
            runs=tuple(run[check] for run in self.runs if check in run),
            accepting=self._accepting,
            problem=self._broken,
        )

    def append(self, points: Mapping[str, SpeedPoint]) -> Path:
        """Stores the points of a run in a new file, and returns it.

        Raises:
            HistoryError: It cannot be written.
        """
        checks = {check: _written(point) for check, point in sorted(points.items())}
        with self._alone():
            numbers = [int(path.name.partition("_")[0]) for path in self._run_files()]
            number = max(numbers, default=0) + 1
            time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
            path = self.folder / f"{number:04}_{time}.json"
            _write(path, {"format": FORMAT, "checks": checks})
        self.runs.append(dict(points))
        return path

    def accept(self, points: Mapping[str, SpeedPoint], forget: Iterable[str] = ()) -> Path:
        """Makes the points the baseline of their checks and machines; the others stay.

        Args:
            points: The points by check.
            forget: Checks to take out of the baseline, as they are no longer there.

        Raises:
            HistoryError: The baseline that is there cannot be read, and is left as it is; or it
                cannot be written.
        """
        if self._broken is not None:
            raise HistoryError(self._broken)
        path = self.folder / _BASELINE
        with self._alone():
            baseline = _read_baseline(path)  # another run may have accepted since
            for check in forget:
                baseline.pop(check, None)
            for check, point in points.items():
                others = [
                    old
                    for old in baseline.get(check, ())
                    if (old.cpu, old.device or "") != (point.cpu, point.device or "")
                ]
                baseline[check] = (*others, point)
            checks = {
                check: [_written(point) for point in accepted]
                for check, accepted in sorted(baseline.items())
            }
            _write(path, {"format": FORMAT, "checks": checks})
        self.baseline = baseline
        return path

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Writes to the folder, one run after the other."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / _LOCK, timeout=_PATIENCE):
                yield
        except OSError as error:
            raise HistoryError(f"{self.folder}: cannot be written: {error}") from error

    def _run_files(self) -> list[Path]:
        files = [path for path in self.folder.glob("*.json") if _RUN.fullmatch(path.name)]
        return sorted(files, key=lambda path: (int(path.name.partition("_")[0]), path.name))


def check_key(manifest: str, model: str, variant: str, point: str) -> str:
    """What a latency check is called in the history: `MANIFEST::MODEL::VARIANT[TARGET-DIMS]`."""
    return f"{manifest}::{model}::{variant}[{point}]"


def points_of(
    entries: Iterable[Entry], root: Path, limits: Mapping[str, float | None]
) -> dict[str, SpeedPoint]:
    """The points of a record's latency checks that passed, by check.

    Args:
        entries: What the checks found.
        root: What the manifests' paths are told relative to.
        limits: Their `max_regression`.
    """
    created = datetime.now(UTC).isoformat(timespec="seconds")
    machine = fingerprint()
    points = {}
    for entry in entries:
        measured = entry.measurement
        if entry.check != "latency" or entry.outcome != "passed":
            continue
        if not isinstance(measured, LatencyMeasurement) or "kernel" not in measured.ratios:
            continue
        key = entry_key(entry, root)
        points[key] = _point(
            measured,
            created=created,
            machine=machine,
            manifest=relative(entry.manifest, root),
            limit=limits.get(key),
        )
    return points


def entry_key(entry: Entry, root: Path) -> str:
    """The key of a record's latency check."""
    return check_key(relative(entry.manifest, root), entry.model, entry.variant, entry.point)


def relative(manifest: str | Path, root: Path) -> str:
    """How the history calls a manifest."""
    return places.relative(Path(manifest), root)


def _point(measured: LatencyMeasurement, **where: Any) -> SpeedPoint:
    kernel, torch = measured.ratios["kernel"], measured.ratios["torch"]
    timed = {
        "torch": measured.torch,
        "onnxruntime": measured.onnxruntime,
        "fp32": measured.fp32,
        "kernel": measured.kernel,
        "baseline": measured.baseline,
    }
    return SpeedPoint(
        target=measured.target,
        normalised=1 / kernel.value,
        interval=(1 / kernel.high, 1 / kernel.low),
        speedup=torch.value,
        speedup_interval=(torch.low, torch.high),
        median_seconds={side: timing.median for side, timing in timed.items() if timing},
        sha256=measured.sha256,
        kernel=measured.kernel_name,
        threads=measured.threads,
        noisy=kernel.interrupted > _NOISY,
        clock=kernel.clock,
        boundary=measured.boundary,
        dims=measured.dims,
        device=measured.device,
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
    points = {check: _read_point(path, check, point) for check, point in _checks(path).items()}
    return {_named(check, point): point for check, point in points.items()}


def _read_baseline(path: Path) -> dict[str, tuple[SpeedPoint, ...]]:
    baseline: dict[str, tuple[SpeedPoint, ...]] = {}
    try:
        if not path.exists():
            return baseline
    except OSError as error:
        raise HistoryError(f"{path}: not readable: {error}") from error
    for check, points in _checks(path).items():
        if not isinstance(points, list):
            raise HistoryError(f"{path}: {check}: not a list of points")
        for point in points:
            found = _read_point(path, check, point)
            key = _named(check, found)
            baseline[key] = (*baseline.get(key, ()), found)
    return baseline


def _named(check: str, point: SpeedPoint) -> str:
    """The key of a check; that of older files lacks the manifest."""
    prefix = f"{point.manifest}::"
    return check if check.startswith(prefix) else prefix + check


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
        found = read(SpeedPoint, point)
        datetime.fromisoformat(found.created)
        times = {"onnxruntime": math.nan, **found.median_seconds}
        numbers = (found.normalised, *found.interval, found.speedup, *found.speedup_interval)
        if not all(0 < number < math.inf for number in (*numbers, *times.values())):
            raise ValueError("a time or ratio is missing, or not a positive number")
        if found.limit is not None and not math.isfinite(found.limit):
            raise ValueError("limit: not a number")
    except ValueError as error:
        text = f"{path}: {check}: not a point of --onnxcheck-history: {error}"
        raise HistoryError(text) from error
    return found
