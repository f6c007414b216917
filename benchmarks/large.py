"""A model of many GB through the whole gate: seconds of every check, and peak memory.

Usage: python benchmarks/large.py [--gb GB] [--keep FOLDER]

The model is a transformer with weights from a seed, in float32. It is exported, converted to fp16,
int8-dynamic and int4-weight, and bundled, by one run of pytest. Peak memory is what this run and
its children held that no file backs, looked at every 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import print_table

from pytest_onnxcheck.descendants import descendants, memory

#: seconds between two looks at the memory
_LOOK = 0.02

WIDTH = 2048
VOCABULARY = 8192
#: float32 weights of a block, and of the embedding
BLOCK_BYTES = 4 * 12 * WIDTH**2
EMBEDDING_BYTES = 4 * VOCABULARY * WIDTH

MANIFEST = """
schema = 1

[defaults]
exporters = ["dynamo"]
precisions = ["fp32", "fp16", "int8-dynamic", "int4-weight"]

[models.large]
factory = "nets.py:net"
kwargs = {{ blocks = {blocks}, width = {width}, vocabulary = {vocabulary} }}
dims = {{ batch = [1, 2], tokens = [4, 6] }}
latency.dims = []
cpus = ["x86-vnni", "arm64"]  # else int8 with 8 bits is made too, to tell what 7 bits cost
inputs.ids = {{ shape = ["batch", "tokens"], dtype = "int64", range = [0, {vocabulary}] }}
outputs.y.shape = ["batch", "tokens", {width}]

[models.large.release]
variant = "dynamo-op20-fp32"
"""

NETS = """
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        q, k, v = (
            part.unflatten(-1, (-1, 64)).transpose(1, 2)
            for part in self.attention(self.before(x)).chunk(3, dim=-1)
        )
        x = x + self.out(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(nn.functional.gelu(self.up(self.between(x))))


def net(blocks, width, vocabulary):
    torch.manual_seed(0)
    layers = [Block(width) for _ in range(blocks)]
    return nn.Sequential(nn.Embedding(vocabulary, width), *layers, nn.LayerNorm(width))
"""

#: tells when checks begin and end
CONFTEST = """
import json
import os
import time
from pathlib import Path


def pytest_runtest_logstart(nodeid):
    told(nodeid.partition("::large::")[2])


def pytest_runtest_logfinish():
    told("bundle")


def told(what):
    with Path(os.environ["BENCHMARK_TOLD"]).open("a") as file:
        file.write(json.dumps([time.time(), what]) + "\\n")
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gb", type=float, default=3.0, help="GB of weights; default 3")
    parser.add_argument("--keep", type=Path, help="a folder for artefacts, record and log")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="onnxcheck-large-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        blocks = max(1, round((given.gb * 1e9 - EMBEDDING_BYTES) / BLOCK_BYTES))
        weights = blocks * BLOCK_BYTES + EMBEDDING_BYTES
        _write(folder, blocks)
        code, looks, told = _run(folder)
        print(f"{weights / 1e9:.2f} GB of float32 weights, {blocks} blocks; exit status {code}")
        _print(weights, looks, told)
        if code:
            sys.exit((folder / "log").read_text())


def _write(folder: Path, blocks: int) -> None:
    text = MANIFEST.format(blocks=blocks, width=WIDTH, vocabulary=VOCABULARY)
    (folder / "models.toml").write_text(text)
    (folder / "nets.py").write_text(NETS)
    (folder / "conftest.py").write_text(CONFTEST)


def _run(folder: Path) -> tuple[int, list[tuple[float, int]], list[tuple[float, str]]]:
    """Runs the gate; its exit status, (time, bytes) looked at, (time, what began)."""
    events = folder / "told.jsonl"
    events.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "pytest", "--onnxcheck", "-q", "-p", "no:cacheprovider"),
        *("--onnxcheck-json=record.json", "--onnxcheck-release=dist"),
    ]
    env = os.environ | {"BENCHMARK_TOLD": str(events)}
    looks: list[tuple[float, int]] = []
    began = time.time()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            looks.append((time.time(), memory(descendants())))
            time.sleep(_LOOK)
    told = [(began, "start, collection")]
    if events.is_file():
        told += [(at, what) for at, what in map(json.loads, events.read_text().splitlines())]
    return process.returncode, looks, told


def _print(weights: int, looks: list[tuple[float, int]], told: list[tuple[float, str]]) -> None:
    rows = [("", "seconds", "peak GB", "of weights")]
    ends = [at for at, _ in told[1:]] + [looks[-1][0]]
    for (begin, what), end in zip(told, ends, strict=True):
        held = [size for at, size in looks if begin <= at <= end]
        if held and (what != "bundle" or end == ends[-1]):  # the end of a check is no stage
            rows.append(_row(what, end - begin, max(held), weights))
    rows.append(_row("all", looks[-1][0] - looks[0][0], max(size for _, size in looks), weights))
    print_table(rows)


def _row(what: str, seconds: float, peak: int, weights: int) -> tuple[str, str, str, str]:
    return what, f"{seconds:.1f}", f"{peak / 1e9:.2f}", f"{peak / weights:.1f}"


if __name__ == "__main__":
    main()
