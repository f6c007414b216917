"""Repro folders: the script in them shows the mismatch with numpy, torch and onnxruntime alone."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from helpers import arrays_in
from onnx import numpy_helper
from safetensors.torch import save_file

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.convert.export import export
from pytest_onnxcheck.engine.diagnosis import repro
from pytest_onnxcheck.engine.diagnosis.repro import command, write_repro
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU

NETS = """
import dataclasses

import torch
from torch import nn


def mlp(hidden=16, config=None):
    hidden = config["hidden"] if config else hidden
    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4))


class Swapped(nn.Module):
    def forward(self, scale, file):
        return {"sum": file + scale, "rest": (file * scale, (file > 0), None)}


def swapped():
    return Swapped()


class Saved(nn.Linear):
    @classmethod
    def from_pretrained(cls, folder):
        from safetensors.torch import load_file

        module = cls(8, 4)
        module.load_state_dict(load_file(folder + "/model.safetensors"))
        return module.eval()


@dataclasses.dataclass
class State:
    hidden: torch.Tensor
    more: tuple = ()


class Nested(nn.Module):
    def forward(self, state: State, pairs, *, offset, **options):
        assert isinstance(state, State)
        (left, right), = pairs
        found = state.hidden * left - right + offset * options["scale"]
        return {"unused": left, "state": State(found, (found + 1,))}


def nested():
    return Nested()


def ids():
    class Ids(nn.Module):
        def forward(self, x):
            return x * 2

    return Ids()
"""

MLP = """
schema = 1
seed = 5
[defaults]
exporters = ["torchscript"]
opsets = [17]
[models.net]
factory = "nets.py:mlp"
kwargs = { hidden = 12 }
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


class Gate:
    """A project with one model, its oracle and its artefact."""

    def __init__(self, path: Path, manifest: str, nets: str = NETS) -> None:
        self.root = path / "project"
        self.root.mkdir(exist_ok=True)
        (self.root / "nets.py").write_text(nets)
        self.manifest = self.root / "models.toml"
        self.manifest.write_text(manifest)
        loaded = load_manifest(self.manifest)
        loaded.check()
        (self.model,) = loaded.models.values()
        self.oracle = Oracle(load_reference(self.model))
        self.variant = self.model.variants[0]
        self.artefacts = path / "artefacts"
        self.artefacts.mkdir(exist_ok=True)
        file = self.artefacts / "net.onnx"
        export(self.oracle.reference, self.variant, file)
        self.artefact = Artefact.given(file)

    def damage(self, *, external: bool = False, by: float = 1.0) -> None:
        """Puts a fault into the artefact's first weight."""
        model = onnx.load(self.artefact.path)
        weight = model.graph.initializer[0]
        changed = numpy_helper.to_array(weight).copy()
        changed.flat[0] += by
        weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
        self.artefact.path.unlink()
        kwargs = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
        onnx.save(model, self.artefact.path, **(kwargs if external else {}))
        self.artefact = Artefact.given(self.artefact.path)

    def write(self, **more: object) -> Path:
        """Writes the folder of the last declared case."""
        allowed = dict.fromkeys(self.model.outputs, 1e-5)
        case = self.oracle.declared[-1]
        keys = {"finding": "error is too large", "manifest": self.manifest, "allowed": allowed}
        return write_repro(
            self.artefacts,
            Subject(self.artefact, self.artefact, self.oracle, self.variant, CPU),
            case,
            **(keys | more),
        )


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path, MLP)


