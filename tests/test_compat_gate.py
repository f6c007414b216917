"""An older ONNX Runtime that the manifest names: artefacts are made for it, and held to it."""

import os
import shutil
import stat
import sys
from pathlib import Path

import onnx
import pytest
from project import Project, mlps

NET = """
[models.net]
factory = "nets.py:mlp"
exporters = ["dynamo"]
opsets = [{opset}]
precisions = {precisions}
dims = {{ batch = [2, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
deploy.onnxruntime = "{deploy}"
"""

#: this interpreter stands for one that has the old release
OLD = f'[targets."onnxruntime-1.17"]\npython = "{sys.executable}"\n'
START = "net::torchscript-op17-fp32::test_"


def deployed(more: str = "") -> str:
    """A model that has to load in 1.17."""
    return f'{mlps("net")}deploy = {{ onnxruntime = ">=1.17"{more} }}\n'


def test_an_export_is_lowered_for_an_older_runtime_and_says_so(project: Project):
    project.manifest(NET.format(opset=18, deploy=">=1.16", precisions=["fp32", "int8-dynamic"]))
    project.run("-k", "structure")
    for precision in ("fp32", "int8-dynamic"):
        variant = f"dynamo-op18-{precision}"
        assert project.outcomes()[f"net::{variant}::test_structure"] == "passed"
        check = next(c for c in project.record["checks"] if c["variant"] == variant)
        (finding,) = check["findings"]
        assert finding["text"].startswith("9 in place of the exporter's 10, so that onnxruntime")
        assert check["measurement"]["runtime"]["lowered_from"] == 10
    for file in project.path.glob(".onnxcheck/net/*/*/model.onnx"):
        assert onnx.load(file, load_external_data=False).ir_version == 9


def test_an_opset_that_an_older_runtime_lacks_fails(project: Project):
    project.manifest(NET.format(opset=20, deploy=">=1.16", precisions=["fp32"]))
    project.run("-k", "structure")
    assert (
        "onnxruntime >=1.16: 1.16 does not load the file: opset 20 of ai.onnx, and it has 19. "
        "Export at a lower opset"
    ) in project.reason("net::dynamo-op20-fp32::test_structure")


def test_a_given_file_is_left_as_it_is(project: Project):
    project.give_relu(ir_version=11, opset=24, onnxruntime=">=1.17")
    before = (project.path / "net.onnx").read_bytes()
    project.run("-k", "structure")
    assert (
        "1.17 does not load the file: IR version 11, and it reads 9 and older; opset 24 of "
        "ai.onnx, and it has 20."
    ) in project.reason("net::file-fp32::test_structure")
    assert (project.path / "net.onnx").read_bytes() == before


def test_the_oldest_runtime_is_run_too_and_not_timed(project: Project):
    project.manifest(OLD + deployed(), "latency = { seconds = 0.1, longest = 0.1 }")
    project.run()
    outcomes = project.outcomes()
    assert outcomes[f"{START}equivalence[onnxruntime-1.17]"] == "passed"
    there = [name for name in outcomes if "onnxruntime-1.17" in name]
    assert there == [f"{START}equivalence[onnxruntime-1.17]"]
    checks = [one for one in project.record["checks"] if one["check"] == "equivalence"]
    here, old = (one["measurement"]["cases"] for one in checks)
    assert [case["case"] for case in old] == [case["case"] for case in here]


def test_it_is_asked_everything_where_it_is_among_the_targets(project: Project):
    project.manifest(
        OLD + deployed(),
        'targets = ["onnxruntime-1.17"]\nlatency = { seconds = 0.1, longest = 0.1 }',
    )
    assert project.run("-k", "equivalence or latency").ret == 0
    assert list(project.outcomes()) == [
        f"{START}equivalence[onnxruntime-1.17]",
        f"{START}latency[onnxruntime-1.17-batch1]",
        f"{START}latency[onnxruntime-1.17-batch3]",
    ]


@pytest.mark.parametrize(
    ("more", "arguments"), [(", run = false", ()), ("", ("--onnxcheck-target=cpu",))]
)
def test_it_is_not_run_where_nobody_wants_it(project: Project, more: str, arguments: tuple):
    project.manifest(deployed(more))
    assert project.run("-k", "equivalence", *arguments).ret == 0
    assert list(project.outcomes()) == [f"{START}equivalence[cpu]"]


@pytest.mark.parametrize("required", [False, True])
def test_without_environments_it_skips_unless_required(project: Project, required: bool):
    needed = 'required_targets = ["onnxruntime-1.17"]\n' if required else ""
    project.manifest(f"{deployed()}{needed}")
    result = project.run("-k", "equivalence", "--onnxcheck-no-environments")
    assert result.ret == int(required)
    name = f"{START}equivalence[onnxruntime-1.17]"
    assert project.outcomes()[name] == ("failed" if required else "skipped")
    told = project.reason(name)
    assert told.startswith("onnxruntime-1.17: the environment of onnxruntime==1.")
    assert "none is made (--onnxcheck-no-environments)" in told


def test_an_environment_that_cannot_be_made_says_how_to_go_without(project: Project):
    """The installer is one that says no: uv, as it is found before pip."""
    if shutil.which("uv", path=str(Path(sys.executable).parent)):
        pytest.skip("uv is installed beside this interpreter")
    uv = project.path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\necho 'no registry' >&2; exit 1\n")
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    project.environ["PATH"] = f"{uv.parent}{os.pathsep}{os.environ['PATH']}"
    project.manifest(deployed())
    assert project.run("-k", "equivalence").ret == 1
    assert project.reason(f"{START}equivalence[onnxruntime-1.17]").endswith(
        "cannot be made by uv: no registry; name an interpreter that has it "
        '([targets."onnxruntime-1.17"] python), set deploy.run = false, or use '
        "--onnxcheck-no-environments"
    )
