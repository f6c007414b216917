"""Tries precisions and options that the manifest does not list, and says which is best."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from pytest_onnxcheck.engine.advice import sensitivity
from pytest_onnxcheck.engine.advice.pace import NoTime, Pace
from pytest_onnxcheck.engine.advice.sensitivity import measure_cases
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks import accuracy, export, quantization
from pytest_onnxcheck.engine.checks.latency import timed
from pytest_onnxcheck.engine.convert.quantize import resolved_options
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.speed.sides import open_sides
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.manifest.writing import needed_options, variant_toml
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    LatencyMeasurement,
    RecipeTrial,
    RecommendMeasurement,
)
from pytest_onnxcheck.preference import preferred
from pytest_onnxcheck.progress import stage

__all__ = ["RECIPES", "measure"]

Options = dict[str, object]

#: what is tried, in this order (what mostly pays on a CPU first, and entropy late, which takes long
#: to build): precision, and options beside those of the manifest; behind them, where no int8-static
#: will do, that of the manifest with its most sensitive nodes in float
RECIPES: tuple[tuple[str, Options], ...] = (
    ("int8-dynamic", {}),
    ("int8-static", {}),
    ("fp16", {}),
    ("int8-static", {"method": "percentile", "percentile": 99.99}),
    ("int8-static", {"symmetric": True, "activation_type": "int8"}),
    ("int8-static", {"method": "entropy"}),
    ("int4-weight", {}),
    ("int4-weight", {"block_size": 128}),
)

_TIMED_SECONDS = 0.3

#: how long calibrating takes by method, in runs of the fp32 artefact on the same data; of entropy
#: in small nets, where it was 12 to 25 times as long as with minmax
_RUNS = {"minmax": 2.0, "percentile": 4.0, "entropy": 40.0}

#: the parts of a trial after its build
_COMPARING, _SCORING, _TIMING = "comparing", "scoring", "timing"


def measure(
    builds: Builds,
    reference: Reference,
    variant: Variant,
    target: Target,
    seconds: float,
    failure: Failure,
) -> RecommendMeasurement:
    """Tries recipes on the declared cases until the time is spent.

    Args:
        builds: Makes the artefacts.
        reference: The model.
        variant: The fp32 variant they are made from.
        target: Where to run them.
        seconds: How long to try, with what is needed before the first; no part of a trial is begun
            that would take longer if it took as long as others of its kind did.
        failure: The gate's own judgement of each measurement.

    Raises:
        ExportError: There is no fp32 artefact.
        InputError: PyTorch does not run on the inputs, or on the labelled samples.
        TargetAbsent: The target is not on this machine.
        RunError: The fp32 artefact does not load there.
    """
    pace = Pace(seconds)
    trials = _Trials(builds, reference, variant, target, failure, pace)
    # one that takes too long is no reason to leave out a shorter one behind it
    untried = sum(not trials.attempt(*recipe) for recipe in trials.recipes())
    if not untried and (options := trials.exclusion()) is not None:
        untried += not trials.attempt("int8-static", options)
    costs = [_costs(trial) for trial in trials.tried]
    best = preferred(costs)
    pays = best is not None and preferred([trials.costs_of_fp32(), costs[best]]) == 1
    return RecommendMeasurement(
        target.name,
        seconds,
        tuple(trials.tried),
        untried,
        best,
        pays,
        _toml(reference.model, *trials.made[best]) if best is not None and pays else None,
    )


class _Trials:
    """The recipes tried so far.

    Attributes:
        tried: What came of them.
        made: Their variants and, where they could be built, artefacts.
    """

    def __init__(
        self,
        builds: Builds,
        reference: Reference,
        variant: Variant,
        target: Target,
        failure: Failure,
        pace: Pace,
    ) -> None:
        self.tried: list[RecipeTrial] = []
        self.made: list[tuple[Variant, Artefact | None]] = []
        self._builds, self._reference, self._failure = builds, reference, failure
        self._variant, self._target, self._pace = variant, target, pace
        self._float = builds.artefact(reference, variant)
        # what would stop every recipe is told at once
        session = open_session(self._float, target)
        self._oracle = builds.oracle(reference)
        if reference.model.accuracy is not None:
            begun = time.monotonic()
            builds.evaluation(reference)
            pace.expect(_SCORING, time.monotonic() - begun)  # nothing, if it was done before
        begun = time.monotonic()
        session.run(self._oracle.declared[0].inputs)
        self._one_run = time.monotonic() - begun

    def recipes(self) -> list[tuple[str, Options]]:
        """The recipes, without those that the manifest's own options make the same."""
        distinct: dict[str, tuple[str, Options]] = {}
        for precision, options in RECIPES:
            made = resolved_options(self._variant_of(precision, options))
            distinct.setdefault(f"{precision} {made}", (precision, options))
        return list(distinct.values())

    def costs_of_fp32(self) -> tuple[float, float, float] | None:
        """Those of the fp32 artefact; None where the file is not sound, or breaks its budget."""
        file = export.measure(self._float, self._reference, self._variant)
        if self._failure(file, self._variant) is not None:
            return None
        return 1.0, self._float.size_bytes, 0.0

    def attempt(self, precision: str, options: Options) -> bool:
        """Builds, measures and judges one recipe; what goes wrong is its problem.

        Returns:
            Whether there was time for all of it.
        """
        started = time.monotonic()
        variant = self._variant_of(precision, options)
        facts: dict[str, Any] = {}
        self.made.append((variant, None))
        try:
            with stage("trying", self._reference.model.name, precision):
                problem = next((found for found in self._problems(variant, facts) if found), None)
        except NoTime:
            self.made.pop()
            return False
        except StageError as error:
            problem = str(error)
        seconds = round(time.monotonic() - started, 3)
        self.tried.append(
            RecipeTrial(
                precision, needed_options(variant), problem=problem, seconds=seconds, **facts
            )
        )
        return True

    def _variant_of(self, precision: str, options: Options) -> Variant:
        model = self._reference.model
        variant = model.variant(self._variant.exporter, self._variant.opset, precision)
        quantization = variant.quantization.model_copy(update=options)
        return dataclasses.replace(variant, quantization=quantization)

    def _problems(self, variant: Variant, facts: dict[str, Any]) -> Iterator[str | None]:
        """Measures from what costs least to what costs most, and judges each at once."""
        scored = self._reference.model.accuracy is not None
        behind = (_COMPARING, *([_SCORING] if scored else []), _TIMING)
        with self._pace.part(self._building(variant), *behind):
            artefact = self._builds.artefact(self._reference, variant)
        self.made[-1] = variant, artefact
        facts |= {
            "size_bytes": artefact.size_bytes,
            "size_ratio": artefact.size_bytes / self._float.size_bytes,
        }
        file = quantization.measure(artefact, self._float, self._reference, variant)
        facts["coverage"] = file.coverage.compute if file.coverage is not None else None
        yield self._failure(file, variant)
        cases = self._oracle.declared
        with self._pace.part(*behind):
            outputs = measure_cases(self._subject(artefact, variant), cases)
        facts["rel_rms"] = outputs.worst("rel_rms")
        yield self._failure(outputs, variant)
        if scored:
            evaluation = self._builds.evaluation(self._reference)
            with self._pace.part(*behind[1:]):
                measured = accuracy.measure(artefact, evaluation, self._target)
            yield self._failure(measured, variant)
        with self._pace.part(_TIMING):
            speed = self._speed(artefact)
        facts |= {"speedup": speed.speedup, "speedup_over_fp32": speed.speedup_over_fp32}
        yield self._failure(speed, variant)

    def _building(self, variant: Variant) -> str:
        """The name of a build's part, with what it is expected to take where it calibrates.

        That is, from a run of the fp32 artefact, and from what builds by other methods took: an
        artefact that was built before takes no time, and tells nothing.
        """
        if not variant.traits.calibrated:
            return f"building {variant.precision}"
        method = str(resolved_options(variant).get("method"))
        runs = len(self._builds.calibration(self._reference).batches) * self._one_run
        known = [self._pace.seen(f"building by {other}") / _RUNS[other] for other in _RUNS]
        if method in _RUNS:
            self._pace.expect(f"building by {method}", _RUNS[method] * max(runs, *known))
        return f"building by {method}"

    def _subject(self, artefact: Artefact, variant: Variant) -> Subject:
        return Subject(artefact, self._float, self._oracle, variant, self._target)

    def _speed(self, artefact: Artefact) -> LatencyMeasurement:
        """A short measurement at the first point of the manifest's."""
        dims = next(iter(self._reference.model.latency_points().values()))
        sides = open_sides(artefact, self._float, self._reference, self._target)
        return timed(sides, self._reference, dims, _TIMED_SECONDS)

    def exclusion(self) -> Options | None:
        """Options with which the manifest's int8-static leaves its worst nodes in float.

        None where an int8-static already meets everything, none could be run, or there is no time.
        """
        candidates = [
            (trial, *made)
            for trial, made in zip(self.tried, self.made, strict=True)
            if trial.precision == "int8-static" and trial.rel_rms is not None
        ]
        if not candidates or any(trial.problem is None for trial, *_ in candidates):
            return None
        trial, variant, artefact = candidates[0]
        assert artefact is not None
        subject = self._subject(artefact, variant)
        built = self._building(variant)
        try:  # what ranks the nodes takes about as long as another build, and a set of them does
            self._pace.require(built, built, _COMPARING, _COMPARING)
        except NoTime:
            return None
        cases = measure_cases(subject, self._oracle.declared)
        if self._failure(cases, variant) is None:  # it is size or speed that will not do
            return None
        worst = max(cases.cases, key=_loss)
        case = self._oracle.case(worst.case)
        assert case is not None
        try:
            found = sensitivity.measure(
                subject,
                case,
                build=lambda changed: self._builds.artefact(self._reference, changed),
                failure=self._failure,
                seconds=self._pace.left - self._pace.seen(built) - self._pace.seen(_COMPARING),
            )
        except StageError:
            return None
        if not found.tried or found.tried[-1].size_ratio >= 1:
            return None
        return {**trial.options, "exclude_nodes": found.tried[-1].nodes}


def _loss(case: CaseMeasurement) -> float:
    return max((output.rel_rms or 0.0 for output in case.outputs), default=0.0)


def _costs(trial: RecipeTrial) -> tuple[float, float, float] | None:
    """Its time as a share of fp32's, its bytes and its loss; None where it will not do."""
    if trial.problem is not None or trial.speedup_over_fp32 is None or trial.size_bytes is None:
        return None
    return 1 / trial.speedup_over_fp32, trial.size_bytes, trial.rel_rms or 0.0


def _toml(model: Model, variant: Variant, artefact: Artefact | None) -> str:
    """What the manifest must say for a variant, and whether it should name real data as well."""
    lines = [variant_toml(model, variant)]
    calibration = artefact.notes.calibration if artefact is not None else None
    if calibration and calibration.random:
        lines.append("# its ranges come from random draws: name real data in calibration")
    return "\n".join(lines)
