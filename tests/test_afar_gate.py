"""Workers of pytest-xdist in another folder, as they are on another machine."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from project import Project, drifting, mlps

from pytest_onnxcheck.record.record import load

#: of which one is diagnosed
MODELS = mlps("one") + drifting("two")


def contents(folder: Path) -> dict[str, bytes]:
    """File -> content, with the artefacts' folder under one name."""
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(b"/serial/", b"/.onnxcheck/")
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_records_and_repros_of_workers_elsewhere_are_as_if_made_here(project: Project):
    project.manifest(MODELS, "[defaults.latency]\ndims = []")
    project.pytest("--onnxcheck", "--onnxcheck-json=serial.json", "--onnxcheck-artifacts=serial")
    host = project.path.parent / f"{project.path.name}-host"
    shutil.copytree(project.path, host, ignore=shutil.ignore_patterns("serial*", ".*"))
    tx = f"--tx=popen//chdir={host}//python={sys.executable}"
    result = project.run("--dist=loadscope", "--max-worker-restart=0", tx)
    assert result.ret == 1
    serial = json.loads((project.path / "serial.json").read_text())
    outcomes = {check["nodeid"].partition("::")[2]: check["outcome"] for check in serial["checks"]}
    assert project.outcomes() == outcomes
    assert {"passed", "failed"} <= {*outcomes.values()}
    # nothing is left of where the workers are
    text = (project.path / "record.json").read_text()
    assert str(host) not in text
    assert {entry.manifest for entry in load(project.path / "record.json").checks} == {
        str(project.path / "models.toml")
    }
    # what reproduces the failure came along; that it does so elsewhere: `tox run -e ssh`
    failed = next(check for check in project.record["checks"] if check["outcome"] == "failed")
    command = failed["measurement"]["diagnosis"]["repro"]
    assert command == "python .onnxcheck/repro/two/torchscript-op17-fp32-cpu/repro.py"
    assert any(command in line for line in result.outlines)
    brought = (project.path / command.partition(" ")[2]).parent
    made = project.path / "serial" / brought.relative_to(project.path / ".onnxcheck")
    assert contents(brought) == contents(made) != {}
    assert {path.name for path in Path(project.path, ".onnxcheck").iterdir()} == {"repro"}
