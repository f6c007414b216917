"""What Prometheus reads: jobs, how long they take, and how large what they export is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.responses import Response

from pytest_onnxcheck.serve.http.state import State

__all__ = ["router"]

router = APIRouter()

#: how many of the newest jobs are counted
_MOST = 1000


@router.get("/metrics", include_in_schema=False)
def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Jobs(request.app.state.door))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Jobs(Collector):
    """Counted anew whenever it is asked: the jobs are the only state."""

    def __init__(self, door: State) -> None:
        self._door = door

    def collect(self) -> Iterator[Metric]:
        jobs = self._door.jobs.all(limit=_MOST)
        counts = Counter((job.kind, job.state) for job in jobs)
        states = GaugeMetricFamily(
            "onnxcheck_jobs",
            f"The newest {_MOST} jobs, by kind and state.",
            labels=["kind", "state"],
        )
        for (kind, state), count in sorted(counts.items()):
            states.add_metric([kind, state], count)
        yield states
        spent = SummaryMetricFamily(
            "onnxcheck_job_duration_seconds",
            "Seconds from the start to the end of jobs that have ended.",
            labels=["kind", "state"],
        )
        seconds = [(job.kind, job.state, _between(job.started, job.ended)) for job in jobs]
        for kind, state in sorted(counts):
            took = [it for *of, it in seconds if of == [kind, state] and it is not None]
            if took:
                spent.add_metric([kind, state], len(took), sum(took))
        yield spent
        sizes = GaugeMetricFamily(
            "onnxcheck_artefact_bytes",
            "Bytes of the newest artefact of a variant.",
            labels=["model", "variant"],
        )
        for known in self._door.catalogue.models():
            for artefact in known.newest:
                sizes.add_metric([known.name, artefact.variant], artefact.size_bytes)
        yield sizes
        streams = GaugeMetricFamily("onnxcheck_event_streams", "Event streams that are open.")
        streams.add_metric([], self._door.streams)
        yield streams


def _between(started: str | None, ended: str | None) -> float | None:
    if started is None or ended is None:
        return None
    return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
