"""Do PyTorch and ONNX Runtime, timed in turn, take as long as each does alone?

In each run, in random order and each in a process of its own: the paired measurement
(`latency.measure`, as a check does it, with the fixed kernel in the rounds too), PyTorch without
ONNX Runtime, ONNX Runtime without PyTorch; the same inputs, one thread a side. A ratio is the
median time of a call in the paired measurement over the one alone; told are the medians over the
runs, on the processor's clock and on the wall's. The bar is 5% either way.

`--evict MB` times each alone in a second way: before each call, untimed, so much memory is read.
What that adds is what a call takes longer because it does not find its data in the caches, as
after the other side's call; what the paired measurement takes longer than this is something else.

Usage: python benchmarks/alone.py [RUNS] [--models NAME ...] [--seconds S] [--evict MB]
    [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table
from history_live import Model

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import latency
from pytest_onnxcheck.engine.inputs.cases import fill_inputs
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.speed import timing
from pytest_onnxcheck.manifest import load_manifest

ROOT = Path(__file__).parent.parent
MODELS = ("radio-localisation", "resnet18-224", "simple-cnn")
BACKENDS = ("torch", "onnxruntime")
CLOCKS = ("processor", "wall")
BAR = 0.05

Call = Callable[[], Any]
#: backend -> clock -> seconds
Times = dict[str, dict[str, float]]


def paired(name: str, seconds: float) -> Times:
    """Both, as a check measures them."""
    model = Model(name)
    _, rounds = latency.measure(
        *(model.artefact, model.artefact, model.reference, model.target, model.dims),
        decided=lambda measured: measured.seconds >= seconds,
    )
    return {backend: medians(rounds, side) for side, backend in enumerate(BACKENDS)}


def torch_alone(name: str, seconds: float, evict: float) -> Times:
    """PyTorch in a process that opens no session."""
    import torch

    model = Model(name)
    inputs = fill_inputs(model.reference, model.dims, "latency", 0)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    torch.set_num_threads(1)

    def call() -> list[Any]:  # from host to host as in the paired measurement: costs 2 to 5 us
        moved = {name: tensor.to("cpu") for name, tensor in tensors.items()}
        outputs = model.reference.call(model.reference.module, moved)
        return [output.cpu() for output in outputs]

    with torch.inference_mode():
        found = alone(call, seconds, evict)
    assert "onnxruntime" not in sys.modules
    return {"torch": found}


def onnxruntime_alone(name: str, folder: Path, seconds: float, evict: float) -> Times:
    """ONNX Runtime in a process that does not load PyTorch."""
    target = load_manifest(ROOT / "models.toml").models[name].target("cpu")
    inputs = dict(np.load(folder / f"{name}.npz"))
    artefact = Artefact.given(Path((folder / name).read_text()))
    found = alone(open_session(artefact, target, threads=1).call(inputs), seconds, evict)
    assert "torch" not in sys.modules
    return {"onnxruntime": found}


def alone(call: Call, seconds: float, evict: float) -> dict[str, float]:
    """Medians of a call's times; between the calls, memory is read."""
    calls = [call]
    if evict:
        memory = np.ones(int(evict * 2**20 / 8))
        calls.append(memory.sum)
    return medians(timing.interleave(calls, [seconds]), 0)


def medians(rounds: timing.Rounds, side: int) -> dict[str, float]:
    clocks = {"processor": rounds.thread, "wall": rounds.wall}
    return {name: statistics.median(row[side] for row in rows) for name, rows in clocks.items()}


def prepare(name: str, folder: Path) -> None:
    """Writes what the process without PyTorch needs: where the artefact is, and the inputs."""
    model = Model(name)
    (folder / name).write_text(str(model.artefact.path))
    np.savez(folder / name, **fill_inputs(model.reference, model.dims, "latency", 0))


def ways(evict: float) -> list[tuple[str, float]]:
    """What is measured in each run: which process, and how much memory it reads between calls."""
    found = [("paired", 0.0), *((backend, 0.0) for backend in BACKENDS)]
    return found + [(backend, evict) for backend in BACKENDS if evict]


def measure(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """The runs: model, process, memory read, and the times."""
    shuffle = random.Random(0).shuffle
    for name in arguments.models:
        command = [sys.executable, __file__, "--models", name, "--folder", str(folder)]
        subprocess.run([*command, "--child", "prepare"], check=True)
        for run in range(arguments.runs):
            print(f"{name}: run {run + 1} of {arguments.runs}", file=sys.stderr, flush=True)
            order = ways(arguments.evict)
            shuffle(order)
            for child, evict in order:
                options = ["--child", child, "--evict", evict, "--seconds", arguments.seconds]
                done = subprocess.run(
                    [*command, *map(str, options)], stdout=subprocess.PIPE, check=True
                )
                times = json.loads(done.stdout.splitlines()[-1])
                yield {"model": name, "run": run, "child": child, "evict": evict, "times": times}


def rows(found: list[dict[str, Any]], arguments: argparse.Namespace) -> Iterator[list[str]]:
    """A line for each model, backend and clock, and way of being alone."""
    yield ["model", "backend", "clock", "paired ms", "alone ms", "", "ratio", "from", "to", ""]
    for name in arguments.models:
        for backend in BACKENDS:
            for clock in CLOCKS:
                for evict in (0.0, arguments.evict)[: 1 + bool(arguments.evict)]:
                    pair, single = (
                        [
                            run["times"][backend][clock]
                            for run in found
                            if (run["model"], run["child"], run["evict"]) == key
                        ]
                        for key in ((name, "paired", 0.0), (name, backend, evict))
                    )
                    ratios = [one / other for one, other in zip(pair, single, strict=True)]
                    ratio = statistics.median(ratios)
                    yield [
                        *(name, backend, clock),
                        *(f"{1e3 * statistics.median(values):.4g}" for values in (pair, single)),
                        f"after {evict:g} MB" if evict else "",
                        *(f"{value:.3f}" for value in (ratio, min(ratios), max(ratios))),
                        "" if evict else ("met" if abs(ratio - 1) <= BAR else "MISSED"),
                    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=int, nargs="?", default=10)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seconds", type=float, default=2, help="in each process (default 2)")
    parser.add_argument("--evict", type=float, default=0, metavar="MB")
    parser.add_argument("--json", type=Path, help="keep all times there")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child is not None:
        [name], seconds, evict = arguments.models, arguments.seconds, arguments.evict
        if arguments.child == "prepare":
            prepare(name, arguments.folder)
        elif arguments.child == "paired":
            print(json.dumps(paired(name, seconds)))
        elif arguments.child == "torch":
            print(json.dumps(torch_alone(name, seconds, evict)))
        else:
            print(json.dumps(onnxruntime_alone(name, arguments.folder, seconds, evict)))
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the plugin does
    with tempfile.TemporaryDirectory() as folder:
        found = list(measure(arguments, Path(folder)))
    print_table(rows(found, arguments))
    print(f"{arguments.runs} runs; ratio: the median over the runs, the least and the greatest")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
