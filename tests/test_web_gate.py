"""Targets in JavaScript on machines that lack what they need; `tests/web` runs them for real."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from project import Project, mlps

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")

TARGETS = """
targets = ["js"]
[targets.js]
{table}
"""

NODE = "net::torchscript-op17-fp32::test_equivalence[js]"

#: answers as the worker in JavaScript would, but for what a test is about
WORKER = """#!/bin/sh
while read -r line; do
  case "$line" in
  {cases}
  esac
done
"""


@pytest.fixture
def path(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All that is on the PATH of the project's runs, besides this Python."""
    folder = tmp_path_factory.mktemp("path")
    project.environ["PATH"] = str(folder)
    return folder


def program(path: Path, text: str = "#!/bin/sh\n") -> None:
    path.write_text(text)
    path.chmod(0o755)


def refused(project: Project, table: str, *options: str) -> str:
    """Why the check does not run."""
    project.manifest(mlps("net"), TARGETS.format(table=table))
    assert project.run("-m", "equivalence", *options).ret == 0
    assert project.outcomes()[NODE] == "skipped"
    assert project.run("-m", "equivalence", "--onnxcheck-require=js", *options).ret == 1
    assert project.outcomes()[NODE] == "failed"
    return project.reason(NODE)


def test_no_node(project: Project, path: Path):
    reason = refused(project, 'runtime = "onnxruntime-node"')
    assert "js: there is no node, which runs onnxruntime-node: install Node.js" in reason


def test_no_browser(project: Project, path: Path):
    program(path / "node")
    assert "js: there is no chromium here: install it" in refused(project, 'browser = "chromium"')


def test_no_environments(project: Project, path: Path):
    program(path / "node")
    reason = refused(project, 'runtime = "onnxruntime-web"', "--onnxcheck-no-environments")
    assert "onnxruntime-web 1.30.0, playwright-core 1.65.1 is not in" in reason
    assert "--onnxcheck-no-environments" in reason


@pytest.mark.parametrize(
    ("cases", "reason"),
    [
        ("*) echo garbage; exit 1;;", "js: node does not answer as a node with onnxruntime does"),
        (
            """*) echo '{"error": "Cannot find module", "kind": "import"}';;""",
            "js: node cannot import onnxruntime (Cannot find module): see whether node starts here",
        ),
    ],
)
def test_a_node_that_does_not_answer(project: Project, path: Path, cases: str, reason: str):
    program(path / "npm")
    program(path / "node", WORKER.format(cases=cases))
    (path / "sh").symlink_to("/bin/sh")
    project.manifest(mlps("net"), TARGETS.format(table='runtime = "onnxruntime-node"'))
    assert project.run("-m", "equivalence").ret == 1
    assert reason in project.reason(NODE)
