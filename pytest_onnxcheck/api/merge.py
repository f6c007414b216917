"""What several jobs left, as if one had run alone: records, JUnit files, histories."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.api.histories import join_histories
from pytest_onnxcheck.errors import MergeError
from pytest_onnxcheck.files import write_atomically
from pytest_onnxcheck.judge.apart import apart
from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.record.junit import joined
from pytest_onnxcheck.record.merging import merged
from pytest_onnxcheck.record.record import Record, load, manifest_file, write
from pytest_onnxcheck.record.rows import FrontierRow
from pytest_onnxcheck.report.frontier import data

__all__ = ["Merged", "merge"]


@dataclass(frozen=True)
class Merged:
    """What was made.

    Attributes:
        record: The record.
        files: What was written.
    """

    record: Record
    files: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """What a machine reads of it."""
        return {
            "files": [str(path) for path in self.files],
            "checks": len(self.record.checks),
            "exitstatus": self.record.exitstatus,
        }


def merge(
    records: Sequence[Path],
    to: Path,
    *,
    junit: Sequence[Path] = (),
    histories: Sequence[Path] = (),
    expect: Path | None = None,
) -> Merged:
    """Joins the parts of a run: all of them, or nothing and every reason.

    Args:
        records: Records of one commit, manifest and set of versions. Together they have each check
            once.
        to: The folder to write `record.json`, `junit.xml` and `history` into.
        junit: JUnit files of the same runs.
        histories: Histories that each began as a copy of the same one, and were added to.
        expect: The manifest that they must be of; all its models must be there.

    Raises:
        MergeError: A part is missing or double, or is of something else.
        RecordError: A record cannot be read.
        HistoryError: A history cannot be read.
        ManifestError: The manifest that is expected cannot be read.
        OSError: A file cannot be read or written.
    """
    if not records:
        raise MergeError("nothing is merged", ["no record is named"])
    named = [(str(path), load(path)) for path in records]
    expected = None
    if expect is not None:
        expected = dataclasses.replace(manifest_file(expect), path=str(expect))
    reasons = apart(named, expected)
    if reasons:
        raise MergeError("the records are not merged", reasons)
    record = merged([each for _, each in named])
    rows = [FrontierRow(**row) for row in data(frontiers(record.checks))]
    record = dataclasses.replace(record, frontier=tuple(rows))
    texts = joined(junit) if junit else None
    files = [to / "record.json"]
    if histories:
        join_histories(histories, to / "history")
        files.append(to / "history")
    if texts is not None:
        write_atomically(to / "junit.xml", texts)
        files.insert(1, to / "junit.xml")
    write(record.to_json(), to / "record.json")
    return Merged(record, tuple(files))
