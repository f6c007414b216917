"""What was downloaded runs where there is nothing but onnxruntime and numpy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from gated import Gated, gate

from pytest_onnxcheck.release import fetch, publish

LOCK = Path(__file__).parents[2] / "locks" / "main.txt"

pytestmark = pytest.mark.skipif(
    "ONNXCHECK_SERVICES" not in os.environ,
    reason="makes a virtual environment with pip: tox run -e services",
)

#: knows nothing of the model but what metadata.json says
SCRIPT = """
import json, sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime

folder, sizes = Path(sys.argv[1]), json.loads(sys.argv[2])
known = json.loads((folder / "metadata.json").read_text())
session = onnxruntime.InferenceSession(folder / known["files"][0]["name"])
rng = np.random.default_rng(0)


def shape(spec):
    return [sizes.get(dim, dim) for dim in spec["shape"]]


feeds = {
    spec["name"]: rng.normal(size=shape(spec)).astype(spec["dtype"]) for spec in known["inputs"]
}
names = [spec["name"] for spec in known["outputs"]]
outputs = session.run(names, feeds)
for spec, value in zip(known["outputs"], outputs, strict=True):
    assert list(value.shape) == shape(spec), (spec, value.shape)
    assert value.dtype == spec["dtype"], (spec, value.dtype)
    assert np.isfinite(value).all()
print(json.dumps({
    "inputs": {name: value.tolist() for name, value in feeds.items()},
    "outputs": {name: value.tolist() for name, value in zip(names, outputs, strict=True)},
    "there": [name for name in ("torch", "onnx", "pytest_onnxcheck") if find_spec(name)],
}))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "-c", str(LOCK), "onnxruntime", "numpy")
    subprocess.run([python, *install], check=True)
    return python


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    return gate(tmp_path_factory.mktemp("gated"))


@pytest.mark.parametrize("batch", [1, 5])
def test_a_downloaded_bundle_runs_by_its_own_metadata(batch, gated, python, tmp_path):
    import numpy as np
    import torch

    uri = publish(gated.release().folder, tmp_path / "published").uri
    folder = fetch(uri, tmp_path / "downloaded").folder
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [python, "-c", SCRIPT, str(folder), json.dumps({"batch": batch})]
    ran = subprocess.run(arguments, env=environ, cwd="/", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["there"] == []
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
    net.load_state_dict(torch.load(gated.root / "net.pt"))
    with torch.no_grad():
        expected = net(torch.tensor(said["inputs"]["x"])).numpy()
    np.testing.assert_allclose(np.array(said["outputs"]["y"]), expected, atol=0.05)
    print(f"\n{uri}: downloaded, and run at batch {batch} with onnxruntime and numpy alone")
