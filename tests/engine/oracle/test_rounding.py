"""The reference in float64, and perturbed: what is widened, what is moved, and how far."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from pytest_onnxcheck.engine.oracle.rounding import UNIT, perturb, perturbed, widened

COUNT = 20_000


def third(like=None):
    """A value that float32 cannot hold, in float64."""
    shape = (COUNT,) if like is None else like.shape
    return torch.full(shape, 1 / 3, dtype=torch.float64)


# in float64

#: ways to ask for float32 inside a model; the value given must come out as it is
NARROWING = {
    "method": lambda x: x.float(),
    "method of the class": lambda x: torch.Tensor.float(x),
    "to dtype": lambda x: x.to(torch.float32),
    "to dtype by name": lambda x: x.to(dtype=torch.float32),
    "to device and dtype": lambda x: x.to("cpu", torch.float32),
    "type": lambda x: x.type(torch.float32),
    "buffer of zeros": lambda x: torch.zeros(x.shape) + x,
    "buffer of a dtype": lambda x: torch.zeros(x.shape, dtype=torch.float32) + x,
    "filled in place": lambda x: torch.zeros(x.shape, dtype=torch.float32).copy_(x),
    "new zeros": lambda x: x.new_zeros(x.shape, dtype=torch.float32) + x,
    "ones like": lambda x: torch.ones_like(x, dtype=torch.float32) * x,
    "softmax with a dtype": lambda x: nn.functional.softmax(x[:1], dim=0, dtype=torch.float32) * x,
    "sum with a dtype": lambda x: x[:1].sum(dtype=torch.float32) + torch.zeros_like(x),
    "complex": lambda x: (x.to(torch.complex64) * 1j).imag,
}


@pytest.mark.parametrize("way", NARROWING)
def test_what_asks_for_float32_gets_float64(way):
    x = third()
    with widened():
        found = NARROWING[way](x)
    assert found.dtype is torch.float64
    assert torch.equal(found, x)
    assert NARROWING[way](x.float()).dtype is torch.float32


#: constants that a model makes; as float32 they would be rounded
CONSTANTS = {
    "tensor": lambda: torch.tensor(1 / 3),
    "full": lambda: torch.full((), 1 / 3),
    "scalar of a dtype": lambda: torch.tensor(1 / 3, dtype=torch.float32),
    "linspace": lambda: torch.linspace(0, 1, 4)[1],
    "arange": lambda: torch.arange(0, 1, 1 / 3)[1],
}


@pytest.mark.parametrize("kind", CONSTANTS)
def test_constants_made_inside_are_float64(kind):
    with widened():
        found = CONSTANTS[kind]()
    assert found.item() == pytest.approx(1 / 3, rel=1e-15)
    assert CONSTANTS[kind]().dtype is torch.float32


def test_other_dtypes_are_left_alone():
    x = third()
    with widened():
        assert x.half().dtype is torch.float16
        assert x.to(torch.bfloat16).dtype is torch.bfloat16
        assert x.to(torch.int64).dtype is torch.int64
        assert (x > 0).dtype is torch.bool
        assert torch.arange(3).dtype is torch.int64


def test_masks_and_epsilons_stay_those_of_float32():
    """A mask of -3e38 becomes -inf after one sum in float32: so it must in float64."""
    before = torch.finfo
    with widened():
        for dtype in (torch.float32, torch.float64):
            assert torch.finfo(dtype).min == before(torch.float32).min
            assert torch.finfo(dtype).eps == before(torch.float32).eps
        assert torch.finfo().tiny == before(torch.float32).tiny
        assert torch.finfo(torch.float16).max == before(torch.float16).max
    assert torch.finfo is before


def test_what_was_changed_is_put_back_after_an_error():
    before = torch.finfo, torch.get_default_dtype()
    with pytest.raises(KeyError), widened():
        raise KeyError
    assert (torch.finfo, torch.get_default_dtype()) == before
    assert torch.zeros(1).dtype is torch.float32
    assert torch.zeros(1).to(torch.float32).dtype is torch.float32


class Hardcoded(nn.Module):
    """Asks for float32 wherever models do."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.register_buffer("scale", torch.tensor(0.1))

    def forward(self, x):
        hidden = self.linear(x).float()
        mask = torch.full(hidden.shape, torch.finfo(torch.float32).min, dtype=torch.float32)
        kept = torch.where(hidden > -9, hidden, mask)
        positions = torch.arange(8).float() * self.scale.to(torch.float32)
        state = torch.zeros(hidden.shape[0], 8)
        return (state + kept * positions.to(torch.float32)).softmax(-1)


