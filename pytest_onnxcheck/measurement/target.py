"""Who runs an artefact's nodes under a target."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FallenNode", "TargetMeasurement"]


@dataclass(frozen=True)
class FallenNode:
    """A node that runs on the CPU, under a target of another provider.

    Attributes:
        operator: Its type.
        name: Its name; may be empty.
        multiplies: Whether it multiplies and accumulates (Conv, MatMul, LSTM ...).
    """

    operator: str
    name: str
    multiplies: bool


@dataclass(frozen=True)
class TargetMeasurement:
    """Who runs an artefact's nodes under a target.

    Attributes:
        target: The target.
        provider: Its execution provider.
        before: Providers of the session when it was opened, the preferred first.
        after: The same, after a run.
        nodes: Provider -> number of nodes assigned to it.
        multiplying: How many nodes of the file multiply and accumulate.
        fallen: The nodes on the CPU.
        compute: Their share of the multiply-accumulates; None where it is unknown.
        said: What ONNX Runtime printed while it opened the session.
    """

    target: str
    provider: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    nodes: dict[str, int]
    multiplying: int
    fallen: tuple[FallenNode, ...]
    compute: float | None
    said: tuple[str, ...] = ()
