"""Does the history's gate see a slower artefact, and does it leave a slowed machine alone?

Measures an artefact, and a copy of it with a fifth more work, in processes of their own: on the
machine as it is, beside a process that keeps one core busy, and on one core together with such a
process. Each run is judged by `max_regression = "10%"` against each quiet run of the artefact as
the accepted baseline, and the times themselves are set beside it.

Usage: python benchmarks/history_live.py [RUNS] [--model NAME] [--record FILE] [--again FILE]

`--record` keeps the measurements: `tests/data/history-*.json` are made that way. `--again` judges
what was kept, and measures nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common import print_table

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks.latency import timed
from pytest_onnxcheck.engine.inputs.cases import fill_inputs
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.speed import timing
from pytest_onnxcheck.engine.speed.sides import KERNEL, open_sides
from pytest_onnxcheck.machine import Machine
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import LatencyMeasurement, PastRuns, Ratio, SpeedPoint, Timing
from pytest_onnxcheck.verdict import Grade

ROOT = Path(__file__).parent.parent
CONDITIONS = ("quiet", "hog", "half")
SECONDS = 2.0
SLOWER = (1.2, 1.26)
HOG = [sys.executable, "-c", "while True: pass"]
MACHINE = Machine("this one", cpus=2, platform="this one")


class Model:
    """A zoo model's fp32 artefact on the CPU, at the first point of its dims."""

    def __init__(self, name: str) -> None:
        self.model = load_manifest(ROOT / "models.toml").models[name]
        builds = Builds(ROOT / ".onnxcheck")
        variant = self.model.variants[0]
        self.reference = builds.reference(self.model)
        self.artefact = builds.float_artefact(self.reference, variant)
        self.dims = next(iter(self.model.latency_points().values()))
        self.target = self.model.target("cpu")

    def measured(self, artefact: Artefact) -> LatencyMeasurement:
        """Times an artefact as `test_latency` does."""
        sides = open_sides(artefact, artefact, self.reference, self.target)
        return timed(sides, self.reference, self.dims, SECONDS)

    def times_as_long(self, other: Artefact) -> float:
        """How many times as long another artefact takes, interleaved."""
        inputs = fill_inputs(self.reference, self.dims, "latency", 0)
        calls = [open_session(a, self.target).call(inputs) for a in (other, self.artefact)]
        return timing.ratio(timing.interleave(calls, [1.0]), 0, 1).value

    def slower(self, path: Path) -> tuple[Artefact, float]:
        """The artefact with copies of its own layers, until it takes a fifth more time.

        The copies have other weights, or ONNX Runtime would merge them with the originals, and
        their results are further outputs, or it would drop them.
        """
        import onnx

        model = onnx.shape_inference.infer_shapes(onnx.load(self.artefact.path))
        weights = {tensor.name for tensor in model.graph.initializer}
        types = {value.name for value in model.graph.value_info}
        layers = [
            node
            for node in model.graph.node
            if node.op_type in ("Conv", "Gemm", "MatMul")
            and node.output[0] in types
            and node.input[1] in weights
        ]
        chosen: list[Any] = []
        for layer in layers * 4:
            onnx.save(with_copies(model, [*chosen, layer]), path)
            slower = Artefact.given(path)
            ratio = self.times_as_long(slower)
            if ratio <= SLOWER[1]:
                chosen.append(layer)
                if ratio >= SLOWER[0]:
                    return slower, ratio
        raise SystemExit(f"{self.model.name}: could not be made 20% slower")


def with_copies(model: Any, layers: list[Any]) -> Any:
    """The model with further nodes like those given, on the same inputs."""
    import numpy as np
    from onnx import numpy_helper

    grown = copy.deepcopy(model)
    graph = grown.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    types = {value.name: value for value in graph.value_info}
    for number, layer in enumerate(layers):
        node = copy.deepcopy(layer)
        node.name = f"copy{number}"
        for place, name in enumerate(node.input):
            if name in weights:
                array = numpy_helper.to_array(weights[name]) * np.float32(1.5 + number)
                node.input[place] = f"copy{number}.{place}"
                graph.initializer.append(numpy_helper.from_array(array, node.input[place]))
        output = copy.deepcopy(types[layer.output[0]])
        output.name = f"copy{number}.out"
        node.output[0] = output.name
        graph.node.append(node)
        graph.output.append(output)
    del graph.value_info[:]
    return grown


@contextmanager
def slowed(condition: str) -> Iterator[list[str]]:
    """Slows the machine; gives what to put before a command."""
    pin = ["taskset", "-c", "0"] if condition == "half" else []
    hog = None if condition == "quiet" else subprocess.Popen([*pin, *HOG])
    try:
        yield pin
    finally:
        if hog is not None:
            hog.kill()
            hog.wait()


def measure(name: str, slower: Path) -> None:
    """In a process of its own: prints what was kept of the artefact and of the slower one."""
    model = Model(name)
    for artefact in (model.artefact, Artefact.given(slower)):
        measured = model.measured(artefact)
        print(json.dumps(kept(measured)))


