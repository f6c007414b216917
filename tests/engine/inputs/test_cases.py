"""Inputs of cases: what the manifest says, the same every time."""

import re

import numpy as np
import pytest

from pytest_onnxcheck.engine.inputs.cases import (
    declared_cases,
    example,
    example_dims,
    fill_inputs,
)
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import load_manifest

NET = """
import torch


def make():
    return torch.nn.Identity()
"""


@pytest.fixture
def reference(tmp_path):
    """Makes the reference of a model with the given inputs."""
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")

    def make(inputs, *, model="", name="net", seed=0, extra=""):
        path = tmp_path / "models.toml"
        tables = "\n".join(f"[models.{name}.inputs.{key}]\n{v}" for key, v in inputs.items())
        path.write_text(
            f'schema = 1\nseed = {seed}\n[models.{name}]\nfactory = "net.py:make"\n{model}\n'
            f"{tables}\n[models.{name}.outputs.out]\nshape = [1]\n{extra}\n",
            encoding="utf-8",
        )
        manifest = load_manifest(path)
        manifest.check()
        return load_reference(manifest.models[name])

    return make


def fill(reference, lines, *, case="case", draw=0, **dims):
    """The array of one input described by lines of TOML."""
    written = ", ".join(f"{dim} = [{size}]" for dim, size in dims.items())
    made = reference({"x": lines}, model=f"dims = {{ {written} }}")
    return fill_inputs(made, dims, case, draw)["x"]


def equal(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


TWO = {"x": "shape = [3, 4]", "ids": 'shape = [5]\ndtype = "int64"\nrange = [0, 999]'}


# determinism


def test_the_same_case_gives_the_same_arrays(reference):
    first = fill_inputs(reference(TWO), {}, "draw0", 0)
    again = fill_inputs(reference(TWO), {}, "draw0", 0)
    assert equal(first, again)


def test_cases_models_and_seeds_give_other_arrays(reference):
    base = fill_inputs(reference(TWO), {}, "draw0", 0)
    others = [
        fill_inputs(reference(TWO), {}, "draw1", 0),
        fill_inputs(reference(TWO, name="other"), {}, "draw0", 0),
        fill_inputs(reference(TWO, seed=1), {}, "draw0", 0),
        fill_inputs(reference(TWO, model="seed = 1"), {}, "draw0", 0),
    ]
    for other in others:
        assert not np.array_equal(base["x"], other["x"])
        assert not np.array_equal(base["ids"], other["ids"])


def test_two_inputs_of_one_kind_differ(reference):
    made = reference({"a": "shape = [8]", "b": "shape = [8]"})
    arrays = fill_inputs(made, {}, "draw0", 0)
    assert not np.array_equal(arrays["a"], arrays["b"])


def test_numpys_global_state_does_not_matter(reference):
    made = reference(TWO)
    np.random.seed(1)
    first = fill_inputs(made, {}, "draw0", 0)
    np.random.seed(2)
    assert equal(first, fill_inputs(made, {}, "draw0", 0))


# kinds of fill


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_normal_unless_said_otherwise(reference, dtype):
    array = fill(reference, f'shape = [100, 200]\ndtype = "{dtype}"')
    assert (array.dtype.name, array.shape) == (dtype, (100, 200))
    assert abs(array.astype("float64").mean()) < 0.05
    assert abs(array.astype("float64").std() - 1) < 0.05
    assert array.flags.c_contiguous


def test_normal_has_the_mean_and_the_deviation_asked_for(reference):
    array = fill(reference, 'shape = [10000]\nfill = "normal"\nmean = 5\nstd = 0.5')
    assert array.mean() == pytest.approx(5, abs=0.05)
    assert array.std() == pytest.approx(0.5, abs=0.05)


def test_normal_stays_in_its_range(reference):
    array = fill(reference, 'shape = [1000]\nfill = "normal"\nrange = [-0.5, 0.25]')
    assert (array.min(), array.max()) == (-0.5, 0.25)


def test_uniform_fills_its_range(reference):
    array = fill(reference, 'shape = [10000]\nfill = "uniform"\nrange = [2, 4]')
    assert 2 <= array.min() < 2.01
    assert 3.99 < array.max() <= 4
    assert array.mean() == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("int64", 0, 2), ("int32", -2, 1), ("int8", -128, 127), ("uint8", 0, 255), ("int16", 7, 7)],
)
def test_integers_hold_both_ends_of_their_range(reference, dtype, low, high):
    array = fill(reference, f'shape = [20000]\ndtype = "{dtype}"\nrange = [{low}, {high}]')
    assert array.dtype.name == dtype
    assert (array.min(), array.max()) == (low, high)
    assert len(np.unique(array)) == high - low + 1