def test_a_model_full_of_float32_comes_out_in_float64():
    torch.manual_seed(0)
    module = Hardcoded().eval()
    x = torch.randn(4, 8)
    with torch.inference_mode():
        own = module(x)
        weight, bias = module.linear.weight.double(), module.linear.bias.double()
        positions = torch.arange(8).double() * module.scale.double()
        exact = ((x.double() @ weight.T + bias) * positions).softmax(-1)
        with widened():
            found = module.double()(x.double())
    assert found.dtype is torch.float64
    assert torch.allclose(found, exact, rtol=1e-13, atol=0)
    assert not torch.allclose(own.double(), exact, rtol=1e-13, atol=0)


# perturbed


def run(function, *args, precision="fp32", seed=0, units=1.0):
    with torch.no_grad(), perturbed(precision, seed, units):
        return function(*args)


@pytest.mark.parametrize("units", [1.0, 8.0])
@pytest.mark.parametrize("precision", UNIT)
def test_a_result_spreads_over_the_unit_of_rounding(precision, units):
    found = run(lambda x: x * 3, third(), precision=precision, units=units)
    moved = (found - 1.0) / (UNIT[precision] * units)
    assert 0.99 < moved.abs().max() <= 1 + 2e-4  # and the smallest normal number
    assert moved.square().mean().sqrt() == pytest.approx(3**-0.5, rel=0.02)
    assert abs(moved.mean()) < 0.02


def test_every_operator_on_the_way_adds_its_own_share():
    def spread(times):
        def repeated(x):
            for _ in range(times):
                x = x * 1.0
            return x

        return (run(repeated, third()) * 3 - 1).square().mean().sqrt()

    assert spread(16) / spread(1) == pytest.approx(4, rel=0.05)


def test_operators_inside_modules_are_perturbed():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 8)).double().eval()
    x = torch.randn(16, 8, dtype=torch.float64)
    error = (run(net, x) - net(x)).abs()
    assert (error > 0).all()
    assert error.max() < 100 * UNIT["fp32"]


X = torch.linspace(-3, 3, 24, dtype=torch.float64).reshape(2, 3, 4)
INDEX = torch.tensor([2, 0])

#: operators that round nothing
EXACT = {
    "abs": lambda: X.abs(),
    "amax": lambda: X.amax(1),
    "argmax": lambda: X.argmax(1),
    "cat": lambda: torch.cat([X, X], 1),
    "clamp": lambda: X.clamp(-1, 1),
    "comparison": lambda: X > 0,
    "constant": lambda: torch.full((3,), 1 / 3),
    "embedding": lambda: nn.functional.embedding(INDEX, X[0]),
    "flip": lambda: X.flip(0),
    "gather": lambda: X.gather(2, torch.zeros(2, 3, 1, dtype=torch.int64)),
    "index": lambda: X[:, INDEX],
    "index_select": lambda: X.index_select(1, INDEX),
    "masked_fill": lambda: X.masked_fill(X > 0, 9.0),
    "max": lambda: X.max(2).values,
    "max_pool": lambda: nn.functional.max_pool2d(X, 2),
    "nearest": lambda: nn.functional.interpolate(X, scale_factor=2),
    "negation": lambda: -X,
    "one_hot": lambda: nn.functional.one_hot(INDEX),
    "pad": lambda: nn.functional.pad(X, (1, 1)),
    "permute": lambda: X.permute(2, 0, 1).reshape(4, 6),
    "relu": lambda: X.relu(),
    "round": lambda: X.round(),
    "slice": lambda: X[:, 1:, ::2],
    "sort": lambda: X.sort(descending=True).values,
    "stack": lambda: torch.stack([X, X]),
    "topk": lambda: X.topk(2).values,
    "tril": lambda: X.tril(),
    "where": lambda: torch.where(X > 0, X, 0.0),
}


