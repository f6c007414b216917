"""Whose entries of a state_dict are a module's, and what is said of those that do not fit."""

import copy
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_model
from torch.nn.utils import parametrizations, parametrize
from torch.optim.swa_utils import AveragedModel

from pytest_onnxcheck.engine.reference.weights import Loaded, load_state
from pytest_onnxcheck.errors import CheckpointError

PATH = Path("net.pt")


class Net(torch.nn.Module):
    def __init__(self, hidden=3):
        super().__init__()
        self.first = torch.nn.Linear(4, hidden)
        self.norm = torch.nn.BatchNorm1d(hidden)
        self.last = torch.nn.Linear(hidden, 2)


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 4)
        self.head = torch.nn.Linear(4, 5, bias=False)
        self.head.weight = self.embed.weight


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def prefixed(module, prefix):
    return {prefix + name: value for name, value in module.state_dict().items()}


def same(state, other):
    return list(state) == list(other) and all(torch.equal(state[k], other[k]) for k in state)


def fill(net, state, prefix=None):
    """Loads it into another module; what is told."""
    target = Net()
    notes = load_state(target, state, PATH, prefix).notes
    assert same(target.state_dict(), net.state_dict())
    return notes


def misfit(state, prefix=None, module=None):
    with pytest.raises(CheckpointError) as caught:
        load_state(module or Net(), state, PATH, prefix)
    return str(caught.value)


def test_a_state_dict_that_fits_is_loaded(net):
    assert fill(net, net.state_dict()) == ()
    assert fill(net, OrderedDict(reversed(net.state_dict().items()))) == ()


# wrappers


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module."]
)
def test_prefixes_of_wrappers_are_stripped_and_not_told(net, prefix):
    assert fill(net, prefixed(net, prefix)) == ()


def test_names_of_wrappers_are_stripped_anywhere(net):
    state = dict(net.state_dict())
    for name in ("last.weight", "last.bias"):
        state[name.replace(".", "._orig_mod.")] = state.pop(name)
    assert fill(net, state) == ()
    compiled = Net()
    compiled.load_state_dict(net.state_dict())
    compiled.first = torch.compile(compiled.first)
    assert "first._orig_mod.weight" in compiled.state_dict()
    assert fill(net, compiled.state_dict()) == ()


def test_names_that_the_module_has_itself_are_kept(net):
    for state in (prefixed(net, "module."), net.state_dict(), prefixed(net, "module._orig_mod.")):
        target = torch.nn.DataParallel(Net())
        load_state(target, state, PATH)
        assert same(target.module.state_dict(), net.state_dict())


def test_the_counter_of_an_averaged_model_is_ignored(net):
    averaged = AveragedModel(net)
    assert "n_averaged" in averaged.state_dict()
    assert fill(net, averaged.state_dict()) == ()


# prefixes


def test_the_one_prefix_that_fits_is_used_and_told(net):
    trained = {**prefixed(net, "model."), "loss.weight": torch.ones(3)}
    assert fill(net, trained) == (
        "net.pt: the entries under 'model.' fit the model and were loaded; loss.weight beside them "
        'ignored; write prefix = "model." in [models.NAME] if that is meant',
    )
    assert fill(net, trained, "model.") == fill(net, trained, "model") == ()
    assert "'module.model.'" in fill(net, {f"module.{k}": v for k, v in trained.items()})[0]
    assert fill(net, {f"module.{k}": v for k, v in trained.items()}, "model.") == ()


def test_weights_and_their_average_are_told_apart_by_prefix(net):
    average = AveragedModel(Net().eval())
    state = {**prefixed(net, "model."), **prefixed(average, "ema_model.")}
    assert misfit(state) == (
        "net.pt: several sets of weights fit Net: those under 'model.' and under 'ema_model.', "
        "with different values. Say in [models.NAME] which is released: "
        'prefix = "model." or prefix = "ema_model."'
    )
    assert fill(net, state, "model.") == ()
    assert fill(average.module, state, "ema_model.") == ()


def test_weights_without_prefix_and_their_average_are_told_apart_too(net):
    average = Net().eval()
    state = {**net.state_dict(), **prefixed(average, "ema.")}
    assert 'prefix = "" or prefix = "ema."' in misfit(state)
    assert fill(net, state, "") == ()
    assert fill(average, state, "ema.") == ()


