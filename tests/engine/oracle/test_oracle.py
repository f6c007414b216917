"""What a model should give: how it behaves over calls, in float64, and under rounding."""

import dataclasses

import numpy as np
import pytest
import torch
from references import Function
from torch import nn

from pytest_onnxcheck.engine.oracle.expected import DRAWS
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import BehaviourError, InputError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import FIXED_TOLERANCE, Input, Output

BASE = """
schema = 1
[models.net]
factory = "net.py:make"
precisions = ["fp32", "fp16", "int8-dynamic"]
[models.net.inputs.x]
shape = [1]
[models.net.outputs.y]
shape = [1]
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    path = tmp_path_factory.mktemp("oracle") / "models.toml"
    path.write_text(BASE, encoding="utf-8")
    return load_manifest(path).models["net"]


@pytest.fixture
def oracle(base):
    """Makes the oracle of a module, or of a function, over inputs of the given shapes."""

    def make(module, inputs=None, outputs=("y",), dims=None, **fields):
        if not isinstance(module, nn.Module):
            module = Function(module)
        entries = {name: Input(shape=shape) for name, shape in (inputs or {"x": (4, 8)}).items()}
        model = dataclasses.replace(
            base,
            inputs=fields.pop("entries", entries),
            outputs={name: Output(shape=(1,)) for name in outputs},
            dims=dims or {},
            **fields,
        )
        shapes = {name: entry.shape for name, entry in model.inputs.items()}
        return Oracle(Reference(model, module.eval(), shapes))

    return make


def first(oracle):
    return oracle.expected(oracle.declared[0])


# behaviour over calls


class Counting(nn.Module):
    """Adds how often it was called."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Counting()

    def forward(self, x):
        return self.inner(x)


class Remembering(nn.Module):
    """Adds the last input, kept in a plain attribute."""

    def __init__(self):
        super().__init__()
        self.last = None

    def forward(self, x):
        last, self.last = self.last, x.clone()
        return x if last is None else x + last


