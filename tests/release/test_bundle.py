"""A bundle stands by itself: all it takes is in it, and nothing of the machine that made it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from gated import Gated, gate

import pytest_onnxcheck
from pytest_onnxcheck.cli import main
from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.places import machine_paths
from pytest_onnxcheck.release import bundle, verify
from pytest_onnxcheck.release.schema import metadata_schema
from pytest_onnxcheck.release.scrub import scrubbed

PACKAGE = Path(pytest_onnxcheck.__file__).parent

#: dynamo's exporter writes stack traces; a checkpoint, and a metric on labelled data
TRACED = """
[models.net]
factory = "nets.py:traced"
checkpoint = "net.pt"
exporters = ["dynamo"]
opsets = [20]
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
release = { variant = "dynamo-op20-fp32" }
accuracy = { file = "samples.npz" }
latency = { dims = [{ batch = 1 }], seconds = 0.1, longest = 0.1 }
"""
NETS = """

class Traced(nn.Sequential):
    def forward(self, x):
        return super().forward(x).sigmoid()


def traced():
    return Traced(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def linear():
    return nn.Linear(8, 4).eval()
"""
GIVEN = """
[models.net]
factory = "nets.py:linear"
checkpoint = "linear.pt"
onnx = "given/net.onnx"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
latency = { seconds = 0.1, longest = 0.1 }
release.name = "given-net"
"""


def samples(root: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8)).astype("float32")
    np.savez(root / "samples.npz", x=x, labels=rng.integers(0, 4, 64))


@pytest.fixture(scope="session")
def twice(tmp_path_factory) -> list[Gated]:
    """The same sources, gated in two folders, one of which has another name and depth."""
    folders = [tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two") / "deeper" / "there"]
    folders[1].mkdir(parents=True)
    for folder in folders:
        samples(folder)
    return [gate(folder, TRACED, "draws = 1", NETS) for folder in folders]


def without_run(metadata: Path) -> dict:
    return {key: value for key, value in json.loads(metadata.read_text()).items() if key != "run"}


def test_the_same_sources_in_two_folders_give_the_same_bytes(twice):
    """But for the record, and what it says of the run: times and dates."""
    one, two = (gated.release().folder for gated in twice)
    assert one.name == two.name
    names = sorted(path.name for path in one.iterdir())
    assert names == ["README.md", "SHA256SUMS", "metadata.json", "model.onnx", "record.json"]
    for name in ("README.md", "model.onnx"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert without_run(one / "metadata.json") == without_run(two / "metadata.json")
    differ = [
        mine.split()[1]
        for mine, other in zip(
            (one / "SHA256SUMS").read_text().splitlines(),
            (two / "SHA256SUMS").read_text().splitlines(),
            strict=True,
        )
        if mine != other
    ]
    assert differ == ["metadata.json", "record.json"]


def test_a_record_gives_the_same_bundle_again(gated):
    first = gated.release()
    content = {name: (first.folder / name).read_bytes() for name in first.files}
    assert gated.release().folder == first.folder
    shutil.rmtree(first.folder)
    again = gated.release()
    assert {name: (again.folder / name).read_bytes() for name in again.files} == content


def test_a_record_gives_the_same_bundle_from_every_working_directory(gated, monkeypatch):
    made = []
    for folder in (gated.root, gated.root.parent, gated.root / ".onnxcheck", Path("/")):
        monkeypatch.chdir(folder)
        found = gated.release()
        made.append({name: (found.folder / name).read_bytes() for name in found.files})
        shutil.rmtree(found.folder)
    monkeypatch.chdir(gated.root)
    found = bundle(Path("record.json"), Path("models.toml"), Path("dist"), "net")
    made.append({name: (found.folder / name).read_bytes() for name in found.files})
    assert all(one == made[0] for one in made)
    assert json.loads(made[0]["record.json"])["manifests"][0]["path"] == "models.toml"


@pytest.mark.parametrize(
    ("manifest", "beside"),
    [
        ("models.toml", "nets.py"),
        ("sub/models.toml", "code/nets.py"),
        ("other/models.toml", "nets.py"),
    ],
)
def test_paths_are_told_from_the_manifest_and_from_where_it_was_named(tmp_path, manifest, beside):
    root = tmp_path / "sub"
    root.mkdir()
    texts = [str(root), f"{root}/in/a.py", f"{tmp_path}/code/nets.py"]
    written = scrubbed({"checks": [], "command": texts}, manifest, "net", root)
    assert written["command"] == [".", "in/a.py", beside]


def test_nothing_in_a_bundle_names_a_path_of_this_machine(twice):
    for gated in twice:
        folder = gated.release().folder
        paths = {*machine_paths(gated.root, Path.cwd()), str(gated.root), str(gated.root.parent)}
        paths |= {sys.prefix, str(PACKAGE), "/tmp/"}
        for name in folder.rglob("*"):
            content = name.read_bytes()
            assert [path for path in paths if path.encode() in content] == [], name


def test_there_are_traces_in_the_artefact_and_none_in_the_file_that_is_released(twice):
    (artefact,) = twice[0].root.glob(".onnxcheck/net/dynamo-op20-fp32/*/model.onnx")
    assert b"nets.py" in artefact.read_bytes()
    released = twice[0].release().folder / "model.onnx"
    assert b"nets.py" not in released.read_bytes()
    onnx.checker.check_model(released)


def test_the_metadata_is_what_its_schema_says_and_what_was_measured(twice):
    made = twice[0].release()
    written = json.loads((made.folder / "metadata.json").read_text())
    jsonschema.Draft202012Validator(json.loads(metadata_schema())).validate(written)
    known = made.metadata
    assert (known.name, known.variant, known.precision) == ("net", "dynamo-op20-fp32", "fp32")
    assert (known.architecture, known.parameters, known.opset) == ("Traced", 212, 20)
    assert known.version == known.sha256[:12]
    assert (known.ir_version, known.oldest_onnxruntime) == (10, "1.18")  # 1.17 has opset 20
    assert [file.name for file in known.sources] == ["net.pt", "nets.py"]
    assert known.checkpoint_sha256 == known.sources[0].sha256
    (found,) = known.errors
    assert (found.target, found.cases) == ("cpu", 2)
    assert 0 <= found.outputs[0].max_abs < 1e-5
    (task,) = known.accuracy
    assert (task.metric, task.samples, task.drop) == ("accuracy", 64, 0.0)
    assert known.run.latency[0].dims == {"batch": 1}
    assert known.source.commit is None
    assert any("no git repository" in told for told in made.told)


def test_the_schema_is_shipped_and_printed(capsys):
    shipped = PACKAGE / "release" / "metadata.schema.json"
    assert main(["schema", "--metadata"]) == 0
    printed = capsys.readouterr().out
    assert shipped.read_text() == printed, f"onnxcheck schema --metadata > {shipped}"
    assert main(["schema", "--metadata", "--record"]) == 2
    assert "give one of --markdown" in capsys.readouterr().err


def test_the_card_has_what_hugging_face_reads_and_a_script_that_runs(twice):
    import yaml

    made = twice[0].release()
    card = (made.folder / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["library_name"] == "onnx"
    assert front["tags"] == ["onnx", "onnxruntime", "pytorch", "fp32"]
    assert front["model-index"][0]["results"][0]["metrics"][0]["type"] == "accuracy"
    assert "Loads in ONNX Runtime 1.18 and newer, by its IR version, opsets, operators" in card
    script = card.split("```python\n")[1].split("```")[0] + "print(outputs[0].shape)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=made.folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "(1, 4)\n"


def test_the_record_in_it_has_this_model_alone(gated):
    made = gated.release()
    written = json.loads((made.folder / "record.json").read_text())
    assert {check["model"] for check in written["checks"]} == {"net"}
    assert {row["model"] for row in written["frontier"]} == {"net"}
    assert written["manifests"][0]["path"] == "models.toml"
    assert {check["manifest"] for check in written["checks"]} == {"models.toml"}


def test_what_was_skipped_is_said(gated):
    made = gated.release()
    skipped = {one.check: one.reason for one in made.metadata.skipped}
    assert skipped.keys() >= {"equivalence[cuda]", "release[cuda]"}
    assert "- `release[cuda]`: " in (made.folder / "README.md").read_text()


def test_the_budgets_choose_and_the_manifest_names(gated):
    made = gated.release("free")
    assert made.metadata.variant.startswith("torchscript-op17-")
    assert made.folder.name == f"free-net-{made.metadata.sha256[:12]}"
    assert gated.release().folder.name == "net-1.0"


def test_external_data_lies_beside_the_file(tmp_path):
    import torch

    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 4)
    torch.save(linear.state_dict(), tmp_path / "linear.pt")
    (tmp_path / "given").mkdir()
    torch.onnx.export(
        linear.eval(),
        (torch.zeros(1, 8),),
        str(tmp_path / "net.onnx"),
        input_names=["x"],
        output_names=["y"],
        dynamo=False,
    )
    onnx.save(
        onnx.load(tmp_path / "net.onnx"),
        tmp_path / "given" / "net.onnx",
        save_as_external_data=True,
        location="net.bin",
        size_threshold=0,
    )
    gated = gate(tmp_path, GIVEN, "targets = ['cpu']", NETS)
    made = gated.release()
    assert [file.name for file in made.metadata.files] == ["model.onnx", "net.bin"]
    assert "given/net.bin" in [file.name for file in made.metadata.sources]
    verify(made.folder)
    (made.folder / "net.bin").unlink()
    with pytest.raises(ReleaseError, match=r"net\.bin: missing"):
        verify(made.folder)


def test_several_at_once_make_one(gated):
    with ThreadPoolExecutor(4) as pool:
        made = [found.result() for found in [pool.submit(gated.release) for _ in range(4)]]
    assert {found.folder for found in made} == {gated.root / "dist" / "net-1.0"}
    assert [path.name for path in (gated.root / "dist").iterdir()] == ["net-1.0"]
    verify(made[0].folder)


def test_a_copy_that_fails_leaves_nothing(gated, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        bundle(gated.path, gated.root / "models.toml", gated.root / "dist", "net")
    assert list((gated.root / "dist").iterdir()) == []


def test_all_of_it_is_on_the_disk_before_it_has_its_name(gated, monkeypatch):
    flushed: list[Path] = []

    def fsync(opened: int) -> None:
        path = Path(f"/proc/self/fd/{opened}").readlink()
        flushed.append(path)
        assert (path.name == "dist") == (gated.root / "dist" / "net-1.0").exists()

    monkeypatch.setattr(os, "fsync", fsync)
    made = gated.release()
    *inside, folder, dist = flushed
    assert sorted(path.name for path in inside) == sorted(made.files)
    assert (folder.name, dist) == ("net-1.0", gated.root / "dist")
    assert folder.parent.name.startswith(".bundling-")


#: releases the model, and is killed when something is to be put on the disk for the nth time
KILLED = """
import os, signal, sys
from pytest_onnxcheck.cli import main
left = int(sys.argv[1])
def fsync(opened):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
os.fsync = fsync
main(["release", "record.json", "--model", "net"])
"""


@pytest.mark.parametrize(("nth", "placed"), [(1, False), (6, False), (7, True)])
def test_of_a_killed_process_nothing_half_made_is_left(gated, nth, placed):
    done = subprocess.run([sys.executable, "-c", KILLED, str(nth)], cwd=gated.root)
    assert done.returncode == -signal.SIGKILL
    assert list((gated.root / "dist").glob(".bundling-*"))
    assert (gated.root / "dist" / "net-1.0").exists() == placed
    verify(gated.release().folder)
    assert [path.name for path in (gated.root / "dist").iterdir()] == ["net-1.0"]