def test_many_sets_that_fit_are_counted():
    layers = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(7)])
    text = misfit(layers.state_dict(), module=torch.nn.Linear(2, 2))
    assert "under '3.', under '4.' and under 2 more, with different values" in text
    assert text.endswith('or prefix = "4."')


def test_an_average_of_another_dtype_has_other_values(net):
    average = {k: v.double() for k, v in prefixed(net, "ema.").items()}
    assert "under 'model.' and under 'ema.'" in misfit({**prefixed(net, "model."), **average})


def test_the_same_values_under_two_prefixes_are_no_question(net):
    (note,) = fill(net, {**prefixed(net, "model."), **prefixed(net, "loss.model.")})
    assert "under 'model.' fit" in note
    (note,) = fill(net, {**net.state_dict(), **prefixed(net, "ema.")})
    assert "the entries without prefix fit the model and were loaded; ema.first.weight" in note
    assert 'write prefix = "" in' in note


def test_a_prefix_that_no_entry_has_names_those_that_there_are(net):
    assert misfit({**prefixed(net, "model."), **prefixed(net, "ema.")}, "modle.") == (
        "net.pt: prefix = 'modle.': no entry has it; the entries begin with model., ema."
    )


def test_entries_that_the_model_lacks_are_refused_unless_said_to_be_others(net):
    state = {**net.state_dict(), "loss.weight": torch.ones(3)}
    assert misfit(state) == (
        "net.pt: does not fit Net: unexpected loss.weight. If these are no part of the model (a "
        "loss's, a metric's), write prefix = \"\" in [models.NAME]; otherwise give the factory the "
        "checkpoint's kwargs"
    )
    assert fill(net, state, "") == ()
    layers = prefixed(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(2, 2)), "model.last.")
    assert misfit({**prefixed(net, "model."), **layers}, "model.") == (
        "net.pt: does not fit Net under 'model.': unexpected last.1.weight, last.1.bias. "
        "Give the factory the checkpoint's kwargs"
    )


# what torch and safetensors make of names


def test_one_name_of_tied_weights_is_enough_in_safetensors(tmp_path):
    written = Tied()
    path = tmp_path / "tied.safetensors"
    save_model(written, str(path))
    state = load_file(path)
    assert list(state) == ["embed.weight"]
    target = Tied()
    assert load_state(target, state, path, tied=True) == Loaded(None)
    assert torch.equal(target.head.weight, written.head.weight)
    untied = Tied()
    untied.head.weight = torch.nn.Parameter(torch.ones(5, 4))
    with pytest.raises(CheckpointError, match=r"missing head\.weight"):
        load_state(untied, state, path, tied=True)
    assert "missing head.weight" in misfit(state, module=Tied())  # a .pt has both


@pytest.fixture
def old_norm():
    with pytest.warns(FutureWarning):
        return torch.nn.utils.weight_norm(torch.nn.Conv1d(2, 3, 3)).eval()


def conv(norm=parametrizations.weight_norm):
    return torch.nn.Sequential(norm(torch.nn.Conv1d(2, 3, 3))).eval()


def test_the_norm_is_of_the_dim_that_it_is_kept_for():
    for module, dims in [
        (torch.nn.Linear(4, 3), (0, 1, None)),
        (torch.nn.Linear(4, 1), (0, None)),
        (torch.nn.Linear(1, 4), (1,)),
        (torch.nn.ConvTranspose1d(4, 2, 3), (0, 1, 2)),
    ]:
        for dim in dims:
            plain, normed = copy.deepcopy(module), copy.deepcopy(module)
            parametrizations.weight_norm(normed, dim=dim)
            normed.parametrizations.weight.original0.data *= 2
            load_state(plain, normed.state_dict(), PATH)
            torch.testing.assert_close(plain.weight, normed.weight)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model."])
def test_names_of_the_old_weight_norm_go_through_the_hook_of_the_new(old_norm, prefix):
    target, x = conv(), torch.randn(1, 2, 8)
    state = prefixed(torch.nn.Sequential(old_norm), prefix)
    assert f"{prefix}0.weight_g" in state
    notes = load_state(target, state, PATH).notes
    assert len(notes) == (prefix == "model.")
    torch.testing.assert_close(target(x), old_norm(x))


