"""Where the marks of a plot stand. The templates draw them; numbers come from the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pytest_onnxcheck.digits import milliseconds, three_digits
from pytest_onnxcheck.judge.frontier import Candidate, Frontier
from pytest_onnxcheck.measurement import LatencyMeasurement, Timing
from pytest_onnxcheck.report.frontier import cells as frontier_cells
from pytest_onnxcheck.report.table import decibels, file_size

__all__ = [
    "Bar",
    "Moment",
    "Point",
    "Scatter",
    "Strip",
    "Trend",
    "bars",
    "scatter",
    "strips",
    "trend",
]

#: width of a bar or strip in units of its drawing
WIDTH = 1000.0

#: from where to where marks stand in the drawings of 430 x 230 and 360 x 70, as in the templates
_ACROSS, _UP = (104.0, 365.0), (190.0, 24.0)
_TREND_ACROSS, _TREND_UP = (10.0, 350.0), (54.0, 16.0)


@dataclass(frozen=True)
class Bar:
    """A labelled bar; `width` of `WIDTH`."""

    label: str
    text: str
    width: float
    kind: str = ""
    note: str = ""


@dataclass(frozen=True)
class Strip:
    """The distribution of one side's times, on the scale of its group.

    From `low` to `high` are all calls but the slowest 5%, from `start` to `end` the middle half,
    and `tail` is the slowest.
    """

    label: str
    kind: str
    low: float
    start: float
    median: float
    end: float
    high: float
    tail: float
    median_text: str
    p95_text: str
    title: str


@dataclass(frozen=True)
class Point:
    """A mark of a scatter or a trend.

    `number` is its row in the table beside it, `note` what stands at it.
    """

    x: float
    y: float
    number: int
    kind: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Scatter:
    """Size and latency of variants, with the axes' ends as texts, and the table beside it."""

    points: tuple[Point, ...]
    left: str
    right: str
    top: str
    bottom: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Moment:
    """What one check of latency gave in one run: `kernels` is its time in fixed kernels'."""

    created: str
    kernels: float
    seconds: float
    cpu: str
    noisy: bool = False


@dataclass(frozen=True)
class Trend:
    """Earlier latencies of one check, the oldest first, in kernels."""

    label: str
    points: tuple[Point, ...]
    path: str
    accepted: float | None
    low: str
    high: str
    first: str
    last: str
    latest: str


def bars(values: Sequence[tuple[str, float, str, str]]) -> tuple[Bar, ...]:
    """Bars on one scale from zero; of each a label, a value, its text and its kind."""
    most = max((value for _, value, _, _ in values if math.isfinite(value)), default=0.0)
    return tuple(
        Bar(label, text, _part(value, most) * WIDTH, kind) for label, value, text, kind in values
    )


def _part(value: float, most: float) -> float:
    if not math.isfinite(value):
        return 1.0
    return min(max(value / most, 0.0), 1.0) if most > 0 else 0.0


def strips(measured: LatencyMeasurement) -> tuple[Strip, ...]:
    """PyTorch beside ONNX Runtime, and beside what else was timed, on one logarithmic scale."""
    sides = {
        "PyTorch": measured.torch,
        "ONNX Runtime": measured.onnxruntime,
        "fp32 artefact": measured.fp32,
        "earlier artefact": measured.baseline,
    }
    timed = {label: timing for label, timing in sides.items() if timing is not None}
    ends = [end for timing in timed.values() for end in _ends(timing)]
    possible = [end for end in ends if 0 < end < math.inf]  # a record may hold anything
    least, most = min(possible, default=0.0), max(possible, default=0.0)

    def place(seconds: float) -> float:
        if most <= least or not 0 < seconds < math.inf:
            return WIDTH / 2
        share = math.log(seconds / least) / math.log(most / least)
        return round(10 + min(max(share, 0.0), 1.0) * (WIDTH - 20), 1)

    kinds = {"PyTorch": "torch", "ONNX Runtime": "onnx"}
    found = []
    for label, timing in timed.items():
        quantiles = timing.quantiles
        low, start, end, high, tail = (
            (quantiles[0], quantiles[5], quantiles[15], quantiles[19], quantiles[20])
            if len(quantiles) == 21
            else (timing.median, timing.median, timing.median, timing.p95, timing.p99)
        )
        found.append(
            Strip(
                label=label,
                kind=kinds.get(label, "other"),
                low=place(low),
                start=place(start),
                median=place(timing.median),
                end=place(end),
                high=place(high),
                tail=place(tail),
                median_text=milliseconds(timing.median),
                p95_text=milliseconds(timing.p95),
                title=f"{label}: median {milliseconds(timing.median)}, half of the calls from "
                f"{milliseconds(start)} to {milliseconds(end)}, slowest {milliseconds(tail)}",
            )
        )
    return tuple(found)


