"""Artefacts that several jobs and checkouts share."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from project import MLP, Project

#: fp32 and what is made from it, with all that a key is made of: a package that the factory
#: imports, a checkpoint, calibration data and a path that the model keeps
MODEL = """
[models.net]
factory = "src/nets.py:net"
kwargs = { hidden = 16 }
checkpoint = "weights.pt"
precisions = ["fp32", "int8-static"]
calibration.file = "data/calibration.npy"
cpus = ["x86-vnni"]
tolerance.int8-static = { sqnr_db = 0.0, top1 = 0.0 }
dims.batch = [1, 3]
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""

FACTORY = """
from pathlib import Path

from layers import Net


def net(hidden):
    return Net(hidden).eval()
"""

LAYERS = """
from pathlib import Path

from torch import nn


class Net(nn.Sequential):
    def __init__(self, hidden):
        super().__init__(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4))
        self.where = str(Path(__file__).parent)
"""

LOOK = ("-m", "export or quantization or structure")


def sources(project: Project) -> dict[str, str]:
    """Where each artefact of the last run came from, by variant and check."""
    record = json.loads((project.path / "record.json").read_text())
    return {
        f"{entry['variant'].rpartition('op17-')[2]} {entry['check']}": found["file"]["source"]
        for entry in record["checks"]
        if "file" in (found := entry.get("measurement") or {})
    }


def checkout(path: Path) -> Project:
    import numpy as np
    import torch

    path.mkdir(parents=True)
    project = Project(path)
    project.manifest(MODEL)
    (path / "src").mkdir()
    (path / "src" / "nets.py").write_text(FACTORY)
    (path / "src" / "layers.py").write_text(LAYERS)
    (path / "data").mkdir()
    np.save(
        path / "data" / "calibration.npy",
        np.random.default_rng(0).normal(size=(16, 8)).astype("float32"),
    )
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    with torch.no_grad():
        for number, weights in enumerate(net.parameters()):
            weights.copy_(torch.linspace(-1, 1 + number, weights.numel()).view_as(weights))
    torch.save(net.state_dict(), path / "weights.pt")
    return project


def test_checkouts_in_other_folders_find_each_others_builds(tmp_path: Path):
    one, other = checkout(tmp_path / "a"), checkout(tmp_path / "somewhere" / "else" / "b")
    share = f"--onnxcheck-cache={tmp_path / 'shared'}"
    assert one.run(share, *LOOK).ret == 0
    assert len(sources(one)) == 3
    assert set(sources(one).values()) == {"built"}
    assert other.run(share, *LOOK).ret == 0
    assert set(sources(other).values()) == {"local"}
    assert not (other.path / ".onnxcheck" / "net").exists()
    (other.path / "src" / "layers.py").write_text(f"{LAYERS}\n# changed")
    assert other.run(share, *LOOK).ret == 0
    assert sources(other)["fp32 export"] == "built"


#: reads a file by itself, whose contents end up neither in weights nor in attributes
SCALED = """
import json
from pathlib import Path

from torch import nn


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        folder = Path(__file__).parent / "data"
        return self.linear(x) * json.loads((folder / "scale.json").read_text())


def net():
    return Scaled().eval()
"""


@pytest.mark.parametrize(
    ("model", "defaults", "again"),
    [
        ('depends = ["data/*.json"]', "", "built"),
        ("", 'depends = ["data/*"]', "built"),
        ("", "", "local"),
    ],
)
def test_files_that_code_reads_by_itself_are_part_of_the_key(
    project: Project, model: str, defaults: str, again: str
):
    (project.path / "scaled.py").write_text(SCALED)
    (project.path / "data").mkdir()
    text = MLP.format(name="net").replace("nets.py:mlp", "scaled.py:net")
    project.manifest(text.replace("dims", f"{model}\ndims", 1), defaults)
    scale = project.path / "data" / "scale.json"
    found = []
    for number in ("2.0", "2.0", "3.0"):
        scale.write_text(number)
        project.run("-m", "export or equivalence")
        found.append(sources(project)["fp32 export"])
    assert found == ["built", "local", again]
    record = json.loads((project.path / "record.json").read_text())
    (outcome,) = {e["outcome"] for e in record["checks"] if e["check"] == "equivalence"}
    # a stale artefact is measured all the same, and fails: results are never cached
    assert outcome == ("passed" if again == "built" else "failed")


