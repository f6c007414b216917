"""How far rounding alone can move an output, and how far an artefact is from it."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from references import Function
from torch import nn

from pytest_onnxcheck.engine.oracle.alike import nonfinite_kinds
from pytest_onnxcheck.engine.oracle.expected import DRAWS
from pytest_onnxcheck.engine.oracle.floor import measure_floor, tied_elements
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import Input

BASE = """
schema = 1
[models.net]
factory = "net.py:make"
[models.net.inputs.x]
shape = [4, 8]
range = [-1, 1]
[models.net.outputs.y]
shape = [1]
"""
SAFETY = 8.0


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("floor") / "models.toml"
    path.write_text(BASE, encoding="utf-8")
    return load_manifest(path).models["net"]


@pytest.fixture
def expected(base):
    """What a module or a function should give on its first case."""

    def make(module, value=None):
        if not isinstance(module, nn.Module):
            module = Function(module)
        model = base
        if value is not None:
            entry = Input(shape=(4, 8), fill="constant", value=value)
            model = dataclasses.replace(base, inputs={"x": entry})
        oracle = Oracle(Reference(model, module.eval(), {"x": (4, 8)}))
        return oracle.expected(oracle.declared[0])

    return make


def x_of(expected):
    return expected.case.inputs["x"]


def measure(expected, actual, *, precision="fp32", safety=SAFETY, usual_magnitude=0.0, index=0):
    return measure_floor(expected, index, np.asarray(actual), precision, safety, usual_magnitude)


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))


# floats


def masks(bias):
    """Attention in which the mask `bias` is made of masks every other row throughout."""

    def forward(x):
        kept = torch.tensor([[1.0], [0.0], [1.0], [0.0]]).expand(4, 8)[:, None]
        return nn.functional.scaled_dot_product_attention(
            x[..., None], x[..., None], x[..., None], bias(kept)
        )

    return forward


LEAST = torch.finfo(torch.float32).min


@pytest.mark.parametrize("low", [LEAST, -1e30, -1e9, -1e4])
def test_masked_elements_do_not_lift_the_floor_of_the_others(expected, low):
    """As logits that are masked: what a rounding of -1e9 is would hide any error of theirs."""
    found = expected(lambda x: (x * 2).masked_fill(x < 0, low))
    right = measure(found, found.outputs[0])
    assert right.ratio <= 1
    wrong = found.outputs[0].copy()
    wrong[x_of(found) > 0] *= 1.01
    measured = measure(found, wrong)
    assert measured.ratio > 1e4
    elsewhere = np.where(x_of(found) < 0, np.float32(low * 0.99), found.outputs[0])
    assert measure(found, elsewhere).ratio > 1e4
    oracle = found._oracle
    assert oracle.usual_magnitude(0) < 3


@pytest.mark.parametrize(
    "bias",
    [
        lambda kept: kept.log(),
        lambda kept: (kept * 2.0).log(),
        lambda kept: kept * 1.0 > 0,
        lambda kept: kept * 1.0 != 0,
        lambda kept: 1 - 1 / (kept * 1.0),
        lambda kept: (1.0 - kept) * LEAST,
        lambda kept: (1.0 - kept) * -1e30,
    ],
)
def test_rounding_unmasks_nothing(expected, bias):
    """Where it did, whatever an artefact gives of rows that are masked throughout would pass."""
    found = expected(masks(bias))
    wrong = found.outputs[0].copy()
    wrong[1::2] += 1.0
    measured = measure(found, wrong)
    assert measured.ratio > 1e5
    assert measured.perturbed_runs == DRAWS
    assert measured.unstable == 0


def test_what_pytorch_gives_itself_is_within_its_floor(expected):
    found = expected(mlp())
    measured = measure(found, found.outputs[0])
    assert measured.ratio <= 1
    assert measured.outside == 0
    assert (measured.nonfinite, measured.unstable) == (0, 0)
    assert measured.error_worst == measured.torch_worst > 0
    assert measured.source == "float64"


def test_an_error_is_told_in_floors(expected):
    found = expected(mlp())
    (exact,) = found.exact
    # an error of 5 floors everywhere, in both norms
    floor = measure(found, found.outputs[0])
    size = 5 * floor.floor_rms
    measured = measure(found, exact + size)
    assert measured.error_rms == pytest.approx(size)
    assert measured.error_worst == pytest.approx(size)
    assert measured.ratio == pytest.approx(5)
    assert measured.source == "float64"


def test_a_pass_makes_no_perturbed_run(expected):
    found = expected(mlp())
    measure(found, found.outputs[0])
    assert found._draws.get(("fp32", 1.0), []) == []


def test_perturbed_runs_are_made_on_suspicion(expected):
    found = expected(mlp())
    measured = measure(found, found.exact[0] + 1e-3)
    assert len(found._draws["fp32", 1.0]) == DRAWS
    assert measured.source == f"float64, {DRAWS} perturbed runs"
    assert measured.ratio > 100 * SAFETY
    assert measured.outside == 1.0


@pytest.mark.parametrize("layer", [0, 2])
def test_a_weight_that_is_off_by_a_thousandth_is_far_beyond(expected, layer):
    module, wrong = mlp(), mlp()
    with torch.no_grad():
        weight = wrong[layer].weight
        weight[0, np.abs(weight[0].numpy()).argmax()] *= 1.001
    found = expected(module)
    actual = wrong(torch.tensor(x_of(found))).detach().numpy()
    assert measure(found, actual).ratio > SAFETY
    assert np.abs(actual - found.outputs[0]).max() < 1e-3


def test_one_element_that_is_wrong_is_seen_among_many(expected):
    found = expected(lambda x: x.repeat(1, 4096) * 3)
    actual = found.outputs[0].copy()
    actual.flat[np.abs(actual).argmax()] *= 1 + 1e-5
    measured = measure(found, actual)
    assert measured.ratio > SAFETY
    assert measured.outside == pytest.approx(1 / actual.size)
    assert measured.error_rms < measured.error_worst / 50


def test_a_bias_below_the_worst_rounding_is_seen_in_the_mean(expected):
    """Every element off by what only the worst one may be: a shift, not rounding."""
    found = expected(lambda x: (x * 300).exp().log() / 300 + torch.zeros(4, 8))
    measured = measure(found, found.exact[0])
    assert measured.error_rms == 0
    worst, rms = measured.floor_worst, measured.floor_rms
    assert rms < worst


def test_large_outputs_may_differ_by_what_a_fixed_tolerance_would_refuse(expected):
    found = expected(lambda x: (x * 1e6 + 3e6).square().sqrt())
    actual = np.nextafter(found.outputs[0], np.inf, dtype="float32")
    assert np.abs(actual - found.outputs[0]).max() > 0.1
    assert measure(found, actual).ratio < SAFETY


def test_small_outputs_must_be_as_exact_as_large_ones(expected):
    found = expected(lambda x: x * 1e-6)
    actual = found.outputs[0] * np.float32(1.0001)
    assert np.abs(actual - found.outputs[0]).max() < 1e-9
    assert measure(found, actual).ratio > SAFETY


def test_cancellation_is_paid_for_by_the_floor(expected):
    found = expected(lambda x: (x + 4096.0) - 4096.0)
    (exact,) = found.exact
    assert np.allclose(exact, x_of(found), atol=1e-12)
    assert measure(found, x_of(found)).ratio < 1  # an artefact that leaves both out
    assert measure(found, x_of(found) + 0.01).ratio > SAFETY


def test_a_run_that_was_exact_by_luck_is_not_the_measure(expected):
    """PyTorch gives 0 without an error; any other order of operations gives some ulps of 3."""
    found = expected(lambda x: (x + 3.0) - (x + 3.0))
    assert not found.outputs[0].any()
    assert not found.exact[0].any()
    actual = found.outputs[0] + np.float32(2.0**-22)
    measured = measure(found, actual)
    assert measured.ratio < SAFETY
    assert "perturbed run" in measured.source
    assert measure(found, found.outputs[0] + np.float32(1e-4)).ratio > SAFETY


def test_what_is_zero_without_any_rounding_must_stay_zero(expected):
    found = expected(lambda x: torch.zeros(4, 8).masked_fill(x > 9, 1.0))
    assert measure(found, np.zeros((4, 8), "float32")).ratio == 0
    assert measure(found, np.full((4, 8), 1e-30, "float32")).ratio == math.inf


def test_an_output_that_is_small_in_one_case_may_err_like_in_an_ordinary_one(expected):
    found = expected(lambda x: x * 1e-3)
    actual = found.outputs[0] + np.float32(2e-7)
    assert measure(found, actual, usual_magnitude=1.0).ratio < SAFETY
    assert measure(found, actual, usual_magnitude=1e-3).ratio > SAFETY


def test_the_safety_decides_how_far_the_floor_is_raised(expected):
    found = expected(mlp())
    actual = found.exact[0] + 5 * measure(found, found.outputs[0]).floor_rms
    cheap, dear = measure(found, actual, safety=8.0), measure(found, actual, safety=1.0)
    assert cheap.source == "float64"
    assert "perturbed" in dear.source
    assert dear.floor_worst >= cheap.floor_worst
    assert dear.floor_rms >= cheap.floor_rms


def test_fp16_may_err_by_its_own_rounding_and_no_more(expected):
    found = expected(mlp())
    half = mlp().half()
    actual = half(torch.tensor(x_of(found)).half()).detach().float().numpy()
    measured = measure(found, actual, precision="fp16")
    assert measured.ratio < SAFETY
    assert measure(found, actual, precision="fp32").ratio > SAFETY
    assert measured.floor_worst >= UNIT["fp16"] * np.abs(found.outputs[0]).max()
    wrong = mlp().half()
    with torch.no_grad():
        wrong[2].weight[1] *= 1.2
    actual = wrong(torch.tensor(x_of(found)).half()).detach().float().numpy()
    assert measure(found, actual, precision="fp16").ratio > SAFETY


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_on_one_side_only_are_counted(expected, value):
    found = expected(mlp())
    actual = found.outputs[0].copy()
    actual[0, 1] = value
    measured = measure(found, actual)
    assert (measured.nonfinite, measured.unstable) == (1, 0)
    assert measured.ratio <= 1  # of the others


def test_nan_and_infinity_on_both_sides_agree_when_they_are_the_same(expected):
    found = expected(lambda x: torch.where(x > 0, math.inf, torch.where(x > -0.5, math.nan, x)))
    same = found.outputs[0]
    assert measure(found, same).nonfinite == 0
    other = np.where(np.isposinf(same), -np.inf, same)
    assert measure(found, other).nonfinite == np.isposinf(same).sum() > 0


def test_overflow_of_float32_is_not_expected_of_float64_only(expected):
    """PyTorch overflows where float64 does not: the artefact may, and may not."""
    found = expected(lambda x: (x * 0 + 1e38) * 10 / 1e38)
    assert np.isinf(found.outputs[0]).all()
    assert np.isfinite(found.exact[0]).all()
    measured = measure(found, found.outputs[0])
    assert (measured.nonfinite, measured.unstable) == (0, 32)
    assert measure(found, found.exact[0]).nonfinite == 0


def test_nan_that_rounding_brings_or_not_is_unstable_and_no_failure(expected):
    found = expected(lambda x: ((x + 3.0) - (x + 3.0)).sqrt())
    assert not found.outputs[0].any()
    actual = found.outputs[0].copy()
    actual[0] = math.nan
    measured = measure(found, actual)
    assert measured.nonfinite == 0
    assert measured.unstable > 8


def test_nan_elsewhere_is_no_excuse(expected):
    def forward(x):
        unstable = ((x + 3.0) - (x + 3.0)).sqrt()
        return torch.cat([unstable[:2], x[2:] * 2])

    found = expected(forward)
    actual = found.outputs[0].copy()
    actual[3] = math.nan
    assert measure(found, actual).nonfinite == 8


def test_a_model_that_does_not_run_in_float64_is_measured_in_float32(expected):
    constant = mlp()[0].weight.detach().numpy()
    found = expected(lambda x: x @ torch.from_numpy(constant.T))
    assert found.exact is None
    own = found.outputs[0]
    assert measure(found, own).source == "float32"
    rounded = (x_of(found).astype("float64") @ constant.T.astype("float64")).astype("float32")
    assert measure(found, rounded).ratio < SAFETY
    measured = measure(found, own * np.float32(1.001))
    assert measured.ratio > SAFETY
    assert measured.source == f"float32, {DRAWS} perturbed runs"


def test_classes_tell_nan_and_both_infinities_apart():
    array = np.array([1.0, -0.0, math.nan, math.inf, -math.inf])
    assert nonfinite_kinds(array).tolist() == [0, 0, 1, 2, 3]
    assert nonfinite_kinds(array.astype("float16")).tolist() == [0, 0, 1, 2, 3]


# integers


def tied(x):
    """Two columns that are equal: argmax takes the first."""
    score = (x * 3).sum(1, keepdim=True)
    return torch.cat([score, score - 10, score.clone() * 1.0], 1).argmax(1)


def test_an_argmax_that_rounding_alone_changes_is_a_tie(expected):
    found = expected(tied)
    own = found.outputs[0]
    assert own.tolist() == [0, 0, 0, 0]
    count, margin = tied_elements(found, 0, np.full_like(own, 2), "fp32")
    assert (count, margin) == (4, 1.0)


def test_an_argmax_is_tied_only_where_it_differs(expected):
    found = expected(tied)
    actual = found.outputs[0].copy()
    actual[1] = 2
    assert tied_elements(found, 0, actual, "fp32") == (1, 1.0)
    assert tied_elements(found, 0, found.outputs[0], "fp32")[0] == 0


def test_an_argmax_that_no_rounding_changes_is_wrong(expected):
    found = expected(lambda x: torch.cat([x, x[:, :1] + 10], 1).argmax(1))
    assert found.outputs[0].tolist() == [8] * 4
    count, margin = tied_elements(found, 0, np.zeros(4, "int64"), "fp32")
    assert (count, margin) == (0, 8.0)


def test_a_tie_may_need_more_roundings_than_one(expected):
    """Two roundings at most bring them together, and their sizes never are that large."""

    def forward(x):
        one = x[:1, 0] * 0 + 1
        return torch.stack([one, one - 2.0**-23]).argmax(0)

    found = expected(forward)
    assert found.outputs[0].tolist() == [0]
    assert tied_elements(found, 0, np.ones(1, "int64"), "fp32") == (1, 8.0)
    assert tied_elements(found, 0, np.ones(1, "int64"), "fp16") == (1, 1.0)


def test_the_order_of_topk_may_change_where_it_ties(expected):
    found = expected(lambda x: (x[:, :1] * torch.ones(6)).topk(3).indices)
    reverse = found.outputs[0][:, ::-1].copy()
    differing = int((reverse != found.outputs[0]).sum())
    assert differing > 0
    assert tied_elements(found, 0, reverse, "fp32") == (differing, 1.0)


def test_a_rounded_value_at_its_edge_is_a_tie(expected):
    found = expected(lambda x: (x * 0 + 0.1 * 5).round().to(torch.int64))
    other = 1 - found.outputs[0]
    assert tied_elements(found, 0, other, "fp32")[0] == 32


def test_booleans_tie_like_integers(expected):
    found = expected(lambda x: (x * 3.0) > (x + x + x))
    count, margin = tied_elements(found, 0, ~found.outputs[0], "fp32")
    assert (count, margin) == (32, 1.0)
    found = expected(lambda x: x > -2)
    assert tied_elements(found, 0, ~found.outputs[0], "fp32")[0] == 0


def test_ids_that_are_moved_on_are_no_tie(expected):
    found = expected(lambda x: torch.arange(4) * 3)
    assert tied_elements(found, 0, found.outputs[0] + 1, "fp16") == (0, 8.0)
