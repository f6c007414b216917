"""Judges the file that is released against the artefact that it was made from."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.judge.export import file_findings
from pytest_onnxcheck.measurement import ReleaseMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict
from pytest_onnxcheck.wording import several

__all__ = ["release"]


def release(measured: ReleaseMeasurement) -> Verdict:
    """Judges the stripped file: valid, the same bits in every output, and no path left in it."""
    return Verdict.of(_findings(measured))


def _findings(measured: ReleaseMeasurement) -> Iterator[Finding]:
    # what merely warns was in the artefact too, whose own check says so
    yield from (one for one in file_findings(measured.file) if one.grade is Grade.FAIL)
    if not measured.cases:
        yield Finding(
            Grade.FAIL,
            "cases",
            "no case was run, so that nothing tells whether stripping changed an output: draw "
            "some (draws = 1) or give some (`cases`)",
        )
    if measured.differing:
        yield Finding(
            Grade.FAIL,
            "bits",
            "without doc strings and metadata the file gives other outputs than the artefact, "
            f"allowed are none: {several(measured.differing, 3)}. What was taken out computes "
            "nothing, so the target does not repeat itself: leave it out of `targets` for this "
            "model, or turn off what makes it so ([targets.NAME.session_options])",
            measured.target,
        )
    if measured.leaks:
        yield Finding(
            Grade.FAIL,
            "paths",
            f"paths of this machine are left in the file: {several(measured.leaks, 3)}. They stand "
            "in names, attributes or the model's own metadata, which stripping leaves alone: take "
            "them out where they are made, in the model or in what wrote the file",
            measured.file.path,
        )
