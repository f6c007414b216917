"""An environment with onnxruntime and numpy alone, and what a bundle computes there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[2] / "locks" / "main.txt"

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


def environment(folder: Path) -> Path:
    """Makes one; its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    install = ("-m", "pip", "install", "--quiet", "-c", str(LOCK), "onnxruntime", "numpy")
    subprocess.run([python, *install], check=True)
    return python


def run(python: Path, folder: Path, **sizes: int) -> dict[str, Any]:
    """Runs a bundle on random values; what went in and came out, as lists."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    arguments = [python, "-c", SCRIPT, str(folder), json.dumps(sizes)]
    ran = subprocess.run(arguments, env=environ, cwd="/", capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    said: dict[str, Any] = json.loads(ran.stdout)
    assert said["there"] == []
    return said
