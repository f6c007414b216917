"""What a registry is told of a bundle: tags and metrics."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from pytest_onnxcheck.release.metadata import Latency, Metadata

__all__ = ["metrics", "tags", "time_of"]

#: what registries allow in a part of a metric's name
_NOT_IN_NAMES = re.compile(r"[^\w.-]", re.ASCII)


def tags(known: Metadata, verdict: str) -> dict[str, str]:
    """What a version is looked for by.

    Args:
        known: What is known of the bundle.
        verdict: What the table of the record says: `pass`, `warn` or `partial`.
    """
    found = {
        "framework": known.framework,
        "format": "onnx",
        "verdict": verdict,
        "model": known.model,
        "variant": known.variant,
        "release": known.name,
        "release_version": known.version,
        "architecture": known.architecture,
        "precision": known.precision,
        "opset": str(known.opset),
        "sha256": known.sha256,
        "checkpoint_sha256": known.checkpoint_sha256,
        "source_commit": known.source.commit,
        "oldest_onnxruntime": known.oldest_onnxruntime,
        "onnxcheck": known.onnxcheck,
        "onnxcheck_run": known.run.id,
    }
    return {key: value for key, value in found.items() if value is not None}


def metrics(known: Metadata) -> dict[str, float]:
    """What was measured, by names as `speedup/cpu-batch1` and `max_abs/cpu/logits`.

    Sizes are bytes, times milliseconds. What is not known is left out.
    """
    found = {"size_bytes": float(known.size_bytes), "parameters": float(known.parameters)}
    if known.coverage is not None:
        found["coverage"] = known.coverage
    for latency in known.run.latency:
        found |= dict(_of_latency(latency))
    for errors in known.errors:
        for output in errors.outputs:
            for key in ("max_abs", "rel_rms", "top1", "floors"):
                value = getattr(output, key)
                if value is not None:
                    found[_name(key, errors.target, output.name)] = value
    for task in known.accuracy:
        found[_name(task.metric, task.target)] = task.onnxruntime
        found[_name(f"{task.metric}_torch", task.target)] = task.torch
        found[_name(f"{task.metric}_drop", task.target)] = task.drop
    return found


def time_of(known: Metadata) -> int:
    """When the run of the gate ended, in milliseconds since 1970.

    Metrics have this time: written twice, they are the same.
    """
    return round(1e3 * datetime.fromisoformat(known.run.date).timestamp())


def _of_latency(latency: Latency) -> Iterator[tuple[str, float]]:
    where = "-".join([latency.target, *(f"{dim}{size}" for dim, size in latency.dims.items())])
    yield _name("speedup", where), latency.speedup
    yield _name("latency_ms", where), latency.median_ms
    yield _name("latency_torch_ms", where), latency.torch_median_ms
    if latency.memory_bytes is not None:
        yield _name("memory_bytes", where), float(latency.memory_bytes)


def _name(*parts: str) -> str:
    return "/".join(_NOT_IN_NAMES.sub("_", part) for part in parts)
