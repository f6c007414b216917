"""The pages with something to try: their files are written, their commands run, in order.

A comment before a block says what is done with it: `<!-- file: NAME -->` writes it, `<!-- run -->`
runs it (`run: red` expects a failure, `run: needs MODULE ...` is left out without these),
`<!-- output -->` holds it to what was printed since the last such block, and
`<!-- edit: NAME: OLD -> NEW -->` changes a file.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from project import Project, Result
from warm import LONGEST

DOCS = Path(__file__).parent.parent / "docs"
MARK = re.compile(r"<!-- (file|run|output|edit)(?:: (.*?))? -->\n```(\w+)\n(.*?)```\n", re.DOTALL)
PAGES = sorted(page for page in DOCS.rglob("*.md") if MARK.search(page.read_text()))


def masked(text: str) -> str:
    """Without what differs from one machine to another: numbers, and where lines are broken."""
    return re.sub(r"-?\d[\d.]*(e[-+]?\d+)?", "N", " ".join(text.split()))


def run(line: str, project: Project) -> Result:
    """Runs a line of a block, with this interpreter."""
    name, *args = shlex.split(line, comments=True)
    if name == "pytest":
        return project.pytest(*args)
    if name == "onnxcheck":
        args = ["-c", "from pytest_onnxcheck.cli import main; raise SystemExit(main())", *args]
    else:
        assert name == "python", line
    done = subprocess.run(
        [sys.executable, *args], cwd=project.path, capture_output=True, text=True, timeout=LONGEST
    )
    print(done.stdout, done.stderr)  # shown when the test fails
    return Result(done.returncode, done.stdout + done.stderr)


def shell(lines: str, project: Project, red: bool) -> str:
    """What the commands print; each must succeed, or fail where the page says so."""
    output = ""
    for line in lines.splitlines():
        result = run(line, project)
        assert result.ret == int(red), line
        output += "\n".join(result.outlines)
    return output


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, project: Project):
    text, printed = page.read_text(), ""
    project.columns = 80
    for mark in MARK.finditer(text):
        kind, detail, block = mark[1], mark[2] or "", mark[4]
        if kind == "file":
            (project.path / detail).write_text(block)
        elif kind == "edit":
            name, _, change = detail.partition(": ")
            old, new = change.split(" -> ")
            before = (project.path / name).read_text()
            assert before.count(old) == 1
            (project.path / name).write_text(before.replace(old, new))
            assert new in block
        elif kind == "run":
            needed = detail.removeprefix("needs ").split() if detail.startswith("needs ") else []
            missing = [module for module in needed if find_spec(module) is None]
            if missing:
                print(f"{page.name}: not run here, for lack of {' and '.join(missing)}: {block}")
                continue
            printed += shell(block, project, red=detail == "red")
        else:
            assert masked(block) in masked(printed)
            assert block.strip(), "an output block is empty"
            printed = ""


def test_the_cpp_of_the_deployment_page_compiles(tmp_path: Path):
    include = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    compiler = shutil.which("c++")
    if compiler is None or not (include / "onnxruntime_cxx_api.h").is_file():
        pytest.skip(f"no C++ compiler, or no headers of ONNX Runtime in {include}")
    (block,) = re.findall(r"```cpp\n(.*?)```", (DOCS / "deployment.md").read_text(), re.DOTALL)
    (tmp_path / "main.cpp").write_text(block)
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", f"-I{include}", "main.cpp"], cwd=tmp_path
    )
    assert done.returncode == 0
