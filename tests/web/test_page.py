"""The page that docs/web.md shows, as a person sees it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto as Proto
from onnx import helper
from project import Project, mlps

from pytest_onnxcheck.engine.runtime import remote
from pytest_onnxcheck.manifest.targets import CPU, WEB, Target

DOCS = Path(__file__).parents[2] / "docs"

VALUES = np.arange(8, dtype=np.float32)[None] / 8


def written(folder: Path) -> None:
    """Writes the files that the page of the docs shows."""
    text = (DOCS / "web.md").read_text()
    for name, block in re.findall(
        r"<!-- file: (\S+) -->\n```\w+\n(.*?)^```", text, re.DOTALL | re.M
    ):
        (folder / name).write_text(block)


def visited(folder: Path, packages: Path) -> dict:
    """What a page in a folder shows, served as the docs say."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "node_modules").symlink_to(packages / "node_modules")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "serve.py", str(port)], cwd=folder, stdout=log, stderr=log
        )
        try:
            for _ in range(100):
                with socket.socket() as asked:
                    if asked.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            address = f"http://127.0.0.1:{port}/"
            command = ["node", str(Path(__file__).with_name("visit.mjs")), str(packages)]
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
                done = subprocess.run(
                    [*command, str(shutil.which("chromium")), address],
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                    env={**os.environ, "TMPDIR": temporary},
                )
        finally:
            server.kill()
            server.wait()
    assert done.returncode == 0, done.stderr
    found: dict = json.loads(done.stdout)
    assert found["said"] == []
    assert found["visible"]
    assert found["isolated"]
    return found


def asserted(model: Path, inputs: dict, kept: Path) -> list[str]:
    """What the gate's session gives in Chromium, as JavaScript writes numbers down."""
    target = Target("page", CPU.provider, runtime=WEB, browser="chromium", kept=str(kept))
    session = remote.opened(target, str(model), {**target.opening(), "threads": 1})
    (output,) = session.run(None, inputs)
    command = "for (const x of JSON.parse(process.argv[1])) console.log(String(x))"
    numbers = [str(each) for each in output.ravel()]
    if output.dtype.kind == "f":
        text = json.dumps([float(each) for each in output.ravel()])
        done = subprocess.run(["node", "-e", command, text], capture_output=True, check=True)
        numbers = done.stdout.decode().split()
    return numbers


def test_it_shows_what_the_gate_asserts(
    project: Project, packages: Path, kept: Path, tmp_path: Path
):
    project.manifest(mlps("net"))
    project.run("-m", "equivalence")
    (artefact,) = (project.path / ".onnxcheck").rglob("model.onnx")
    page = tmp_path / "page"
    page.mkdir()
    shutil.copy(artefact, page / "model.onnx")
    written(page)
    found = visited(page, packages)
    numbers = found["text"].split(", ")
    assert numbers == asserted(artefact, {"x": VALUES}, kept)
    import onnxruntime

    (expected,) = onnxruntime.InferenceSession(artefact).run(None, {"x": VALUES})
    np.testing.assert_allclose([float(each) for each in numbers], expected[0], rtol=1e-5)


def test_it_shows_int64_beyond_2_53(packages: Path, kept: Path, tmp_path: Path):
    large = 2**53 + 1
    nodes = [
        helper.make_node("Cast", ["x"], ["whole"], to=Proto.INT64),
        helper.make_node(
            "Constant", [], ["large"], value=helper.make_tensor("large", Proto.INT64, [], [large])
        ),
        helper.make_node("Add", ["whole", "large"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", Proto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("y", Proto.INT64, [1, 8])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "model.onnx",
    )
    written(tmp_path)
    numbers = visited(tmp_path, packages)["text"].split(", ")
    assert numbers == [str(large)] * 8
    assert numbers == asserted(tmp_path / "model.onnx", {"x": VALUES}, kept)


def test_a_number_made_of_it_is_noticed(packages: Path, kept: Path, tmp_path: Path):
    """The page above with `Number`, as is often written, shows another number."""
    test_it_shows_int64_beyond_2_53(packages, kept, tmp_path)
    page = tmp_path / "index.html"
    page.write_text(page.read_text().replace("data, String)", "data, Number)"))
    (tmp_path / "node_modules").unlink()
    assert visited(tmp_path, packages)["text"].split(", ") == [str(2**53)] * 8