def test_integers_as_floats_are_whole(reference):
    array = fill(reference, 'shape = [1000]\nfill = "integers"\nrange = [-1, 1]')
    assert array.dtype.name == "float32"
    assert set(array.tolist()) == {-1.0, 0.0, 1.0}


def test_the_widest_range_of_int64_can_be_drawn(reference):
    info = np.iinfo(np.int64)
    array = fill(reference, f'shape = [64]\ndtype = "int64"\nrange = [{info.min}, {info.max}]')
    assert array.min() < 0 < array.max()


def test_large_integer_ends_are_exact(reference):
    end = 2**53 + 1
    array = fill(reference, f'shape = [4]\ndtype = "int64"\nrange = [{end}, {end}]')
    assert array.tolist() == [end] * 4


def test_booleans_are_both(reference):
    array = fill(reference, 'shape = [100]\ndtype = "bool"')
    assert array.dtype.name == "bool"
    assert set(array.tolist()) == {False, True}


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [("float32", "0.5", 0.5), ("int64", "3", 3), ("bool", "1", True), ("float32", "-inf", -np.inf)],
)
def test_constant_is_everywhere(reference, dtype, value, expected):
    lines = f'shape = [2, 2]\ndtype = "{dtype}"\nfill = "constant"\nvalue = {value}'
    if dtype == "int64":
        lines += "\nrange = [0, 9]"
    array = fill(reference, lines)
    assert array.dtype.name == dtype
    assert array.tolist() == [[expected] * 2] * 2


def test_symbolic_dims_take_their_values(reference):
    made = reference(
        {"x": 'shape = ["batch", 3, "time"]'}, model="dims = { batch = [1, 2], time = [5] }"
    )
    array = fill_inputs(made, {"batch": 2, "time": 7}, "case", 0)["x"]
    assert array.shape == (2, 3, 7)


def test_a_scalar_input(reference):
    assert fill(reference, "shape = []").shape == ()


# files

FROM_FILE = 'fill = "file"\nfile = "data.{suffix}"\n'


@pytest.fixture
def data(tmp_path):
    array = np.arange(12, dtype="float32").reshape(4, 3)
    np.save(tmp_path / "data.npy", array)
    np.savez(tmp_path / "data.npz", x=array, other=array + 100)
    return array


def test_a_npy_gives_one_example_per_draw(reference, data):
    lines = "shape = [3]\n" + FROM_FILE.format(suffix="npy")
    for draw in range(4):
        assert np.array_equal(fill(reference, lines, draw=draw), data[draw])


def test_examples_start_again_after_the_last(reference, data):
    lines = "shape = [3]\n" + FROM_FILE.format(suffix="npy")
    assert np.array_equal(fill(reference, lines, draw=5), data[1])


def test_a_npz_gives_the_array_of_the_inputs_name(reference, data):
    lines = "shape = [3]\n" + FROM_FILE.format(suffix="npz")
    assert np.array_equal(fill(reference, lines), data[0])


def test_a_npz_gives_the_array_of_a_key(reference, data):
    lines = 'shape = [3]\nkey = "other"\n' + FROM_FILE.format(suffix="npz")
    assert np.array_equal(fill(reference, lines, draw=2), data[2] + 100)


