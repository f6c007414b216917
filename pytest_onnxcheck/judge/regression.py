"""Judges whether an artefact has become slower than it was."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_onnxcheck.digits import milliseconds, three_digits
from pytest_onnxcheck.machine import Machine
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import LatencyMeasurement, PastRuns, Ratio, SpeedPoint
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["RECENT", "regression"]

#: runs whose median stands in for a baseline, and how few will do
RECENT = 5
_FEWEST = 3
#: runs a trend is looked for in, and how few will do
_TREND = (8, 30)
#: z of Kendall's S from which on a rise is no accident (one-sided 1%)
_RISING = 2.33
#: how far apart two runs of one artefact lie, in units of the kernel, for reasons that no interval
#: within a run holds (where its weights lie in memory): 1.4% on a quiet machine, once 10% beside
#: another process. A failure must be beyond it
_BETWEEN_RUNS = 0.05
#: share of interrupted rounds from which on a run is a noisy one
_NOISY = 0.1
_KEY = "budget.max_regression"
_ACCEPT = "if that is meant, make it the baseline with --onnxcheck-accept"


@dataclass(frozen=True)
class _Reference:
    """What the normalised time is compared with.

    Attributes:
        name: For a person.
        value: The normalised time.
        low: Lower end of where it may lie.
        high: Upper end of it.
        speedup: How many times as long PyTorch took.
        point: The newest point it is made of.
    """

    name: str
    value: float
    low: float
    high: float
    speedup: float
    point: SpeedPoint


@dataclass(frozen=True)
class _Change:
    """By which share a time has grown, and the interval of it."""

    value: float
    low: float
    high: float

    def grade(self, limit: float, ratio: Ratio) -> Grade:
        """Fails when the change is beyond the limit, and all of the interval beyond half of it.

        Unless the ratio it was seen by cannot be a failure.
        """
        if self.value > limit and self.low > limit / 2 and ratio.sure:
            return Grade.FAIL
        return Grade.PASS if self.high <= limit else Grade.WARN

    def __str__(self) -> str:
        return (
            f"{abs(self.value):.1%} {'slower' if self.value >= 0 else 'faster'} "
            f"(99% interval {self.low:+.1%} to {self.high:+.1%})"
        )


def regression(measured: LatencyMeasurement, before: PastRuns | None, budget: s.Budget) -> Verdict:
    """Judges `max_regression`: against what comes first of the following.

    The previous artefact timed in the same rounds; the accepted baseline; the median of the last
    runs. The latter two are compared in units of the fixed kernel, since seconds of another
    machine or moment do not compare. Nothing to compare with is inconclusive, never a pass.

    Args:
        measured: This run.
        before: What the history knows; None without one.
        budget: What is allowed.
    """
    limit = budget.max_regression
    if limit is None:
        return Verdict()
    baseline = measured.ratios.get("baseline")
    if baseline is not None:
        return Verdict.of(_against_artefact(measured, baseline, limit))
    kernel = measured.ratios.get("kernel")
    if before is None or kernel is None:
        return Verdict.of([_missing("the history is not read here", before)])
    if before.problem is not None:
        return Verdict.of([Finding(Grade.FAIL, "regression", before.problem)])
    return Verdict.of(
        [*_against_history(measured, kernel, before, limit), *_creep(measured, before, limit)]
    )


def _against_artefact(
    measured: LatencyMeasurement, ratio: Ratio, limit: float
) -> Iterator[Finding]:
    """The previous artefact took `ratio` times as long, in the same rounds."""
    change = _Change(1 / ratio.value - 1, 1 / ratio.high - 1, 1 / ratio.low - 1)
    grade = change.grade(limit, ratio)
    if grade is Grade.PASS:
        return
    times = ""
    if measured.baseline is not None:
        own, old = measured.onnxruntime.median, measured.baseline.median
        times = f"{milliseconds(own)}, was {milliseconds(old)}, "
    yield Finding(
        grade,
        "regression",
        f"{change} than the baseline artefact ({times}{ratio.rounds} interleaved rounds), allowed "
        f"{_percent(limit)} ({_KEY}); {_tail(grade)}, name the new one in the model's key "
        "`baseline`",
        inconclusive=grade is Grade.WARN,
        longer=grade is Grade.WARN,
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%"


def _tail(grade: Grade) -> str:
    return "if that is meant" if grade is Grade.FAIL else "too close to tell; if that is meant"


def _against_history(
    measured: LatencyMeasurement, kernel: Ratio, before: PastRuns, limit: float
) -> Iterator[Finding]:
    found = _reference(measured, before)
    if isinstance(found, str):
        if not before.accepting:
            yield _missing(found, before)
        return
    now = 1 / kernel.value
    change = _change((now, 1 / kernel.high, 1 / kernel.low), (found.value, found.low, found.high))
    grade = change.grade(limit, kernel)
    elsewhere = not _same_processor(found.point, before.machine)
    if grade is Grade.PASS and (before.accepting or not elsewhere):
        return
    slower = change.value > limit
    disturbed = slower and _disturbed(measured, found, before.machine, limit)
    notes = [
        _torch(measured, found, limit if slower else None),
        _seconds(measured, found.point, before.machine),
        *_changed(measured, found.point, before.machine),
    ]
    if before.accepting:
        notes.append("accepted by --onnxcheck-accept")
    elif elsewhere:
        notes.append(
            f"it was another processor ({found.point.cpu or 'unnamed'}, now "
            f"{before.machine.cpu or 'unnamed'}), so this "
            "cannot tell: run --onnxcheck-accept on this one too, or give the model a `baseline` "
            "artefact"
        )
    elif disturbed:
        notes.append("so it may be the machine: run again when it is quiet")
    elif grade is Grade.WARN:
        notes.append(f"too close to tell; {_ACCEPT}")
    else:
        notes.append(_ACCEPT)
    unsure = grade is Grade.WARN or elsewhere or disturbed
    yield Finding(
        Grade.WARN if unsure or before.accepting else Grade.FAIL,
        "regression",
        f"{change} than {found.name}: {three_digits(now)} times the fixed kernel's "
        f"time, was {three_digits(found.value)}; allowed {_percent(limit)} ({_KEY}); "
        f"{'; '.join(notes)}",
        inconclusive=unsure and not before.accepting,
        longer=(grade is Grade.WARN or disturbed) and not (elsewhere or before.accepting),
    )


def _disturbed(
    measured: LatencyMeasurement, found: _Reference, machine: Machine, limit: float
) -> bool:
    """Whether something else than the artefact is slower: PyTorch is as well.

    Other processes slow what is very short, or reads much memory, more than the kernel, and PyTorch
    as much. So does a model that has grown: it makes another file, and on a machine that is not
    busy that is what it is.
    """
    if _over_torch(measured, found) > limit / 2:
        return False
    if measured.ratios["kernel"].interrupted > _NOISY or _unmoved(measured, found, machine, limit):
        return True
    unchanged = found.point.machine.packages == machine.packages
    return unchanged and found.point.sha256 == measured.sha256


def _unmoved(
    measured: LatencyMeasurement, found: _Reference, machine: Machine, limit: float
) -> bool:
    """Whether the milliseconds of the same machine have not moved: then the kernel's have."""
    own, old = measured.onnxruntime.median, found.point.median_seconds["onnxruntime"]
    return _same_machine(found.point, machine) and own / old - 1 <= limit / 2