@pytest.mark.parametrize("operator", EXACT)
def test_what_rounds_nothing_is_left_alone(operator):
    before = X.clone()
    assert torch.equal(run(EXACT[operator]), EXACT[operator]())
    assert torch.equal(X, before)


def test_integers_are_left_alone():
    ids = torch.arange(5)
    assert run(lambda: ids * 3 + 1).tolist() == [1, 4, 7, 10, 13]
    assert run(lambda: ids.sum()).item() == 10
    perturb(ids, "fp16", torch.Generator())
    perturb(ids > 2, "fp16", torch.Generator())
    assert ids.tolist() == [0, 1, 2, 3, 4]


def test_complex_numbers_are_moved_in_both_parts():
    found = run(lambda x: torch.complex(x, x) * 3, third())
    for part in (found.real, found.imag):
        assert 0.9 < ((part - 1.0) / UNIT["fp32"]).abs().max() < 4


def test_a_seed_gives_the_same_draw_and_another_seed_another():
    def draw(seed):
        return run(lambda x: (x * 2).cumsum(0).sum(), third(), seed=seed)

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_the_global_random_numbers_stay_where_they_are():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run(lambda x: (x * 2).sum(), third())
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e30])
def test_ties_are_broken(value):
    equal = torch.full((4,), value, dtype=torch.float64)
    first = {int(run(lambda: (equal * 1.0).argmax(), seed=seed)) for seed in range(32)}
    assert first == {0, 1, 2, 3}
    assert (equal * 1.0).argmax() == 0


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_zero_stays_zero_and_what_is_next_to_it_may_turn_to_zero(precision):
    """A mask of zeros, or its logarithm, masks after rounding too."""
    zeros = torch.zeros(COUNT, dtype=torch.float64)
    assert not run(lambda: zeros * 1.0, precision=precision).any()
    moved = (run(lambda: (zeros + 2.0**-140) * 1.0, precision=precision) - 2.0**-140).abs().max()
    assert 0.9 * 2.0**-126 < moved <= 2.0**-125
    assert run(lambda: (zeros * 1.0).topk(4)[0], precision=precision).max() <= 2.0**-126


