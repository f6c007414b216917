"""Verdicts about 8-bit products on CPUs unlike the one that measured them."""

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import BUILTIN_TOLERANCE
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    OutputMeasurement,
    PortabilityMeasurement,
    SaturatedLayer,
    SaturationMeasurement,
)
from pytest_onnxcheck.verdict import Grade

INT8 = BUILTIN_TOLERANCE["int8-static"]
LAYERS = (
    SaturatedLayer("/2/Gemm_quant", "QGemm", 0.4, 0.125),
    SaturatedLayer("/0/Gemm_quant", "QGemm", 0.3, 0.01),
    SaturatedLayer("/4/Gemm_quant", "QGemm", 0.002, 0.0),
)
THERE = "batch=1, on x86 without VNNI"


def output(rel_rms):
    shape = (1, 4)
    return OutputMeasurement(
        "y",
        expected_shape=shape,
        actual_shape=shape,
        expected_dtype="float32",
        actual_dtype="float32",
        elements=4,
        scale=1.0,
        max_abs=rel_rms,
        rel_rms=rel_rms,
        cosine=1.0,
    )


def measured(found, *, here=0.01, there=None, lenient=None, portability=None):
    """A case on this machine, and the same as another CPU computes it."""
    cases = [CaseMeasurement("batch=1", (output(here),))]
    if there is not None:
        cases.append(CaseMeasurement(THERE, (output(there),), cpu="x86-avx2", lenient=lenient))
    return EquivalenceMeasurement(
        "cpu", "CPUExecutionProvider", tuple(cases), saturation=found, portability=portability
    )


def findings(given):
    verdict = judge.equivalence(given, INT8)
    return verdict.grade, [str(finding) for finding in verdict.findings]


def test_what_fails_there_fails_and_names_the_layers_and_the_ways_out():
    grade, (first, second) = findings(measured(SaturationMeasurement(LAYERS), there=0.9))
    assert grade is Grade.FAIL
    assert first == (f"output 'y' rel_rms [{THERE}]: 0.9, pass is at most 0.15, fail beyond 0.35")
    assert second == (
        "x86 without VNNI: products of 8 bits saturate in 2 layers: /2/Gemm_quant (QGemm, 12.50% "
        "of its pairs), /0/Gemm_quant (QGemm, 1.00% of its pairs). Quantize the weights to 7 bits "
        '(reduce_range = true, the default of what the plugin quantizes), or take "x86-avx2" out '
        'of `cpus` if it never runs there, or set "session.x64quantprecision" = "1" in '
        "[targets.cpu.session_options] and wherever it runs"
    )


def test_what_is_within_the_tolerance_there_passes_and_is_told():
    grade, (only,) = findings(measured(SaturationMeasurement(LAYERS), there=0.1))
    assert grade is Grade.PASS
    assert only.startswith("x86 without VNNI: products of 8 bits saturate in 2 layers: ")
    assert only.endswith(", within the tolerance")


def test_where_the_manifest_leaves_such_cpus_out_it_only_warns():
    found = SaturationMeasurement(LAYERS, included=False)
    grade, (warning, remark) = findings(measured(found, there=0.9, lenient="left out"))
    assert grade is Grade.WARN
    assert warning.endswith("fail beyond 0.35; no failure, since left out")
    assert remark.endswith("the manifest's `cpus` leave such CPUs out")


def test_on_such_a_machine_the_run_itself_fails():
    found = SaturationMeasurement(LAYERS, here=True)
    grade, (first, second) = findings(measured(found, here=0.9))
    assert grade is Grade.FAIL
    assert "[batch=1]" in first
    assert "saturate in 2 layers" in second
    assert "Quantize the weights to 7 bits" in second


@pytest.mark.parametrize("there", [0.1, 0.9])
def test_a_failure_of_another_cause_is_not_laid_to_saturation(there):
    grade, found = findings(measured(SaturationMeasurement(LAYERS), here=0.9, there=there))
    assert grade is Grade.FAIL
    assert found[-1].endswith("; it fails where nothing saturates too")


def test_what_could_not_be_told_fails_when_strict():
    given = measured(SaturationMeasurement(unknown="QAttention 'a': not known"))
    verdict = judge.equivalence(given, INT8)
    assert (verdict.grade, verdict.strict().grade) == (Grade.WARN, Grade.FAIL)


@pytest.mark.parametrize(
    ("found", "grade", "text"),
    [
        (
            SaturationMeasurement(),
            Grade.PASS,
            "gives the same: no pair of its weights can saturate",
        ),
        (
            SaturationMeasurement(LAYERS[2:]),
            Grade.PASS,
            "1 layer: /4/Gemm_quant (QGemm, 0.20% of its pairs of weights) could saturate; no pair "
            "did",
        ),
        (
            SaturationMeasurement(LAYERS[2:], prevented=True),
            Grade.PASS,
            "1 layer: /4/Gemm_quant (QGemm, 0.20% of its pairs of weights) could saturate; "
            "session.x64quantprecision prevents it, and has to be set wherever the artefact runs",
        ),
        (
            SaturationMeasurement(problem="QAttention is not known"),
            Grade.WARN,
            "what the artefact gives there could not be computed (QAttention is not known): 8-bit "
            'weights may saturate. Run the gate on such a CPU, or take "x86-avx2" out of `cpus`',
        ),
        (
            SaturationMeasurement((SaturatedLayer("/a", "MatMulInteger", None),), prevented=True),
            Grade.PASS,
            "1 layer: /a (MatMulInteger, of computed weights) could saturate; "
            "session.x64quantprecision prevents it, and has to be set wherever the artefact runs",
        ),
    ],
)
def test_what_is_said_without_a_difference(found, grade, text):
    assert findings(measured(found)) == (grade, [f"x86 without VNNI: {text}"])


@pytest.mark.parametrize("change", [{"included": False}, {"prevented": True}, {"here": True}])
def test_what_is_not_known_does_not_matter_where_it_is_not_needed(change):
    given = measured(SaturationMeasurement(problem="QAttention is not known", **change))
    assert findings(given) == (Grade.PASS, [])


@pytest.mark.parametrize(
    ("here", "eight", "grade", "text"),
    [
        (0.01, 44.0, Grade.PASS, "cost 4.0 dB (40.0 dB, 44.0 dB with 8)"),
        (0.01, 38.0, Grade.PASS, "cost nothing (40.0 dB, 38.0 dB with 8)"),
        (0.2, 44.0, Grade.WARN, "cost 4.0 dB (40.0 dB, 44.0 dB with 8)"),
    ],
)
def test_what_portable_weights_cost_is_told_with_the_way_out(here, eight, grade, text):
    given = measured(None, here=here, portability=PortabilityMeasurement(40.0, eight))
    found = next(
        finding
        for finding in judge.equivalence(given, INT8).findings
        if finding.what == "weights of 7 bits"
    )
    assert found.grade is grade
    assert found.text == (
        f"{text}, for the sake of x86 without VNNI. If the artefact never runs there: "
        'cpus = ["x86-vnni", "arm64"]'
    )