def test_a_batched_input_takes_as_many_examples_as_the_batch(reference, data):
    lines = 'shape = ["batch", 3]\n' + FROM_FILE.format(suffix="npy")
    assert np.array_equal(fill(reference, lines, batch=2), data[:2])
    assert np.array_equal(fill(reference, lines, batch=2, draw=1), data[2:])
    assert np.array_equal(fill(reference, lines, batch=3, draw=1), data[[3, 0, 1]])
    assert np.array_equal(fill(reference, lines, batch=6), data[[0, 1, 2, 3, 0, 1]])


def test_a_file_of_another_dtype_is_refused(reference, tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((2, 3)))
    with pytest.raises(InputError) as caught:
        fill(reference, "shape = [3]\n" + FROM_FILE.format(suffix="npy"))
    assert str(caught.value) == (
        "net: input 'x' is float64 where it comes from, declared float32: "
        "give it with .astype('float32')"
    )


def test_a_file_of_another_shape_is_refused(reference, data, tmp_path):
    with pytest.raises(InputError) as caught:
        fill(reference, "shape = [5]\n" + FROM_FILE.format(suffix="npy"))
    assert str(caught.value) == (
        f"{tmp_path / 'data.npy'}: input 'x': examples give [3], declared [5]"
    )


def test_a_missing_file_is_named(reference, tmp_path):
    with pytest.raises(InputError, match=r"data\.npy: not found"):
        fill(reference, "shape = [3]\n" + FROM_FILE.format(suffix="npy"))


def test_a_missing_array_names_those_there(reference, data):
    lines = 'shape = [3]\nkey = "y"\n' + FROM_FILE.format(suffix="npz")
    with pytest.raises(InputError, match=r"data\.npz: no array 'y'; it holds 'x', 'other'"):
        fill(reference, lines)


def test_a_file_without_examples_is_refused(reference, tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((0, 3), "float32"))
    with pytest.raises(InputError, match="no examples of input 'x'"):
        fill(reference, "shape = [3]\n" + FROM_FILE.format(suffix="npy"))


def test_a_file_with_a_single_number_is_refused(reference, tmp_path):
    np.save(tmp_path / "data.npy", np.float32(3))
    with pytest.raises(InputError, match=r"data\.npy"):
        fill(reference, "shape = []\n" + FROM_FILE.format(suffix="npy"))


# cases


def test_cases_are_draws_for_every_combination_of_dims(reference):
    made = reference({"x": 'shape = ["batch", 2]'}, model="dims = { batch = [1, 3] }\ndraws = 2")
    cases = declared_cases(made)
    assert {case.name: case.inputs["x"].shape for case in cases} == {
        "batch=1/draw0": (1, 2),
        "batch=1/draw1": (1, 2),
        "batch=3/draw0": (3, 2),
        "batch=3/draw1": (3, 2),
    }
    assert not np.array_equal(cases[0].inputs["x"], cases[1].inputs["x"])


def test_a_model_without_dims_has_its_draws(reference):
    cases = declared_cases(reference({"x": "shape = [2]"}, model="draws = 3"))
    assert [case.name for case in cases] == ["draw0", "draw1", "draw2"]


def test_cases_of_ones_own_come_last_and_as_they_are(reference, tmp_path):
    own = {"x": np.full((2,), 7, "float32"), "m": np.array([True])}
    np.savez(tmp_path / "own.npz", **own)
    made = reference(
        {"x": "shape = [2]", "m": 'shape = [1]\ndtype = "bool"'},
        model="draws = 1",
        extra='[models.net.cases.mine]\nfile = "own.npz"',
    )
    cases = declared_cases(made)
    assert [case.name for case in cases] == ["draw0", "case:mine"]
    assert equal(cases[1].inputs, own)


def test_a_model_has_one_draw_unless_said_otherwise(reference):
    cases = declared_cases(reference({"x": "shape = [2]"}))
    assert [case.name for case in cases] == ["draw0"]


