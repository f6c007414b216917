"""`--onnxcheck-shard`: the models of one of several jobs that share a manifest."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pytest_onnxcheck.manifest import Manifest, Model
from pytest_onnxcheck.record.shard import Shard, seconds_by_model, shared_out

__all__ = ["models_of"]


def models_of(
    shard: Shard, names: Iterable[str], manifest: Manifest, durations: Path | None
) -> set[str]:
    """The models of a shard; those of all shards are the names, each once.

    Args:
        shard: The shard.
        names: Models of the manifest that are to be checked, the wrong ones included.
        manifest: The manifest.
        durations: An earlier record, whose seconds say how much there is to do; else, and for
            models that it does not have, the number of checks does.

    Raises:
        RecordError: The record cannot be read.
    """
    counts = {name: _checks(manifest.models.get(name)) for name in sorted(names)}
    weights = dict(counts)
    seconds = _seconds(durations)
    known = {name: seconds[name] for name in counts if seconds.get(name)}
    if known:
        a_check = sum(known.values()) / sum(counts[name] for name in known)
        weights = {name: known.get(name, a_check * count) for name, count in counts.items()}
    return set(shared_out(weights, shard.count)[shard.index - 1])


def _seconds(durations: Path | None) -> dict[str, float]:
    from pytest_onnxcheck.record.record import load

    if durations is None or not durations.is_file():
        return {}
    return seconds_by_model(load(durations).checks)


def _checks(model: Model | None) -> float:
    """About how many checks a model has; one that is wrong fails at once."""
    if model is None:
        return 1.0
    return float(
        sum(
            2
            + (variant.precision != "fp32")
            + len(model.compared_on)
            + len(model.targets) * len(model.latency_points())
            for variant in model.variants
        )
    )