class Listing(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(1)
        return x * len(self.seen)


@pytest.mark.parametrize(
    ("module", "name"),
    [(Counting, "calls"), (Inner, "inner.calls"), (Remembering, "last"), (Listing, "seen")],
)
def test_a_model_that_keeps_state_is_refused_and_the_state_is_named(oracle, module, name):
    with pytest.raises(BehaviourError) as caught:
        oracle(module())
    assert str(caught.value) == (
        f"net: PyTorch keeps state between calls (changed: {name}): inputs A, B, A give A other "
        "outputs the second time (case draw0). An ONNX artefact has no memory: make the state an "
        "input and an output of forward"
    )


class RunningNorm(nn.Module):
    """A BatchNorm that was left in training mode, whatever eval() says."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        self.norm.training = True
        self.norm(x)
        self.norm.training = False
        return self.norm(x)


def test_running_statistics_that_move_are_state(oracle):
    with pytest.raises(BehaviourError, match=r"keeps state .*changed: norm\."):
        oracle(RunningNorm())


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x + torch.rand(()),
        lambda x: nn.functional.dropout(x, training=True),
        lambda x: x + 1e-3 * torch.randn_like(x),
        lambda x: (x + torch.randn_like(x)).argmax(1),
    ],
)
def test_a_model_that_draws_random_numbers_is_refused(oracle, function):
    with pytest.raises(BehaviourError) as caught:
        oracle(function)
    assert str(caught.value).startswith(
        "net: PyTorch is nondeterministic: the same weights and inputs (case draw0) give other "
        "outputs on every run"
    )
    assert "training mode in forward. In the artefact, what torch draws is mostly drawn anew" in (
        str(caught.value)
    )


def test_an_input_changed_in_place_is_noted_and_no_other_case_sees_it(oracle):
    made = oracle(lambda x, z: x.add_(1) * z, {"x": (4, 8), "z": (4, 8)})
    (note,) = made.notes
    assert note.startswith("forward changes its input 'x' in place")
    case = made.declared[0]
    for _ in range(2):
        wanted = (case.inputs["x"] + 1) * case.inputs["z"]
        assert np.array_equal(first(made).outputs[0], wanted)
        assert np.allclose(first(made).exact[0], wanted)
    assert all(np.isfinite(draw).all() for (draw,) in first(made).draws("fp32"))


class Caching(nn.Module):
    """Keeps a table of positions for the longest input so far, as transformers do."""

    def __init__(self):
        super().__init__()
        self.table = None

    def forward(self, x):
        if self.table is None or len(self.table) < x.shape[1]:
            self.table = torch.arange(x.shape[1]).to(x.dtype) / 10
        return x + self.table[: x.shape[1]]


class Statistics(nn.Module):
    """Writes down what nothing reads."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        self.mean.copy_(x.mean())
        return x * 2


@pytest.mark.parametrize("order", [(2, 9), (9, 2)])
def test_caches_are_fine(oracle, order):
    made = oracle(Caching(), {"x": (3, "time")}, dims={"time": order})
    assert made.notes == []
    for case in made.declared:
        x = case.inputs["x"]
        wanted = x + np.arange(x.shape[1], dtype="float32") / 10
        assert np.allclose(made.expected(case).outputs[0], wanted, atol=1e-6)
        exact = made.expected(case).exact[0]
        assert exact.dtype == np.float64
        assert np.allclose(exact, wanted, atol=1e-6)


def test_what_a_model_writes_down_and_never_reads_is_fine(oracle):
    made = oracle(Statistics())
    assert made.notes == []
    assert np.array_equal(first(made).outputs[0], made.declared[0].inputs["x"] * 2)


def test_the_reference_itself_is_never_run(oracle):
    module = Statistics()
    made = oracle(module)
    list(first(made).draws("fp32"))
    assert first(made).exact is not None
    assert (module.calls, module.mean.item()) == (0, 0.0)


def test_a_case_is_run_once(oracle):
    calls = []

    def forward(x):
        calls.append(x.dtype)
        return x * 2

    made = oracle(forward)
    assert calls == [torch.float32] * 3  # A, B, A
    for _ in range(3):
        assert first(made).exact is not None
    assert calls[3:] == [torch.float64]
    for _ in range(2):
        assert len(list(first(made).draws("fp32"))) == DRAWS
    assert len(calls) == 3 + 1 + 1 + DRAWS  # one that moves nothing


# order and number of outputs


def test_outputs_declared_in_another_order_than_returned_are_refused(oracle):
    def forward(x):
        return {"logits": x, "hidden": x + 1}

    oracle(forward, outputs=("logits", "hidden"))
    oracle(forward, outputs=("scores", "states"))  # other names are matched by position
    with pytest.raises(InputError) as caught:
        oracle(forward, outputs=("hidden", "logits"))
    assert str(caught.value) == (
        "net: forward returns logits, hidden in this order, the manifest declares hidden, "
        "logits: outputs are matched by position, so these would be swapped; declare them in "
        "forward's order"
    )


def test_another_number_of_outputs_is_refused_and_those_there_are_named(oracle):
    with pytest.raises(InputError, match=r"returns 3 tensors \(a, b\.0, b\.1\), the manifest"):
        oracle(lambda x: {"a": x, "b": (x, x), "c": None}, outputs=("a", "b"))


# in float64


def test_the_exact_outputs_are_those_of_float64(oracle):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    made = oracle(module)
    x = torch.tensor(made.declared[0].inputs["x"]).double()
    (exact,) = first(made).exact
    wanted = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).double()
    wanted.load_state_dict({k: v.double() for k, v in module.state_dict().items()})
    assert np.allclose(exact, wanted(x).detach().numpy(), rtol=1e-14, atol=0)
    error = np.abs(first(made).outputs[0] - exact).max()
    assert 0 < error < 1e-6
    assert first(made).problem is None
    assert module[0].weight.dtype is torch.float32


CONSTANT = np.eye(8, dtype="float32")

#: what cannot be run in float64 -> what is said of it
NARROW = {
    "numpy inside": (
        lambda x: x @ torch.from_numpy(CONSTANT),
        "RuntimeError: expected m1 and m2 to have the same dtype",
    ),
    "a cast of its own": (
        lambda x: torch.from_numpy(x.numpy().astype("float32")),
        "it casts to float32 on the way",
    ),
    "another shape": (
        lambda x: x[: 2 if x.dtype is torch.float64 else 4],
        "shapes change from (4, 8) to (2, 8)",
    ),
}


