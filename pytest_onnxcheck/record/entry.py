"""What one check found."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    LatencyMeasurement,
    MutationMeasurement,
    QuantizationMeasurement,
    RecommendMeasurement,
    ReleaseMeasurement,
    StructureMeasurement,
    TargetMeasurement,
)
from pytest_onnxcheck.record.encoding import read
from pytest_onnxcheck.verdict import Finding, Grade, Limit

__all__ = ["MEASUREMENTS", "Entry", "Planned", "needed"]

#: check -> what it measures. A project's own checks measure what they like: that stays a dict.
MEASUREMENTS: dict[str, type[Any]] = {
    "export": ExportMeasurement,
    "quantization": QuantizationMeasurement,
    "structure": StructureMeasurement,
    "target": TargetMeasurement,
    "equivalence": EquivalenceMeasurement,
    "accuracy": AccuracyMeasurement,
    "mutation": MutationMeasurement,
    "latency": LatencyMeasurement,
    "recommend": RecommendMeasurement,
    "release": ReleaseMeasurement,
}

_GRADES = {str(grade): grade for grade in Grade}

#: how a variant is named: `EXPORTER-opN-PRECISION`, or `file-PRECISION`
_VARIANT = re.compile(r"(?:(file)|(\w+)-op(\d+))-(.+)")


@dataclass(frozen=True)
class Planned:
    """What the manifest asks for, by which a whole run is told from one of some checks.

    Attributes:
        variants: How many variants the model has; 0 in records that do not say.
        checks: How many checks the variant has; likewise.
        speed_budget: Targets on which the variant has a budget of speed or memory.
    """

    variants: int = 0
    checks: int = 0
    speed_budget: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one check of one variant found.

    Attributes:
        nodeid: pytest's name of the check.
        manifest: Path of the manifest.
        position: Place of the variant in the manifest; entries are shown in this order.
        planned: What the manifest asks for.
        model: Name of the model.
        variant: Name of the variant.
        precision: The variant's precision, see `terms.Precision`; empty when it is not known.
        exporter: `dynamo`, `torchscript` or `file`; empty when it is not known.
        opset: The opset it is exported to; None when the artefact is given.
        check: Name of the check, without `test_` and parameters.
        target: The target the check runs on; None when it runs on none.
        environment: Versions where the target runs in another environment: of `python`, `numpy`
            and the package of onnxruntime; empty where it runs in this one, or never opened.
        point: Id of the check's parameters: the target, for latency `TARGET-DIMS`; empty without.
        outcome: `passed`, `failed`, `skipped`, `xfailed` or `xpassed`.
        expected_failure: Reason of the manifest's `xfail`; None without one.
        seconds: How long the check took, without what was built for it before.
        stages: Seconds of each stage, building included, by the words that the terminal shows for
            it: `loading the checkpoint`, `running PyTorch`, `scoring PyTorch`, `reading calibration
            data`, `exporting`, `quantizing`, `reading the file` (a given one), `opening a session`,
            `comparing`, `diagnosing` and so on; besides `setup` (what else was made ready), and
            `check` (what else was checked). What was built for an earlier check, or found in the
            cache, takes next to nothing here, or is left out.
        limits: What the check was held to.
        grade: Its verdict; None when it ended before there was one.
        reason: The worst finding, or why the check was skipped or could not be made.
        findings: The verdict's findings, the worst first.
        measurement: What was measured: the check's own class of `measurement`, or, of a check that
            a project has added, a dict. None when nothing was measured.
    """

    nodeid: str
    manifest: str
    position: tuple[int, ...] = ()
    planned: Planned = Planned()
    model: str
    variant: str
    precision: str = ""
    exporter: str = ""
    opset: int | None = None
    check: str
    target: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    point: str = ""
    outcome: str
    expected_failure: str | None = None
    seconds: float = 0.0
    stages: dict[str, float] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()
    grade: Grade | None = None
    reason: str = ""
    findings: tuple[Finding, ...] = ()
    measurement: object = None

    @property
    def state(self) -> str:
        """The outcome, or `warn` for a check that passed with a warning."""
        warned = self.outcome == "passed" and self.grade is Grade.WARN
        return "warn" if warned else self.outcome

    def to_json(self) -> dict[str, Any]:
        """The entry as the record has it: a dict of what JSON can hold, and of tuples.

        A check that ended before there was a verdict has neither `grade`, `findings` nor
        `measurement`.
        """
        written = {
            each.name: getattr(self, each.name)
            for each in dataclasses.fields(self)
            if self.grade is not None or each.name not in ("grade", "findings", "measurement")
        }
        written["position"] = list(self.position)
        written["planned"] = {
            **dataclasses.asdict(self.planned),
            "speed_budget": list(self.planned.speed_budget),
        }
        written["limits"] = [dataclasses.asdict(limit) for limit in self.limits]
        if self.grade is not None:
            written["grade"] = str(self.grade)
            written["findings"] = [
                {**dataclasses.asdict(finding), "grade": str(finding.grade)}
                for finding in self.findings
            ]
            written["measurement"] = _written(self.measurement)
        return written

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Entry:
        """The entry that was written; one of an earlier version lacks some fields.

        Raises:
            ValueError: It is no entry; the text says what is wrong.
        """
        if not isinstance(written, Mapping):
            raise ValueError("not an entry")
        found = {**_of_earlier(written), **_graded(written)}
        if isinstance(found.get("findings"), list | tuple):
            found["findings"] = [_graded(finding) for finding in found["findings"]]
        return read(cls, {**found, "measurement": _measurement(written)})


def _written(measurement: object) -> object:
    """A measurement as a dict, with the properties that its class names."""
    if not dataclasses.is_dataclass(measurement) or isinstance(measurement, type):
        return measurement
    derived: tuple[str, ...] = getattr(measurement, "DERIVED", ())
    return {
        **dataclasses.asdict(measurement),
        **{name: getattr(measurement, name) for name in derived},
    }


def _graded(written: Any) -> Any:
    """The same with its grade as a `Grade`."""
    if not isinstance(written, Mapping) or written.get("grade") is None:
        return written
    return {**written, "grade": _GRADES.get(written["grade"], written["grade"])}


def _measurement(written: Mapping[str, Any]) -> object:
    """A check's measurement as its class; a dict where a project's suite measures other things."""
    kind, measurement = MEASUREMENTS.get(str(written.get("check"))), written.get("measurement")
    if kind is None or not isinstance(measurement, Mapping):
        return measurement
    if not needed(kind) <= measurement.keys():
        return measurement
    try:
        return read(kind, measurement)
    except ValueError as error:
        raise ValueError(f"measurement.{error}") from error


def needed(kind: type[Any]) -> set[str]:
    """The fields that a measurement of the class always has."""
    return {
        each.name
        for each in dataclasses.fields(kind)
        if each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }


def _of_earlier(written: Mapping[str, Any]) -> dict[str, object]:
    """Fields that records of earlier versions lack, read from the names that have them."""
    found: dict[str, object] = {}
    named = _VARIANT.fullmatch(str(written.get("variant")))
    if named is not None:
        given, exporter, opset, precision = named.groups()
        found["exporter"] = given or exporter
        found["opset"] = None if opset is None else int(opset)
        found["precision"] = precision
    # a folder may have brackets too
    nodeid = str(written.get("nodeid"))
    if nodeid.endswith("]"):
        found["point"] = nodeid.rpartition("[")[2].removesuffix("]")
    return found
