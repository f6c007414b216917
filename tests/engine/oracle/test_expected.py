"""What a case should give: instruments that fail, or take another way through PyTorch."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from references import Function
from torch import nn
from torch.nn import functional
from torch.overrides import _is_torch_function_mode_enabled
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pytest_onnxcheck.engine.oracle.alike import apart
from pytest_onnxcheck.engine.oracle.expected import DRAWS
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import Input

BASE = """
schema = 1
[models.net]
factory = "net.py:make"
inputs.x.shape = [4, 8]
outputs.y.shape = [1]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "models.toml"
    path.write_text(BASE, encoding="utf-8")
    return load_manifest(path).models["net"]


@pytest.fixture
def oracle(base):
    """Makes the oracle of a module, or of a function of one input."""

    def make(module, **fields):
        torch.manual_seed(0)
        module = module if isinstance(module, nn.Module) else Function(module)
        entry = Input(shape=(4, 8), **fields)
        model = dataclasses.replace(base, inputs={"x": entry})
        return Oracle(Reference(model, module.eval(), {"x": (4, 8)}))

    return make


def first(oracle):
    return oracle.expected(oracle.declared[0])


# modules that instruments find hard


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.one(x), lambda x: self.other(x), (x,))


class Compiled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.compile(nn.Linear(8, 8), backend="eager")

    def forward(self, x):
        return self.linear(x)


