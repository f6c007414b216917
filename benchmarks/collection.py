"""Times `pytest --onnxcheck --collect-only` on a manifest of 1,000 models x 10 checks.

Usage: python benchmarks/collection.py [MODELS]
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = """
[models.net{index}]
factory = "nets.py:net"
exporters = ["dynamo", "torchscript"]
dims = {{ batch = [1, 8] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


def collect(folder: Path, *args: str) -> tuple[float, int]:
    """Seconds and number of collected checks."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    started = time.perf_counter()
    done = subprocess.run([*command, *args], cwd=folder, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    return seconds, sum("::test_" in line for line in done.stdout.splitlines())


def main() -> None:
    models = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = "schema = 1\n" + "".join(MODEL.format(index=index) for index in range(models))
        (folder / "models.toml").write_text(text)
        (folder / "test_empty.py").write_text("def test_nothing(): pass\n")
        empty, _ = collect(folder, "test_empty.py")
        every, checks = collect(folder, "--onnxcheck")
        one, selected = collect(folder, "models.toml::net7")
    print(f"plain pytest, one empty test:        {empty:6.2f} s")
    print(f"{models} models, {checks} checks:          {every:6.2f} s")
    print(f"one model of {models} ({selected} checks):       {one:6.2f} s")


if __name__ == "__main__":
    main()
