"""Shows the history of latencies, as text and as a plot."""

from __future__ import annotations

import dataclasses
import fnmatch
import html
from collections.abc import Iterator, Sequence
from typing import Any

from pytest_onnxcheck.digits import three_digits
from pytest_onnxcheck.history import History
from pytest_onnxcheck.measurement import SpeedPoint
from pytest_onnxcheck.report.escaping import visible

__all__ = ["as_data", "chosen", "listing", "svg"]

_BARS = "▁▂▃▄▅▆▇█"

Points = list[SpeedPoint]


def chosen(history: History, pattern: str = "*") -> dict[str, Points]:
    """The checks a glob selects, by their name, with or without manifest, or their model's."""
    names = sorted({*history.baseline, *(check for run in history.runs for check in run)})
    return {
        check: [run[check] for run in history.runs if check in run]
        for check in names
        if _matches(check, pattern)
    }


def _matches(check: str, pattern: str) -> bool:
    rest = check.partition("::")[2]
    pattern = pattern.replace("[", "[[]")  # brackets are part of the name
    names = (check, rest, rest.partition("::")[0])
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def as_data(history: History, pattern: str = "*") -> dict[str, Any]:
    """The same as JSON has it."""
    return {
        "folder": str(history.folder),
        "problems": history.problems,
        "checks": {
            check: {
                "accepted": [dataclasses.asdict(each) for each in history.baseline.get(check, ())],
                "runs": [dataclasses.asdict(point) for point in points],
            }
            for check, points in chosen(history, pattern).items()
        },
    }


def listing(history: History, pattern: str = "*") -> str:
    """The runs of each check as text."""
    found = chosen(history, pattern)
    blocks = [
        "\n".join(_block(check, points, history.baseline.get(check, ())))
        for check, points in found.items()
    ]
    problems = "".join(f"{problem}\n" for problem in history.problems)
    return visible(problems + "\n\n".join(blocks) + "\n")


def _block(check: str, points: Points, accepted: Sequence[SpeedPoint]) -> Iterator[str]:
    spark = _sparkline([point.normalised for point in points])
    yield f"{check}  {spark}".rstrip()
    yield "  " + _columns("when (UTC)", "time in kernels", "PyTorch's / it", "ms", "artefact")
    for point in accepted:
        yield f"  {_row(point)}  accepted, {point.cpu}"
    latest = max(accepted, key=lambda point: point.created, default=None)
    for point in points:
        notes = [] if latest is None else [f"{point.normalised / latest.normalised - 1:+.1%}"]
        notes += ["noisy"] if point.noisy else []
        notes += [point.cpu] if latest is not None and point.cpu != latest.cpu else []
        yield f"  {_row(point)}  {', '.join(notes)}".rstrip()


def _row(point: SpeedPoint) -> str:
    return _columns(
        point.created[:19].replace("T", " "),
        _ranged(point.normalised, point.interval),
        _ranged(point.speedup, point.speedup_interval),
        three_digits(point.median_seconds["onnxruntime"] * 1e3),
        point.sha256[:8],
    )


def _columns(when: str, kernels: str, torch: str, ms: str, artefact: str) -> str:
    return f"{when:19}  {kernels:30}  {torch:24}  {ms:>8}  {artefact}"


def _ranged(value: float, interval: tuple[float, float]) -> str:
    return f"{value:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]"


def _sparkline(values: Sequence[float]) -> str:
    """One bar a value, from the least to the most; all low where they differ by less than 1%."""
    if not values:
        return ""
    least, most = min(values), max(values)
    span = max(most - least, 0.01 * least)
    return "".join(_BARS[int((value - least) / span * (len(_BARS) - 1))] for value in values)


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 150, 64, 16, 26, 22
_STYLE = (
    "text{font:11px sans-serif;fill:#333}.name{font-weight:bold}.axis{stroke:#bbb}"
    ".run{stroke:#1f6feb;fill:#1f6feb}.line{stroke:#1f6feb;fill:none}.other{fill:#fff}"
    ".accepted{stroke:#1a7f37;stroke-dasharray:6 3}.limit{stroke:#cf222e;stroke-dasharray:2 3}"
    ".end{text-anchor:end}"
)


def svg(history: History, pattern: str = "*") -> str:
    """A plot of each check, one below the other: the normalised time over the runs.

    With its 99% interval, the accepted baseline (dashed) and what `max_regression` allows beyond
    it (dotted). Runs on another processor than the baseline's are hollow.
    """
    found = {check: points for check, points in chosen(history, pattern).items() if points}
    panels = [
        f'<g transform="translate(0 {index * _HEIGHT})">'
        f"{''.join(_panel(check, points, history.baseline.get(check, ())))}</g>"
        for index, (check, points) in enumerate(found.items())
    ]
    size = f"{_WIDTH} {max(len(panels), 1) * _HEIGHT}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        f'width="{size.split()[0]}" height="{size.split()[1]}">\n<style>{_STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(panels) + "\n</svg>\n"
    )


def _panel(check: str, points: Points, accepted: Sequence[SpeedPoint]) -> Iterator[str]:
    baseline = max(accepted, key=lambda point: point.created, default=None)
    lines: dict[str, float] = {}
    limit = points[-1].limit
    if baseline is not None:
        lines["accepted"] = baseline.normalised
    if baseline is not None and limit is not None:
        lines["limit"] = baseline.normalised * (1 + limit)
    values = [end for point in points for end in point.interval] + list(lines.values())
    least, most = min(values), max(values)
    margin = max(0.08 * (most - least), 0.01 * most)
    least, most = least - margin, most + margin
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(index: int) -> float:
        return _LEFT + (index + 0.5) / len(points) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (value - least) / (most - least) * (bottom - _TOP)

    yield f'<text class="name" x="{_LEFT}" y="16">{html.escape(visible(check))}</text>'
    yield f'<line class="axis" x1="{_LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>'
    for value in (least + margin, most - margin):
        yield f'<text class="end" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">{value:.3g}</text>'
    for kind, value in lines.items():
        at = f"{y(value):.1f}"
        yield f'<line class="{kind}" x1="{_LEFT}" y1="{at}" x2="{right}" y2="{at}"/>'
        yield f'<text class="end" x="{right}" y="{y(value) - 3:.1f}">{kind}</text>'
    path = " ".join(f"{x(i):.1f},{y(point.normalised):.1f}" for i, point in enumerate(points))
    yield f'<polyline class="line" points="{path}"/>'
    for index, point in enumerate(points):
        at, (low, high) = f"{x(index):.1f}", point.interval
        elsewhere = baseline is not None and point.cpu != baseline.cpu
        told = f"{point.created}: {_ranged(point.normalised, point.interval)}, {point.cpu}"
        title = html.escape(visible(told))
        yield f'<line class="run" x1="{at}" y1="{y(low):.1f}" x2="{at}" y2="{y(high):.1f}"/>'
        yield (
            f'<circle class="run{" other" if elsewhere else ""}" cx="{at}" '
            f'cy="{y(point.normalised):.1f}" r="3"><title>{title}</title></circle>'
        )
    for index in sorted({0, len(points) - 1}):
        date = points[index].created[:10]
        anchor = ' class="end"' if index else ""
        place = right if index else _LEFT
        yield f'<text{anchor} x="{place}" y="{_HEIGHT - 7}">{date}</text>'
