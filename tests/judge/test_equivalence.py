"""Outputs: judged red, and judged green."""

import dataclasses
import math

import pytest
from helpers import only

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import (
    BUILTIN_TOLERANCE,
    FIXED_TOLERANCE,
    METRICS,
    NOISE_FLOOR,
    Bounds,
    Tolerance,
)
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    FloorMeasurement,
    HeldTo,
    OutputMeasurement,
)
from pytest_onnxcheck.verdict import Grade

OFF = Tolerance()
EXACT = {"max_abs": 0.0, "mean_abs": 0.0, "mse": 0.0, "max_rel": 0.0, "cosine": 1.0}


def output(**changes):
    facts = {
        "name": "y",
        "expected_dtype": "float32",
        "actual_dtype": "float32",
        "expected_shape": (1, 2),
        "actual_shape": (1, 2),
        "elements": 2,
        "scale": 1.0,
        **EXACT,
    }
    return OutputMeasurement(**{**facts, **changes})


def equivalence(*outputs, tolerance=BUILTIN_TOLERANCE["fp32"]):
    cases = tuple(CaseMeasurement(f"draw{i}", (entry,)) for i, entry in enumerate(outputs))
    return judge.equivalence(
        EquivalenceMeasurement("cpu", "CPUExecutionProvider", cases), tolerance
    )


def output_with(metric, value):
    """An output on which a metric has a value; decibels follow from the relative error."""
    if metric == "sqnr_db":
        return output(rel_rms=10 ** (-value / 20))
    return output(**{metric: value})


def limits(metric, passes, fails):
    return Tolerance(**{metric: (passes, fails)})


def test_equal_outputs_pass():
    assert equivalence(output(), output()).findings == ()


def test_a_case_that_did_not_run_fails():
    case = CaseMeasurement("batch=2/draw0", error="ONNX Runtime: no")
    verdict = judge.equivalence(EquivalenceMeasurement("cpu", "CPU", (case,)), OFF)
    finding = only(verdict)
    assert finding.grade is Grade.FAIL
    assert str(finding) == "run [batch=2/draw0]: ONNX Runtime: no"


def test_no_case_at_all_is_no_pass():
    assert equivalence().grade is not Grade.PASS


def test_outputs_that_are_empty_in_every_case_are_no_pass():
    empty = output(expected_shape=(0,), actual_shape=(0,), elements=0, **dict.fromkeys(EXACT))
    assert equivalence(empty).grade is not Grade.PASS


def test_another_dtype_of_an_output_fails():
    finding = only(equivalence(output(actual_dtype="float64")))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "output 'y' dtype [draw0]: float64, PyTorch gives float32"


def test_another_shape_fails_and_nothing_else_is_told():
    wrong = output(actual_shape=(2,), max_abs=None, nonfinite=3, outside_range=1.0)
    finding = only(equivalence(wrong))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "output 'y' shape [draw0]: [2], PyTorch gives [1, 2]"