def test_what_was_altered_is_told_and_built_again(project: Project):
    project.manifest(MLP.format(name="net"))
    share = "--onnxcheck-cache=shared"
    assert project.run(share, *LOOK).ret == 0
    (path,) = project.path.glob("shared/net/*/*/model.onnx")
    before = path.read_bytes()
    path.write_bytes(before[:-7] + b"altered")
    result = project.run(share, *LOOK)
    assert result.ret == 0
    (line,) = [line for line in result.outlines if line.startswith("cache  ")]
    assert "model.onnx has other contents: SHA-256 " in line
    assert line.endswith(": not used, but built again")
    assert sources(project) == {"fp32 export": "built"}
    assert path.read_bytes() == before


def test_machines_share_builds_through_a_remote(project: Project):
    project.manifest(MLP.format(name="net"))
    remote = f"--onnxcheck-cache-remote={(project.path / 'store').as_uri()}"
    assert project.run(remote, *LOOK).ret == 0
    assert sources(project) == {"fp32 export": "built"}
    shutil.rmtree(project.path / ".onnxcheck")
    assert project.run(remote, *LOOK).ret == 0
    assert sources(project) == {"fp32 export": "remote"}
    assert project.run(remote, *LOOK).ret == 0
    assert sources(project) == {"fp32 export": "local"}


def test_a_remote_that_is_altered_or_down_changes_no_verdict(project: Project):
    project.manifest(MLP.format(name="net"))
    store = project.path / "store"
    remote = f"--onnxcheck-cache-remote={store.as_uri()}"
    assert project.run(remote, "-m", "export").ret == 0
    for path in store.glob("objects/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    shutil.rmtree(project.path / ".onnxcheck")
    result = project.run(remote, "-m", "export")
    assert (result.ret, sources(project)) == (0, {"fp32 export": "built"})
    (line,) = [line for line in result.outlines if line.startswith("cache  ")]
    assert "model.onnx has other contents than were built: not used, but built again" in line
    shutil.rmtree(store)
    store.write_text("no folder")
    shutil.rmtree(project.path / ".onnxcheck")
    result = project.run(remote, "-m", "export")
    assert (result.ret, sources(project)) == (0, {"fp32 export": "built"})
    (line,) = [line for line in result.outlines if line.startswith("cache  ")]
    assert line.endswith("Artefacts are built here; it is not asked again in this run")


@pytest.mark.parametrize("workers", [(), ("-p", "xdist", "-n", "2")])
def test_a_folder_that_cannot_be_used_is_told_once(project: Project, workers: tuple[str, ...]):
    project.manifest(MLP.format(name="one") + MLP.format(name="two"))
    (project.path / "shared").write_text("a file")
    result = project.run("--onnxcheck-cache=shared", *LOOK, *workers)
    assert result.ret == 0
    told = [line for line in result.outlines if line.startswith("cache  ")]
    assert len(told) == 1
    assert f"what is built is kept in {project.path / '.onnxcheck'} in this run" in told[0]
    assert len(list(project.path.glob(".onnxcheck/*/*/*/model.onnx"))) == 2


def test_the_size_is_kept_to_and_may_stand_in_the_ini_file(project: Project):
    (project.path / "pytest.ini").write_text(
        "[pytest]\nonnxcheck_cache = shared\nonnxcheck_cache_size = 1kB\n"
    )
    project.manifest(MLP.format(name="one"))
    assert project.run(*LOOK).ret == 0
    project.manifest(MLP.format(name="two"))
    assert project.run(*LOOK).ret == 0
    kept = list(project.path.glob("shared/*/*/*/model.onnx"))
    assert [path.parts[-4] for path in kept] == ["two"]
    assert project.run("--onnxcheck-cache-size=1GB", "-m", "export").ret == 0
    shutil.rmtree(project.path / "shared" / "two")
    project.manifest(MLP.format(name="three"))
    assert project.run("--onnxcheck-cache-size=1GB", "-m", "export").ret == 0


@pytest.mark.parametrize(
    ("ini", "args", "told"),
    [
        ("", ["--onnxcheck-cache-size=much"], "argument --onnxcheck-cache-size: 'much' is no size"),
        ("onnxcheck_cache_size = -1", [], "onnxcheck_cache_size: '-1' is no size: write 500MB"),
        ("", ["--onnxcheck-cache="], "--onnxcheck-cache=: no path is given"),
        ("", ["--onnxcheck-cache-remote="], "--onnxcheck-cache-remote: the address is empty"),
        ("onnxcheck_cache_remote = ftp://host/x", [], "ftp://… is no store that is known here"),
    ],
)
def test_a_size_or_folder_that_is_none_is_wrong_usage(
    project: Project, ini: str, args: list[str], told: str
):
    (project.path / "pytest.ini").write_text(f"[pytest]\n{ini}\n")
    project.manifest(MLP.format(name="one"))
    result = project.run(*args)
    assert result.ret == 4
    assert told in "\n".join(result.outlines)
