"""Probes: what they promise about sizes, ranges and kinds."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_onnxcheck.engine.inputs.cases import example_dims
from pytest_onnxcheck.engine.inputs.probes import ORDINARY, probes
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import Input

BASE = """
schema = 1
[models.net]
factory = "net.py:make"
[models.net.inputs.x]
shape = [1]
[models.net.outputs.out]
shape = [1]
"""
NONFINITE = {"nan", "infinity", "nan row"}

IDS = {"dtype": "int64", "range": (0, 999)}
MASK = {"dtype": "bool", "fill": "mask", "empty_rows": True}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("probes") / "models.toml"
    path.write_text(BASE, encoding="utf-8")
    return load_manifest(path).models["net"]


@pytest.fixture(scope="module")
def reference(base):
    """Makes the reference of a model with the given inputs; its module is never run."""

    def make(inputs, dims=None, *, nonfinite=(), **fields):
        entries = {
            name: Input(**keys, nonfinite=name in nonfinite) for name, keys in inputs.items()
        }
        model = dataclasses.replace(base, inputs=entries, dims=dims or {}, **fields)
        shapes = {name: entry.shape for name, entry in entries.items()}
        return Reference(model, None, shapes)

    return make


def arrays(made, name="x"):
    """Kind -> array of an input, over the probes that vary it."""
    return {
        probe.kinds[name]: probe.case(made).inputs[name]
        for probe in probes(made)
        if probe.kinds[name] != ORDINARY
    }


def labels(made):
    return [probe.name.removeprefix("probe:").split("/")[0] for probe in probes(made)]


# sizes


def test_undeclared_sizes_come_first(reference):
    dims = {"batch": (1, 2, 8), "time": (1, 16, 64)}
    made = reference({"x": {"shape": ("batch", "time")}}, dims)
    first, second, third, *_ = probes(made)
    assert [first.name, second.name] == [
        "probe:ordinary/batch=3/time=2",
        "probe:ordinary/batch=4/time=3",
    ]
    assert third.name.startswith("probe:negative/")
    assert first.case(made).inputs["x"].shape == (3, 2)


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        ((1, 8), [3, 2]),
        ((2, 3, 4, 9), [5, 6]),
        ((1, 3), [2]),
        ((8, 6), [7]),
        ((1, 2), []),
        ((5,), []),
    ],
)
def test_undeclared_sizes_lie_strictly_inside(reference, declared, expected):
    made = reference({"x": {"shape": ("batch",)}}, {"batch": declared})
    sizes = [
        probe.dims["batch"] for probe in probes(made) if set(probe.kinds.values()) == {ORDINARY}
    ]
    assert sizes == expected


def test_neighbouring_dims_get_different_undeclared_sizes(reference):
    made = reference({"x": {"shape": ("a", "b")}}, {"a": (1, 8), "b": (1, 8)})
    assert [probe.dims for probe in probes(made)[:2]] == [{"a": 3, "b": 2}, {"a": 2, "b": 3}]


def test_a_dim_without_undeclared_sizes_keeps_its_own(reference):
    made = reference({"x": {"shape": ("a", "b")}}, {"a": (1, 2), "b": (1, 8)})
    assert [probe.dims for probe in probes(made)[:2]] == [{"a": 1, "b": 2}, {"a": 2, "b": 3}]


def test_small_sizes_come_first_and_the_exported_one_last(reference):
    made = reference({"x": {"shape": ("batch", 3)}}, {"batch": (2, 4, 64)})
    values = [probe.dims["batch"] for probe in probes(made)[2:]]
    assert values[:6] == [3, 4, 6, 64, 2, 3]


def test_sizes_of_1_take_their_turn(reference):
    made = reference({"x": {"shape": ("batch", "time")}}, {"batch": (1, 2), "time": (1, 7)})
    sizes = [tuple(probe.dims.values()) for probe in probes(made)]
    assert sizes[:2] == [(1, 2), (2, 3)]
    assert set(sizes) >= {(1, 1), (1, 7), (2, 1), (2, 7)}


def test_kinds_along_an_axis_get_more_than_one_element_of_it(reference):
    inputs = {"x": {"shape": ("batch", "time")}, "m": {"shape": ("batch", "time"), **MASK}}
    found = probes(reference(inputs, {"batch": (1, 2), "time": (1, 7)}))
    kinds = {"sorted", "ties", "one row false", "right padding", "alternating", "one-hot"}
    along = [probe for probe in found if kinds & set(probe.kinds.values())]
    assert len(along) == len(kinds)
    assert all(1 not in probe.dims.values() for probe in along)


def test_a_dim_that_is_always_1_is_no_reason_to_use_others_at_1(reference):
    dims = {"batch": (1,), "time": (1, 16)}
    found = probes(reference({"m": {"shape": ("batch", "time"), **MASK}}, dims))
    padded = next(probe for probe in found if probe.kinds["m"] == "right padding")
    assert padded.dims["time"] > 1


def test_first_kinds_have_other_sizes_than_exported(reference):
    for values in ((1, 2), (2, 3), (1, 2, 8)):
        made = reference({"x": {"shape": ("batch", 4)}}, {"batch": values})
        exported = example_dims(made.model)
        assert probes(made)[0].dims != exported
        first = next(probe for probe in probes(made) if probe.kinds["x"] != ORDINARY)
        assert first.dims != exported


def test_a_model_without_dims_has_its_kinds(reference):
    found = probes(reference({"x": {"shape": (2, 3)}}))
    assert found[0].name == "probe:negative"
    assert all(probe.dims == {} for probe in found)


def test_one_declared_size_is_the_only_one(reference):
    found = probes(reference({"x": {"shape": ("batch",)}}, {"batch": (1,)}))
    assert {probe.dims["batch"] for probe in found} == {1}


# names and determinism

MIXED = {
    "x": {"shape": ("batch", "time", 4)},
    "image": {"shape": ("batch", 6), "range": (0.0, 1.0)},
    "ids": {"shape": ("batch", "time"), **IDS},
    "mask": {"shape": ("batch", "time"), **MASK},
}
DIMS = {"batch": (1, 2, 5), "time": (1, 7)}


def test_the_most_revealing_come_first(reference):
    assert labels(reference(MIXED, DIMS)) == [
        "ordinary",
        "ordinary",
        "negative",
        "normal x3",
        "normal x1000",
        "mask all false",
        "mask one row false",
        "mask right padding",
        "zeros",
        "sorted",
        "ties",
        "integers low end",
        "integers high end",
        "integers ends alternating",
        "normal x0.001",
        "normal x30",
        "mixed scales",
        "ones",
        "integers repeated",
        "sparse",
        "one-hot",
        "constant rows",
        "mask left padding",
        "mask single true",
        "mask alternating",
        "integers sorted",
        "integers middle",
        "integers arange",
        "positive",
        "uniform",
        "integers uniform",
        "mask all true",
        "only x",
        "only image",
    ]


def test_names_are_unique(reference):
    made = reference(MIXED, DIMS, nonfinite=["x"])
    names = [probe.name for probe in probes(made)]
    assert len(set(names)) == len(names)
    cases = [probe.case(made) for probe in probes(made)]
    assert [case.name for case in cases] == names
    assert all(case.probe for case in cases)


def test_the_same_probes_give_the_same_arrays(reference):
    for one, other in zip(
        probes(reference(MIXED, DIMS)), probes(reference(MIXED, DIMS)), strict=True
    ):
        assert one == other
        first, again = (one.case(reference(MIXED, DIMS)).inputs for _ in range(2))
        for name in MIXED:
            np.testing.assert_array_equal(first[name], again[name])


def test_models_seeds_and_inputs_give_other_arrays(reference):
    inputs = {"x": {"shape": (8,)}, "y": {"shape": (8,)}}
    made = [reference(inputs), reference(inputs, seed=1), reference(inputs, name="other")]
    drawn = [array for one in made for array in probes(one)[0].case(one).inputs.values()]
    assert len({array.tobytes() for array in drawn}) == 6


def test_listing_fills_no_array(reference):
    assert len(probes(reference({"x": {"shape": (10**6, 10**6)}}))) > 5


# which input gets which kind


def test_inputs_of_a_family_vary_together_and_the_others_stay(reference):
    made = reference(MIXED, DIMS)
    kinds = {probe.name.split("/")[0]: probe.kinds for probe in probes(made)}
    assert kinds["probe:ordinary"] == {
        "x": ORDINARY, "image": ORDINARY, "ids": ORDINARY, "mask": "all true",
    }  # fmt: skip
    assert kinds["probe:negative"] == {
        "x": "negative", "image": "low end", "ids": ORDINARY, "mask": "all true",
    }  # fmt: skip
    assert kinds["probe:mask right padding"] == {
        "x": ORDINARY, "image": ORDINARY, "ids": ORDINARY, "mask": "right padding",
    }  # fmt: skip
    assert kinds["probe:integers low end"] == {
        "x": ORDINARY, "image": ORDINARY, "ids": "low end", "mask": "all true",
    }  # fmt: skip


@pytest.mark.parametrize("keys", [{"dtype": "int64", "range": (0, 1)}, {"dtype": "bool"}])
def test_what_is_0_or_1_may_be_0_in_whole_rows(reference, keys):
    made = reference({"flags": {"shape": (2, 3), **keys}})
    assert "binary one row false" in labels(made)
    assert not any(label.startswith(("integers", "mask")) for label in labels(made))
    assert arrays(made, "flags")["one row false"].tolist() == [[0, 0, 0], [1, 1, 1]]


def test_rows_that_mask_everything_are_probed_only_where_they_occur(reference):
    mask = {"shape": (2, 3), "dtype": "int64", "fill": "mask"}
    for empty_rows in (False, True):
        made = reference({"mask": {**mask, "empty_rows": empty_rows}})
        found = [probe.case(made).inputs["mask"] for probe in probes(made)]
        assert all(array.any(-1).all() for array in found) is not empty_rows
        assert ("mask all false" in labels(made)) is empty_rows


def test_a_constant_mask_does_not_give_its_probes_to_another_input(reference):
    types = {"shape": (2, 3), "dtype": "int64", "range": (0, 1)}
    constant = {"shape": (2, 3), "dtype": "int64", "fill": "constant", "value": 1}
    found = labels(reference({"mask": constant, "token_type_ids": types}))
    assert found == labels(reference({"token_type_ids": types}))
    assert not any(label.startswith("mask") for label in found)


def test_padding_that_the_manifest_declares_is_all_that_is_probed(reference):
    made = reference({"m": {"shape": (2, 3), **MASK, "empty_rows": False, "padding": "left"}})
    assert labels(made) == ["mask left padding", "mask all true"]


def test_floats_filled_with_integers_are_whole(reference):
    keys = {"shape": (3, 40), "fill": "integers", "range": (-1, 5)}
    found = arrays(reference({"x": keys}))
    assert set(found) >= {"low end", "repeated", "arange"}
    for array in found.values():
        assert array.dtype == np.float32
        assert np.array_equal(array, array.round())


def test_constants_stay(reference):
    made = reference({"c": {"shape": (2,), "fill": "constant", "value": 0.5}, "x": {"shape": (2,)}})
    for probe in probes(made):
        assert probe.case(made).inputs["c"].tolist() == [0.5, 0.5]
    assert probes(reference({"c": {"shape": (2,), "fill": "constant", "value": 0.5}})) == []


def test_a_range_of_one_value_is_not_varied(reference):
    assert probes(reference({"x": {"shape": (2,), "range": (3, 3)}})) == []


# files


@pytest.fixture
def file(base, tmp_path):
    np.save(tmp_path / "data.npy", np.arange(36, dtype="float32").reshape(12, 3) / 36)
    return {"fill": "file", "file": str(tmp_path / "data.npy")}


def test_real_examples_are_not_replaced(reference, file):
    made = reference(
        {"x": {"shape": ("batch", 3), **file}, "y": {"shape": (4,)}}, {"batch": (1, 4)}
    )
    assert len(probes(made)) > 10
    for probe in probes(made):
        assert probe.kinds["x"] == ORDINARY
        rows = probe.case(made).inputs["x"] * 36
        assert set(rows[:, 0].round().astype(int)) <= set(range(0, 36, 3))


def test_real_examples_are_not_replaced_by_nan(reference, file):
    assert probes(reference({"x": {"shape": (3,), **file}}, nonfinite=["x"])) == []


def test_probes_show_examples_the_draws_left_out(reference, file):
    made = reference({"x": {"shape": ("batch", 3), **file}}, {"batch": (1, 4)}, draws=1)
    first, second = probes(made)
    assert [first.dims, second.dims] == [{"batch": 3}, {"batch": 2}]
    examples = [
        (probe.case(made).inputs["x"][:, 0] * 12).round().tolist() for probe in (first, second)
    ]
    assert examples == [[3, 4, 5], [4, 5]]


def test_a_range_allows_other_values_than_the_examples(reference, file):
    found = arrays(reference({"x": {"shape": (3,), **file, "range": (0, 2)}}))
    assert found["high end"].tolist() == [2, 2, 2]


# kinds of floats without a range


def test_floats_are_what_their_kind_says(reference):
    found = arrays(reference({"x": {"shape": (6, 5, 40)}}))
    assert list(found) == [
        "negative",
        "normal x3",
        "normal x1000",
        "zeros",
        "sorted",
        "ties",
        "normal x0.001",
        "normal x30",
        "mixed scales",
        "ones",
        "sparse",
        "one-hot",
        "constant rows",
        "positive",
        "uniform",
    ]
    assert (found["negative"] <= 0).all()
    assert (found["positive"] >= 0).all()
    assert found["normal x30"].std() == pytest.approx(30, rel=0.1)
    assert found["normal x1000"].std() == pytest.approx(1000, rel=0.1)
    assert found["normal x0.001"].std() == pytest.approx(0.001, rel=0.1)
    assert not found["zeros"].any()
    assert (found["ones"] == 1).all()
    assert (found["sparse"] == 0).mean() == pytest.approx(0.9)
    assert (found["one-hot"].sum(-1) == 1).all()
    assert set(np.unique(found["one-hot"])) == {0, 1}
    assert (found["constant rows"] == found["constant rows"][..., :1]).all()
    assert len(np.unique(found["constant rows"])) == 30
    assert found["uniform"].std() == pytest.approx(1, rel=0.1)
    assert abs(found["uniform"]).max() < 2


def test_sorted_rows_ascend_and_differ(reference):
    rows = arrays(reference({"x": {"shape": (6, 40)}}))["sorted"]
    assert (np.diff(rows) > 0).all()
    assert (rows[:, -1] >= 3).all()
    assert (rows[:, -1] <= 8).all()
    assert (rows[:, 0] == -rows[:, -1]).all()
    assert len(np.unique(rows[:, 0])) == 6


@pytest.mark.parametrize("length", [2, 3, 8, 40])
def test_ties_stand_in_every_row(reference, length):
    rows = arrays(reference({"x": {"shape": (6, length)}}))["ties"]
    assert set(np.unique(rows)) <= {-1, -0.5, 0, 0.5, 1}
    for row in rows:
        assert len(np.unique(row)) < length


def test_magnitudes_nobody_declared_are_told_and_not_failed(reference):
    made = reference({"x": {"shape": (6, 5, 40)}})
    lenient = {probe.kinds["x"]: bool(probe.case(made).lenient) for probe in probes(made)}
    assert {kind for kind, told in lenient.items() if told} == {
        "normal x30",
        "normal x1000",
        "mixed scales",
    }


def test_no_magnitude_is_beyond_10000_times_what_is_usual(reference):
    """Up to that, what is a number in PyTorch must be one in the artefact."""
    found = arrays(reference({"x": {"shape": (6, 4000), "std": 2.0}}))
    assert 1000 < max(abs(array).max() for array in found.values()) < 2 * 10_000


@pytest.mark.parametrize("shape", [(6, 4000), (2, 3, 4000), (24000,), (1, 24000)])
def test_mixed_scales_span_powers_of_ten(reference, shape):
    array = arrays(reference({"x": {"shape": shape}}))["mixed scales"]
    if len(shape) > 1 and shape[0] > 1:
        scales = array.reshape(6, -1).std(axis=1)
    else:
        scales = array.reshape(-1, 6).std(axis=0)
    assert sorted(scales) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10, 100], rel=0.1)


def test_mean_and_deviation_are_the_typical_scale(reference):
    found = arrays(reference({"x": {"shape": (4, 4000), "mean": 100.0, "std": 2.0}}))
    assert found["normal x30"].std() == pytest.approx(60, rel=0.1)
    for kind in ("normal x30", "normal x0.001", "sorted", "ties", "positive", "uniform"):
        assert found[kind].mean() == pytest.approx(100, rel=0.1)
    assert found["negative"].mean() == pytest.approx(-100, rel=0.1)
    assert found["uniform"].std() == pytest.approx(2, rel=0.1)
    assert set(np.unique(found["ties"])) == {98, 99, 100, 101, 102}


@pytest.mark.parametrize(
    ("dtype", "scale"), [("float16", 1e4), ("float32", 3e37), ("float64", 1e307)]
)
@pytest.mark.parametrize("key", ["mean", "std"])
def test_values_are_clipped_to_what_the_dtype_holds(reference, dtype, scale, key):
    for array in arrays(reference({"x": {"shape": (3, 8), "dtype": dtype, key: scale}})).values():
        assert array.dtype.name == dtype
        assert np.isfinite(array).all()


# kinds in a range


def test_floats_in_a_range_are_what_their_kind_says(reference):
    found = arrays(reference({"x": {"shape": (3, 5, 40), "range": (-1.0, 3.0)}}))
    assert list(found) == [
        "low end",
        "ends alternating",
        "middle",
        "sorted",
        "ties",
        "tiny",
        "high end",
        "spikes",
        "uniform",
    ]
    assert set(np.unique(found["spikes"])) == {0, 3}
    assert ((found["spikes"] == 3).sum(-1) == 1).all()
    assert (found["low end"] == -1).all()
    assert (found["high end"] == 3).all()
    assert (found["middle"] == 1).all()
    board = found["ends alternating"]
    assert set(np.unique(board)) == {-1, 3}
    for axis in range(3):
        assert (np.diff(board, axis=axis) != 0).all()
    assert (np.diff(found["sorted"]) > 0).all()
    assert (found["sorted"][..., 0] == -1).all()
    assert (found["sorted"][..., -1] == 3).all()
    assert set(np.unique(found["ties"])) <= {-1, 0, 1, 2, 3}
    assert 0 < abs(found["tiny"]).max() <= 0.003
    assert found["uniform"].min() < -0.9
    assert found["uniform"].max() > 2.9


@pytest.mark.parametrize(
    ("low", "high", "kinds"), [(-4.0, 1.0, {0.0, -4.0}), (2.0, 3.0, {2.0, 3.0}), (-3, -2, {-3, -2})]
)
def test_spikes_stand_out_of_what_is_next_to_nothing(reference, low, high, kinds):
    made = reference({"x": {"shape": (2, 9), "range": (low, high)}})
    assert set(np.unique(arrays(made)["spikes"])) == kinds


def test_each_of_several_floats_is_loud_beside_quiet_others(reference):
    made = reference(
        {"a": {"shape": (8,)}, "b": {"shape": (8,), "range": (-1, 1)}, "i": {"shape": (2,), **IDS}}
    )
    only = {
        probe.name: {name: abs(array).max() for name, array in probe.case(made).inputs.items()}
        for probe in probes(made)
        if "only" in probe.name
    }
    assert list(only) == ["probe:only a", "probe:only b"]
    assert only["probe:only a"]["a"] > 0.5 > 0.001 >= only["probe:only a"]["b"] > 0
    assert only["probe:only b"]["b"] > 0.5 > 0.005 >= only["probe:only b"]["a"] > 0
    alone = reference({"a": {"shape": (8,)}, "b": {"shape": (8,), "range": (1, 2)}})
    assert not any("only" in probe.name for probe in probes(alone))


def test_there_is_nothing_tiny_in_a_range_without_zero(reference):
    made = reference({"x": {"shape": (3,), "range": (1.0, 2.0)}})
    assert "tiny" not in arrays(made)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("whole", [True, False])
def test_integers_are_what_their_kind_says(reference, dtype, whole):
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if whole else (3, 17)
    found = arrays(reference({"x": {"shape": (4, 30), "dtype": dtype, "range": (low, high)}}))
    assert list(found) == [
        "low end",
        "high end",
        "ends alternating",
        "repeated",
        "sorted",
        "middle",
        "arange",
        "uniform",
    ]
    for array in found.values():
        assert array.dtype.name == dtype
        assert low <= int(array.min())
        assert int(array.max()) <= high
    assert (found["low end"] == low).all()
    assert (found["high end"] == high).all()
    assert (found["middle"] == (low + high) // 2).all()
    assert set(np.unique(found["ends alternating"]).tolist()) == {low, high}
    assert len(np.unique(found["repeated"])) <= 3
    assert (found["sorted"][:, 1:] >= found["sorted"][:, :-1]).all()
    assert (found["sorted"][:, [0, -1]] == [low, high]).all()
    assert found["arange"].ravel()[:3].tolist() == [low, low + 1, low + 2]
    assert len(np.unique(found["uniform"])) > 10


def test_arange_starts_again_after_the_high_end(reference):
    made = reference({"x": {"shape": (2, 4), "dtype": "int32", "range": (5, 7)}})
    assert arrays(made)["arange"].tolist() == [[5, 6, 7, 5], [6, 7, 5, 6]]


# masks


def masks(reference, *shape):
    return arrays(reference({"m": {"shape": shape, **MASK}}), "m")


@pytest.mark.parametrize("shape", [(6,), (3, 6), (3, 4, 6), (3, 1, 4, 6)])
def test_masks_are_what_their_kind_says(reference, shape):
    found = masks(reference, *shape)
    assert list(found) == [
        "all false",
        "one row false",
        "right padding",
        "left padding",
        "single true",
        "alternating",
        "all true",
    ]
    assert {(array.dtype.name, array.shape) for array in found.values()} == {("bool", shape)}
    assert found["all true"].all()
    assert not found["all false"].any()
    assert (found["single true"].sum(-1) == 1).all()
    assert (found["alternating"][..., ::2] != found["alternating"][..., 1::2]).all()
    rows = found["one row false"].reshape(-1, 1 if len(shape) == 1 else shape[-1])
    assert (~rows.any(1)).tolist() == [True, *[False] * (len(rows) - 1)]
    assert rows[1:].all()


def test_padded_examples_have_different_lengths(reference):
    found = masks(reference, 3, 5)
    assert found["right padding"].astype(int).tolist() == [
        [1, 1, 1, 1, 1],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 0, 0],
    ]
    assert np.array_equal(found["left padding"], found["right padding"][:, ::-1])
    assert masks(reference, 3, 2, 5)["right padding"].sum(-1).tolist() == [[5, 5], [3, 3], [1, 1]]


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_a_single_example_is_padded_too(reference, shape):
    found = masks(reference, *shape)
    assert found["right padding"].ravel().tolist() == [True] * 3 + [False] * 2
    assert found["left padding"].ravel().tolist() == [False] * 2 + [True] * 3


# NaN and infinity


def test_nan_and_infinity_only_where_declared(reference):
    made = reference({"x": {"shape": (4, 6)}, "y": {"shape": (4, 6)}}, nonfinite=["x"])
    assert set(arrays(made)) >= NONFINITE
    assert not set(arrays(made, "y")) & NONFINITE
    for kind, array in arrays(made).items():
        assert np.isfinite(array).all() == (kind not in NONFINITE)
    for probe in probes(made):
        assert np.isfinite(probe.case(made).inputs["y"]).all()


@pytest.mark.parametrize("keys", [{}, {"range": (0.0, 1.0)}, {"dtype": "float16"}])
def test_where_nan_and_infinity_stand(reference, keys):
    found = arrays(reference({"x": {"shape": (2, 4, 6), **keys}}, nonfinite=["x"]))
    assert (np.isnan(found["nan"]).sum(-1) == 1).all()
    assert (np.isposinf(found["infinity"]).sum(-1) == 1).all()
    assert (np.isneginf(found["infinity"]).sum(-1) == 1).all()
    rows = np.isnan(found["nan row"]).reshape(8, 6)
    assert sorted(rows.sum(1)) == [0] * 7 + [6]


def test_both_infinities_stand_in_rows_of_one(reference):
    found = arrays(reference({"x": {"shape": (2, 1)}}, nonfinite=["x"]))
    assert found["infinity"].tolist() == [[math.inf], [-math.inf]]


# any manifest

INTEGERS = ["int8", "int16", "int32", "int64", "uint8"]
FLOATS = ["float16", "float32", "float64"]


@st.composite
def entries(draw):
    """The keys of an input."""
    dtype = draw(st.sampled_from([*INTEGERS, *FLOATS, "bool"]))
    shape = draw(st.lists(st.sampled_from([1, 2, 3, "batch", "time"]), max_size=4))
    keys = {"dtype": dtype, "shape": tuple(shape)}
    if dtype in INTEGERS:
        info = np.iinfo(dtype)
        ends = st.integers(int(info.min), int(info.max))
        keys["range"] = tuple(sorted(draw(st.tuples(ends, ends) | st.just((0, 1)))))
    elif dtype in FLOATS:
        ends = st.floats(-6e4, 6e4)
        span = draw(st.none() | st.tuples(ends, ends))
        if span is not None:
            keys["range"] = tuple(sorted(span))
        keys["mean"] = draw(st.floats(-1e3, 1e3))
        keys["std"] = draw(st.floats(1e-3, 1e3))
    return keys


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    inputs=st.dictionaries(st.sampled_from("abc"), entries(), min_size=1),
    batch=st.lists(st.integers(1, 9), min_size=1, max_size=3, unique=True),
    time=st.lists(st.integers(1, 5), min_size=1, max_size=3, unique=True),
)
def test_probes_stay_in_shapes_dtypes_and_ranges(reference, inputs, batch, time):
    dims = {"batch": tuple(batch), "time": tuple(time)}
    made = reference(inputs, dims)
    found = probes(made)
    assert len({probe.name for probe in found}) == len(found)
    for probe in found:
        case = probe.case(made)
        assert list(case.inputs) == list(inputs)
        for name, keys in inputs.items():
            array = case.inputs[name]
            assert array.dtype.name == keys["dtype"]
            assert array.shape == tuple(probe.dims.get(size, size) for size in keys["shape"])
            assert array.flags.c_contiguous
            assert array.flags.writeable
            if keys["dtype"] in FLOATS:
                assert np.isfinite(array).all()
            if "range" in keys:
                low, high = np.array(keys["range"], keys["dtype"])
                assert (array >= low).all()
                assert (array <= high).all()
    for dim, values in dims.items():
        assert all(
            probe.dims[dim] in values or min(values) < probe.dims[dim] < max(values)
            for probe in found
        )