def test_nan_on_one_side_fails():
    finding = only(equivalence(output(nonfinite=1)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y' NaN or infinity [draw0]: 1 of 2 elements are NaN or infinite on one side "
        "only, or with another sign"
    )


@pytest.mark.parametrize("metric", [name for name, larger in METRICS.items() if not larger])
@pytest.mark.parametrize(
    ("value", "grade"),
    [
        (0.0, Grade.PASS),
        (0.25, Grade.PASS),
        (math.nextafter(0.25, 1), Grade.WARN),
        (0.5, Grade.WARN),
        (math.nextafter(0.5, 1), Grade.FAIL),
        (math.inf, Grade.FAIL),
        (math.nan, Grade.FAIL),
    ],
)
def test_a_metric_where_smaller_is_better_is_graded_at_its_bounds(metric, value, grade):
    verdict = equivalence(output(**{metric: value}), tolerance=limits(metric, 0.25, 0.5))
    assert verdict.grade is grade


@pytest.mark.parametrize(
    ("value", "grade"),
    [
        (1.0, Grade.PASS),
        (0.75, Grade.PASS),
        (math.nextafter(0.75, 0), Grade.WARN),
        (0.5, Grade.WARN),
        (math.nextafter(0.5, 0), Grade.FAIL),
        (-1.0, Grade.FAIL),
        (math.nan, Grade.FAIL),
    ],
)
def test_cosine_is_graded_at_its_bounds(value, grade):
    verdict = equivalence(output(cosine=value), tolerance=limits("cosine", 0.75, 0.5))
    assert verdict.grade is grade


@pytest.mark.parametrize("metric", METRICS)
def test_a_single_bound_knows_no_warning(metric):
    sign = -1 if METRICS[metric] else 1
    bound = 20.0 if metric == "sqnr_db" else 0.5
    tolerance = Tolerance(**{metric: bound})
    assert equivalence(output_with(metric, bound), tolerance=tolerance).grade is Grade.PASS
    beyond = output_with(metric, bound + sign * 0.01)
    assert equivalence(beyond, tolerance=tolerance).grade is Grade.FAIL


@pytest.mark.parametrize(
    ("rel_rms", "grade"),
    [
        (0.0, Grade.PASS),
        (0.1, Grade.PASS),
        (0.2, Grade.WARN),
        (1.0, Grade.FAIL),
        (math.inf, Grade.FAIL),
        (math.nan, Grade.FAIL),
        (None, Grade.PASS),
    ],
)
def test_a_signal_to_noise_ratio_is_graded_at_every_error(rel_rms, grade):
    tolerance = limits("sqnr_db", 20.0, 10.0)
    assert equivalence(output(rel_rms=rel_rms), tolerance=tolerance).grade is grade


def test_a_signal_to_noise_ratio_is_told_in_decibels():
    finding = only(equivalence(output(rel_rms=0.2), tolerance=limits("sqnr_db", 20, 10)))
    assert str(finding) == (
        "output 'y' sqnr_db [draw0]: 13.9794 dB, pass is at least 20 dB, fail beyond 10 dB"
    )


def test_rows_that_agree_too_seldom_fail():
    assert equivalence(output(top1=0.99), tolerance=limits("top1", 0.99, 0.9)).findings == ()
    finding = only(equivalence(output(top1=0.5), tolerance=limits("top1", 0.99, 0.9)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "output 'y' top1 [draw0]: 0.5, pass is at least 0.99, fail beyond 0.9"


def test_a_bound_on_rows_where_no_output_has_any_is_told():
    finding = only(equivalence(output(), output(), tolerance=limits("top1", 0.99, 0.9)))
    assert (finding.grade, str(finding)) == (
        Grade.WARN,
        "top1: not measured: no output has rows of at least two floats (tolerance.top1). "
        "Bound rel_rms or sqnr_db instead",
    )
    mixed = output(), output(top1=1.0)
    assert equivalence(*mixed, tolerance=limits("top1", 0.99, 0.9)).findings == ()
    # of an output of another shape no metric is known
    finding = only(equivalence(output(actual_shape=(9,)), tolerance=limits("top1", 0.99, 0.9)))
    assert finding.what == "output 'y' shape"


def test_values_that_float16_turns_to_zero_warn():
    names = tuple(f"layer{index}" for index in range(7))
    finding = only(judge.equivalence(one(outputs=(output(),), underflowed=names), OFF))
    assert finding.grade is Grade.WARN
    assert str(finding) == (
        "float16 underflow [probe]: most elements of layer0, layer1, layer2, layer3, layer4 and 2 "
        "more turn to zero where they are stored in float16, as on a GPU; here ONNX Runtime keeps "
        "them in float32. Leave their nodes in float32 (exclude_nodes or op_block_list), or use "
        "bf16"
    )


def test_small_constants_are_told_where_something_fails_and_nowhere_else():
    def judged(found):
        case = CaseMeasurement("draw0", (output(max_abs=found),))
        measured = EquivalenceMeasurement(
            "cpu", "CPU", (case,), small_constants=("eps (1e-09, here 5.96e-08)",)
        )
        return judge.equivalence(measured, limits("max_abs", 1e-5, 1e-4))

    failed, told = judged(1.0).findings
    assert (failed.grade, told.grade) == (Grade.FAIL, Grade.WARN)
    assert str(told) == (
        "float16 constants: too small to be held: eps (1e-09, here 5.96e-08). Leave them and the "
        "nodes that read them in float32 (exclude_nodes), write larger ones, or use bf16"
    )
    assert judged(0.0).findings == ()


def test_a_metric_is_told_as_measured_against_allowed():
    finding = only(equivalence(output(max_abs=3e-3), tolerance=limits("max_abs", 1e-5, 1e-4)))
    assert str(finding) == (
        "output 'y' max_abs [draw0]: 0.003, pass is at most 1e-05, fail beyond 0.0001"
    )
    finding = only(equivalence(output(cosine=0.9), tolerance=limits("cosine", 0.99, 0.95)))
    assert str(finding) == (
        "output 'y' cosine [draw0]: 0.9, pass is at least 0.99, fail beyond 0.95"
    )


@pytest.mark.parametrize(("metric", "value"), [("cosine", 0.99899999), ("max_abs", 0.0010000001)])
def test_a_value_just_beyond_its_bound_is_not_shown_as_the_bound(metric, value):
    bound = round(value, 3)
    finding = only(equivalence(output(**{metric: value}), tolerance=limits(metric, bound, bound)))
    shown = finding.text.split(",")[0]
    assert float(shown) != bound


def test_a_rescaled_int8_output_fails_although_its_cosine_is_perfect():
    rescaled = output(max_abs=4.0, mse=16.0, rel_rms=4.0, cosine=1.0)
    verdict = equivalence(rescaled, tolerance=BUILTIN_TOLERANCE["int8-static"])
    assert verdict.grade is Grade.FAIL
    assert verdict.reason == "output 'y' rel_rms [draw0]: 4, pass is at most 0.15, fail beyond 0.35"


def test_nan_on_both_sides_is_told():
    verdict = equivalence(output(expected_nan=1))
    assert verdict.grade is Grade.WARN
    assert "PyTorch itself gives NaN in 1 of " in verdict.reason


def test_an_output_of_pytorch_that_is_nan_throughout_is_nothing_to_compare_with():
    verdict = equivalence(output(expected_nan=2), output(expected_nan=2))
    assert verdict.grade is Grade.FAIL
    assert verdict.reason.startswith("output 'y': nothing was compared: PyTorch itself gives NaN")
    assert equivalence(output(expected_nan=2), output()).grade is Grade.WARN
    assert equivalence(output(expected_nan=2, given_nan=True)).grade is Grade.PASS


def test_a_metric_that_is_off_or_unset_is_not_judged():
    wrong = output(max_abs=9.0, mean_abs=9.0, mse=9.0, max_rel=9.0, cosine=-1.0)
    off = Tolerance(**dict.fromkeys(METRICS, "off"))
    assert equivalence(wrong, tolerance=off).findings == ()
    assert equivalence(wrong, tolerance=OFF).findings == ()


def test_every_metric_beyond_its_bound_is_told():
    tolerance = Tolerance(max_abs=1, mse=1, cosine=0.5)
    verdict = equivalence(output(max_abs=2.0, mse=2.0, cosine=0.0), tolerance=tolerance)
    assert [finding.what for finding in verdict.findings] == [
        "output 'y' max_abs",
        "output 'y' mse",
        "output 'y' cosine",
    ]


def test_elements_outside_allclose_fail():
    tolerance = Tolerance(rtol=1e-3, atol=1e-5)
    assert equivalence(output(outside_allclose=0.0), tolerance=tolerance).findings == ()
    finding = only(equivalence(output(outside_allclose=0.25), tolerance=tolerance))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y' allclose [draw0]: 25.00% of the elements are outside "
        "atol 1e-05 + rtol 0.001 x |PyTorch|"
    )


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_exact_whatever_the_tolerance(dtype):
    loose = Tolerance(max_abs=100, cosine=0)
    same = output(expected_dtype=dtype, actual_dtype=dtype)
    assert equivalence(same, tolerance=loose).findings == ()
    wrong = dataclasses.replace(same, max_abs=1.0, differing=1)
    finding = only(equivalence(wrong, tolerance=loose))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y' values [draw0]: differ in 1 of 2 elements, by up to 1; "
        f"{dtype} outputs are exact"
    )


def test_integers_that_differ_where_rounding_alone_changes_them_warn():
    facts = {"expected_dtype": "int64", "actual_dtype": "int64", "max_abs": 3.0, "differing": 2}
    finding = only(equivalence(output(**facts, tied=2, margin=8.0)))
    assert finding.grade is Grade.WARN
    assert str(finding) == (
        "output 'y' values [draw0]: differ in 2 of 2 elements, by up to 3; int64 outputs are "
        "exact, but the floats that decide these tie: PyTorch itself gives other values when its "
        "arithmetic is moved by 8 roundings"
    )
    assert only(equivalence(output(**facts, tied=2, margin=1.0))).text.endswith("by 1 rounding")
    assert only(equivalence(output(**facts, tied=1, margin=8.0))).grade is Grade.FAIL


def test_integers_that_came_as_nan_fail():
    wrong = output(expected_dtype="int64", actual_dtype="float32", max_abs=None, differing=2)
    verdict = equivalence(dataclasses.replace(wrong, nonfinite=2))
    assert verdict.grade is Grade.FAIL
    assert [finding.what for finding in verdict.findings] == [
        "output 'y' dtype",
        "output 'y' NaN or infinity",
        "output 'y' values",
    ]


# the noise floor


def floor(ratio, **changes):
    facts = {
        "source": "float64",
        "ratio": ratio,
        "error_worst": ratio * 1e-6,
        "error_rms": ratio * 5e-7,
        "floor_worst": 1e-6,
        "floor_rms": 5e-7,
        "torch_worst": 1e-6,
        "outside": 0.5,
        "unstable": 0,
        "nonfinite": 0,
    }
    return FloorMeasurement(**{**facts, **changes})


@pytest.mark.parametrize(
    ("ratio", "grade"),
    [
        (0.0, Grade.PASS),
        (8.0, Grade.PASS),
        (math.nextafter(8.0, 9.0), Grade.FAIL),
        (math.inf, Grade.FAIL),
        (math.nan, Grade.FAIL),
    ],
)
def test_an_error_may_be_as_many_floors_as_is_safe(ratio, grade):
    assert equivalence(output(floor=floor(ratio))).grade is grade


def test_an_error_beyond_its_floor_is_told_in_both_norms():
    finding = only(equivalence(output(floor=floor(20.0))))
    assert str(finding) == (
        "output 'y' error [draw0]: 20 noise floors, allowed 8: worst 2e-05 against 1e-06, "
        "root mean square 1e-05 against 5e-07"
    )


def test_an_error_smaller_than_pytorchs_own_is_told_so():
    finding = only(equivalence(output(floor=floor(20.0, torch_worst=3e-5))))
    assert finding.text.endswith("against 5e-07; PyTorch's own error is larger (3e-05)")


def test_the_safety_is_the_tolerances():
    tolerance = NOISE_FLOOR.model_copy(update={"safety": 32.0})
    assert equivalence(output(floor=floor(32.0)), tolerance=tolerance).findings == ()
    assert equivalence(output(floor=floor(33.0)), tolerance=tolerance).grade is Grade.FAIL


def test_thresholds_beside_the_noise_floor_hold_as_well():
    both = Tolerance(policy="noise-floor", safety=8.0, max_abs=0.5)
    assert equivalence(output(floor=floor(1.0), max_abs=0.5), tolerance=both).findings == ()
    finding = only(equivalence(output(floor=floor(1.0), max_abs=0.6), tolerance=both))
    assert (finding.grade, finding.what) == (Grade.FAIL, "output 'y' max_abs")
    finding = only(equivalence(output(floor=floor(9.0), max_abs=0.5), tolerance=both))
    assert (finding.grade, finding.what) == (Grade.FAIL, "output 'y' error")


def test_a_fixed_tolerance_does_not_look_at_the_floor():
    found = output(floor=floor(1e9), rel_rms=0.0)
    assert equivalence(found, tolerance=FIXED_TOLERANCE["fp32"]).findings == ()


ODD = {"max_abs": 0.5, "rel_rms": 0.5, "cosine": 0.5, "top1": 0.5, "outside_allclose": 1.0}
STRICT = {"max_abs": 0.1, "sqnr_db": 40.0, "cosine": 0.9, "top1": 1.0, "rtol": 0.0, "atol": 0.1}


@pytest.mark.parametrize("policy", ["fixed", "noise-floor"])
def test_on_a_probe_thresholds_count_only_beyond_the_noise_floor(policy):
    tolerance = Tolerance(policy=policy, **STRICT)
    explained = output(**ODD, floor=floor(8.0))
    assert judge.equivalence(one(outputs=(explained,), probe=True), tolerance).findings == ()
    assert len(judge.equivalence(one(outputs=(explained,)), tolerance).findings) == 5
    faulty = output(**ODD, floor=floor(9.0))
    assert len(judge.equivalence(one(outputs=(faulty,), probe=True), tolerance).findings) == 5
    unknown = output(**ODD)
    assert len(judge.equivalence(one(outputs=(unknown,), probe=True), tolerance).findings) == 5


def test_a_threshold_exceeded_on_a_probe_is_told_with_what_rounding_explains():
    fixed = Tolerance(policy="fixed", max_abs=(0.1, 0.2))
    found = output(max_abs=0.5, floor=floor(1234.5))
    finding = only(judge.equivalence(one(outputs=(found,), probe=True), fixed))
    assert (finding.grade, str(finding)) == (
        Grade.FAIL,
        "output 'y' max_abs [probe]: 0.5, pass is at most 0.1, fail beyond 0.2; rounding does not "
        "explain it: 1.23e+03 noise floors, allowed 8",
    )
    quantized = only(judge.equivalence(one(outputs=(output(max_abs=0.5),), probe=True), fixed))
    assert quantized.text == "0.5, pass is at most 0.1, fail beyond 0.2"
    inherited = fixed.model_copy(update={"safety": 2000.0})
    assert judge.equivalence(one(outputs=(found,), probe=True), inherited).findings == ()


def test_under_fixed_thresholds_a_floor_of_one_suspicious_probe_is_not_that_of_every_case():
    blind = output(max_abs=0.5, floor=floor(1.0, unstable=2, floor_worst=9.0))
    cases = (CaseMeasurement("draw0", (output(),)), CaseMeasurement("probe", (blind,), probe=True))
    measured = EquivalenceMeasurement("cpu", "CPU", cases)
    assert judge.equivalence(measured, Tolerance(policy="fixed", max_abs=0.1)).findings == ()


def test_nan_that_rounding_alone_brings_warns_and_other_nan_fails():
    finding = only(equivalence(output(nonfinite=1, floor=floor(1.0, unstable=1))))
    assert finding.grade is Grade.WARN
    assert str(finding) == (
        "output 'y' NaN or infinity [draw0]: 1 of 2 elements are NaN or infinite on one side "
        "only, which rounding alone does to them"
    )
    finding = only(equivalence(output(nonfinite=2, floor=floor(1.0, unstable=1, nonfinite=1))))
    assert finding.grade is Grade.FAIL
    assert finding.text.startswith("1 of 2 elements are NaN or infinite on one side only, or")


def test_an_output_that_rounding_alone_decides_in_every_case_fails():
    finding = only(equivalence(output(floor=floor(1.0, unstable=2))))
    assert finding.grade is Grade.FAIL
    assert finding.text.startswith("nothing was compared: in every case rounding alone")


def test_a_floor_as_large_as_the_output_is_told():
    blind = dataclasses.replace(floor(1.0), floor_worst=1.0)
    finding = only(equivalence(output(floor=blind, scale=4.0)))
    assert finding.grade is Grade.WARN
    assert finding.text.startswith("vacuous: in every case rounding alone may move it")
    assert equivalence(output(floor=blind, scale=9.0)).findings == ()


BROKEN = (
    "1 of 2 elements are NaN or infinite where PyTorch gives numbers (at most 1): the artefact has "
    "an exp, log, division or masked softmax that overflows or is undefined, where PyTorch "
    "computes it safely"
)


def test_elements_where_pytorch_leaves_its_domain_are_excused_and_no_others():
    own = output(nonfinite=1, floor=floor(1.0, nonfinite=1), undefined=True)
    finding = only(probe(own))
    assert finding.grade is Grade.WARN
    assert finding.text == (
        "1 of 2 elements are NaN or infinite on one side only, or with another sign; no failure, "
        "since PyTorch itself gives NaN or infinity in them"
    )
    outside = output(expected_outside_range=0.5, undefined=True)
    assert only(probe(outside)).grade is Grade.WARN
    others = output(nonfinite=2, floor=floor(1.0, nonfinite=2, broken=1), undefined=True)
    failed, told = probe(others).findings
    assert (failed.grade, failed.text) == (Grade.FAIL, BROKEN)
    assert (told.grade, told.text) == (Grade.WARN, finding.text)
    for wrong in (
        output(floor=floor(100.0), undefined=True),
        output(actual_shape=(3,), undefined=True),
    ):
        assert only(probe(wrong)).grade is Grade.FAIL


def test_numbers_of_pytorch_must_be_numbers_on_a_probe_of_any_magnitude():
    finding = only(probe(output(nonfinite=1, floor=floor(1.0, nonfinite=1, broken=1)), "no range"))
    assert (finding.grade, finding.text) == (Grade.FAIL, BROKEN)
    assert str(finding) == f"output 'y' NaN or infinity [probe]: {BROKEN}"
    assert only(probe(output(floor=floor(100.0)), "no range")).grade is Grade.WARN
    excused = output(nonfinite=1, floor=floor(1.0, unstable=1))
    assert only(probe(excused, "no range")).grade is Grade.WARN


def test_a_case_that_the_manifest_declares_outside_the_range_stays_a_warning():
    found = output(nonfinite=1, floor=floor(1.0, nonfinite=1, broken=1))
    verdict = judge.equivalence(one(outputs=(found,), lenient="outside"), NOISE_FLOOR)
    assert only(verdict).grade is Grade.WARN


def probe(found, lenient=None):
    measured = one(outputs=(found,), probe=True, lenient=lenient)
    return judge.equivalence(measured, NOISE_FLOOR)


def one(**facts):
    return EquivalenceMeasurement("cpu", "CPU", (CaseMeasurement("probe", **facts),))


def test_nan_of_pytorch_itself_on_a_probe_is_nothing_to_tell():
    found = output(expected_nan=1)
    assert judge.equivalence(one(outputs=(found,), probe=True), NOISE_FLOOR).findings == ()
    assert judge.equivalence(one(outputs=(found,)), NOISE_FLOOR).grade is Grade.WARN


LENIENT = "the manifest declares this case outside the model's range"


@pytest.mark.parametrize(
    "facts",
    [
        {"error": "ONNX Runtime: no"},
        {"outputs": (output(floor=floor(1e9)),)},
        {"outputs": (output(nonfinite=1),)},
        {"outputs": (output(actual_shape=(2,)),)},
        {"outputs": (output(expected_outside_range=1.0),)},
        {"outputs": (output(swapped_with="z"),)},
    ],
)
def test_what_fails_in_a_lenient_case_warns_and_says_why(facts):
    strict, lenient = one(**facts), one(**facts, lenient=LENIENT)
    (finding,) = judge.equivalence(strict, NOISE_FLOOR).graded(Grade.FAIL)
    verdict = judge.equivalence(lenient, NOISE_FLOOR)
    told = only(verdict)
    assert told.grade is Grade.WARN
    assert told.what == finding.what
    assert told.text == f"{finding.text}; no failure, since {LENIENT}"


def test_swapped_outputs_fail_and_name_each_other():
    finding = only(equivalence(output(swapped_with="z")))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y' values [draw0]: are those of output 'z': outputs are mixed up"
    )


