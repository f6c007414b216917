"""Files as trainers write them, from the manifest to the outputs."""

import sys

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch


def make():
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
"""
ONE = "[models.net.inputs.x]\nshape = [2, 4]\n"


class Masked(torch.nn.Module):
    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return (x * mask - mask).sum(1)


@pytest.fixture
def net():
    torch.manual_seed(5)
    made = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    made(torch.randn(8, 4))
    return made.eval()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """The reference of a checkpoint, with lines of TOML."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")

    def run(content, more="", *, factory='factory = "nets.py:make"', inputs=ONE, name="net.ckpt"):
        if content is not None:
            torch.save(content, tmp_path / name)
        (tmp_path / "models.toml").write_text(
            f'schema = 1\n[models.net]\n{factory}\ncheckpoint = "{name}"\n{more}\n{inputs}'
            "[models.net.outputs.y]\nshape = [2, 3]\n",
            encoding="utf-8",
        )
        return load_reference(load_manifest(tmp_path / "models.toml").models["net"])

    return run


def gives(reference, net):
    x = torch.linspace(-1, 1, 8).reshape(2, 4)
    (given,) = reference.run({"x": x.numpy()})
    return np.array_equal(given, net(x).detach().numpy())


def prefixed(module, prefix):
    return {prefix + name: value for name, value in module.state_dict().items()}


@pytest.fixture
def lightning(net):
    """What Lightning writes of a module with its net under `model`, and a loss and a metric."""
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.randn(8, 4)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    state = {**prefixed(net, "model."), "loss.weight": torch.ones(3), "accuracy.n": torch.ones(())}
    return {
        "epoch": 3,
        "global_step": 100,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": state,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.ones(())}},
        "optimizer_states": [optimizer.state_dict()],
        "lr_schedulers": [scheduler.state_dict()],
        "hparams_name": "kwargs",
        "hyper_parameters": {"hidden": 3, "lr": 1e-3},
    }


def test_a_checkpoint_of_lightning(load, lightning, net):
    found = load(lightning, 'state_dict = "state_dict"')
    assert gives(found, net)
    assert "the entries under 'model.' fit" in found.notes[0]
    assert found.prefix == "model."
    written = load(lightning, 'state_dict = "state_dict"\nprefix = "model."')
    assert gives(written, net)
    assert written.notes == ()
    assert gives(load(lightning, 'state_dict = "state_dict.model"'), net)


def test_a_checkpoint_of_lightning_says_where_its_weights_are(load, lightning):
    with pytest.raises(CheckpointError, match="is not a state_dict: set state_dict = 'state_dict'"):
        load(lightning)


def test_weights_and_their_moving_average(load, net):
    trained = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3)).eval()
    averaged = AveragedModel(net).state_dict()
    state = {**prefixed(trained, "online_model."), "step": torch.ones(())}
    state |= {f"ema_model.{name}": value for name, value in averaged.items()}
    assert "ema_model.n_averaged" in state
    with pytest.raises(
        CheckpointError, match=r'prefix = "online_model\." or prefix = "ema_model\."'
    ):
        load(state)
    assert gives(load(state, 'prefix = "ema_model."'), net)
    assert gives(load(state, 'prefix = "online_model."'), trained)


def test_an_averaged_model_alone(load, net):
    assert gives(load({"swa": AveragedModel(net).state_dict()}, 'state_dict = "swa"'), net)


def test_names_of_ddp_and_of_compile(load, net):
    parallel = torch.nn.DataParallel(net).state_dict()
    assert all(name.startswith("module.") for name in parallel)
    compiled = torch.nn.DataParallel(torch.compile(net)).state_dict()
    assert all(name.startswith("module._orig_mod.") for name in compiled)
    for state in (parallel, compiled):
        reference = load({"model": state, "epoch": 1}, 'state_dict = "model"')
        assert gives(reference, net)
        assert reference.notes == ()


@pytest.mark.parametrize("script", [True, False])
def test_a_torchscript_file(load, net, tmp_path, script):
    made = torch.jit.script(net) if script else torch.jit.trace(net, torch.randn(2, 4))
    made.save(tmp_path / "net.ckpt")
    reference = load(None, factory="")
    assert gives(reference, net)
    assert reference.notes == ()


def test_a_torchscript_file_with_two_inputs(load, tmp_path):
    torch.jit.script(Masked()).save(tmp_path / "net.ckpt")
    inputs = "".join(f"[models.net.inputs.{name}]\nshape = [2, 4]\n" for name in ("x", "mask"))
    reference = load(None, factory="", inputs=inputs)
    x, mask = np.full((2, 4), 3, np.float32), np.full((2, 4), 2, np.float32)
    (given,) = reference.run({"x": x, "mask": mask})
    assert given.tolist() == [16, 16]


def test_a_program_of_torch_export(load, net, tmp_path):
    program = torch.export.export(net, (torch.randn(2, 4),))
    torch.export.save(program, tmp_path / "net.pt2")
    assert gives(load(None, factory="", name="net.pt2"), net)
