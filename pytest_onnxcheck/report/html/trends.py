"""Latencies over the runs: of the history where there is one, else of the records."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_onnxcheck.history import History
from pytest_onnxcheck.measurement import LatencyMeasurement
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.html.plots import Moment, Trend, trend

__all__ = ["Trends", "trends"]

#: manifest (of the history: as far as it tells) and model -> its trends
Trends = dict[tuple[str, str], list[Trend]]


def trends(records: Sequence[Record], history: History | None) -> Trends:
    """The trends of every model that was timed more than once, or has an accepted baseline.

    Args:
        records: Runs, the oldest first.
        history: Earlier runs; it counts where it has any.
    """
    return _of_history(history) if history is not None and history.runs else _of_records(records)


def _of_history(history: History) -> Trends:
    found: Trends = {}
    for key in dict.fromkeys(check for run in history.runs for check in run):
        manifest, model, label = key.rsplit("::", 2)
        points = [run[key] for run in history.runs if key in run]
        baseline = max(history.baseline.get(key, ()), key=lambda point: point.created, default=None)
        moments = [
            Moment(
                point.created,
                point.normalised,
                point.median_seconds["onnxruntime"],
                point.cpu,
                point.noisy,
            )
            for point in points
        ]
        accepted = None if baseline is None else baseline.normalised
        if len(moments) > 1 or accepted is not None:
            found.setdefault((manifest, model), []).append(trend(label, moments, accepted))
    return found


def _of_records(records: Sequence[Record]) -> Trends:
    moments: dict[tuple[str, str, str], list[Moment]] = {}
    for record in records:
        for entry in record.checks:
            measured = entry.measurement
            if isinstance(measured, LatencyMeasurement) and "kernel" in measured.ratios:
                key = entry.manifest, entry.model, f"{entry.variant}[{entry.point}]"
                moments.setdefault(key, []).append(
                    Moment(
                        record.created,
                        1 / measured.ratios["kernel"].value,
                        measured.onnxruntime.median,
                        record.environment.cpu,
                    )
                )
    found: Trends = {}
    for (manifest, model, label), points in moments.items():
        if len(points) > 1:
            found.setdefault((manifest, model), []).append(trend(label, points, None))
    return found
