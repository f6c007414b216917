"""`onnxcheck release` and `onnxcheck verify`, on a project that was gated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from gated import Gated

Command = Callable[..., tuple[int, str, str]]


def test_a_bundle_is_made_and_verified(gated: Gated, command: Command):
    status, said, told = command("release", "record.json", "--model", "net")
    assert (status, told) == (
        0,
        "the sources are in no git repository: the bundle names no commit\n",
    )
    size = gated.stripped.stat().st_size
    line = f"dist/net-1.0  net::torchscript-op17-int8-dynamic, {size:,} bytes, 5 files"
    assert said == f"{line}\n"
    assert command("verify", "dist/net-1.0") == (0, f"{line}: as it was made; not signed\n", "")


def test_the_folder_and_the_manifest_may_be_others(gated: Gated, command: Command):
    Path("models.toml").rename("gate.toml")
    arguments = ("release", "record.json", "--model", "free", "--to", "out/here")
    assert command(*arguments)[0] == 1
    status, said, _ = command(*arguments, "--manifest", "gate.toml", "--json")
    made = json.loads(said)
    assert (status, made["metadata"]["name"]) == (0, "free-net")
    assert made["folder"] == f"out/here/free-net-{made['metadata']['sha256'][:12]}"
    status, said, _ = command("verify", made["folder"], "--json")
    assert (status, json.loads(said)) == (0, {**made, "told": []})


def test_what_is_refused_is_1_with_every_reason(gated: Gated, command: Command):
    status, said, told = command("release", "record.json")
    assert (status, said) == (1, "")
    assert "the manifest releases several models (net, free): say which (--model NAME)" in told
    gated.each("equivalence", lambda entry: entry.update(outcome="failed", reason="other numbers"))
    gated.each("structure", lambda entry: entry.update(outcome="failed", reason="opset"))
    status, said, told = command("release", "record.json", "--model", "net")
    assert (status, said) == (1, "")
    assert told.startswith("net::torchscript-op17-int8-dynamic is not released:\n  - ")
    assert "test_equivalence[cpu] failed: other numbers" in told
    assert "test_structure failed: opset" in told
    assert not Path("dist").exists()


def test_what_is_not_committed_is_released_only_when_that_is_allowed(
    gated: Gated, command: Command
):
    gated.commit_another_state()
    arguments = ("release", "record.json", "--model", "net")
    status, _, told = command(*arguments)
    assert status == 1
    assert "does not hold nets.py as it is here: commit, and release again" in told
    assert "--allow-dirty" in told
    status, _, told = command(*arguments, "--allow-dirty")
    assert status == 0
    assert "does not hold nets.py as it is here: the bundle says so" in told


def test_a_bundle_that_was_changed_is_1(gated: Gated, command: Command):
    assert command("release", "record.json", "--model", "net")[0] == 0
    Path("dist/net-1.0/model.onnx").write_bytes(b"another")
    status, said, told = command("verify", "dist/net-1.0")
    assert (status, said) == (1, "")
    assert told.startswith("dist/net-1.0 is not the bundle that was made:\n  - model.onnx")
    status, _, told = command("verify", "nowhere")
    assert status == 1
    assert "nowhere" in told