class Padded(nn.Module):
    """PyTorch's fast path packs what is not masked into a nested tensor."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def forward(self, x):
        mask = torch.tensor([[False, False, False, True]])
        return self.encoder(x[None], src_key_padding_mask=mask)[0, :3]


class Nested(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        rows = torch.nested.nested_tensor([x[:3], x[3:]])
        return torch.nested.to_padded_tensor(self.linear(rows), 0.0)


@torch.library.custom_op("onnxcheck_tests::twice", mutates_args=())
def twice(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy() * 2)


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return twice(self.linear(x))


class Normed(nn.Module):
    """The old weight_norm keeps a tensor that PyTorch refuses to copy."""

    def __init__(self):
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.linear = nn.utils.weight_norm(nn.Linear(8, 8))

    def forward(self, x):
        return self.linear(x)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.linear.register_forward_hook(lambda module, args, output: output * 2)

    def forward(self, x):
        return self.linear(x)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("module", [Branches, Compiled, Padded, Nested, Custom, Normed, Hooked])
def test_every_instrument_works_on(oracle, module):
    torch.manual_seed(0)
    plain = module().eval()
    made = oracle(plain)
    assert made.notes == []
    expected = first(made)
    with torch.no_grad():
        wanted = plain(torch.tensor(made.declared[0].inputs["x"])).numpy()
    assert apart(wanted, expected.outputs[0]) < 8 * UNIT["fp32"]
    assert expected.exact is not None
    assert 0 < apart(expected.exact[0], expected.outputs[0]) < 100 * UNIT["fp32"]
    draws = list(expected.draws("fp32"))
    assert len(draws) == DRAWS
    assert all(0 < apart(expected.exact[0], draw[0]) < 100 * UNIT["fp32"] for draw in draws)
    assert made.notes == []
    assert expected.cost.seconds > 0
    assert 0 < expected.cost.largest < 100


def test_the_operators_of_a_branch_are_counted_and_moved(oracle):
    """Run whole, a branch of a hundred layers would count as one operator."""

    def deep(x):
        for _ in range(100):
            x = x * 1.01
        return x

    branching = oracle(lambda x: torch.cond(x.sum() > -1e9, deep, lambda x: x + 0.0, (x,)))
    plain = oracle(deep)
    assert len(branching.probes) == pytest.approx(len(plain.probes), abs=1)
    moved = [
        max(apart(expected.exact[0], draw[0]) for draw in expected.draws("fp32"))
        for expected in (first(branching), first(plain))
    ]
    assert moved[0] > moved[1] / 2


# instruments that are not available


def refusing(x):
    if _get_current_dispatch_mode() is not None:
        raise RuntimeError("no modes here")
    return x * 3


def test_without_counting_and_perturbing_pytorch_runs_plainly_and_both_are_told(oracle):
    made = oracle(refusing)
    assert made.notes == [
        "its operators cannot be counted (RuntimeError: no modes here): there are as many probes "
        "as for a model that takes 0.02 s; set probe_seconds for more or fewer"
    ]
    assert np.array_equal(first(made).outputs[0], made.declared[0].inputs["x"] * np.float32(3))
    assert len(made.probes) == len(oracle(refusing).probes) == 8
    assert first(made).cost.seconds == 0.02
    assert first(made).cost.largest == np.inf
    assert first(made).cost.smallest == 0
    draws = list(first(made).draws("fp32"))
    assert len(draws) == DRAWS
    assert all(0 < apart(first(made).exact[0], draw[0]) < 2 * UNIT["fp32"] for draw in draws)
    assert made.notes[1:] == [
        "its operators cannot be perturbed (RuntimeError: no modes here): the noise floor counts "
        "the rounding of weights and inputs alone, and may be too low"
    ]
    list(first(made).draws("fp16"))
    assert len(made.notes) == 2


def test_pytorch_is_blamed_where_the_plain_call_fails_too(oracle):
    def broken(x):
        raise RuntimeError("broken")

    with pytest.raises(InputError, match=r"PyTorch itself does not run on .*: broken"):
        oracle(broken)


def test_outputs_that_counting_changes_are_not_those_of_pytorch(oracle):
    made = oracle(lambda x: x * (2 if _get_current_dispatch_mode() is None else 3))
    assert np.array_equal(first(made).outputs[0], made.declared[0].inputs["x"] * 2)


def test_a_way_that_gives_other_values_where_nothing_is_moved_excuses_nothing(oracle):
    made = oracle(lambda x: x * (2 if _get_current_dispatch_mode() is None else torch.nan))
    draws = list(first(made).draws("fp32"))
    assert len(draws) == DRAWS
    assert all(np.isfinite(draw[0]).all() for draw in draws)
    assert made.notes == [
        "its operators cannot be perturbed (a run that moves nothing gives other values): the "
        "noise floor counts the rounding of weights and inputs alone, and may be too low"
    ]


@pytest.fixture
def composite():
    """An operator made of operators, that gives NaN where a mode takes it apart."""

    def parts(x):
        return x * (2 if _get_current_dispatch_mode() is None else torch.nan)

    library = torch.library.Library("onnxcheck_composite", "DEF")
    library.define("safe(Tensor x) -> Tensor")
    library.impl("safe", parts, "CompositeImplicitAutograd")
    yield torch.ops.onnxcheck_composite.safe
    library._destroy()


def test_an_operator_that_does_not_bear_being_taken_apart_is_run_whole(oracle, composite):
    made = oracle(lambda x: composite(x))
    draws = list(first(made).draws("fp32"))
    assert all(0 < apart(first(made).exact[0], draw[0]) < 4 * UNIT["fp32"] for draw in draws)
    assert made.notes == []  # its result is moved


# float64 on another way


def test_float64_on_another_way_through_pytorch_is_no_reference(oracle):
    made = oracle(lambda x: x * (torch.nan if _is_torch_function_mode_enabled() else 2))
    assert first(made).exact is None
    assert first(made).problem == "PyTorch takes another way there, which gives other values"
    assert all(np.isfinite(draw[0]).all() for draw in first(made).draws("fp32"))


def test_the_same_for_other_numbers(oracle):
    made = oracle(lambda x: x * (0 if _is_torch_function_mode_enabled() else 2))
    assert first(made).exact is None


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x + 1e7) - 1e7,  # float32 loses most of it
        lambda x: (x * 0 + 100).exp(),  # too large for float32 alone
    ],
)
def test_what_float32_itself_cannot_do_is_seen_by_float64(oracle, function):
    made = oracle(function)
    assert first(made).exact is not None
    assert apart(first(made).exact[0], first(made).outputs[0]) > 1e-3


# rows that are masked throughout


@pytest.mark.parametrize("rank", [3, 4])
def test_a_row_that_is_masked_throughout_stays_what_pytorch_gives(oracle, rank):
    """PyTorch takes attention apart for some shapes; infinity moved at random would be NaN."""
    mask = torch.zeros(4, 4)
    mask[2] = -torch.inf

    def attend(x):
        q = x.reshape(1, *[1] * (rank - 3), 4, 8)
        return functional.scaled_dot_product_attention(q, q, q, attn_mask=mask).reshape(4, 8)

    made = oracle(attend)
    assert not first(made).outputs[0][2].any()
    for precision in ("fp32", "fp16"):
        assert all(np.isfinite(draw[0]).all() for draw in first(made).draws(precision))


def test_a_mask_that_is_0_or_1_has_a_logarithm_in_every_draw(oracle):
    """Zero moved to below zero would make NaN of every row, and excuse all of it."""

    def attend(x):
        mask = ((x[:, :4] > 0) | torch.eye(4, dtype=torch.bool)).to(x.dtype) * 1.0
        weights = (x @ x.T + mask.log()).softmax(-1)
        return weights @ x

    made = oracle(attend)
    assert np.isfinite(first(made).outputs[0]).all()
    for precision in ("fp32", "fp16"):
        draws = list(first(made).draws(precision))
        assert len(draws) == DRAWS
        assert all(np.isfinite(draw[0]).all() for draw in draws)
