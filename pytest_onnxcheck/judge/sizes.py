"""Judges the sizes of a dim together: what is wrong, and at which of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_onnxcheck.measurement import CaseMeasurement, SweepMeasurement
from pytest_onnxcheck.verdict import Finding, Grade
from pytest_onnxcheck.wording import runs

__all__ = ["grouped_by_size", "not_run"]


def grouped_by_size(
    judged: Iterable[tuple[CaseMeasurement, Sequence[Finding]]],
    sweeps: Iterable[SweepMeasurement],
) -> tuple[list[Finding], list[Finding]]:
    """One finding for all sizes at which the same is wrong, in the words of the smallest.

    Args:
        judged: Cases with what was found of each.
        sweeps: The dims that were swept.

    Returns:
        What is wrong at some sizes, which says more than what is in other cases, and what is at
        all; failures and warnings.
    """
    some: list[Finding] = []
    everywhere: list[Finding] = []
    cases = [(case, findings) for case, findings in judged if case.dim]
    for sweep in sweeps:
        found: dict[tuple[str, Grade], dict[int, Finding]] = {}
        for case, findings in cases:
            for finding in findings:
                if case.dim == sweep.dim and finding.grade is not Grade.PASS:
                    alike = found.setdefault((finding.what, finding.grade), {})
                    alike.setdefault(case.size, finding)
        for wrong in found.values():
            first = wrong[min(wrong)]
            sizes = f"{sweep.dim} {runs(sorted(wrong), sweep.step)} of {_extent(sweep)}"
            text = f"at {sizes}: {first.text}"
            partly = len(wrong) < len(sweep.ran)
            (some if partly else everywhere).append(replace(first, text=text))
    return some, everywhere


def not_run(sweeps: Iterable[SweepMeasurement]) -> Iterable[Finding]:
    """Remarks on ranges of the manifest that were not run in full."""
    for sweep in sweeps:
        left = sweep.count - len(sweep.ran) - sweep.refused - sweep.skipped
        if sweep.ranged and left:
            yield Finding(
                Grade.PASS,
                f"dim {sweep.dim!r}",
                _extent(sweep)
                + ("" if sweep.stopped else ", as many as probe_seconds allow")
                + (f"; PyTorch refuses {sweep.refused} more" if sweep.refused else "")
                + (f"; skip_probes leaves out {sweep.skipped} more" if sweep.skipped else ""),
            )


def _extent(sweep: SweepMeasurement) -> str:
    steps = f" in steps of {sweep.step}" if sweep.step > 1 else ""
    ran = "all" if len(sweep.ran) == sweep.count else f"{len(sweep.ran)} of"
    stopped = f", stopped after {sweep.stopped} that are off" if sweep.stopped else ""
    return f"{sweep.low}..{sweep.high}{steps} ({ran} {sweep.count} run{stopped})"
