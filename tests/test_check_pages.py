"""docs/checks/: each page shows a failure as it is printed; `UPDATE_SNAPSHOTS=1` writes it anew."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
import torch
from project import Project
from torch import nn

from pytest_onnxcheck.manifest.terms import Check

PAGES = Path(__file__).parent.parent / "docs" / "checks"
CHECKS = get_args(Check)

#: check -> the model below that fails it
FAILING = {
    "export": "spectrum",
    "quantization": "camera",
    "structure": "tagger",
    "target": "edge",
    "equivalence": "retrained",
    "accuracy": "digits",
    "release": "shipped",
    "mutation": "tolerant",
    "latency": "slow",
    "recommend": "unlabelled",
}

NETS = """

def linear():
    return nn.Linear(8, 4).eval()
"""
IO = """
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""
MANIFEST = f"""
[targets.npu]
provider = "AzureExecutionProvider"

[models.spectrum]
factory = "nets.py:unexportable"
inputs.x.shape = [4, 4]
outputs.y.shape = [4]

[models.camera]
factory = "nets.py:conv"
precisions = ["int8-dynamic"]
inputs.x.shape = [1, 1, 8, 8]
outputs.y.shape = [1, 4, 6, 6]

[models.tagger]
factory = "nets.py:mlp"
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 5]

[models.edge]
factory = "nets.py:mlp"
targets = ["npu"]
{IO}

[models.retrained]
factory = "nets.py:linear"
checkpoint = "new.pt"
onnx = "old.onnx"
{IO}

[models.digits]
factory = "nets.py:linear"
checkpoint = "new.pt"
onnx = "old.onnx"
accuracy = {{ file = "samples.npz", max_drop = 0.005 }}
{IO}

[models.shipped]
factory = "nets.py:linear"
checkpoint = "new.pt"
onnx = "named.onnx"
release.variant = "file-fp32"
{IO}

[models.tolerant]
factory = "nets.py:mlp"
tolerance.fp32 = {{ safety = 1e12, min_mutation_score = 0.9 }}
{IO}

[models.slow]
factory = "nets.py:mlp"
budget.fp32.min_speedup = 1000
{IO}

[models.unlabelled]
factory = "nets.py:linear"
checkpoint = "new.pt"
accuracy = {{ file = "missing.npz", max_drop = 0.005 }}
{IO}
"""


def prepare(project: Project) -> None:
    """A model of which another training was exported, and labels that the new one gets right."""
    nets = project.path / "nets.py"
    nets.write_text(nets.read_text() + NETS)
    torch.manual_seed(0)
    old, new = nn.Linear(8, 4).eval(), nn.Linear(8, 4).eval()
    torch.save(new.state_dict(), project.path / "new.pt")
    names = {"input_names": ["x"], "output_names": ["y"]}
    axes = {"dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}}
    path = project.path / "old.onnx"
    torch.onnx.export(old, (torch.zeros(2, 8),), path, dynamo=False, **names, **axes)
    named = onnx.load(path)
    named.metadata_props.add(key="checkpoint", value=f"{project.path}/runs/best.pt")
    onnx.save(named, project.path / "named.onnx")
    x = torch.randn(800, 8)
    with torch.no_grad():
        np.savez(project.path / "samples.npz", x=x.numpy(), labels=new(x).argmax(1).numpy())


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Check -> the text of its failure."""
    project = Project(tmp_path_factory.mktemp("pages"))
    project.on_clock()
    project.columns = 80
    prepare(project)
    project.manifest(MANIFEST, "latency = { seconds = 0.2, longest = 0.3 }")
    chosen = " or ".join(f"({model} and test_{check})" for check, model in FAILING.items())
    result = project.run("-k", chosen, "--onnxcheck-mutants=12", "--onnxcheck-recommend=1")
    output = "\n".join(result.outlines).replace(f"{project.path}/", "")
    _, *parts = re.split(r"^_{3,} (.*) _{3,}$", output, flags=re.MULTILINE)
    texts = dict(zip(parts[::2], parts[1::2], strict=True))
    return {
        check: re.split(r"^=|^The exporter's graph", texts[title], flags=re.MULTILINE)[0]
        for check, model in FAILING.items()
        for title in texts
        if model in title
    }


def masked(text: str) -> str:
    """Without numbers and the hashes in the store's paths, and on one line."""
    text = re.sub(r"/[0-9a-f]{16}/", "/N/", text)
    return re.sub(r"-?\d[\d.]*(e[-+]?\d+)?%?", "N", " ".join(text.split()))


@pytest.mark.parametrize("check", CHECKS)
def test_the_page_of_a_check_shows_its_failure_as_it_is_printed(check: str, printed):
    page = PAGES / f"{check}.md"
    block = re.compile(r"(<!-- failure -->\n```text\n)(.*?)(```)", re.DOTALL)
    text = page.read_text()
    if os.environ.get("UPDATE_SNAPSHOTS"):
        written = printed[check].strip("\n") + "\n"
        page.write_text(block.sub(lambda match: match[1] + written + match[3], text))
    shown = block.search(page.read_text())
    assert shown is not None, f"{page}: no block after <!-- failure -->"
    assert masked(shown[2]) == masked(printed[check])


def test_the_pages_are_those_of_the_checks():
    assert {page.stem for page in PAGES.glob("*.md")} == {*CHECKS, "index"}