def kept(measured: LatencyMeasurement) -> dict[str, Any]:
    """What the gate looks at, to five digits."""

    def short(values: list[float]) -> list[float]:
        return [float(f"{value:.5g}") for value in values]

    found: dict[str, Any] = {
        side: short([ratio.value, ratio.low, ratio.high])
        for side, ratio in measured.ratios.items()
        if side in ("kernel", "torch")
    }
    found["ms"] = short([measured.onnxruntime.median * 1e3])[0]
    found["interrupted"] = round(measured.ratios["kernel"].interrupted, 2)
    return found


def measurement(run: dict[str, Any], sha256: str) -> LatencyMeasurement:
    """The measurement again, as far as it was kept."""
    ratios = {
        side: Ratio(*run[side], "processor", run[side][0], 100, run["interrupted"])
        for side in ("kernel", "torch")
    }
    seconds = run["ms"] / 1e3
    own = Timing("onnxruntime", 100, *[seconds] * 4, 0.0, (seconds, seconds), (seconds, seconds))
    return LatencyMeasurement(
        target="cpu",
        provider="CPUExecutionProvider",
        dims={},
        threads=1,
        boundary="host to host",
        torch=own,
        onnxruntime=own,
        load_seconds=0.0,
        ratios=ratios,
        sha256=sha256,
        kernel_name="recorded",
    )


def baseline(run: dict[str, Any]) -> PastRuns:
    """A run as the accepted baseline."""
    value, low, high = run["kernel"]
    point = SpeedPoint(
        created="2026-01-01",
        manifest="models.toml",
        target="cpu",
        normalised=1 / value,
        interval=(1 / high, 1 / low),
        speedup=run["torch"][0],
        speedup_interval=(run["torch"][1], run["torch"][2]),
        median_seconds={"onnxruntime": run["ms"] / 1e3},
        sha256="same",
        kernel="recorded",
        threads=1,
        noisy=False,
        machine=MACHINE,
    )
    return PastRuns(folder="history", machine=MACHINE, accepted=(point,))


def judged(run: dict[str, Any], sha256: str, before: dict[str, Any]) -> Grade:
    """What the gate says of a run against one of the same artefact as its baseline."""
    budget = Budget.model_validate({"max_regression": "10%"})
    return judge.regression(measurement(run, sha256), baseline(before), budget).grade


def rows(runs: list[dict[str, Any]]) -> Iterator[list[str]]:
    """The table: a line for each condition and artefact, over all quiet baselines."""
    quiet = [run for run in runs if run["condition"] == "quiet"]
    for artefact in ("same", "slower"):
        for condition in CONDITIONS:
            pairs = [
                (run[artefact], before["same"])
                for run in runs
                for before in quiet
                if run["condition"] == condition and run is not before
            ]
            if not pairs:
                continue
            grades = Counter(str(judged(run, artefact, before)) for run, before in pairs)
            changes = {
                "ms": [run["ms"] / before["ms"] - 1 for run, before in pairs],
                "kernel": [before["kernel"][0] / run["kernel"][0] - 1 for run, before in pairs],
                "torch": [before["torch"][0] / run["torch"][0] - 1 for run, before in pairs],
            }
            yield [
                artefact,
                condition,
                str(len(pairs)),
                *(
                    f"{statistics.median(values):+.1%} ({sum(v > 0.1 for v in values)})"
                    for values in changes.values()
                ),
                *(str(grades[str(grade)]) for grade in Grade),
            ]


def show(model: str, times: float, runs: list[dict[str, Any]]) -> None:
    """Prints the table."""
    print(f"{model}: the slower artefact takes {times:.3f} times as long")
    header = ["artefact", "machine", "pairs", "ms", "/ kernel", "/ PyTorch"]
    print_table([[*header, *(str(grade) for grade in Grade)], *rows(runs)])
    print("changes: the median over the pairs, and in how many it is above 10%")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", type=int, nargs="?", default=5)
    parser.add_argument("--model", default="radio-localisation")
    parser.add_argument("--record", type=Path, help="keep the measurements there")
    parser.add_argument("--again", type=Path, help="judge the measurements kept there")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.again is not None:
        kept = json.loads(arguments.again.read_text())
        show(kept["model"], kept["slower"], kept["runs"])
        return
    if arguments.measure is not None:
        measure(arguments.model, arguments.measure)
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slower.onnx"
        _, times = Model(arguments.model).slower(path)
        command = [sys.executable, __file__, "--model", arguments.model, "--measure", str(path)]
        for _ in range(arguments.runs):
            for condition in CONDITIONS:
                with slowed(condition) as before:
                    done = subprocess.run([*before, *command], stdout=subprocess.PIPE, check=True)
                same, slower = (json.loads(line) for line in done.stdout.splitlines())
                runs.append({"condition": condition, "same": same, "slower": slower})
    show(arguments.model, times, runs)
    if arguments.record is not None:
        record = {"model": arguments.model, "slower": round(times, 4), "kernel": KERNEL}
        entries = ",\n".join(json.dumps(run) for run in runs)
        text = json.dumps(record)[:-1] + f', "runs": [\n{entries}\n]}}\n'
        arguments.record.write_text(text)


if __name__ == "__main__":
    main()
