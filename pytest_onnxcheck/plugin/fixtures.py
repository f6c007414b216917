"""Public fixtures. A project overrides any of them in its conftest.py, as with every fixture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark.plugin import benchmark as onnxcheck_torch_benchmark

from pytest_onnxcheck.plugin.benchmarks import Benchmarks
from pytest_onnxcheck.verdict import Grade, Verdict

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.artefacts.artefact import Artefact
    from pytest_onnxcheck.engine.builds import Builds
    from pytest_onnxcheck.engine.failure import Failure
    from pytest_onnxcheck.engine.oracle.oracle import Oracle
    from pytest_onnxcheck.engine.reference.reference import Reference
    from pytest_onnxcheck.engine.subject import Subject
    from pytest_onnxcheck.history import History
    from pytest_onnxcheck.manifest import Model, Variant
    from pytest_onnxcheck.measurement import EquivalenceMeasurement

__all__ = [
    "onnxcheck_artefact",
    "onnxcheck_baseline",
    "onnxcheck_benchmarks",
    "onnxcheck_builds",
    "onnxcheck_diagnosed",
    "onnxcheck_float_artefact",
    "onnxcheck_history",
    "onnxcheck_model",
    "onnxcheck_oracle",
    "onnxcheck_reference",
    "onnxcheck_report",
    "onnxcheck_torch_benchmark",
    "onnxcheck_variant",
]


@pytest.fixture
def onnxcheck_model(request: pytest.FixtureRequest) -> Model:
    """The model of the manifest this check belongs to."""
    model: Model = request.cls.model
    return model


@pytest.fixture
def onnxcheck_variant(request: pytest.FixtureRequest) -> Variant:
    """The variant this check belongs to: exporter, opset, precision, tolerance and budget."""
    variant: Variant = request.cls.variant
    return variant


@pytest.fixture(scope="session")
def onnxcheck_builds(pytestconfig: pytest.Config) -> Builds:
    """What builds references and artefacts, each once."""
    from pytest_onnxcheck.engine.builds import Builds
    from pytest_onnxcheck.plugin.settings import SETTINGS, build_cache

    settings = pytestconfig.stash[SETTINGS]
    return Builds(settings.artifacts, build_cache(settings)())


@pytest.fixture
def onnxcheck_reference(onnxcheck_builds: Builds, onnxcheck_model: Model) -> Reference:
    """The PyTorch model with its checkpoint, in eval mode: `.module`, `.config`, `.run(inputs)`.

    Fails when factory or checkpoint are wrong; further checks of the model then skip.
    """
    return onnxcheck_builds.reference(onnxcheck_model)


@pytest.fixture
def onnxcheck_oracle(onnxcheck_builds: Builds, onnxcheck_reference: Reference) -> Oracle:
    """What the model should give on every case: `.cases(variant)`, `.expected(case).outputs`.

    Fails when the reference's outputs are random or depend on earlier calls.
    """
    return onnxcheck_builds.oracle(onnxcheck_reference)


@pytest.fixture
def onnxcheck_float_artefact(
    onnxcheck_builds: Builds, onnxcheck_reference: Reference, onnxcheck_variant: Variant
) -> Artefact:
    """The exported fp32 artefact the variant is made from: `.path`, `.sha256`, `.size_bytes`."""
    return onnxcheck_builds.float_artefact(onnxcheck_reference, onnxcheck_variant)


@pytest.fixture
def onnxcheck_artefact(
    onnxcheck_builds: Builds, onnxcheck_reference: Reference, onnxcheck_variant: Variant
) -> Artefact:
    """The artefact of the variant: `.path`, `.sha256`, `.size_bytes`. Built once, then cached.

    Fails when export or quantization do; further checks that need it then skip.
    """
    return onnxcheck_builds.artefact(onnxcheck_reference, onnxcheck_variant)


@pytest.fixture
def onnxcheck_diagnosed(
    request: pytest.FixtureRequest,
    onnxcheck_builds: Builds,
    onnxcheck_reference: Reference,
) -> Callable[..., EquivalenceMeasurement]:
    """Adds to a failed measurement whose fault it is, where, and a folder that reproduces it.

    Called with a measurement, what was measured, the verdict on it, and what says whether another
    measurement fails (`judge.failure`).
    Leaves it as it is when it passed, or was expected to fail.
    """

    def diagnosed(
        measured: EquivalenceMeasurement,
        subject: Subject,
        verdict: Verdict,
        failure: Failure,
    ) -> EquivalenceMeasurement:
        expected = request.node.get_closest_marker("xfail") is not None
        if verdict.grade is not Grade.FAIL or expected:
            return measured
        from pytest_onnxcheck.engine.diagnosis.diagnose import diagnose

        worst = verdict.findings[0]
        diagnosis = diagnose(
            measured,
            subject,
            worst.where,
            str(worst),
            root=onnxcheck_builds.root,
            manifest=request.node.path,
            build=lambda variant: onnxcheck_builds.artefact(onnxcheck_reference, variant),
            failure=failure,
        )
        return dataclasses.replace(measured, diagnosis=diagnosis)

    return diagnosed


@pytest.fixture
def onnxcheck_baseline(onnxcheck_builds: Builds, onnxcheck_variant: Variant) -> Artefact | None:
    """The previous release's artefact, from the model's key `baseline`; None without one."""
    return onnxcheck_builds.baseline(onnxcheck_variant)


@pytest.fixture(scope="module")
def onnxcheck_history(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> History:
    """Latencies of earlier runs: `.before(model, variant, point)`, e.g. of point `cpu-batch8`."""
    from pytest_onnxcheck.history import History, relative
    from pytest_onnxcheck.plugin.settings import SETTINGS

    settings = pytestconfig.stash[SETTINGS]
    manifest = relative(request.path, pytestconfig.rootpath)
    return History(settings.history, accepting=settings.accept, manifest=manifest)


@pytest.fixture
def onnxcheck_benchmarks(
    request: pytest.FixtureRequest, benchmark: Any, onnxcheck_torch_benchmark: Any
) -> Benchmarks:
    """pytest-benchmark's entries of the two sides, for one measurement that fills both.

    They share the group `MODEL::VARIANT [TARGET-DIMS]` and are told apart by backend.
    """
    benchmarks = Benchmarks(onnxruntime=benchmark, torch=onnxcheck_torch_benchmark)
    benchmarks.label(*request.node.benchmark_labels())
    return benchmarks


@pytest.fixture
def onnxcheck_report(request: pytest.FixtureRequest) -> Callable[[Verdict, Any], None]:
    """Reports a verdict: `onnxcheck_report(verdict, measurement)`.

    Keeps both for the summary and the record, adds JUnit properties, and fails the test when the
    verdict is a failure.
    """
    report: Callable[[Verdict, Any], None] = request.node.report
    return report