def test_a_case_outside_the_range_is_marked_and_no_other(reference, tmp_path):
    for name in ("far", "near"):
        np.savez(tmp_path / f"{name}.npz", x=np.full(2, 7, "float32"))
    made = reference(
        {"x": "shape = [2]"},
        extra="[models.net.cases]\nfar = { file = 'far.npz', outside_range = true }\n"
        "near.file = 'near.npz'",
    )
    marked = {case.name: bool(case.lenient) for case in declared_cases(made)}
    assert marked == {"draw0": False, "case:far": True, "case:near": False}
    assert not any(case.probe for case in declared_cases(made))


def test_a_case_of_ones_own_of_another_dtype_is_refused(reference, tmp_path):
    np.savez(tmp_path / "own.npz", x=np.zeros(2))
    made = reference({"x": "shape = [2]"}, extra='[models.net.cases.mine]\nfile = "own.npz"')
    with pytest.raises(InputError, match="float64 where it comes from, declared float32"):
        declared_cases(made)


def test_a_case_of_ones_own_without_an_input_is_refused(reference, tmp_path):
    np.savez(tmp_path / "own.npz", y=np.zeros(2))
    made = reference({"x": "shape = [2]"}, extra='[models.net.cases.mine]\nfile = "own.npz"')
    with pytest.raises(InputError, match=r"own\.npz: no array 'x'; it holds 'y'"):
        declared_cases(made)


# what is exported with


@pytest.mark.parametrize(("values", "size"), [("[1, 4, 2]", 4), ("[3, 1]", 3), ("[1]", 2)])
def test_the_example_has_sizes_above_one(reference, values, size):
    made = reference({"x": 'shape = ["batch", 2]'}, model=f"dims = {{ batch = {values} }}")
    assert example_dims(made.model) == {"batch": size}
    assert example(made)["x"].shape == (size, 2)


def own_source(reference, tmp_path, body):
    (tmp_path / "own.py").write_text(f"import numpy as np\n\ndef own():\n    {body}\n")
    return reference(
        {"x": "shape = [2]"},
        model="draws = 1",
        extra='[models.net.cases.mine]\nsource = "own.py:own"\noutside_range = true',
    )


def test_a_callable_gives_a_case(reference, tmp_path):
    cases = declared_cases(own_source(reference, tmp_path, "return {'x': np.ones(2, 'float32')}"))
    assert [case.name for case in cases] == ["draw0", "case:mine"]
    assert cases[1].lenient
    assert not cases[0].lenient


def test_a_callable_gives_several_cases(reference, tmp_path):
    body = "return ({'x': np.full(2, n, 'float32')} for n in (1, 2))"
    cases = declared_cases(own_source(reference, tmp_path, body))
    assert [case.name for case in cases] == ["draw0", "case:mine/0", "case:mine/1"]
    assert cases[2].inputs["x"].tolist() == [2, 2]


def test_the_example_is_exported_with_and_compared(reference, tmp_path):
    np.savez(tmp_path / "usual.npz", x=np.full(2, 7, "float32"))
    made = reference({"x": "shape = [2]"}, model='example = "usual.npz"')
    assert example(made)["x"].tolist() == [7, 7]
    assert [case.name for case in declared_cases(made)] == ["example", "draw0"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return []", "case 'mine': own.py:own() gave no inputs"),
        ("raise KeyError('n')", "case 'mine': own.py:own() failed: KeyError: 'n'"),
        ("return {'y': np.ones(2)}", "gives ['y'], expected a dict of arrays by input name: x"),
        ("return [np.ones(2)]", "gives a ndarray, expected a dict of arrays by input name: x"),
        ("return {'x': np.ones(2)}", "float64 where it comes from, declared float32"),
    ],
)
def test_a_callable_that_gives_no_inputs_is_told(reference, tmp_path, body, message):
    with pytest.raises(InputError, match=re.escape(message)):
        declared_cases(own_source(reference, tmp_path, body))
