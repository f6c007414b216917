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
    total, fallen = sum(measured.nodes.values()), measured.fallen
    limits = budget.max_cpu_fallback or {}
    limit = limits.get(measured.target, limits.get("*"))
    if not total:
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
        return
    if not measured.nodes.get(measured.provider):
        yield Finding(
            Grade.FAIL,
            "nodes",
            f"{measured.provider} runs none of {total}: {_where(measured.nodes)}. "
            f"{_why(measured)}{_MEND.format(measured.target)}",
        )
        return
    heavy = [node for node in fallen if node.multiplies]
    share = max(len(fallen) / total, measured.compute or 0.0)
    counted = f"{len(fallen)} of {total} ({len(fallen) / total:.1%}{_of_compute(measured)})"
    if limit is not None:
        asked = f"asked for at most {limit:.1%} (budget.max_cpu_fallback.{measured.target})"
        if share > limit:
            text = f"{counted}, {asked}: {_listed(fallen)}"
            yield Finding(Grade.FAIL, "nodes on the CPU", text)
        elif heavy and measured.compute is None and limit < 1:
            text = (
                f"{counted}, {asked}; which share of the computation {_listed(heavy)} make is not "
                f"known. Allow all (budget.max_cpu_fallback.{measured.target} = 1) to settle it"
            )
            yield Finding(Grade.WARN, "nodes on the CPU", text, inconclusive=True)
        elif fallen:
            text = f"{counted}, {asked}: {_listed(fallen)}"
            yield Finding(Grade.PASS, "nodes on the CPU", text)
    elif heavy:
        yield Finding(
            Grade.FAIL,
            "nodes on the CPU",
            f"{counted}, among them {_listed(heavy)}, for which {measured.provider} has no kernel "
            "(or not in this precision or with these attributes). Export with another opset or "
            "precision, or allow a share of nodes and of the computation (budget.max_cpu_fallback."
            f"{measured.target} = {1 if measured.compute is None else _allowing(share):g})",
        )
    elif fallen:
        yield Finding(
            Grade.WARN,
            "nodes on the CPU",
            f"{counted}: {_listed(fallen)}; none multiplies and accumulates. Allow a share of "
            f"nodes to settle it (budget.max_cpu_fallback.{measured.target} = "
            f"{_allowing(share):g})",
        )


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
