"""Judges whether an accelerator runs the artefact, or leaves it to the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import FallenNode, TargetMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["target"]

#: nodes that are named
_SHOWN = 5

_MEND = "Mend its options ([targets.{}]), or leave the target out for this model"


def target(measured: TargetMeasurement, budget: Budget) -> Verdict:
    """Judges the share of nodes on the CPU, or of the multiply-accumulates, whichever is larger.

    Without `max_cpu_fallback` it goes by what a node does: providers leave what handles shapes to
    the CPU on purpose, for it is faster there; but a node that multiplies and accumulates there
    means that the target does not carry the model.
    """
    return Verdict.of(_findings(measured, budget))


def _findings(measured: TargetMeasurement, budget: Budget) -> Iterator[Finding]:
    limits = budget.max_cpu_fallback or {}
    limit = limits.get(measured.target, limits.get("*"))
    total = sum(measured.nodes.values())
    if not total:
        yield from _untold(measured, limit)
    elif not measured.nodes.get(measured.provider):
        yield Finding(
            Grade.FAIL,
            "nodes",
            f"{measured.provider} runs none of {total}: {_where(measured.nodes)}. "
            f"{_why(measured)}{_MEND.format(measured.target)}",
        )
    elif limit is None:
        yield from _by_operator(measured)
    else:
        yield from _by_share(measured, limit)


def _untold(measured: TargetMeasurement, limit: float | None) -> Iterator[Finding]:
    """Judges a session of which ONNX Runtime told no node where it runs."""
    # ONNX Runtime 1.24 does not tell of 16-bit nodes that the CPU runs in float32
    if measured.multiplying:
        yield Finding(
            Grade.FAIL,
            "nodes",
            f"{measured.provider} runs none, nor does another provider, of the file's "
            f"{measured.multiplying} that multiply and accumulate: they have no kernels in "
            f"this precision and run on the CPU in float32. {_MEND.format(measured.target)}",
        )
    elif limit is not None:
        yield Finding(
            Grade.WARN,
            "nodes",
            "ONNX Runtime told of no node where it runs, and budget.max_cpu_fallback."
            f"{measured.target} limits those on the CPU",
            inconclusive=True,
        )


def _by_share(measured: TargetMeasurement, limit: float) -> Iterator[Finding]:
    """Judges the share on the CPU by the budget's limit."""
    fallen, heavy = measured.fallen, _heavy(measured)
    asked = f"asked for at most {limit:.1%} (budget.max_cpu_fallback.{measured.target})"
    text = f"{_counted(measured)}, {asked}"
    if _share(measured) > limit:
        yield Finding(Grade.FAIL, "nodes on the CPU", f"{text}: {_listed(fallen)}")
    elif heavy and measured.compute is None and limit < 1:
        text += (
            f"; which share of the computation {_listed(heavy)} make is not "
            f"known. Allow all (budget.max_cpu_fallback.{measured.target} = 1) to settle it"
        )
        yield Finding(Grade.WARN, "nodes on the CPU", text, inconclusive=True)
    elif fallen:
        yield Finding(Grade.PASS, "nodes on the CPU", f"{text}: {_listed(fallen)}")


def _by_operator(measured: TargetMeasurement) -> Iterator[Finding]:
    """Judges the nodes on the CPU by what they do, where the budget has no limit."""
    fallen, heavy = measured.fallen, _heavy(measured)
    allowing = f"{_allowing(_share(measured)):g}"
    if heavy:
        yield Finding(
            Grade.FAIL,
            "nodes on the CPU",
            f"{_counted(measured)}, among them {_listed(heavy)}, for which {measured.provider} has "
            "no kernel (or not in this precision or with these attributes). Export with another "
            "opset or precision, or allow a share of nodes and of the computation "
            f"(budget.max_cpu_fallback.{measured.target} = "
            f"{1 if measured.compute is None else allowing})",
        )
    elif fallen:
        yield Finding(
            Grade.WARN,
            "nodes on the CPU",
            f"{_counted(measured)}: {_listed(fallen)}; none multiplies and accumulates. Allow a "
            "share of nodes to settle it (budget.max_cpu_fallback."
            f"{measured.target} = {allowing})",
        )


def _heavy(measured: TargetMeasurement) -> list[FallenNode]:
    """The nodes on the CPU that multiply and accumulate."""
    return [node for node in measured.fallen if node.multiplies]


def _of_nodes(measured: TargetMeasurement) -> float:
    return len(measured.fallen) / sum(measured.nodes.values())


def _share(measured: TargetMeasurement) -> float:
    """What the CPU runs of the nodes, or of the multiply-accumulates, whichever is larger."""
    return max(_of_nodes(measured), measured.compute or 0.0)


def _counted(measured: TargetMeasurement) -> str:
    """E.g. `2 of 7 (28.6%, 50.0% of the multiply-accumulates)`."""
    counts = f"{len(measured.fallen)} of {sum(measured.nodes.values())}"
    return f"{counts} ({_of_nodes(measured):.1%}{_of_compute(measured)})"


def _allowing(share: float) -> float:
    """The share rounded up to a percent."""
    return -(-share * 100 // 1) / 100


def _of_compute(measured: TargetMeasurement) -> str:
    if measured.compute is None:
        return ""
    return f", {measured.compute:.1%} of the multiply-accumulates"


def _where(nodes: dict[str, int]) -> str:
    return ", ".join(f"{count} on {provider}" for provider, count in nodes.items())


def _why(measured: TargetMeasurement) -> str:
    return f"ONNX Runtime said: {'; '.join(measured.said[:_SHOWN])}. " if measured.said else ""


def _listed(nodes: Iterable[FallenNode]) -> str:
    """E.g. `3 Shape, 2 Gather (node_12, node_14, ...)`."""
    nodes = list(nodes)
    operators = Counter(node.operator for node in nodes).most_common()
    counts = ", ".join(f"{count} {operator}" for operator, count in operators[:_SHOWN])
    names = [node.name for node in nodes if node.name]
    more = ", …" if len(names) > _SHOWN else ""
    return f"{counts} ({', '.join(names[:_SHOWN])}{more})" if names else counts