def _reference(measured: LatencyMeasurement, before: PastRuns) -> _Reference | str:
    """What this processor accepted, or its last runs, or what another accepted; or why neither."""
    accepted = [point for point in before.accepted if _comparable(measured, point, before)]
    own = _newest(point for point in accepted if _same_processor(point, before.machine))
    if own is not None:
        return _accepted(own)
    runs = _comparable_runs(measured, before)[-RECENT:]
    if len(runs) >= _FEWEST:
        values = [point.normalised for point in runs]
        speedup = statistics.median(point.speedup for point in runs)
        return _Reference(
            f"the median of the last {len(runs)} runs, until {runs[-1].created[:10]}",
            statistics.median(values),
            min(values),
            max(values),
            speedup,
            runs[-1],
        )
    other = _newest(accepted)
    if other is not None:
        return _accepted(other)
    if before.accepted or before.runs:
        return (
            f"nothing comparable: {len(before.accepted)} accepted points and {len(before.runs)} "
            f"runs, of which {len(runs)} with the same processor, kernel, numpy, threads, clock, "
            f"boundary, dims and target; it takes {_FEWEST} runs"
        )
    return "nothing accepted, and no earlier runs"


def _accepted(point: SpeedPoint) -> _Reference:
    name = f"the baseline accepted {point.created[:10]}"
    return _Reference(name, point.normalised, *point.interval, point.speedup, point)


def _newest(points: Iterable[SpeedPoint]) -> SpeedPoint | None:
    return max(points, key=lambda point: point.created, default=None)


def _same_processor(point: SpeedPoint, machine: Machine) -> bool:
    """Whether it is known to be the same: no name tells nothing."""
    return bool(point.cpu) and point.cpu == machine.cpu


def _comparable(measured: LatencyMeasurement, point: SpeedPoint, before: PastRuns) -> bool:
    """Whether the same was measured, in the same unit; None is what older points do not tell."""
    now = (measured.kernel_name, measured.threads, measured.target)
    if (point.kernel, point.threads, point.target) != now:
        return False
    was, now_has = point.machine.packages, before.machine.packages
    pairs = (
        (was.get("numpy"), now_has.get("numpy")),
        (point.clock, measured.ratios["kernel"].clock),
        (point.boundary, measured.boundary),
        (point.dims, measured.dims),
        (point.device, measured.device),
    )
    return all(old is None or old == new for old, new in pairs)