@pytest.mark.parametrize("low", [torch.finfo(torch.float32).min, -1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_masked_by_one_value_stay_alike(low, dtype):
    scores = torch.linspace(-1, 1, 8, dtype=dtype)
    kept = torch.tensor([0.0] * 8, dtype=dtype)
    found = run(lambda: torch.softmax(scores + (1.0 - kept) * low, -1))
    assert found.tolist() == pytest.approx([1 / 8] * 8)


@pytest.mark.parametrize("low", [torch.finfo(torch.float32).min, -1e9])
def test_a_mask_added_to_products_does_not_count_as_one_of_them(low):
    bias = torch.tensor([[0.0, low]], dtype=torch.float64).repeat(COUNT, 1)
    rows = torch.ones(COUNT, 3, dtype=torch.float64)
    found = run(lambda: torch.addmm(bias, rows, torch.ones(3, 2, dtype=torch.float64)))
    assert (found[:, 0] - 3).abs().max() < 8 * UNIT["fp32"]


def test_what_is_computed_moves_by_its_own_rounding_however_small():
    tiny = torch.full((COUNT,), 1e-9, dtype=torch.float64)
    moved = (run(lambda: tiny * 1.0, precision="fp16") / 1e-9 - 1).abs().max()
    assert 0.9 * UNIT["fp16"] < moved <= UNIT["fp16"]


def stored(values, precision="fp16"):
    """How far weights move at most, when they are stored in a precision."""
    before = torch.tensor(values, dtype=torch.float64)
    moves = []
    for seed in range(64):
        after = before.clone()
        perturb(after, precision, torch.Generator().manual_seed(seed))
        moves.append((after - before).abs())
    return torch.stack(moves).amax(0)


def test_small_weights_beside_larger_ones_move_as_far_as_float16_is_coarse():
    moved = stored([[1.0, 1e-9, 0.0]])[0]
    assert 0.8 * 2.0**-24 < moved[1] < 1.1 * 2.0**-24
    assert moved[2] <= 2.0**-126  # float16 holds zero
    assert stored([[1.0, 1e-9]], "fp32")[0, 1] < 1e-16


@pytest.mark.parametrize("values", [1e-9, [1e-9], [[1e-9, -1e-9], [1.0, 1.0]]])
def test_weights_that_float16_loses_move_by_their_own_rounding(values):
    moved = stored(values).flatten()[0] / 1e-9
    assert 0.8 * UNIT["fp16"] < moved <= UNIT["fp16"]


def spread(function, of=128):
    """Standard deviation of a number over seeds, in units of rounding."""
    values = torch.stack([run(function, seed=seed) for seed in range(of)])
    return float(values.std()) / UNIT["fp32"]


def thirds(*shape):
    """Terms that are all equal and that float32 cannot hold, as a model's own are."""
    return torch.full(shape, 1 / 3, dtype=torch.float32).double()


@pytest.mark.parametrize("operator", ["sum", "mean"])
def test_a_sum_moves_as_far_as_adding_its_terms_one_by_one_is_off(operator):
    terms = thirds(5000)
    naive = np.add.accumulate(terms.numpy().astype("float32"), dtype="float32")[-1]
    off = abs(naive - float(terms.sum())) / (5000 if operator == "mean" else 1) / UNIT["fp32"]
    assert off > 50 * float(getattr(terms, operator)())
    assert spread(lambda: getattr(terms, operator)()) == pytest.approx(off * 3**-0.5, rel=0.2)


def test_a_sum_that_is_exact_moves_by_a_rounding_or_two():
    terms = torch.ones(1600, dtype=torch.float64)
    assert 0.5 < spread(lambda: terms.sum()) / 1600 < 1


def test_a_quiet_example_of_products_is_not_moved_as_far_as_a_loud_one():
    terms = torch.tensor([[1.0, -1.0], [1e-3, -1e-3]], dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.5], [0.5, 1.0]], dtype=torch.float64)
    exact = terms @ weights
    moved = torch.stack([(run(lambda: terms @ weights, seed=s) - exact).abs() for s in range(64)])
    loud, quiet = moved.amax((0, 2)) / UNIT["fp32"]
    assert 0.5 < loud < 2
    assert 0.5e-3 < quiet < 2e-3


def test_a_sum_moves_by_the_magnitude_of_its_terms_also_where_they_cancel():
    terms = torch.tensor([1e6, -1e6] * 50, dtype=torch.float64)
    assert spread(lambda: terms.sum()) > 1e6
    assert spread(lambda: (terms.reshape(-1, 2) * 1.0).sum(1).amax()) > 1e5


@pytest.mark.parametrize("dim", [1, [1], -1])
def test_a_sum_over_a_dim_moves_by_the_terms_of_that_dim(dim):
    terms = thirds(4, 5000)
    long, short = spread(lambda: terms.sum(dim)[0]), spread(lambda: terms.sum(0)[0])
    assert long / 5000 > 10 * short / 4
    assert spread(lambda: terms.sum(dim=dim, keepdim=True)[0, 0]) == pytest.approx(long, rel=0.3)


def test_a_running_sum_moves_more_and_more():
    """Equal terms are rounded alike, so that the errors of a running sum add up."""
    terms = thirds(5000)
    early, late = spread(lambda: terms.cumsum(0)[15]), spread(lambda: terms.cumsum(0)[-1])
    assert early < 64
    assert late > 20 * 5000 / 3


def test_a_running_sum_over_another_dim():
    terms = thirds(3, 5000)
    assert spread(lambda: terms.cumsum(dim=1)[0, -1]) > 100 * spread(lambda: terms.cumsum(0)[-1, 0])


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["layer", "group", "instance"])
def test_a_norm_moves_as_far_as_its_mean_is_off(kind, affine):
    """Of equal terms it is off far, and what is left of them is divided by the root of epsilon."""
    terms = thirds(1, 2, 5000)
    naive = np.add.accumulate(terms[0, 0].numpy().astype("float32"), dtype="float32")[-1] / 5000
    off = abs(naive - float(terms[0, 0, 0])) / UNIT["fp32"] / 1e-5**0.5
    norm = {
        "layer": lambda: nn.LayerNorm(5000, elementwise_affine=affine),
        "group": lambda: nn.GroupNorm(2, 2, affine=affine),
        "instance": lambda: nn.InstanceNorm1d(2, affine=affine),
    }[kind]()
    if affine:
        nn.init.constant_(norm.weight, 3.0)
        off *= 3
    norm = norm.double()
    assert spread(lambda: norm(terms)[0, 0, 0]) == pytest.approx(off * 3**-0.5, rel=0.2)


