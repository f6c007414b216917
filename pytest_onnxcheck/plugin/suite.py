"""The generated tests. Each measures, judges and reports, in that order and no more."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest.model import latency_id
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.manifest.targets import EVALUATOR
from pytest_onnxcheck.measurement import LatencyMeasurement, PastRuns
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.artefacts.artefact import Artefact
    from pytest_onnxcheck.engine.builds import Builds
    from pytest_onnxcheck.engine.oracle.oracle import Oracle
    from pytest_onnxcheck.engine.reference.reference import Reference
    from pytest_onnxcheck.history import History
    from pytest_onnxcheck.manifest import Model, Variant
    from pytest_onnxcheck.plugin.benchmarks import Benchmarks

__all__ = ["OnnxChecks"]


Report = Callable[..., None]

_UNTIMED = "the reference evaluator is the specification in Python: its speed says nothing"


def _accelerated(model: Model) -> list[str]:
    """The model's targets from which nodes may fall to the CPU."""
    return [name for name in model.targets if model.target(name).accelerated]


class OnnxChecks:
    """The checks of one variant; subclass it to add your own (see `pytest_onnxcheck_suite`).

    Attributes:
        model: The model, set on the subclass made for each variant.
        variant: The variant, likewise.
        mutants: How many faults to put into each artefact; 0 for none.
        search_seconds: How long to look for inputs on which an artefact fails; 0 for not at all.
        recommend_seconds: How long to try other precisions and options; 0 for not at all.
    """

    pytestmark = pytest.mark.onnxcheck
    model: ClassVar[Model]
    variant: ClassVar[Variant]
    mutants: ClassVar[int] = 0
    search_seconds: ClassVar[float] = 0.0
    recommend_seconds: ClassVar[float] = 0.0

    @classmethod
    def of(
        cls,
        model: Model,
        variant: Variant,
        mutants: int = 0,
        search_seconds: float = 0.0,
        recommend_seconds: float = 0.0,
    ) -> type[OnnxChecks]:
        """A subclass for one variant, without the checks that make no sense for it."""
        members: dict[str, object] = {"model": model, "variant": variant}
        members |= {"mutants": mutants, "search_seconds": search_seconds}
        members["recommend_seconds"] = recommend_seconds
        if variant.precision == "fp32":
            members["test_quantization"] = None
        if not mutants:
            members["test_mutation"] = None
        if not recommend_seconds or variant.precision != "fp32" or variant.file is not None:
            members["test_recommend"] = None
        if not _accelerated(model):
            members["test_target"] = None
        if model.accuracy is None:
            members["test_accuracy"] = None
        if not model.may_release(variant):
            members["test_release"] = None
        return type(cls.__name__, (cls,), members)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Parametrises by target, and by dims where speed is measured, with plain strings."""
        targets, points = self.model.targets, self.model.latency_points()
        if "onnxcheck_dims" in metafunc.fixturenames:
            pairs = [(target, dims) for target in targets for dims in points]
            ids = [latency_id(*pair) for pair in pairs]
            metafunc.parametrize("onnxcheck_target,onnxcheck_dims", pairs, ids=ids)
        elif metafunc.function.__name__ == "test_target":
            metafunc.parametrize("onnxcheck_target", _accelerated(self.model))
        elif metafunc.function.__name__ == "test_equivalence":
            metafunc.parametrize("onnxcheck_target", self.model.compared_on)
        elif "onnxcheck_target" in metafunc.fixturenames:
            metafunc.parametrize("onnxcheck_target", targets)

    def _speed(self, measured: LatencyMeasurement, before: PastRuns) -> Verdict:
        budget = self.variant.budget
        speed = judge.latency(measured, self.variant.precision, budget)
        regression = judge.regression(measured, before, budget)
        return Verdict.of([*speed.findings, *regression.findings, *self._elsewhere(measured)])

    def _elsewhere(self, measured: LatencyMeasurement) -> list[Finding]:
        """That it was another device that was timed; lesser things are for `test_target` to say."""
        if measured.assignment is None:
            return []
        found = judge.target(measured.assignment, self.variant.budget).findings
        return [finding for finding in found if finding.grade is Grade.FAIL]

    def _limited(self, target: str) -> bool:
        """Whether there is a budget of speed or memory for a target."""
        budget = self.variant.budget
        return budget.max_regression is not None or target in budget.speed_targets()

    def _decided(self, measured: LatencyMeasurement, before: PastRuns) -> bool:
        """Whether that will do; a baseline to come is measured all the usual time."""
        enough = measured.seconds >= self.model.latency.seconds or not before.accepting
        return enough and self._speed(measured, before).decided

    @pytest.mark.export
    def test_export(
        self,
        onnxcheck_float_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_report: Report,
    ) -> None:
        """The model exports, and what was written is a valid ONNX file when read back."""
        from pytest_onnxcheck.engine.checks import export

        measured = export.measure(onnxcheck_float_artefact, onnxcheck_reference, self.variant)
        # other precisions are judged by their own file, in test_quantization
        budget = self.variant.budget if self.variant.precision == "fp32" else Budget()
        onnxcheck_report(judge.export(measured, budget), measured)

    @pytest.mark.quantization
    def test_quantization(
        self,
        onnxcheck_artefact: Artefact,
        onnxcheck_float_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_report: Report,
    ) -> None:
        """The artefact carries its precision, is valid, and is as small as the budget asks."""
        from pytest_onnxcheck.engine.checks import quantization

        measured = quantization.measure(
            onnxcheck_artefact, onnxcheck_float_artefact, onnxcheck_reference, self.variant
        )
        onnxcheck_report(judge.quantization(measured, self.variant.budget), measured)

    @pytest.mark.structure
    def test_structure(
        self,
        onnxcheck_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_report: Report,
    ) -> None:
        """Inputs, outputs, opset and operators are what the manifest declares."""
        from pytest_onnxcheck.engine.checks import structure

        measured = structure.measure(onnxcheck_artefact, onnxcheck_reference, self.variant)
        onnxcheck_report(judge.structure(measured), measured)

    @pytest.mark.target
    def test_target(
        self,
        onnxcheck_target: str,
        onnxcheck_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_report: Report,
    ) -> None:
        """An accelerator is there, is loaded, and runs the nodes itself."""
        from pytest_onnxcheck.engine.checks import target

        measured = target.measure(
            onnxcheck_artefact, onnxcheck_reference, self.model.target(onnxcheck_target)
        )
        onnxcheck_report(judge.target(measured, self.variant.budget), measured)

    @pytest.mark.equivalence
    def test_equivalence(
        self,
        onnxcheck_target: str,
        onnxcheck_artefact: Artefact,
        onnxcheck_float_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_builds: Builds,
        onnxcheck_diagnosed: Callable[..., Any],
        onnxcheck_report: Report,
    ) -> None:
        """The artefact computes what PyTorch computes, in every case."""
        from pytest_onnxcheck.engine.checks import equivalence
        from pytest_onnxcheck.engine.subject import Subject

        subject = Subject(
            onnxcheck_artefact,
            onnxcheck_float_artefact,
            # made here and not in a fixture: the time it takes is this check's
            onnxcheck_builds.oracle(onnxcheck_reference),
            self.variant,
            self.model.target(onnxcheck_target),
        )
        measured = equivalence.measure(subject)
        eight = self.variant.eight_bits
        if eight is not None and measured.saturation is not None:
            with contextlib.suppress(StageError):  # a remark is no reason to fail
                built = onnxcheck_builds.artefact(onnxcheck_reference, eight)
                measured = equivalence.beside_eight_bits(measured, subject, built)
        verdict = judge.equivalence(measured, self.variant.tolerance)
        if self.search_seconds and verdict.grade is not Grade.FAIL:
            measured = equivalence.searched(measured, subject, self.search_seconds, judge.failure)
            verdict = judge.equivalence(measured, self.variant.tolerance)
        onnxcheck_report(verdict, onnxcheck_diagnosed(measured, subject, verdict, judge.failure))

    @pytest.mark.release
    def test_release(
        self,
        onnxcheck_target: str,
        onnxcheck_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_builds: Builds,
        onnxcheck_report: Report,
    ) -> None:
        """The file that is released, without traces and paths, gives the artefact's own bits."""
        from pytest_onnxcheck.engine.checks import release

        measured = release.measure(
            onnxcheck_builds.stripped(onnxcheck_reference, self.variant),
            onnxcheck_artefact,
            onnxcheck_reference,
            self.variant,
            self.model.target(onnxcheck_target),
        )
        onnxcheck_report(judge.release(measured), measured)

    @pytest.mark.accuracy
    def test_accuracy(
        self,
        onnxcheck_target: str,
        onnxcheck_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_builds: Builds,
        onnxcheck_report: Report,
    ) -> None:
        """The artefact is as good at its task as PyTorch, on labelled data."""
        from pytest_onnxcheck.engine.checks import accuracy

        # made here and not in a fixture: the time it takes is this check's
        evaluation = onnxcheck_builds.evaluation(onnxcheck_reference)
        target = self.model.target(onnxcheck_target)
        measured = accuracy.measure(onnxcheck_artefact, evaluation, target)
        onnxcheck_report(judge.accuracy(measured, self.variant.max_drop), measured)

    @pytest.mark.mutation
    def test_mutation(
        self,
        onnxcheck_target: str,
        onnxcheck_artefact: Artefact,
        onnxcheck_oracle: Oracle,
        onnxcheck_report: Report,
    ) -> None:
        """The checks notice faults put into the artefact (`--onnxcheck-mutants`)."""
        from pytest_onnxcheck.engine.checks import mutation

        measured = mutation.measure(
            onnxcheck_artefact,
            onnxcheck_oracle,
            self.variant,
            self.model.target(onnxcheck_target),
            self.mutants,
            judge.failure,
        )
        if measured.unsound is not None:
            pytest.skip(f"the artefact itself fails, see test_equivalence: {measured.unsound}")
        onnxcheck_report(
            judge.mutation(measured, self.variant.tolerance.min_mutation_score), measured
        )

    # of a check that fails before it is timed, pytest-benchmark would say so
    @pytest.mark.filterwarnings("ignore:Benchmark fixture was not used at all")
    @pytest.mark.latency
    def test_latency(
        self,
        onnxcheck_target: str,
        onnxcheck_dims: str,
        onnxcheck_artefact: Artefact,
        onnxcheck_float_artefact: Artefact,
        onnxcheck_reference: Reference,
        onnxcheck_baseline: Artefact | None,
        onnxcheck_history: History,
        onnxcheck_benchmarks: Benchmarks,
        onnxcheck_report: Report,
        pytestconfig: pytest.Config,
    ) -> None:
        """The artefact is as fast as the budget asks: against PyTorch, fp32, and absolutely."""
        from pytest_onnxcheck.engine.checks import latency

        target, strict = self.model.target(onnxcheck_target), pytestconfig.stash[SETTINGS].strict
        if target.provider == EVALUATOR:
            onnxcheck_benchmarks.skip()
            pytest.skip(_UNTIMED)
        if onnxcheck_benchmarks.disabled:
            onnxcheck_benchmarks.skip()
            off = (
                "timing is off: --benchmark-disable, or pytest-xdist, whose workers disturb each "
                "other; run without it to measure"
            )
            if strict and self._limited(onnxcheck_target):
                pytest.fail(
                    f"{off}: --onnxcheck-strict wants its budget to be judged", pytrace=False
                )
            pytest.skip(off)
        dims = self.model.latency_points()[onnxcheck_dims]
        point = latency_id(onnxcheck_target, onnxcheck_dims)
        before = onnxcheck_history.before(self.model.name, self.variant.name, point)
        with onnxcheck_benchmarks.skipped_on_error():
            measured, rounds = latency.measure(
                onnxcheck_artefact,
                onnxcheck_float_artefact,
                onnxcheck_reference,
                target,
                dims,
                budget=self.variant.budget,
                baseline=onnxcheck_baseline,
                decided=lambda measured: self._decided(measured, before),
                record=onnxcheck_benchmarks.record,
            )
        onnxcheck_benchmarks.fill(rounds, self.model.name, measured)
        verdict = self._speed(measured, before)
        if (verdict.strict() if strict else verdict).grade is Grade.FAIL:
            onnxcheck_benchmarks.discard()
        onnxcheck_report(verdict, measured)

    @pytest.mark.recommend
    def test_recommend(
        self,
        onnxcheck_target: str,
        onnxcheck_builds: Builds,
        onnxcheck_reference: Reference,
        onnxcheck_report: Report,
    ) -> None:
        """Tries other precisions and options, and says which to use (`--onnxcheck-recommend`)."""
        from pytest_onnxcheck.engine.advice import recommend

        target = self.model.target(onnxcheck_target)
        if target.provider == EVALUATOR:
            pytest.skip(_UNTIMED)
        measured = recommend.measure(
            onnxcheck_builds,
            onnxcheck_reference,
            self.variant,
            target,
            self.recommend_seconds,
            judge.failure,
        )
        onnxcheck_report(judge.recommend(measured), measured)