def run(folder: Path, *args: str) -> tuple[int, str]:
    """Runs the script in this process, which has torch already, but without this package."""
    modules = dict.fromkeys([name for name in sys.modules if name.startswith("pytest_onnx")])
    said = io.StringIO()
    with (
        mock.patch.dict(sys.modules, modules),
        mock.patch.object(sys, "path", [str(folder), *sys.path]),
        mock.patch.object(sys, "argv", [str(folder / "repro.py"), *args]),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_path(sys.argv[0], run_name="__main__")
    print(said.getvalue())
    return ended.value.code, said.getvalue()


def test_the_command_runs_the_script(gate, monkeypatch):
    monkeypatch.chdir(gate.artefacts)
    healthy = command(gate.write())
    assert healthy == "python repro/net/torchscript-op17-fp32-cpu/repro.py"
    words = [sys.executable, *shlex.split(healthy)[1:]]
    assert subprocess.run(words, timeout=300).returncode == 0
    gate.damage()
    gate.write()
    damaged = subprocess.run(words, timeout=300, capture_output=True, text=True)
    assert damaged.returncode == 1
    assert "they differ" in damaged.stdout


def test_a_damaged_artefact_differs(gate):
    gate.damage()
    folder = gate.write()
    assert folder == gate.artefacts / "repro" / "net" / "torchscript-op17-fp32-cpu"
    status, said = run(folder)
    assert status == 1
    assert "net torchscript-op17-fp32 on cpu, case batch=3/draw0" in said
    assert "found: error is too large" in said
    assert "PyTorch: rebuilt from nets.py:mlp" in said
    assert "output y: PyTorch [3, 4] float32" in said
    assert "max |difference| 0." in said
    beyond = re.search(r"beyond it: (\d+)\n", said)
    assert beyond is not None
    assert int(beyond[1]) >= 4  # how many rows the fault reaches depends on the CPU's arithmetic
    shown = said.count(" PyTorch ") - 1  # without the output's shape
    assert min(5, int(beyond[1])) <= shown <= 5  # what rounding moves on this CPU may be among them
    assert "they differ" in said


def test_a_healthy_artefact_agrees(gate):
    status, said = run(gate.write())
    assert status == 0
    assert "they agree" in said
    assert "no longer gives" not in said


def test_what_the_folder_holds(gate):
    gate.damage()
    folder = gate.write()
    assert {path.name for path in folder.iterdir()} == {
        *("inputs.npz", "pytorch.npz", "onnx.npz", "model.onnx", "manifest.toml"),
        *("versions.json", "state.pt", "repro.json", "repro.py"),
        *("onnxcheck_structures.py", "onnxcheck_names.py"),
    }
    case = gate.oracle.declared[-1]
    assert np.array_equal(arrays_in(folder / "inputs.npz")["x"], case.inputs["x"])
    (output,) = gate.oracle.expected(case).outputs
    assert np.array_equal(arrays_in(folder / "pytorch.npz")["y"], output)
    assert arrays_in(folder / "onnx.npz")["y"].shape == (3, 4)
    versions = json.loads((folder / "versions.json").read_text())
    assert versions["packages"]["torch"].startswith(torch.__version__.partition("+")[0])
    assert set(versions) == {"python", "platform", "packages"}
    (model,) = load_manifest(folder / "manifest.toml").models.values()
    assert (model.name, model.kwargs) == ("net", {"hidden": 12})


def test_a_project_that_is_gone(gate):
    gate.damage()
    folder = gate.write()
    shutil.rmtree(gate.root)
    status, said = run(folder)
    assert status == 1
    assert "cannot be rebuilt (FileNotFoundError" in said
    assert "what it gave is in pytorch.npz" in said
    assert "they differ" in said


def test_a_project_somewhere_else(gate, tmp_path):
    folder = gate.write()
    gate.root.rename(tmp_path / "moved")
    status, said = run(folder, str(tmp_path / "moved"))
    assert status == 0
    assert f"rebuilt from nets.py:mlp in {tmp_path / 'moved'}" in said


def test_a_project_that_changed_is_told(gate):
    folder = gate.write()
    # of another size: Python takes a file of the same size and second for the one it compiled
    (gate.root / "nets.py").write_text(NETS.replace("nn.ReLU()", "nn.GELU()") + "\n# changed\n")
    status, said = run(folder)
    assert status == 1
    assert "no longer gives what is in pytorch.npz: y is " in said


def test_without_its_weights_the_seed_and_the_checkpoint_give_them(tmp_path, monkeypatch):
    monkeypatch.setattr(repro, "LIMIT_BYTES", 0)
    gate = Gate(tmp_path, MLP)
    folder = gate.write()
    assert not (folder / "state.pt").exists()
    status, said = run(folder)
    assert (status, "no longer gives" in said) == (0, False)
    weights = gate.oracle.reference.module.state_dict()
    torch.save({"weights": {"ema": weights}, "config": {"hidden": 12}}, gate.root / "net.pt")
    keys = 'checkpoint = "net.pt"\nstate_dict = "weights.ema"\nconfig_key = "config"'
    gate = Gate(tmp_path, MLP.replace("kwargs = { hidden = 12 }", keys))
    status, said = run(gate.write())
    assert (status, "rebuilt" in said, "no longer gives" in said) == (0, True, False)


@pytest.mark.parametrize(
    ("keys", "content"),
    [
        ('state_dict = "state"', lambda w: {"state": {f"_orig_mod.{n}": v for n, v in w.items()}}),
        ('state_dict = "state.net"', lambda w: {"state": {f"net.{n}": v for n, v in w.items()}}),
        ("", lambda w: {f"module.net.{n}": v for n, v in w.items()} | {"loss.w": torch.ones(1)}),
        ('prefix = "ema."', lambda w: {f"ema.{n}": v for n, v in w.items()} | {"n": torch.ones(1)}),
        ('prefix = ""', lambda w: {**w, "loss.w": torch.ones(1)}),
    ],
)
def test_without_its_weights_the_names_of_the_checkpoint_are_understood(
    tmp_path, monkeypatch, keys, content
):
    monkeypatch.setattr(repro, "LIMIT_BYTES", 0)
    (tmp_path / "project").mkdir()
    weights = torch.nn.Sequential(
        torch.nn.Linear(8, 12), torch.nn.ReLU(), torch.nn.Linear(12, 4)
    ).state_dict()
    torch.save(content(weights), tmp_path / "project" / "net.pt")
    manifest = MLP.replace("kwargs = {", f'checkpoint = "net.pt"\n    {keys}\n    kwargs = {{')
    status, said = run(Gate(tmp_path, manifest).write())
    assert (status, "rebuilt" in said, "no longer gives" in said) == (0, True, False)


def test_a_pretrained_folder_is_loaded_by_its_class(tmp_path, monkeypatch):
    monkeypatch.setattr(repro, "LIMIT_BYTES", 0)
    folder = tmp_path / "project" / "saved"
    folder.mkdir(parents=True)
    save_file(torch.nn.Linear(8, 4).state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    manifest = MLP.replace("kwargs = { hidden = 12 }\n", 'pretrained = "saved"\n').replace(
        "nets.py:mlp", "nets.py:Saved"
    )
    status, said = run(Gate(tmp_path, manifest).write())
    assert (status, "rebuilt" in said, "no longer gives" in said) == (0, True, False)


def test_a_checkpoint_in_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(repro, "LIMIT_BYTES", 0)
    folder = tmp_path / "project" / "saved"
    folder.mkdir(parents=True)
    index = {}
    for number, layer in (("0", torch.nn.Linear(8, 16)), ("2", torch.nn.Linear(16, 4))):
        state = {f"{number}.{name}": value for name, value in layer.state_dict().items()}
        save_file(state, folder / f"model-{number}.safetensors")
        index |= dict.fromkeys(state, f"model-{number}.safetensors")
    text = json.dumps({"weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
    manifest = MLP.replace("kwargs = { hidden = 12 }\n", 'checkpoint = "saved"\n')
    status, said = run(Gate(tmp_path, manifest).write())
    assert (status, "rebuilt" in said, "no longer gives" in said) == (0, True, False)


@pytest.mark.parametrize("suffix", [".pt", ".pt2"])
def test_a_checkpoint_that_is_the_model(tmp_path, suffix):
    project = tmp_path / "project"
    project.mkdir()
    net = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU()).eval()
    if suffix == ".pt":
        torch.jit.trace(net, torch.zeros(2, 8)).save(project / "net.pt")
    else:
        batch = torch.export.Dim("batch")
        program = torch.export.export(
            net, (torch.zeros(2, 8),), dynamic_shapes=({0: batch},), strict=False
        )
        torch.export.save(program, project / "net.pt2")
    manifest = MLP.replace("kwargs = { hidden = 12 }\n", "").replace(
        'factory = "nets.py:mlp"', f'checkpoint = "net{suffix}"'
    )
    gate = Gate(tmp_path, manifest)
    status, said = run(gate.write())
    assert status == 0
    assert f"PyTorch: rebuilt from net{suffix}" in said


def test_inputs_by_name_and_nested_outputs(tmp_path):
    manifest = """
    schema = 1
    [defaults]
    exporters = ["torchscript"]
    opsets = [17]
    [models.net]
    factory = "nets.py:swapped"
    dims = { batch = [2] }
    inputs.file.shape = ["batch", 3]
    inputs.scale.shape = ["batch", 3]
    outputs.sum.shape = ["batch", 3]
    outputs.file_scaled.shape = ["batch", 3]
    outputs.mask = { shape = ["batch", 3], dtype = "bool" }
    """
    gate = Gate(tmp_path, manifest)
    assert set(gate.oracle.reference.signature.kwargs) == {"file", "scale"}
    folder = gate.write(allowed={"sum": 1e-5, "file_scaled": 1e-5})
    status, said = run(folder)
    assert (status, "rebuilt" in said, "no longer gives" in said) == (0, True, False)
    arrays = arrays_in(folder / "inputs.npz")
    assert arrays.keys() == {"file", "scale"}  # numpy.savez refuses an array of the name `file`


def test_structures_constants_and_outputs_by_path(tmp_path):
    manifest = """
    schema = 1
    [defaults]
    exporters = ["torchscript"]
    opsets = [17]
    [models.net]
    factory = "nets.py:nested"
    arguments = { offset = 2 }
    containers = { pairs = "tuple" }
    inputs."pairs.0.1".shape = [3]
    inputs."pairs.0.0".shape = [3]
    inputs.hidden = { shape = [3], path = "state.hidden" }
    inputs.scale.shape = [3]
    outputs.later = { shape = [3], path = "state.more.0" }
    outputs.found = { shape = [3], path = "state.hidden" }
    """
    gate = Gate(tmp_path, manifest)
    folder = gate.write()
    status, said = run(folder)
    assert (status, "rebuilt" in said, "no longer gives" in said) == (0, True, False)
    found = arrays_in(folder / "pytorch.npz")
    assert np.array_equal(found["later"], found["found"] + 1)


def test_exact_outputs_may_not_differ_at_all(tmp_path):
    manifest = """
    schema = 1
    [defaults]
    exporters = ["torchscript"]
    opsets = [17]
    [models.net]
    factory = "nets.py:ids"
    inputs.x = { shape = [4], dtype = "int64", range = [-9007199254740993, 9007199254740993] }
    outputs.y = { shape = [4], dtype = "int64" }
    """
    gate = Gate(tmp_path, manifest)
    folder = gate.write(allowed={})
    assert run(folder)[0] == 0
    model = onnx.load(folder / "model.onnx")
    (add,) = [onnx.helper.make_node("Add", ["doubled", "one"], ["y"])]
    model.graph.node[-1].output[0] = "doubled"
    model.graph.node.append(add)
    model.graph.initializer.append(numpy_helper.from_array(np.int64(1), "one"))
    (folder / "model.onnx").unlink()
    onnx.save(model, folder / "model.onnx")
    status, said = run(folder)
    assert status == 1
    assert "max |difference| 1, allowed 0, beyond it: 4" in said


def test_nan_on_one_side_differs(gate):
    gate.damage(by=float("nan"))
    status, said = run(gate.write())
    assert status == 1
    assert "max |difference| inf" in said


def test_external_data_comes_along(gate):
    gate.damage(external=True)
    folder = gate.write()
    assert (folder / "net.data").is_file()
    shutil.rmtree(gate.root)
    for path in gate.artefacts.glob("net.*"):
        path.unlink()
    status, said = run(folder)
    assert status == 1
    assert f"{folder / 'model.onnx'} on CPUExecutionProvider" in said


def test_an_artefact_that_does_not_load(gate):
    model = onnx.load(gate.artefact.path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, gate.artefact.path)
    gate.artefact = Artefact.given(gate.artefact.path)
    folder = gate.write()
    assert not (folder / "onnx.npz").exists()
    status, said = run(folder)
    assert status == 1
    assert "ONNX Runtime fails where PyTorch does not: " in said
    assert "NoSuchOperator" in said


def test_a_provider_that_is_not_there(gate):
    folder = gate.write()
    about = json.loads((folder / "repro.json").read_text())
    (folder / "repro.json").write_text(json.dumps(about | {"provider": "NoSuchProvider"}))
    status, said = run(folder)
    assert status == 2
    assert "has no NoSuchProvider" in said


def test_a_folder_is_replaced_as_a_whole(gate):
    folder = gate.write()
    (folder / "left.txt").write_text("from an earlier run")
    gate.damage()
    assert gate.write(finding="another") == folder
    assert not (folder / "left.txt").exists()
    assert json.loads((folder / "repro.json").read_text())["finding"] == "another"
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_folder_stays_when_the_next_one_cannot_be_written(gate, monkeypatch):
    folder = gate.write()
    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr(repro, "_write_model", lambda *args, **keys: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        gate.write()
    assert sorted(path.name for path in folder.iterdir()) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_only_files_of_the_cache_are_linked(gate):
    folder = gate.write()
    assert (folder / "model.onnx").samefile(gate.artefact.path)
    gate.variant = dataclasses.replace(gate.variant, file=gate.artefact.path)
    folder = gate.write()
    assert not (folder / "model.onnx").samefile(gate.artefact.path)


# large artefacts


@pytest.fixture
def large(gate, monkeypatch):
    """A damaged artefact that is too large to be copied."""
    gate.damage(external=True)
    monkeypatch.setattr(repro, "LIMIT_BYTES", gate.artefact.size_bytes - 1)
    return gate


def test_a_large_artefact_is_named(large):
    folder = large.write()
    assert not (folder / "model.onnx").exists()
    told = (folder / "model.txt").read_text()
    assert told.startswith(f"{large.artefact.path}\n")
    status, said = run(folder)
    assert status == 1
    assert f"{large.artefact.path} on CPUExecutionProvider" in said
    large.artefact.path.unlink()
    status, said = run(folder)
    assert status == 1
    assert "is gone; what it gave is in onnx.npz" in said
    (folder / "onnx.npz").unlink()
    assert run(folder)[0] == 2


def test_the_guilty_node_of_a_large_artefact(large):
    first = onnx.load(large.artefact.path, load_external_data=False).graph.node[0]
    second = next(
        node
        for node in onnx.load(large.artefact.path, load_external_data=False).graph.node
        if node.op_type == "Gemm" and node.name != first.name
    )
    for node in (first, second):
        folder = large.write(node=node.name)
        inputs = arrays_in(folder / "node_inputs.npz")
        assert list(inputs) == [node.input[0]]
        assert f"Node {node.name} alone" in (folder / "model.txt").read_text()
        cut = onnx.load(folder / "node.onnx")
        assert [entry.name for entry in cut.graph.node] == [node.name]
        onnx.checker.check_model(cut, full_check=True)
        status, said = run(folder)
        assert status == 1
        assert f"node {node.name}, {node.output[0]}: [3, " in said


@pytest.mark.parametrize("node", [None, "no such node"])
def test_no_node_to_cut_out(large, node):
    folder = large.write(node=node)
    assert not (folder / "node.onnx").exists()
    assert "node.onnx" not in (folder / "model.txt").read_text()


def test_a_node_too_large_is_not_cut_out(large, monkeypatch):
    monkeypatch.setattr(repro, "LIMIT_BYTES", 100)
    name = onnx.load(large.artefact.path, load_external_data=False).graph.node[0].name
    folder = large.write(node=name)
    assert not (folder / "node.onnx").exists()


# the command


def test_the_command_is_relative_where_it_can_be(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    folder = tmp_path / "here" / ".onnxcheck" / "repro" / "m" / "v-cpu"
    assert command(folder) == "python .onnxcheck/repro/m/v-cpu/repro.py"
    assert command(tmp_path / "a b") == f"python '{tmp_path}/a b/repro.py'"