def test_the_weight_norm_of_a_model_without_is_folded_and_told(old_norm):
    x = torch.randn(1, 2, 8)
    new = conv()
    new.load_state_dict(torch.nn.Sequential(old_norm).state_dict())
    for state in (torch.nn.Sequential(old_norm).state_dict(), new.state_dict()):
        target = conv()
        parametrize.remove_parametrizations(target[0], "weight")
        (note,) = load_state(target, state, PATH).notes
        assert "they were multiplied as torch.nn.utils.remove_weight_norm does" in note
        torch.testing.assert_close(target(x), old_norm(x))


def test_two_originals_that_are_no_weight_norm_are_not_folded():
    state = {
        "parametrizations.weight.original0": torch.ones(4, 2),
        "parametrizations.weight.original1": torch.ones(2, 3),
    }
    text = misfit(state, module=torch.nn.Linear(3, 4, bias=False))
    assert "missing weight; unexpected parametrizations.weight.original0" in text


def test_a_model_s_own_hook_renames():
    class Renamed(torch.nn.Linear):
        def _load_from_state_dict(self, state, prefix, *more):
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")
            super()._load_from_state_dict(state, prefix, *more)

    target = Renamed(2, 1, bias=False)
    load_state(target, {"kernel": torch.ones(1, 2)}, PATH)
    assert torch.equal(target.weight, torch.ones(1, 2))


def test_a_prefix_beside_the_one_that_has_all_names_says_so(net):
    state = {**prefixed(net, "model."), "loss.weight": torch.ones(3)}
    assert misfit(state, "loss.").endswith(
        "first.weight is in the file as model.first.weight. All names of the model are under "
        "'model.': write prefix = \"model.\""
    )


class Lenient(Net):
    """Takes what fits, as many projects do."""

    def load_state_dict(self, state, strict=False, assign=False):
        own = self.state_dict()
        fitting = {n: v for n, v in state.items() if n in own and v.shape == own[n].shape}
        return super().load_state_dict(fitting, strict=False, assign=assign)


def test_a_load_state_dict_that_takes_what_fits_is_not_believed(net):
    state = prefixed(net, "model.")
    target = Lenient()
    assert "under 'model.' fit the model" in load_state(target, state, PATH).notes[0]
    assert same(target.state_dict(), net.state_dict())
    moved = {n.replace("model.last", "other.last"): v for n, v in state.items()}
    for prefix in (None, "model."):
        assert misfit(moved, prefix, Lenient()) == (
            "net.pt: does not fit Lenient under 'model.': missing last.weight, last.bias. The "
            "load_state_dict of Lenient passes over that: weights stay as the factory made them. "
            "last.weight is in the file as other.last.weight. Give the factory the checkpoint's "
            "kwargs"
        )
    wide = misfit(Net(5).state_dict(), module=Lenient())
    assert "first.weight is [5, 4], the model has [3, 4]" in wide
    assert "The load_state_dict of Lenient passes over that" in wide


