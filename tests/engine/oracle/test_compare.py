"""Numbers about two arrays, against straightforward numpy."""

import warnings

import numpy as np
import pytest

from pytest_onnxcheck.engine.oracle.compare import compare
from pytest_onnxcheck.manifest.sections import Output, Tolerance

ANY = Output(shape=(1,))


def measure(expected, actual, *, declared=ANY, **tolerance):
    return compare("y", declared, np.asarray(expected), np.asarray(actual), Tolerance(**tolerance))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(7,), (3, 4), (2, 1, 5), ()])
def test_metrics_are_those_of_numpy(dtype, shape):
    rng = np.random.default_rng(0)
    expected = rng.normal(size=shape).astype(dtype)
    actual = (expected + rng.normal(size=shape) * 1e-2).astype(dtype)
    e, a = expected.astype(np.float64).ravel(), actual.astype(np.float64).ravel()
    found = measure(expected, actual)
    assert found.max_abs == pytest.approx(np.abs(a - e).max())
    assert found.mean_abs == pytest.approx(np.abs(a - e).mean())
    assert found.mse == pytest.approx(((a - e) ** 2).mean())
    assert found.max_rel == pytest.approx((np.abs(a - e) / np.abs(e)).max())
    assert found.cosine == pytest.approx(e @ a / np.linalg.norm(e) / np.linalg.norm(a))
    assert found.scale == np.abs(e).max()
    assert found.elements == e.size
    assert found.nonfinite == 0


def test_facts_of_both_sides_are_kept():
    found = measure(np.zeros((2, 3), "float32"), np.zeros((2, 3), "float64"))
    assert (found.expected_dtype, found.actual_dtype) == ("float32", "float64")
    assert (found.expected_shape, found.actual_shape) == ((2, 3), (2, 3))
    assert found.name == "y"


def test_differences_are_not_rounded_in_the_dtype_of_the_outputs():
    found = measure(np.float16([2048.0]), np.float16([1.0]))
    assert found.max_abs == 2047.0
    assert measure(np.float16([60000.0]), np.float16([-60000.0])).max_abs == 120000.0
    assert measure(np.float32([3e38]), np.float32([-3e38])).max_abs == pytest.approx(6e38)


# integers


def test_unsigned_integers_do_not_wrap():
    assert measure(np.uint8([1]), np.uint8([2])).max_abs == 1
    assert measure(np.uint8([2]), np.uint8([1])).max_abs == 1
    assert measure(np.uint8([0]), np.uint8([255])).max_abs == 255


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint64"])
def test_integer_extremes_are_exact(dtype):
    info = np.iinfo(dtype)
    found = measure(np.array([info.min, 0], dtype), np.array([info.max, 0], dtype))
    assert found.max_abs == float(int(info.max) - int(info.min))


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_an_off_by_one_among_large_integers_is_seen(dtype):
    top = np.iinfo(dtype).max
    assert measure(np.array([top], dtype), np.array([top - 1], dtype)).max_abs == 1
    assert measure(np.array([2**53], dtype), np.array([2**53 + 1], dtype)).max_abs == 1
    assert measure(np.array([top], dtype), np.array([top], dtype)).max_abs == 0


def test_an_off_by_one_at_the_lower_end_is_seen():
    low = np.iinfo(np.int64).min
    assert measure(np.array([low]), np.array([low + 1])).max_abs == 1


def test_booleans_differ_by_one():
    found = measure(np.array([True, False, True]), np.array([True, True, False]))
    assert found.max_abs == 1
    assert found.mean_abs == pytest.approx(2 / 3)


# NaN and infinity


def test_nan_and_infinity_in_the_same_places_agree():
    values = [np.nan, np.inf, -np.inf, 2.0]
    found = measure(values, values)
    assert found.nonfinite == 0
    assert (found.max_abs, found.cosine, found.scale) == (0.0, 1.0, 2.0)
    assert found.worst == ()


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (np.nan, 1.0),
        (1.0, np.nan),
        (np.inf, 1.0),
        (1.0, -np.inf),
        (np.inf, -np.inf),
        (np.nan, np.inf),
        (np.inf, np.nan),
    ],
)
def test_nan_or_infinity_on_one_side_is_counted(expected, actual):
    found = measure([1.0, expected, 3.0], [1.5, actual, 3.0])
    assert found.nonfinite == 1
    assert found.max_abs == 0.5
    assert found.worst[0].index == (1,)


