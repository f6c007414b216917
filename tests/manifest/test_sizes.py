"""Sizes in shapes: dims, expressions of dims, and what is neither."""

import pytest

from pytest_onnxcheck.manifest.sizes import (
    SizeError,
    dim_values,
    dims_in,
    fits,
    names_in,
    shape_at,
    size_at,
)

DIMS = {"past": 0, "new": 4, "height": 112, "min": 3, "time-steps": 7}


@pytest.mark.parametrize(
    ("size", "value"),
    [
        (3, 3),
        (0, 0),
        ("past", 0),
        ("past + new", 4),
        ("2 * height", 224),
        ("height // 32", 3),
        ("ceil(height / 32)", 4),
        ("floor(height / 32)", 3),
        ("(height + 31) // 32 - 1", 3),
        ("height / 2 / 2", 28),
        ("height / 32 * 2", 7),  # exact: the fraction comes to a whole number
        ("min(past, new)", 0),
        ("max(past, new, 1)", 4),
        ("-past", 0),
        (" new ", 4),
        ("min(min, new)", 3),  # a dim may be called as a function is
        ("time-steps", 7),  # a declared name is that dim, whatever it looks like
    ],
)
def test_a_size_is_computed_exactly(size, value):
    assert size_at(size, DIMS) == value


@pytest.mark.parametrize(
    ("size", "text"),
    [
        ("height / 32", "'height / 32' is 3.5 at height = 112, which is no size"),
        ("past - new", "'past - new' is -4 at past = 0, new = 4, and a size is at least 0"),
        ("new // past", "'new // past' divides by 0 at new = 4, past = 0"),
        ("new + width", "the size of 'width' is not known"),
        ("new new", "'new new' cannot be read: an expression is made of dims"),
        ("", "'' cannot be read"),
        ("new ** 2", "'new ** 2' has no meaning here"),
        ("2 + new.size", "'new.size' in '2 + new.size' has no meaning here"),
        ("1.5 * new", "'1.5' in '1.5 * new' has no meaning here"),
        ("new + True", "'True' in 'new + True' has no meaning here"),
        ("__import__('os')", "there is no __import__()"),
        ("(lambda: 1)()", "has no meaning here"),
        ("ceil(new, 2)", "ceil() takes one size"),
        ("max(new)", "max() takes two sizes or more"),
        ("max(*new, 1)", "has no meaning here"),
    ],
)
def test_what_is_no_size_is_told(size, text):
    with pytest.raises(SizeError) as caught:
        size_at(size, DIMS)
    assert text in str(caught.value)


def test_dims_are_found_wherever_they_stand():
    assert names_in("max(new, past) + new", DIMS) == ("new", "past")
    assert names_in("time-steps", DIMS) == ("time-steps",)
    assert names_in("any", DIMS) == names_in(4, DIMS) == ()
    assert dims_in([(1, "past + new"), ("height", "any")], DIMS) == {"past", "new", "height"}


def test_shapes_fit_where_every_size_is_whole():
    assert shape_at(("new", "past + new", 2), DIMS) == (4, 4, 2)
    assert fits([("new",), ("height / 2",)], DIMS)
    assert not fits([("new",), ("height / 32",)], DIMS)


# combinations of dims


def test_all_combinations_of_few_dims():
    assert dim_values({"batch": (1, 2), "time": (5, 6)}) == [
        {"batch": 1, "time": 5},
        {"batch": 1, "time": 6},
        {"batch": 2, "time": 5},
        {"batch": 2, "time": 6},
    ]
    assert dim_values({}) == [{}]


def test_sixteen_combinations_are_few():
    assert len(dim_values({"a": (1, 2, 3, 4), "b": (1, 2, 3, 4)})) == 16


def test_many_dims_are_swept_one_at_a_time():
    found = dim_values({"a": (1, 2, 3), "b": (1, 2, 3), "c": (1, 2)})
    assert found == [
        {"a": 1, "b": 1, "c": 1},
        {"a": 2, "b": 1, "c": 1},
        {"a": 3, "b": 1, "c": 1},
        {"a": 1, "b": 2, "c": 1},
        {"a": 1, "b": 3, "c": 1},
        {"a": 1, "b": 1, "c": 2},
        {"a": 3, "b": 3, "c": 2},
    ]


@pytest.mark.parametrize(
    "dims", [{"a": tuple(range(1, 18))}, {"a": tuple(range(1, 18)), "b": (4,)}]
)
def test_no_combination_comes_twice(dims):
    found = dim_values(dims)
    assert len(found) == 17
    assert len({tuple(entry.items()) for entry in found}) == 17
