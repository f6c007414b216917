"""A project that was gated, what is released of it, and what is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from project import Project

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.release import Bundle, bundle

#: two targets, one of them required; a checkpoint
MODELS = """
[models.net]
factory = "nets.py:mlp"
checkpoint = "net.pt"
targets = ["cpu", "cuda"]
required_targets = ["cpu"]
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
release = { variant = "torchscript-op17-int8-dynamic", version = "1.0" }

[models.free]
factory = "nets.py:mlp"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
release.name = "free-net"
latency.dims = []
"""


class Gated:
    """A project that was gated.

    Attributes:
        root: Its folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def path(self) -> Path:
        return self.root / "record.json"

    def edit(self, change: Callable[[dict], object]) -> None:
        """Changes the record."""
        record = json.loads(self.path.read_text())
        change(record)
        self.path.write_text(json.dumps(record))

    def each(self, check: str, change: Callable[[dict], object], variant: str = "int8") -> None:
        """Changes the entries of a check."""

        def edit(record: dict) -> None:
            found = [
                one
                for one in record["checks"]
                if one["check"] == check and variant in one["variant"]
            ]
            assert found
            for one in found:
                change(one)

        self.edit(edit)

    def release(self, model: str = "net", **options: bool) -> Bundle:
        return bundle(self.path, self.root / "models.toml", self.root / "dist", model, **options)

    def refused(self, model: str = "net") -> str:
        """Why nothing is released; nothing is left behind then."""
        with pytest.raises(ReleaseError) as raised:
            self.release(model)
        left = list((self.root / "dist").iterdir()) if (self.root / "dist").exists() else []
        assert [path for path in left if path.name.startswith(".")] == []
        return str(raised.value)

    def git(self, *arguments: str) -> None:
        """Runs git in the project's folder."""
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *who, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit_another_state(self) -> None:
        """A repository whose commit holds another nets.py than the one that was gated."""
        nets = (self.root / "nets.py").read_bytes()
        (self.root / "nets.py").write_bytes(nets + b"# before\n")
        self.git("init")
        self.git("add", "nets.py", "models.toml")
        self.git("commit", "-m", "a state that was not gated")
        (self.root / "nets.py").write_bytes(nets)

    @property
    def stripped(self) -> Path:
        """The file that is released."""
        (found,) = self.root.glob(".onnxcheck/net/*int8-dynamic-release/*/model.onnx")
        return found


def gate(root: Path, models: str = MODELS, defaults: str | None = None, more: str = "") -> Gated:
    """Gates a project in a folder; `more` is added to its models."""
    import torch

    project = Project(root)
    project.on_clock()
    with (root / "nets.py").open("a") as file:
        file.write(more)
    project.manifest(
        models, 'precisions = ["fp32", "int8-dynamic"]' if defaults is None else defaults
    )
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    torch.save(net.state_dict(), root / "net.pt")
    assert project.run().ret == 0
    return Gated(root)