def _ends(timing: Timing) -> tuple[float, float]:
    if timing.quantiles:
        return timing.quantiles[0], timing.quantiles[-1]
    return timing.median, timing.p99


def scatter(frontier: Frontier, header: Sequence[str]) -> Scatter:
    """Variants by size and latency; those without one of the two are in the table alone."""
    placed = [
        (number, one, one.size_bytes, one.latency_ms)
        for number, one in enumerate(frontier.candidates, 1)
        if one.size_bytes is not None and one.latency_ms is not None
    ]
    sizes, times = [size for _, _, size, _ in placed], [time for _, _, _, time in placed]
    x, y = _axis(sizes, _ACROSS), _axis(times, _UP)
    shown = [i for i, name in enumerate(header) if name not in ("model", "at")]
    lines = [frontier_cells(frontier, one) for one in frontier.candidates]
    used = [i for i in shown if any(line[i] != "-" for line in lines)]
    return Scatter(
        points=tuple(
            Point(x(size), y(time), number, _kind(one), _told(one, size, time), _loss(one))
            for number, one, size, time in placed
        ),
        left=file_size(min(sizes)) if sizes else "",
        right=file_size(max(sizes)) if sizes else "",
        top=milliseconds(max(times) / 1e3) if times else "",
        bottom=milliseconds(min(times) / 1e3) if times else "",
        header=tuple(header[i] for i in used),
        rows=tuple(tuple(line[i] for i in used) for line in lines),
    )


def _kind(candidate: Candidate) -> str:
    if candidate.release:
        return "release"
    if not candidate.passes:
        return "failed"
    return "dominated" if candidate.dominated_by else "best"


def _loss(candidate: Candidate) -> str:
    return "" if candidate.rel_rms is None else decibels(candidate.rel_rms)


def _told(candidate: Candidate, size: int, time: float) -> str:
    facts = (file_size(size), milliseconds(time / 1e3), _loss(candidate))
    return f"{candidate.variant}: {', '.join(filter(None, facts))}"


def _axis(values: Sequence[float], ends: tuple[float, float]) -> Callable[[float], float]:
    """Where a value stands between the places of the least and the greatest."""
    least, most = min(values, default=0.0), max(values, default=0.0)

    def place(value: float) -> float:
        share = (value - least) / (most - least) if most > least else 0.5
        return round(ends[0] + share * (ends[1] - ends[0]), 1)

    return place


def trend(label: str, points: Sequence[Moment], accepted: float | None) -> Trend:
    """The time of one check over the runs.

    Args:
        label: The check.
        points: The runs, the oldest first; at least one.
        accepted: The accepted baseline, in kernels; None without one.
    """
    values = [point.kernels for point in points]
    ends = values if accepted is None else [*values, accepted]
    x, y = _axis([0.0, max(len(points) - 1, 1)], _TREND_ACROSS), _axis(ends, _TREND_UP)
    placed = tuple(
        Point(
            x(number),
            y(point.kernels),
            number,
            "noisy" if point.noisy else "",
            f"{point.created[:16].replace('T', ' ')}: {three_digits(point.kernels)} kernels, "
            f"{milliseconds(point.seconds)}, {point.cpu}",
        )
        for number, point in enumerate(points)
    )
    return Trend(
        label=label,
        points=placed,
        path=" ".join(f"{point.x},{point.y}" for point in placed),
        accepted=None if accepted is None else y(accepted),
        low=three_digits(min(ends)),
        high=three_digits(max(ends)),
        first=points[0].created[:10],
        last=points[-1].created[:10],
        latest=milliseconds(points[-1].seconds),
    )