def test_a_large_module_in_float64_is_made_for_every_run_and_gives_the_same(oracle, monkeypatch):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    kept, made = oracle(module), oracle(module)
    case = kept.declared[0]

    def runs(of):
        moved = of.perturbed_run(case, "fp32", 1, 1.0, "inputs", wide=True)
        return [*of.widened_run(case), *moved, *of.widened_run(case)]

    expected = runs(kept)
    monkeypatch.setattr("pytest_onnxcheck.engine.oracle.oracle._MOST_KEPT_BYTES", 0)
    for found, array in zip(runs(made), expected, strict=True):
        np.testing.assert_array_equal(found, array)
    assert kept._wide is not None
    assert made._wide is None


@pytest.mark.parametrize("kind", NARROW)
def test_a_model_that_does_not_run_in_float64_says_why(oracle, kind):
    function, problem = NARROW[kind]
    made = oracle(function)
    assert first(made).exact is None
    assert first(made).problem.startswith(problem)


def test_without_float64_the_perturbed_runs_are_made_in_float32(oracle):
    made = oracle(lambda x: (x @ torch.from_numpy(CONSTANT)) * 3)
    own = first(made).outputs[0]
    moved = [draw[0] - own for draw in first(made).draws("fp32")]
    largest = max(np.abs(array).max() for array in moved)
    assert len(moved) == DRAWS
    assert 0 < largest < 20 * UNIT["fp32"] * np.abs(own).max()
    assert len({array.tobytes() for array in moved}) == DRAWS


# perturbed


def test_perturbed_runs_spread_about_the_exact_outputs(oracle):
    torch.manual_seed(0)
    made = oracle(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))
    (exact,) = first(made).exact
    for precision in ("fp32", "fp16"):
        moved = np.stack([draw[0] - exact for draw in first(made).draws(precision)])
        unit = UNIT[precision] * np.abs(exact).max()
        assert unit / 10 < moved.std() < 10 * unit
        assert abs(moved.mean()) < moved.std()


def test_perturbed_runs_are_the_same_in_every_session_and_follow_the_seed(oracle):
    def draws(**fields):
        made = oracle(lambda x: x * 3, **fields)
        return [draw[0].tobytes() for draw in first(made).draws("fp32")]

    assert draws() == draws()
    assert len(set(draws())) == DRAWS
    assert not set(draws()) & set(draws(name="other"))


class Stored(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.full((4, 8), 1 / 3))
        self.register_buffer("table", torch.full((4, 8), 1 / 7))

    def forward(self, x):
        return x.clone(), self.weight.clone(), self.table.clone()


def test_inputs_weights_and_buffers_are_perturbed_as_well(oracle):
    """They were rounded when they were stored; fp16 rounds them again."""
    module = Stored()
    made = oracle(module, outputs=("x", "weight", "table"))
    draw = next(iter(first(made).draws("fp32")))
    for exact, moved in zip(first(made).exact, draw, strict=True):
        relative = np.abs(moved / exact - 1) / UNIT["fp32"]
        assert 0.8 < relative.max() <= 1.001
    assert torch.equal(module.weight, torch.full((4, 8), 1 / 3))


def test_a_weight_that_is_an_output_itself_can_be_perturbed(oracle):
    class Weight(Stored):
        def forward(self, x):
            return x * 2, self.weight

    made = oracle(Weight(), outputs=("x", "weight"))
    assert first(made).exact is not None
    assert len(list(first(made).draws("fp32"))) == DRAWS


class Steps(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 4, batch_first=True)

    def forward(self, x):
        return self.lstm(x)[0][:, -1]


def test_every_step_of_a_recurrence_is_perturbed(oracle):
    """A recurrence that forgets nothing gathers the roundings of all its steps."""
    torch.manual_seed(0)
    module = Steps()
    with torch.no_grad():
        module.lstm.bias_ih_l0[4:8] += 20  # the forget gate is open
    made = oracle(module, {"x": (1, 400, 4)})
    (exact,) = first(made).exact
    moved = np.stack([draw[0] - exact for draw in first(made).draws("fp32")])
    assert np.abs(moved).max() > 2 * UNIT["fp32"] * np.abs(exact).max()