def _comparable_runs(measured: LatencyMeasurement, before: PastRuns) -> list[SpeedPoint]:
    return [
        point
        for point in before.runs
        if _comparable(measured, point, before) and _same_processor(point, before.machine)
    ]


def _change(now: tuple[float, float, float], was: tuple[float, float, float]) -> _Change:
    """Change of a value; the errors of both, each value, low, high, add up in quadrature.

    Downwards also what runs differ by.
    """
    change = math.log(now[0] / was[0])
    down = math.hypot(math.log(now[0] / now[1]), math.log(was[2] / was[0]), _BETWEEN_RUNS)
    up = math.hypot(math.log(now[2] / now[0]), math.log(was[0] / was[1]))
    return _Change(math.expm1(change), math.expm1(change - down), math.expm1(change + up))


def _torch(measured: LatencyMeasurement, found: _Reference, limit: float | None) -> str:
    """What the ratio to PyTorch says beside it; where a limit is passed, whether it agrees."""
    text = f"PyTorch takes {measured.speedup:.2f} times as long, was {found.speedup:.2f}"
    if limit is None:
        return text
    if _over_torch(measured, found) > limit / 2:
        return f"{text}, which agrees"
    return (
        f"{text}, which disagrees: PyTorch is slower as well (the model has grown, torch has "
        "changed, or the machine was disturbed), or the kernel was faster"
    )


def _over_torch(measured: LatencyMeasurement, found: _Reference) -> float:
    """By which share the artefact has become slower, set against PyTorch."""
    return found.speedup / measured.speedup - 1


def _seconds(measured: LatencyMeasurement, point: SpeedPoint, machine: Machine) -> str:
    own, old = measured.onnxruntime.median, point.median_seconds["onnxruntime"]
    same = _same_machine(point, machine)
    beside = "on the same machine" if same else "on another machine, which does not compare"
    return f"{milliseconds(own)}, was {milliseconds(old)} {beside}"


def _same_machine(point: SpeedPoint, machine: Machine) -> bool:
    was = point.machine
    return (was.cpu, was.cpus, was.platform) == (machine.cpu, machine.cpus, machine.platform)


def _changed(measured: LatencyMeasurement, point: SpeedPoint, machine: Machine) -> Iterator[str]:
    """What else is not as it was, or that the artefact is."""
    if point.sha256 == measured.sha256:
        yield "the artefact is the very same file"
    old, new = point.machine.packages, machine.packages
    for package in sorted({*old, *new}):
        if old.get(package) != new.get(package):
            yield f"{package} {old.get(package, 'absent')} -> {new.get(package, 'absent')}"
    if point.noisy:
        yield "that run was a noisy one"


def _missing(why: str, before: PastRuns | None) -> Finding:
    place = "" if before is None else f" in {before.folder}"
    return Finding(
        Grade.WARN,
        "regression",
        f"no baseline for {_KEY}{place} ({why}): run with --onnxcheck-accept on the branch you "
        "release",
        inconclusive=True,
    )


def _creep(measured: LatencyMeasurement, before: PastRuns, limit: float) -> Iterator[Finding]:
    """A slow rise since what was accepted last, no step of which is beyond the limit."""
    fewest, most = _TREND
    points = _comparable_runs(measured, before)
    accepted = _newest(
        point
        for point in before.accepted
        if _comparable(measured, point, before) and _same_processor(point, before.machine)
    )
    if accepted is not None:
        points = [accepted, *(point for point in points if point.created > accepted.created)]
    values = [point.normalised for point in points]
    values = [*values, 1 / measured.ratios["kernel"].value][-most:]
    if len(values) < fewest:
        return
    rise, now = _rise(values), values[-1] / values[0] - 1
    if rise > limit and now > limit / 2 and _kendall(values) > _RISING:
        yield Finding(
            Grade.WARN,
            "trend",
            f"{rise:.1%} slower over the last {len(values)} runs (Theil-Sen slope of the "
            f"normalised time), now {now:.1%}, allowed {_percent(limit)} at once ({_KEY}): it "
            f"creeps. See `onnxcheck history {before.folder}`",
            inconclusive=not before.accepting,
        )


def _rise(values: Sequence[float]) -> float:
    """By which share the Theil-Sen line rises from the first value to the last.

    The slope is the median of all pairs' slopes of the logarithms (Sen, 1968), which a single
    outlier does not move.
    """
    logs = [math.log(value) for value in values]
    slopes = [
        (logs[late] - logs[early]) / (late - early)
        for early in range(len(logs))
        for late in range(early + 1, len(logs))
    ]
    return math.expm1(statistics.median(slopes) * (len(logs) - 1))


def _kendall(values: Sequence[float]) -> float:
    """Mann-Kendall statistic of a trend, about standard normal without one (Kendall, 1975)."""
    n = len(values)
    rises = sum(
        (values[late] > values[early]) - (values[late] < values[early])
        for early in range(n)
        for late in range(early + 1, n)
    )
    return rises / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
