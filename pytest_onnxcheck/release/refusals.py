"""Every reason for which nothing is released, a sentence each, with what mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_onnxcheck import judge
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.measurement import (
    ExportMeasurement,
    FileCheck,
    HashedFile,
    LatencyMeasurement,
    QuantizationMeasurement,
    StructureMeasurement,
)
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.release.choice import Choice
from pytest_onnxcheck.verdict import Grade
from pytest_onnxcheck.wording import one_line, several

__all__ = ["changed_files", "of_record", "of_required_targets", "of_run"]

#: pytest's exit statuses of a run that came to its end: all passed, some failed
_ENDED = (0, 1)

#: how much of a check's reason is repeated
_MOST = 160

_AGAIN = "run pytest --onnxcheck --onnxcheck-json=PATH again"
_RED = ("failed", "xfailed", "xpassed")


def of_run(record: Record) -> Iterator[str]:
    """A run that did not come to its end, or that could not collect everything."""
    if not record.finished:
        of = "" if record.selected is None else f" of {record.selected}"
        yield (
            f"the record is unfinished: {len(record.checks)}{of} checks were made before the run "
            "was cut off: go on with it, pytest --onnxcheck --onnxcheck-json=PATH "
            "--onnxcheck-resume"
        )
    elif record.exitstatus not in _ENDED:
        yield (
            f"the run did not come to its end (pytest's exit status {record.exitstatus}), so that "
            f"checks may be missing: {_AGAIN}"
        )
    for error in record.errors:
        text = one_line(error.error, _MOST)
        yield f"the run could not collect {error.nodeid}: {text}: mend it, and {_AGAIN}"


def of_record(choice: Choice) -> Iterator[str]:
    """What keeps a variant from being released, as far as its checks tell."""
    yield from _red(choice)
    yield from _incomplete(choice)
    yield from _other_artefacts(choice)
    for measured in choice.stripped:
        verdict = judge.release(measured)
        if verdict.grade is Grade.FAIL and not _failed(choice.row.of("release")):
            passed = f"test_release[{measured.target}] passed"
            yield f"{passed}, and what it measured does not: {verdict.reason}"


def of_required_targets(choice: Choice, model: Model) -> Iterator[str]:
    """Checks skipped on targets which the manifest requires, other than by its own `skip`."""
    own = {mark.reason for mark in model.skip}
    for entry in choice.row.entries:
        required = entry.outcome == "skipped" and entry.target in model.required_targets
        if required and entry.reason not in own:
            yield (
                f"partly skipped: {_named(entry)} was not made, and the manifest requires its "
                f"target (required_targets): {one_line(entry.reason, _MOST)}: run it where "
                f"{entry.target!r} is, with timing on"
            )


def changed_files(files: Sequence[HashedFile], root: Path) -> list[str]:
    """The files that are not what they were, one text each: gone, or with another hash.

    Args:
        files: What they were.
        root: The folder that their names start from.
    """
    changed = []
    for file in files:
        path = root / file.name
        if not path.is_file():
            changed.append(f"{file.name} is gone")
        elif (found := file_sha256(path)) != file.sha256:
            changed.append(f"{file.name} has SHA-256 {found[:12]}…, recorded {file.sha256[:12]}…")
    return changed


def _red(choice: Choice) -> Iterator[str]:
    """Checks of the variant that failed, and those of the fp32 artefact that it is made from."""
    red = [*_failed(choice.row.entries)]
    for entry in red:
        expected = "expected to fail, which is no pass: " if entry.expected_failure else ""
        yield (
            f"the record is red: {_named(entry)} {entry.outcome}: {expected}"
            f"{one_line(entry.reason, _MOST)}"
        )
    of_fp32 = set(choice.candidate.failed) - {entry.check for entry in red}
    for failed in sorted(of_fp32):
        yield f"the record is red: {failed}, which it is made from, failed"


def _incomplete(choice: Choice) -> Iterator[str]:
    row, candidate = choice.row, choice.candidate
    made = {entry.nodeid for entry in row.entries}
    planned = row.entries[0].planned.checks
    if not candidate.complete:
        yield (
            f"incomplete: the run made {len(made)} of {max(planned, len(made) + 1)} checks of "
            f"{row.variant}: {_AGAIN} without -k, -m and --lf"
        )
    for check in candidate.unjudged:
        reasons = (entry.reason for entry in row.of(check) if entry.outcome == "skipped")
        why = next((one_line(reason, _MOST) for reason in reasons), "it was not run")
        yield f"partly skipped: {check} was made on no target, and a release needs it: {why}"
    for check, kind in (("export", ExportMeasurement), ("structure", StructureMeasurement)):
        passed = any(entry.outcome == "passed" for entry in row.of(check))
        if passed and not row.measured(kind):
            yield f"incomplete: test_{check} passed, and what it measured is missing: {_AGAIN}"
    if any(not measured.file.files for measured in choice.stripped):
        yield f"incomplete: test_release names no file: {_AGAIN}"
    if not choice.stripped and not _failed(row.of("release")):
        reasons = (entry.reason for entry in row.of("release"))
        why = next((one_line(reason, _MOST) for reason in reasons if reason), "it was not run")
        yield f"incomplete: no file was stripped and re-checked (test_release): {why}: {_AGAIN}"


def _other_artefacts(choice: Choice) -> Iterator[str]:
    """Checks that were about another file than the one that was stripped."""
    stripped = choice.stripped
    if not stripped:
        return
    first = stripped[0]
    if any(other.file.sha256 != first.file.sha256 for other in stripped):
        yield f"the checks stripped different files on different targets: {_AGAIN}"
    checked = {check: sha256 for check, sha256 in _checked(choice) if sha256}
    other = [check for check, sha256 in checked.items() if sha256 != first.artefact_sha256]
    if other:
        yield (
            f"the file was made from an artefact ({first.artefact_sha256[:12]}…) that is not the "
            f"one of {several(other)}: {_AGAIN}"
        )


def _checked(choice: Choice) -> Iterator[tuple[str, str]]:
    """What each check says of which artefact it is about."""
    file: FileCheck | None = None
    for exported in choice.row.measured(ExportMeasurement) if choice.row.is_fp32 else ():
        file = exported.file
    for quantized in choice.row.measured(QuantizationMeasurement):
        file = quantized.file
    if file is not None:
        yield ("export" if choice.row.is_fp32 else "quantization"), file.sha256
    for timed in choice.row.measured(LatencyMeasurement):
        yield "latency", timed.sha256


def _failed(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.outcome in _RED]


def _named(entry: Entry) -> str:
    return f"test_{entry.check}" + (f"[{entry.point}]" if entry.point else "")