# cases


def names(made, precision="fp32", tolerance=None):
    variant = next(v for v in made.reference.model.variants if v.precision == precision)
    if tolerance is not None:
        variant = dataclasses.replace(variant, tolerance=tolerance)
    return [case.name for case in made.cases(variant)]


def test_probes_follow_the_declared_cases(oracle):
    found = names(oracle(lambda x: x * 2, draws=2))
    assert found[:2] == ["draw0", "draw1"]
    assert len(found) > 2
    assert all(name.startswith("probe:") for name in found[2:])


def test_no_time_means_no_probes_and_little_time_few(oracle):
    assert names(oracle(lambda x: x * 2, probe_seconds=0.0)) == ["draw0"]
    assert len(names(oracle(lambda x: x * 2, probe_seconds=1e-9))) == 2


def test_the_number_of_probes_follows_from_the_operations_and_not_from_a_clock(oracle):
    def heavy(x):
        for _ in range(400):
            x = x * 1.0
        return x

    few = {len(names(oracle(heavy, probe_seconds=0.05))) for _ in range(2)}
    many = {len(names(oracle(lambda x: x * 2, probe_seconds=0.05))) for _ in range(2)}
    assert len(few) == len(many) == 1
    assert min(few) < min(many)


def test_probes_belong_to_every_policy(oracle):
    made = oracle(lambda x: x * 2)
    assert names(made, tolerance=FIXED_TOLERANCE["fp32"]) == names(made)
    ranged = oracle(lambda x: x * 2, entries={"x": Input(shape=(4, 8), range=(-1, 1))})
    assert names(ranged, "fp16", FIXED_TOLERANCE["fp16"]) == names(ranged, "fp16")


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic"])
def test_what_is_made_for_the_values_it_will_meet_gets_other_sizes_of_them(oracle, precision):
    made = oracle(lambda x: x * 2, {"x": ("batch", 8)}, dims={"batch": (1, 6)})
    assert names(made, precision) == [
        *("batch=1/draw0", "batch=6/draw0"),
        *("probe:ordinary/batch=3", "probe:ordinary/batch=2"),
    ]
    assert names(oracle(lambda x: x * 2), precision) == ["draw0"]


def test_a_mask_that_hides_nothing_is_an_ordinary_value(oracle):
    entries = {"x": Input(shape=("batch", 8)), "mask": Input(shape=("batch", 8), dtype="bool")}
    made = oracle(lambda x, mask: x * mask, entries=entries, dims={"batch": (1, 3)})
    assert "probe:ordinary/batch=2" in names(made, "int8-dynamic")
    assert not any("false" in name for name in names(made, "int8-dynamic"))


def test_why_values_of_the_plugins_own_are_left_out_is_said(oracle):
    made = oracle(lambda x: x * 2)
    fp32, fp16, int8 = made.reference.model.variants
    assert made.unprobed(fp32) == ""
    assert made.unprobed(fp16) == (
        "fp16 is probed with odd values only where every float input declares a `range`; "
        "'x' does not"
    )
    assert made.unprobed(int8) == "int8-dynamic is held to usual values only"


def test_fp16_gets_probes_only_inside_a_declared_range(oracle):
    assert names(oracle(lambda x: x * 2), "fp16") == ["draw0"]
    ranged = oracle(lambda x: x * 2, entries={"x": Input(shape=(4, 8), range=(-1, 1))})
    assert len(names(ranged, "fp16")) > 1
    variant = ranged.reference.model.variants[1]
    for case in ranged.cases(variant):
        assert np.abs(case.inputs["x"]).max() <= 1


def test_a_case_that_pytorch_does_not_take_is_refused(oracle):
    with pytest.raises(InputError, match=r"net: PyTorch itself does not run on x \[4, 8\]"):
        oracle(lambda x: x @ x)


# what a review found