class Computing(torch.nn.Module):
    def __init__(self, base=100.0):
        super().__init__()
        self.inner = torch.nn.Linear(2, 2)
        frequencies = 1 / base ** (torch.arange(4) / 4)
        self.inner.register_buffer("inv_freq", frequencies, persistent=False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_buffers_that_are_no_longer_saved_are_left_out_where_the_model_has_the_same(dtype):
    saved, target = Computing(), Computing()
    state = {**saved.state_dict(), "inner.inv_freq": saved.inner.inv_freq.to(dtype)}
    assert load_state(target, state, PATH) == Loaded(None)
    under = {f"model.{name}": value for name, value in state.items()}
    assert load_state(target, under, PATH, "model.").notes == ()
    assert same(target.state_dict(), saved.state_dict())
    assert misfit(state, module=Computing(500.0)) == (
        "net.pt: does not fit Computing: unexpected inner.inv_freq. The model computes "
        "inner.inv_freq itself and has other numbers than the file: give the factory the "
        "checkpoint's kwargs"
    )


# what does not fit


def test_missing_and_unexpected_entries_are_named(net):
    state = dict(net.state_dict())
    del state["last.bias"]
    state["head.weight"] = torch.zeros(1)
    assert misfit(state) == (
        "net.pt: does not fit Net: missing last.bias; unexpected head.weight. Give the factory the "
        "checkpoint's kwargs"
    )


def test_names_of_another_beginning_say_what_was_tried(net):
    renamed = {f"enc{n}": v for n, v in {**prefixed(net, "a."), **prefixed(net, "b.")}.items()}
    assert misfit({n.replace("first", "one"): v for n, v in renamed.items()}) == (
        "net.pt: does not fit Net under 'enca.': missing first.weight, first.bias; unexpected "
        "one.weight, one.bias. Give the factory the checkpoint's kwargs"
    )
    said = misfit(prefixed(net, "enc_"))
    assert said[said.index("Tried") :] == (
        "Tried: the names as they are, without module. or _orig_mod., under 'enc_norm.'. In the "
        "file they begin with enc_first., enc_norm., enc_last., in the model with first., norm., "
        'last.: give the factory the checkpoint\'s kwargs, or write prefix = "..." in '
        "[models.NAME], what the names of the model's weights begin with"
    )


def test_weights_of_a_module_inside_the_factorys_say_so(net):
    wrapper = torch.nn.ModuleDict({"net": Net()})
    assert misfit(net.state_dict(), module=wrapper).endswith(
        "They are those of the model's 'net' alone: the factory puts a module around the one that "
        "was saved. Load them in the factory (`model.net.load_state_dict(...)`) and leave out "
        "checkpoint"
    )


class Words(torch.nn.Module):
    def __init__(self, inputs=3, words=9, width=4, classes=2):
        super().__init__()
        self.conv = torch.nn.Conv1d(inputs, 5, 3)
        self.embed = torch.nn.Embedding(words, 5)
        self.hidden = torch.nn.Linear(5, 5)
        self.inner = torch.nn.Linear(5, width, bias=False)
        self.head = torch.nn.Linear(5, classes)


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        (
            {"classes": 7},
            "head differs, which is mostly the number of classes or outputs: the .* 7",
        ),
        ({"inputs": 1}, "conv differs, which is mostly the number of input channels .* has 1"),
        ({"words": 8}, "embed differs, which is mostly the vocabulary or the longest .* has 8"),
        ({"width": 6}, "inner differs, which is mostly a width: the checkpoint's has 6"),
    ],
)
def test_one_layer_of_another_shape_says_what_mostly_makes_it(kwargs, text):
    said = misfit(Words(**kwargs).state_dict(), module=Words())
    assert re.search(rf"does not fit Words: of another shape: .* No layer but {text}\. Give", said)
    assert "architecture" not in said


def test_another_rank_of_one_layer_is_another_architecture(net):
    state = {**net.state_dict(), "last.weight": torch.zeros(2, 3, 1)}
    assert misfit(state).endswith(
        "last.weight is [2, 3, 1], the model has [2, 3]. The checkpoint "
        "belongs to another architecture or other kwargs: write those it was trained with, "
        "kwargs = { ... } in [models.NAME], or name its own factory"
    )


@pytest.mark.parametrize("prefix", ["", "model."])
def test_only_other_shapes_are_another_architecture(prefix):
    under = f" under {prefix!r}" if prefix else ""
    assert misfit(prefixed(Net(hidden=5), prefix)) == (
        f"net.pt: does not fit Net{under}: of another shape: first.weight is [5, 4], the model has "
        "[3, 4], first.bias is [5], the model has [3], norm.weight is [5], the model has [3], "
        "norm.bias is [5], the model has [3], norm.running_mean is [5], the model has [3] and 2 "
        "more. The checkpoint belongs to another architecture or other kwargs: write those it was "
        "trained with, kwargs = { ... } in [models.NAME], or name its own factory"
    )


def test_many_entries_are_counted():
    assert (
        "missing first.weight, first.bias, norm.weight, norm.bias, norm.running_mean and 4 more"
        in (misfit({"x": torch.zeros(1)}))
    )