def test_the_sign_of_nan_does_not_matter():
    assert measure([np.nan], [-np.nan]).nonfinite == 0


@pytest.mark.parametrize("low", [-3.4028234663852886e38, -1e9, -1e4])
def test_masks_hide_no_error_of_the_others(low):
    """Logits that are masked: beside -1e9, an error of a tenth is no part of the output."""
    expected = np.float32([[1.0, 2.0, low], [3.0, low, low]])
    actual = np.float32([[1.1, 2.2, low], [3.3, low, low]])
    found = measure(expected, actual)
    assert found.rel_rms == pytest.approx(0.1)
    assert (found.nonfinite, found.differing, found.elements) == (0, 3, 6)
    wrong = measure(expected, np.where(actual == low, np.float32(low * 0.9), actual))
    assert wrong.rel_rms == pytest.approx(0.1)
    assert wrong.max_abs == pytest.approx(-low * 0.1)


def test_what_is_all_as_low_is_no_mask():
    expected, actual = np.float32([-2e9, -1e9, 5e8]), np.float32([-2e9, -1e9, 6e8])
    assert measure(expected, actual).rel_rms == pytest.approx(1e8 / np.sqrt(5.25e18))
    assert measure(expected[:2], actual[:2]).max_abs == 0.0


def test_nothing_finite_leaves_no_metrics():
    found = measure([np.nan, np.inf], [np.nan, np.inf])
    assert (found.max_abs, found.cosine, found.outside_allclose) == (None, None, None)
    assert found.nonfinite == 0


def test_every_element_on_one_side_only():
    found = measure([np.nan, np.nan], [0.0, 1.0])
    assert found.nonfinite == 2
    assert found.max_abs is None


# shapes


@pytest.mark.parametrize(
    ("expected", "actual"), [((3, 1), (3,)), ((3,), (1,)), ((2, 3), (3, 2)), ((), (1,))]
)
def test_shapes_are_not_broadcast(expected, actual):
    found = measure(np.zeros(expected), np.zeros(actual))
    assert (found.expected_shape, found.actual_shape) == (expected, actual)
    assert (found.max_abs, found.mse, found.cosine) == (None, None, None)


def test_an_empty_output_has_no_metrics():
    found = measure(np.zeros((0, 3)), np.zeros((0, 3)))
    assert (found.elements, found.max_abs) == (0, None)


# cosine


def test_outputs_that_are_all_zero_are_alike():
    assert measure([0.0, 0.0], [0.0, 0.0]).cosine == 1.0


def test_an_output_that_is_zero_on_one_side_is_not_alike():
    assert measure([1.0, 0.0], [0.0, 0.0]).cosine == 0.0
    assert measure([0.0, 0.0], [1.0, 0.0]).cosine == 0.0


def test_opposite_outputs_have_cosine_minus_one():
    assert measure([1.0, 2.0], [-1.0, -2.0]).cosine == pytest.approx(-1.0)


@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-300])
def test_cosine_of_very_large_and_very_small_values(size):
    found = measure(np.array([1.0, 2.0]) * size, np.array([2.0, 1.0]) * size)
    assert found.cosine == pytest.approx(0.8)
    assert found.max_abs == pytest.approx(size)
    assert found.max_rel == pytest.approx(1.0)


def test_differences_beyond_float64_are_infinite():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = measure([1e308], [-1e308])
    assert found.max_abs == np.inf


def test_very_large_values_give_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure([1e200], [2e200])
        measure([1e308], [-1e308])
        measure([1e-320], [1.0])


# relative error


def test_relative_error_leaves_out_zeros():
    assert measure([0.0, 2.0], [1.0, 3.0]).max_rel == 0.5
    assert measure([0.0], [1.0]).max_rel == 0.0


# the worst elements


def test_the_worst_elements_come_first():
    expected = np.arange(12.0).reshape(3, 4)
    actual = expected.copy()
    actual[2, 1] += 3
    actual[0, 0] -= 2
    actual[1, 3] += 1
    found = measure(expected, actual).worst
    assert [(e.index, e.expected, e.actual) for e in found] == [
        ((2, 1), 9.0, 12.0),
        ((0, 0), 0.0, -2.0),
        ((1, 3), 7.0, 8.0),
    ]


