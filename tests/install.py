"""Before a release: builds wheel and sdist, checks them, installs each, and gates a model with it.

`python -m tox run -e release` runs it. Each goes into a virtual environment of its own, outside of
this folder, so that nothing of the checkout can stand in for what was forgotten in the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent

NET = """
from torch import nn


def net():
    return nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
"""
MANIFEST = """
schema = 1
[defaults]
precisions = ["fp32", "int8-dynamic"]
[models.net]
factory = "net.py:net"
dims.batch = [1, 3]
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


def run(*command: str | Path, cwd: Path) -> None:
    print("+", *command, flush=True)
    subprocess.run(command, cwd=cwd, check=True)


def installed_gates(package: Path, folder: Path) -> None:
    """Installs a package in an environment of its own, and gates a model there."""
    home = folder / "venv"
    venv.create(home, with_pip=True, clear=True)
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    run(
        *(scripts / "python", "-m", "pip", "install", "--quiet"),
        *("--constraint", ROOT / "locks" / "main.txt", f"{package}[cpu]"),
        cwd=folder,
    )
    (folder / "net.py").write_text(NET, encoding="utf-8")
    (folder / "models.toml").write_text(MANIFEST, encoding="utf-8")
    run(scripts / "onnxcheck", "--version", cwd=folder)
    run(scripts / "onnxcheck", "schema", cwd=folder)
    reports = ("--onnxcheck-json=record.json", "--onnxcheck-html=report.html")
    run(scripts / "pytest", "--onnxcheck", *reports, cwd=folder)
    run(scripts / "onnxcheck", "table", "record.json", cwd=folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        built = Path(temporary, "dist")
        run(sys.executable, "-m", "build", "--outdir", built, ROOT, cwd=ROOT)
        packages = sorted(built.iterdir())
        assert {path.suffix for path in packages} == {".whl", ".gz"}, packages
        run(sys.executable, "-m", "twine", "check", "--strict", *packages, cwd=ROOT)
        for package in packages:
            folder = Path(temporary, package.suffix.strip("."))
            folder.mkdir()
            installed_gates(package, folder)
            shutil.rmtree(folder)
    print("wheel and sdist: built, checked, installed, and a model gated with each")


if __name__ == "__main__":
    main()