def test_notes_about_the_reference_warn():
    measured = dataclasses.replace(one(outputs=(output(),)), notes=("changes its input",))
    finding = only(judge.equivalence(measured, NOISE_FLOOR))
    assert (finding.grade, str(finding)) == (Grade.WARN, "reference: changes its input")


def test_a_reference_that_does_not_run_in_float64_warns_where_a_floor_is_asked_for():
    measured = dataclasses.replace(one(outputs=(output(),)), no_float64="RuntimeError: no")
    finding = only(judge.equivalence(measured, NOISE_FLOOR))
    assert (finding.grade, str(finding)) == (
        Grade.WARN,
        "reference: does not run in float64 (RuntimeError: no): the noise floor is measured by "
        "perturbed runs in float32",
    )
    fixed = Tolerance(policy="fixed", max_abs=1)
    assert judge.equivalence(measured, fixed).findings == ()


def test_elements_outside_the_declared_range_fail():
    finding = only(equivalence(output(outside_range=0.5)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y' range [draw0]: 50.00% of the elements are outside the declared range"
    )


def test_a_reference_outside_its_own_range_fails():
    finding = only(equivalence(output(outside_range=0.5, expected_outside_range=0.5)))
    assert finding.grade is Grade.FAIL
    assert "PyTorch itself gives 50.00% of the elements outside the declared range" in finding.text


def test_outputs_near_zero_in_every_case_warn():
    verdict = equivalence(output(scale=1e-31), output(scale=judge.VACUOUS))
    finding = only(verdict)
    assert finding.grade is Grade.WARN
    assert finding.what == "output 'y'"
    assert finding.text.startswith("vacuous: |PyTorch| is at most 1e-12 in every case")


def test_an_output_above_zero_in_one_case_is_not_vacuous():
    assert equivalence(output(scale=0.0), output(scale=1e-11)).findings == ()


def test_each_output_is_vacuous_on_its_own():
    case = CaseMeasurement("draw0", (output(), output(name="z", scale=0.0)))
    verdict = judge.equivalence(EquivalenceMeasurement("cpu", "CPU", (case,)), OFF)
    assert only(verdict).what == "output 'z'"


def test_findings_name_their_case():
    tolerance = Tolerance(max_abs=1)
    verdict = equivalence(output(), output(max_abs=2.0), tolerance=tolerance)
    assert only(verdict).where == "draw1"


@pytest.mark.parametrize("precision", FIXED_TOLERANCE)
def test_fixed_tolerances_can_pass_and_fail(precision):
    tolerance = FIXED_TOLERANCE[precision]
    assert isinstance(tolerance.cosine, Bounds)
    assert equivalence(output(), tolerance=tolerance).grade is Grade.PASS
    beyond = output(cosine=tolerance.cosine.fails - 0.01)
    assert equivalence(beyond, tolerance=tolerance).grade is Grade.FAIL


@pytest.mark.parametrize("precision", BUILTIN_TOLERANCE)
def test_builtin_tolerances_can_pass_and_fail(precision):
    tolerance = BUILTIN_TOLERANCE[precision]
    assert equivalence(output(floor=floor(1.0)), tolerance=tolerance).grade is Grade.PASS
    wrong = output(cosine=FIXED_TOLERANCE[precision].cosine.fails - 0.01, floor=floor(100.0))
    assert equivalence(wrong, tolerance=tolerance).grade is Grade.FAIL


EMPTY = {"elements": 0, "expected_shape": (0, 2), "actual_shape": (0, 2)}


def test_an_output_that_is_empty_in_every_case_warns_unless_it_is_declared_so():
    other = output(name="boxes", **EMPTY)
    cases = (CaseMeasurement("draw0", (output(), other)),)
    measured = EquivalenceMeasurement("cpu", "CPUExecutionProvider", cases)
    finding = only(judge.equivalence(measured, BUILTIN_TOLERANCE["fp32"]))
    assert (finding.grade, finding.what) == (Grade.WARN, "output 'boxes'")
    assert finding.text.startswith("nothing was compared: it is empty in every case. Give a case")
    declared = dataclasses.replace(other, without_elements=True)
    cases = (CaseMeasurement("draw0", (output(), declared)),)
    measured = dataclasses.replace(measured, cases=cases)
    assert judge.equivalence(measured, BUILTIN_TOLERANCE["fp32"]).findings == ()


def test_elements_of_cases_outside_the_range_alone_are_no_pass():
    cases = (
        CaseMeasurement("draw0", (output(**EMPTY),)),
        CaseMeasurement("probe", (output(),), lenient="no range is declared"),
    )
    measured = EquivalenceMeasurement(
        "cpu", "CPUExecutionProvider", cases, held_to=HeldTo(cases=1, probes=1)
    )
    verdict = judge.equivalence(measured, BUILTIN_TOLERANCE["fp32"])
    assert verdict.grade is Grade.FAIL
    assert any("nothing was compared: 1 cases, no elements" in f.text for f in verdict.findings)