def test_a_norm_with_statistics_of_its_own_moves_by_its_own_rounding():
    norm = nn.BatchNorm1d(2, affine=False).double().eval()
    assert spread(lambda: norm(thirds(1, 2, 5000))[0, 0, 0]) < 1


def test_a_norm_of_different_terms_moves_by_a_few_roundings():
    terms = torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(0)).double()
    assert spread(lambda: nn.GroupNorm(2, 2).double()(terms)[0, 0, 0]) < 8


def test_nothing_is_moved_outside():
    run(lambda x: x * 3, third())
    assert torch.equal(third() * 3, torch.ones(COUNT, dtype=torch.float64))


def test_nan_and_infinity_stay():
    odd = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)
    assert torch.allclose(run(lambda: odd * 1.0), odd, equal_nan=True)


#: reductions that take what a float cannot be made of otherwise
COUNTING = {
    "booleans summed as floats": lambda: (X > 0).sum(dtype=torch.float64),
    "booleans summed as floats over a dim": lambda: (X > 0).sum(1, dtype=torch.float64).amax(),
    "mean of integers": lambda: torch.arange(5).mean(dtype=torch.float64),
}


@pytest.mark.parametrize("kind", COUNTING)
def test_counts_taken_as_floats_do_not_stop_a_run(kind):
    assert run(COUNTING[kind]).item() == pytest.approx(COUNTING[kind]().item(), rel=1e-5)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_gate_far_below_zero_moves_by_its_argument_also_in_place(inplace):
    """Libraries compute x sigmoid(x) to a rounding of x, not of the tiny product."""
    deep = torch.full((COUNT,), -16.0, dtype=torch.float64)
    moved = run(lambda: nn.functional.silu(deep.clone(), inplace=inplace))
    apart = (moved - nn.functional.silu(deep)).abs().max() / UNIT["fp32"]
    assert 15 < apart < 17


def test_a_sum_of_equal_terms_in_place_of_a_running_one():
    terms = thirds(5000)
    assert spread(lambda: terms.clone().cumsum_(0)[-1]) > 0


def test_finfo_is_left_alone_when_asked_to():
    with widened(finfo_of_float32=False):
        assert torch.finfo(torch.float64).eps == 2.0**-52
    with widened():
        assert torch.finfo(torch.float64).eps == 2.0**-23


def test_infinity_and_nan_stay_what_they_are():
    """Moved at random, -inf would be NaN, and whatever is masked would be excused."""
    wanted = torch.tensor([torch.inf, -torch.inf, torch.nan, 1.0])
    for precision in UNIT:
        for seed in range(4):
            found = wanted.clone()
            perturb(found, precision, torch.Generator().manual_seed(seed))
            with perturbed(precision, seed):
                summed, gated = wanted * 1.5, torch.nn.functional.silu(wanted.abs())
            for moved, still in ((found, wanted), (summed, wanted), (gated, wanted.abs())):
                assert torch.equal(moved.isnan(), still.isnan())
                assert torch.equal(moved[still.isinf()], still[still.isinf()])


def test_what_is_nowhere_negative_stays_so():
    """A square root or logarithm of it would be NaN, and excuse NaN in an artefact."""
    for sign in (1, -1):
        values = sign * torch.tensor([2.0**-140, 1.0]).repeat(COUNT)
        perturb(values, "fp32", torch.Generator().manual_seed(0))
        assert (sign * values >= 0).all()
        assert 0.4 < (values[::2] == 0).double().mean() < 0.6  # as denormals turn to zero
    mixed = torch.tensor([2.0**-140, -1.0, 1.0]).repeat(COUNT)
    perturb(mixed, "fp32", torch.Generator().manual_seed(0))
    assert {-1.0, 1.0} <= set(mixed[::3].sign().tolist())
