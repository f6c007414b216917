"""Which provider runs which node: a session that is on its provider may leave it nothing to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.graph.macs import multiplies, multiply_accumulates
from pytest_onnxcheck.engine.graph.shapes import inferred
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import FallenNode, TargetMeasurement

__all__ = ["assigned"]


def assigned(
    session: Session, artefact: Artefact, inputs: dict[str, Any], before: Sequence[str] = ()
) -> TargetMeasurement:
    """Asks a session on an accelerator who runs what.

    Args:
        session: The session.
        artefact: What it runs.
        inputs: What it has run on.
        before: Its providers before it ran; empty when nobody asked.
    """
    assignments = [
        (subgraph.ep_name, node)
        for subgraph in session.handle.get_provider_graph_assignment_info()
        for node in subgraph.get_nodes()
    ]
    fallen = tuple(
        FallenNode(node.op_type, node.name, multiplies(node.op_type, node.domain))
        for provider, node in assignments
        if provider == CPU.provider
    )
    counted = _counted(artefact, inputs)
    return TargetMeasurement(
        target=session.target.name,
        provider=session.provider,
        before=tuple(before),
        after=tuple(session.handle.get_providers()),
        nodes=dict(Counter(provider for provider, _ in assignments)),
        multiplying=len(counted),
        fallen=fallen,
        compute=_share(counted, fallen),
        said=session.startup_log,
    )


def _counted(artefact: Artefact, inputs: dict[str, Any]) -> list[tuple[str, int | None]]:
    """Names of the nodes that multiply and accumulate, and how often they do."""
    shapes = {name: array.shape for name, array in inputs.items()}
    graph, found, _ = inferred(artefact.path, shapes)
    return [(node.name, count) for node, count in multiply_accumulates(graph, found)]


def _share(counted: list[tuple[str, int | None]], fallen: tuple[FallenNode, ...]) -> float | None:
    """Share of the multiply-accumulates that the fallen nodes do; None where it is unknown.

    ONNX Runtime may have renamed, fused or split a node before it assigned it.
    """
    by_name = {name: count for name, count in counted if count is not None}
    on_cpu = {node.name for node in fallen if node.multiplies}
    total = sum(by_name.values())
    if len(by_name) < len(counted) or not total or not on_cpu <= by_name.keys():
        return None
    return sum(by_name[name] for name in on_cpu) / total