class Late(nn.Module):
    """Changes itself only for long inputs, for good."""

    def __init__(self):
        super().__init__()
        self.register_buffer("factor", torch.ones(()))

    def forward(self, x):
        if x.shape[1] > 10:
            self.factor = torch.full((), 2.0)
        return x * self.factor


def test_state_that_starts_with_a_later_case_is_noticed_there(oracle):
    made = oracle(Late(), {"x": (1, "t")}, dims={"t": (3, 4, 20)})
    short, _, long = made.declared
    assert made.expected(short).outputs[0].shape == (1, 3)
    with pytest.raises(BehaviourError, match=r"keeps state between calls \(changed: factor\)"):
        made.expected(long)


class Cache(nn.Module):
    """Remembers what changes no output."""

    def __init__(self):
        super().__init__()
        self.longest = 0

    def forward(self, x):
        if x.shape[1] > 10:
            self.longest = x.shape[1]
        return x * 2


def test_a_benign_memory_that_starts_late_is_fine_and_ends_the_sharing_of_a_copy(oracle):
    made = oracle(Cache(), {"x": (1, "t")}, dims={"t": (3, 4, 20)})
    for case in made.declared:
        expected = made.expected(case)
        assert np.array_equal(expected.outputs[0], case.inputs["x"] * 2)
        assert expected.exact is not None


def test_a_draw_of_another_shape_is_left_out(oracle):
    made = oracle(lambda x: x.ravel()[x.ravel() * 3 == x.ravel() * 1.5 * 2])
    draws = list(first(made).draws("fp32"))
    assert len(draws) < DRAWS
    assert all(draw[0].shape == first(made).outputs[0].shape for draw in draws)


def test_a_model_that_asserts_on_its_own_values_is_not_asked_again(oracle):
    def strict(x):
        total = x.softmax(-1).sum(-1)
        assert torch.allclose(total, torch.ones_like(total), atol=1e-6, rtol=0)
        return total

    assert list(first(oracle(strict)).draws("fp16")) == []


class Native(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x):
        y = torch.relu(x.double() - 1e9) * self.scale
        return torch.log(y + torch.finfo(y.dtype).eps)


def test_a_float64_model_keeps_its_own_epsilons(oracle):
    made = oracle(Native())
    assert first(made).exact[0] == pytest.approx(first(made).outputs[0])


def test_integers_beyond_float32_stay_exact_without_float64(oracle):
    def ids(x):
        assert x.dtype is torch.float32
        return (x.sum() * 0).long() + 2**24 + 1

    made = oracle(ids)
    assert first(made).exact is None
    assert {int(draw[0]) for draw in first(made).draws("fp32")} == {2**24 + 1}


# inputs without elements

EMPTY_FIRST = {"inputs": {"x": ("batch", 8)}, "dims": {"batch": (0, 3)}}


def test_what_an_empty_first_case_does_not_show_is_seen_all_the_same(oracle):
    with pytest.raises(BehaviourError, match=r"nondeterministic: .* \(case batch=3/draw0\)"):
        oracle(lambda x: x + torch.rand(8), **EMPTY_FIRST)
    with pytest.raises(BehaviourError, match=r"keeps state .* \(case batch=3/draw0\)"):
        oracle(Counting(), **EMPTY_FIRST)


def test_an_output_is_usually_as_large_as_where_it_is_not_empty(oracle):
    made = oracle(lambda x: 0 * x + 5, **EMPTY_FIRST)
    assert first(made).outputs[0].size == 0
    assert made.usual_magnitude(0) == 5
    assert oracle(lambda x: x, inputs={"x": (0, 8)}).usual_magnitude(0) == 0


def test_with_draws_0_a_single_case_is_run_again_beside_itself(oracle, tmp_path):
    np.savez(tmp_path / "own.npz", x=np.ones((2, 8), "float32"))
    own = {"draws": 0, "example": "own.npz", "root": tmp_path, "inputs": {"x": (2, 8)}}
    made = oracle(lambda x: x + 1, **own)
    assert [case.name for case in made.declared] == ["example"]
    assert made.probes == []
    with pytest.raises(BehaviourError, match="keeps state between calls"):
        oracle(Counting(), **own)
