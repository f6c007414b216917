"""A reference is built the same every time, in eval mode, with the shapes that were declared."""

import sys

import pytest
import torch
from safetensors.torch import save_file

from pytest_onnxcheck.engine.reference.load import load_reference, seed_of
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import load_manifest

NET = """
import torch


def make(train=False):
    return torch.nn.Linear(4, 2).train(train)


class Masked(torch.nn.Module):
    def forward(self, ids, mask, kinds):
        return ids + mask * kinds


def shapes(config):
    return {"other": [3]}


def broken(config):
    return {"x": [config["size"]] if config else [{}["size"]]}


def symbolic(config):
    return {"x": ["time"]}


def text():
    return "no module"


class Orthogonal(torch.nn.Linear):
    def __init__(self):
        super().__init__(64, 256)
        torch.nn.init.orthogonal_(self.weight)
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Loads the reference of a model with these lines of TOML."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")

    def run(more="", *, name="net", seed=0, factory="make", shape="shape = [4]", inputs=None):
        declared = f"[models.{name}.inputs.x]\n{shape}\n" if inputs is None else inputs
        (tmp_path / "models.toml").write_text(
            f'schema = 1\nseed = {seed}\n[models.{name}]\nfactory = "net.py:{factory}"\n{more}\n'
            f"{declared}[models.{name}.outputs.y]\nshape = [2]\n",
            encoding="utf-8",
        )
        return load_reference(load_manifest(tmp_path / "models.toml").models[name])

    return run


def test_random_weights_follow_seed_and_name_and_nothing_else(load):
    torch.manual_seed(1)
    first = load().module.weight
    torch.manual_seed(2)
    assert torch.equal(load().module.weight, first)
    for other in (load(seed=1), load(name="other")):
        assert not torch.equal(other.module.weight, first)


def test_random_weights_do_not_depend_on_the_number_of_threads(load):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(load(factory="Orthogonal", shape="shape = [64]").fingerprint)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1]


def test_the_seed_of_a_factory_can_be_given_to_torch_again(load):
    reference = load()
    torch.manual_seed(seed_of(reference.model))
    assert torch.equal(torch.nn.Linear(4, 2).weight, reference.module.weight)


def test_train_mode_is_left_and_told(load):
    assert load().notes == ()
    reference = load("kwargs = { train = true }")
    assert not reference.module.training
    (note,) = reference.notes
    assert note.startswith("net.py:make gives the model in train mode; it was put into eval mode")


def test_a_factory_that_gives_no_module_is_named(load):
    with pytest.raises(CheckpointError, match=r"net\.py:text returned a str, not a torch\.nn"):
        load(factory="text")


def test_shapes_that_miss_an_input_are_told_with_those_there(load):
    with pytest.raises(
        CheckpointError, match=r"gives no shape for input 'x'; it gives \['other'\]"
    ):
        load('shapes = "net.py:shapes"', shape="")


def test_the_fingerprint_follows_the_weights(load):
    first = load().fingerprint
    assert load().fingerprint == first
    assert load(seed=1).fingerprint != first


def test_a_factory_that_fails_is_told_with_its_arguments_and_the_users_line(load):
    with pytest.raises(CheckpointError) as raised:
        load("kwargs = { layers = 2 }")
    said = str(raised.value)
    assert said.startswith("net.py:make(layers=2) failed: TypeError: make() got an unexpected")


def test_shapes_that_fail_are_told(load):
    with pytest.raises(CheckpointError, match=r"net\.py:broken\(config\) failed: KeyError: 'size'"):
        load('shapes = "net.py:broken"', shape="")


def test_a_symbol_of_computed_shapes_that_no_dim_declares_is_named(load):
    with pytest.raises(
        CheckpointError, match=r"input 'x': symbolic dims \['time'\] are not in dims"
    ):
        load('shapes = "net.py:symbolic"', shape="")


def test_weights_without_a_model_ask_for_a_factory(tmp_path):
    torch.save({"weight": torch.ones(2, 4)}, tmp_path / "net.pt")
    (tmp_path / "models.toml").write_text(
        'schema = 1\n[models.net]\ncheckpoint = "net.pt"\n'
        "[models.net.inputs.x]\nshape = [4]\n[models.net.outputs.y]\nshape = [2]\n",
        encoding="utf-8",
    )
    model = load_manifest(tmp_path / "models.toml").models["net"]
    with pytest.raises(CheckpointError, match="holds weights but no model: set factory = "):
        load_reference(model)


@pytest.fixture
def masked(load):
    """Loads a module whose forward takes ids, mask and kinds, with inputs of these names."""

    def run(*names):
        more = "".join(f"inputs.{name}.shape = [4]\n" for name in names[1:])
        text = f"inputs.{names[0]}.shape = [4]\n{more}"
        return load(text, factory="Masked", inputs="")

    return run


@pytest.mark.parametrize(
    "names",
    [("ids", "mask", "kinds"), ("kinds", "ids", "mask"), ("a", "b", "c"), ("ids", "b", "kinds")],
)
def test_inputs_by_name_or_by_position(masked, names):
    assert masked(*names).module is not None


def test_a_name_that_forward_lacks_does_not_move_the_others(masked):
    with pytest.raises(
        CheckpointError,
        match=r"input 'kinds' would be passed as 'mask': inputs are passed by position unless "
        r"forward has all their names, and it has no 'masks' \(did you mean 'mask'\?\)",
    ):
        masked("ids", "kinds", "masks")


def test_the_entries_under_a_prefix_are_loaded_and_one_that_is_found_is_told(load, tmp_path):
    weights = torch.nn.Linear(4, 2).state_dict()
    state = {f"model.{name}": value for name, value in weights.items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(3)}}, tmp_path / "last.ckpt")
    keys = 'checkpoint = "last.ckpt"\nstate_dict = "state_dict"'
    found, written = load(keys), load(f'{keys}\nprefix = "model."')
    for reference in (found, written):
        assert torch.equal(reference.module.weight, weights["weight"])
    (note,) = found.notes
    assert "the entries under 'model.' fit the model and were loaded; loss.weight" in note
    assert written.notes == ()


def test_a_checkpoint_is_hashed_and_weighed_with_all_its_files(load, tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    save_file(torch.nn.Linear(4, 2).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    first = load('checkpoint = "saved"')
    size = sum(file.stat().st_size for file in folder.iterdir())
    assert first.checkpoint_bytes == size
    (folder / "config.json").write_text("[]", encoding="utf-8")
    other = load('checkpoint = "saved"')
    assert first.checkpoint_sha256 != other.checkpoint_sha256
    assert first.fingerprint != other.fingerprint
