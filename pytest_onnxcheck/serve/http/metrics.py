"""What Prometheus reads: jobs, how long they take, and how large what they export is."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.responses import Response

from pytest_onnxcheck.errors import ManifestError
from pytest_onnxcheck.serve.http.state import State

__all__ = ["router"]

router = APIRouter()

_OF_A_JOB = ["kind", "state"]


@router.api_route("/metrics", methods=["GET", "HEAD"], include_in_schema=False)
def metrics(request: Request) -> Response:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Door(request.app.state.door))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Door(Collector):
    """Counted anew whenever it is asked: jobs and manifest are the only state."""

    def __init__(self, door: State) -> None:
        self._door = door

    def collect(self) -> Iterator[Metric]:
        yield from self._jobs()
        yield from self._artefacts()
        streams = GaugeMetricFamily("onnxcheck_event_streams", "Event streams that are open.")
        streams.add_metric([], self._door.streams)
        yield streams

    def _jobs(self) -> Iterator[Metric]:
        told = self._door.tally.look()
        waiting = GaugeMetricFamily(
            "onnxcheck_jobs", "Jobs that wait or run now.", labels=_OF_A_JOB
        )
        for of, count in sorted(told.waiting.items()):
            waiting.add_metric(of, count)
        yield waiting
        ended = CounterMetricFamily(
            "onnxcheck_jobs_ended", "Jobs that have ended, by how.", labels=_OF_A_JOB
        )
        for of, count in sorted(told.ended.items()):
            ended.add_metric(of, count)
        yield ended
        spent = SummaryMetricFamily(
            "onnxcheck_job_duration_seconds",
            "Seconds from the start to the end of jobs that have ended.",
            labels=_OF_A_JOB,
        )
        for of, count in sorted(told.timed.items()):
            spent.add_metric(of, count, told.seconds[of])
        yield spent

    def _artefacts(self) -> Iterator[Metric]:
        sizes = GaugeMetricFamily(
            "onnxcheck_artefact_bytes",
            "Bytes of the newest artefact of a variant.",
            labels=["model", "variant"],
        )
        usable = 1
        try:
            for known in self._door.catalogue.models():
                for artefact in known.newest:
                    sizes.add_metric([known.name, artefact.variant], artefact.size_bytes)
        except ManifestError:  # what else is known is told all the same
            usable = 0
        yield sizes
        manifest = GaugeMetricFamily(
            "onnxcheck_manifest_usable", "1, or 0 while the manifest is wrong as a whole."
        )
        manifest.add_metric([], usable)
        yield manifest