def test_elements_that_are_not_equal_are_counted():
    assert measure([1, 2, 3, 4], [1, 0, 3, 5]).differing == 2
    assert measure([True, False], [True, True]).differing == 1
    assert measure([1.0, 2.0], [1.0, np.nextafter(2.0, 3.0)]).differing == 1
    assert measure([0.0], [-0.0]).differing == 0
    same = [np.nan, np.inf, -np.inf, 1.0]
    assert measure(same, same).differing == 0
    assert measure(same, [1.0, -np.inf, -np.inf, 1.0]).differing == 2
    assert measure([[1]], [[1]]).differing == 0


def test_at_most_five_worst_elements_are_kept():
    errors = np.array([3.0, 9.0, 1.0, 7.0, 5.0, 8.0, 2.0])
    found = measure(np.zeros(7), errors).worst
    assert [element.actual for element in found] == [9.0, 8.0, 7.0, 5.0, 3.0]


def test_equal_outputs_have_no_worst_elements():
    assert measure(np.ones(9), np.ones(9)).worst == ()


def test_a_difference_in_infinity_is_worse_than_any_number():
    found = measure([1.0, 1.0, np.inf], [1e30, 1.0, 1.0]).worst
    assert [element.index for element in found] == [(2,), (0,)]


def test_the_worst_element_of_a_scalar():
    (element,) = measure(3.0, 4.0).worst
    assert (element.index, element.expected, element.actual) == ((), 3.0, 4.0)


# allclose and ranges


def test_share_of_elements_outside_allclose():
    expected = np.array([0.0, 1.0, 100.0, -100.0])
    actual = expected + np.array([0.2, 0.0, 1.0, 3.0])
    found = measure(expected, actual, rtol=0.02, atol=0.1)
    assert found.outside_allclose == 1 - np.isclose(actual, expected, rtol=0.02, atol=0.1).mean()
    assert found.outside_allclose == 0.5


def test_the_limit_of_allclose_belongs_to_it():
    assert measure([2.0], [2.5], rtol=0.25, atol=0.0).outside_allclose == 0.0


def test_allclose_is_not_measured_without_rtol():
    assert measure([1.0], [2.0]).outside_allclose is None
    assert measure([1.0], [2.0], rtol=0.1).outside_allclose is None
    assert measure([1.0], [2.0], atol=0.1).outside_allclose is None


def test_share_of_elements_outside_the_declared_range():
    declared = Output(shape=(1,), range=(0.0, 1.0))
    found = measure([0.0, 1.0, 0.5, 1.1], [-0.1, 1.0, 2.0, np.nan], declared=declared)
    assert found.outside_range == 0.75
    assert found.expected_outside_range == 0.25


def test_no_declared_range_is_never_left():
    found = measure([1e9], [np.nan])
    assert (found.outside_range, found.expected_outside_range) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("expected", "actual", "share"),
    [
        ([[0.0, 1.0], [2.0, 1.0]], [[0.0, 5.0], [2.0, 1.0]], 1.0),
        ([[0.0, 1.0], [2.0, 1.0]], [[1.0, 0.0], [2.0, 1.0]], 0.5),
        ([[3.0, 3.0, 0.0]], [[0.0, 1.0, 0.0]], 1.0),  # PyTorch's own largest are equal
        ([[3.0, 3.0, 0.0]], [[0.0, 0.0, 1.0]], 0.0),
        ([[3.0, 2.0]], [[1.0, 1.0]], 1.0),  # the artefact's first
        ([[np.nan, 1.0, 0.5]], [[0.0, np.nan, 0.5]], 0.0),
        ([[np.nan, 1.0]], [[np.nan, 2.0]], 1.0),
        ([[np.inf, 1.0]], [[np.inf, 2.0]], 1.0),
    ],
)
def test_top1_is_the_share_of_rows_with_the_same_largest_element(expected, actual, share):
    assert measure(np.array(expected), np.array(actual)).top1 == share


def test_rows_lie_along_the_last_axis():
    expected = np.zeros((2, 3, 4), "float32")
    expected[..., 1] = 1
    actual = expected.copy()
    actual[1, 2, 3] = 2
    assert measure(expected, actual).top1 == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    "values",
    [np.float32([1.0, 2.0]), np.float32([[1.0], [2.0]]), np.array([[1, 2]]), np.zeros((0, 3))],
)
def test_without_rows_of_floats_there_is_no_top1(values):
    assert measure(values, values).top1 is None
