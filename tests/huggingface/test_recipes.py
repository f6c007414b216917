"""The manifests of docs/huggingface.md, gated as they stand there. Skipped without transformers."""

import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project

transformers = pytest.importorskip("transformers")

PAGE = (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text(encoding="utf-8")
FORWARD = inspect.signature(transformers.LlamaForCausalLM.forward).parameters
MANIFESTS = {
    re.search(r"\[models\.(\w+)\]", text)[1]: text
    for text in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
}
PRECISIONS = 'precisions = ["fp32", "int8-dynamic"]'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the script of the page was run."""
    path = tmp_path_factory.mktemp("recipes")
    (script,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return path


def gated(folder, text):
    """The checks of a manifest of the page, by variant."""
    project = Project(folder)
    if "cache" not in FORWARD:  # the page says so
        text = text.replace('"cache.', '"past_key_values.')
    (folder / "models.toml").write_text(text, encoding="utf-8")
    project.run("-m", "not latency")
    found = {}
    for check in project.record["checks"]:
        found.setdefault(check["variant"], []).append(check)
    return found


def test_the_page_has_four_manifests():
    assert sorted(MANIFESTS) == ["bert", "llama", "vit", "wav2vec2"]
    assert all(PRECISIONS in text for text in MANIFESTS.values())
    assert "tolerance" not in "".join(MANIFESTS.values())


@pytest.mark.parametrize("model", MANIFESTS)
def test_a_manifest_of_the_page_is_green_as_it_stands(folder, model):
    found = gated(folder, MANIFESTS[model])
    assert list(found) == ["dynamo-op20-fp32", "dynamo-op20-int8-dynamic"]
    assert [len(checks) for checks in found.values()] == [3, 4]
    for check in itertools.chain(*found.values()):
        assert (check["outcome"], check["grade"]) == ("passed", "pass"), check["reason"]


@pytest.mark.parametrize("model", MANIFESTS)
def test_so_it_is_with_the_other_exporter(folder, model):
    found = gated(folder, MANIFESTS[model].replace(PRECISIONS, 'exporters = ["torchscript"]'))
    ((variant, checks),) = found.items()
    assert variant == "torchscript-op20-fp32"
    for check in checks:
        assert check["outcome"] == "passed"
        assert check["grade"] == "pass" or "the tracer says" in check["reason"]
