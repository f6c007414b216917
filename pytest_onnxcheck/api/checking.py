"""One artefact held against PyTorch outside pytest, by the checks and judges of the gate."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck import judge
from pytest_onnxcheck.errors import StageError, Unsupported
from pytest_onnxcheck.judge.quality import Closeness, closeness
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.verdict import Finding, Grade, Verdict
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.artefacts.artefact import Artefact
    from pytest_onnxcheck.engine.builds import Builds
    from pytest_onnxcheck.engine.reference.reference import Reference

__all__ = ["Checked", "check_artefact"]


@dataclass(frozen=True)
class Checked:
    """The verdict on one artefact.

    Attributes:
        grade: `pass`, `warn` or `fail`, of all checks together.
        failures: What failed, the worst first, with how to mend it.
        warnings: What was warned about.
        closeness: How far its outputs are from PyTorch's; None where it could not be run.
        margins: How much of each tolerance its outputs use up.
        unsupported: Why it could not be run here, where no kernels for its precision is why.
    """

    grade: str
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    closeness: Closeness | None
    unsupported: str | None = None
    margins: tuple[judge.Margin, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def check_artefact(
    builds: Builds,
    reference: Reference,
    variant: Variant,
    artefact: Artefact,
    float_artefact: Artefact,
    target: str = "cpu",
) -> Checked:
    """Measures and judges file, coverage, structure and outputs of an artefact.

    Args:
        builds: Keeps what PyTorch gives.
        reference: PyTorch.
        variant: What the artefact is to be.
        artefact: The artefact.
        float_artefact: The fp32 artefact that it was made from, or itself.
        target: Where it runs, by name.
    """
    from pytest_onnxcheck.engine.checks import equivalence, export, quantization, structure
    from pytest_onnxcheck.engine.quiet import caught_stderr
    from pytest_onnxcheck.engine.subject import Subject
    from pytest_onnxcheck.manifest.sections import Budget

    found: list[Finding] = []
    measured: list[Any] = []
    unsupported: list[str] = []

    def attempt(check: str, measure: Callable[[], Verdict]) -> None:
        try:
            with caught_stderr():  # ONNX Runtime repeats there what the errors say
                found.extend(measure().findings)
        except Unsupported as error:
            unsupported.append(one_line(error))
        except StageError as error:
            found.append(Finding(Grade.FAIL, check, str(error)))

    def of_export() -> Verdict:
        budget = variant.budget if variant.precision == "fp32" else Budget()
        return judge.export(export.measure(artefact, reference, variant), budget)

    def of_quantization() -> Verdict:
        made = quantization.measure(artefact, float_artefact, reference, variant)
        return judge.quantization(made, variant.budget)

    def of_equivalence() -> Verdict:
        oracle = builds.oracle(reference)
        on = reference.model.target(target)
        measured.append(equivalence.measure(Subject(artefact, float_artefact, oracle, variant, on)))
        return judge.equivalence(measured[0], variant.tolerance)

    attempt("export", of_export)
    if variant.precision != "fp32":
        attempt("quantization", of_quantization)
    attempt("structure", lambda: judge.structure(structure.measure(artefact, reference, variant)))
    attempt("equivalence", of_equivalence)
    verdict = Verdict.of(found)
    return Checked(
        grade=str(verdict.grade),
        failures=tuple(map(str, verdict.graded(Grade.FAIL))),
        warnings=tuple(map(str, verdict.graded(Grade.WARN))),
        closeness=closeness(measured[0]) if measured else None,
        unsupported=unsupported[0] if unsupported else None,
        margins=tuple(
            margin
            for each in measured
            for margin in judge.used(judge.limits("equivalence", target, variant), each)
        ),
    )
