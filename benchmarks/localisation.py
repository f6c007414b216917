"""How long it takes to name the layer that is wrong: ResNet-18 at 224 x 224, one faulty channel.

The fault is put into a convolution in the middle of the exported file. What is timed is what a
failing check pays: PyTorch's trace in float64 and float32, the artefact with every value as an
output, and the matching of the two. The float64 outputs are there already, from the check itself.

With `--slow`, torch.onnx.verification.verify_onnx_program(compare_intermediates=True) is timed on
the same model. It runs PyTorch's exported program node by node beside ONNX Runtime, and pairs
values by the names that the exporter of this very process gave them.

Usage: python benchmarks/localisation.py [--slow] [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis.localise import localise
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.manifest import load_manifest

ROOT = Path(__file__).parent.parent
MODEL = "resnet18-224"


def main() -> None:
    rounds = int(next((a for a in sys.argv[1:] if a.isdigit()), "3"))
    model = load_manifest(ROOT / "models.toml").models[MODEL]
    with tempfile.TemporaryDirectory() as folder:
        builds = Builds(Path(folder))
        reference = builds.reference(model)
        oracle = Oracle(reference)
        source = builds.artefact(reference, model.variants[0]).path
        path = Path(folder) / "faulty.onnx"
        layer = inject(source, path)
        print(f"{MODEL}, {torch.get_num_threads()} threads, fault in {layer}")
        for case in oracle.declared:
            forward = timed(lambda case=case: oracle.reference.run(case.inputs), rounds)
            wide = timed(lambda case=case: oracle.widened_run(case), rounds)
            oracle.expected(case).exact  # noqa: B018 - the check has it
            started = time.perf_counter()
            found = localise(path, oracle, case, safety=8)
            first = time.perf_counter() - started
            seconds = timed(lambda case=case: localise(path, oracle, case, safety=8), rounds)
            print(
                f"{case.name}: {first:.2f} s, then {seconds:.2f} s; named "
                f"{found and found.module} (float32 {forward:.2f} s, float64 {wide:.2f} s)",
                flush=True,
            )
        if "--slow" in sys.argv:
            verification(oracle, rounds)


def inject(source: Path, path: Path) -> str:
    """Scales one output channel of the tenth convolution; the name of its weight."""
    model = onnx.load(source)
    node = [node for node in model.graph.node if node.op_type == "Conv"][9]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    weight = numpy_helper.to_array(tensor).copy()
    weight[3] *= np.float32(1.5)
    tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    onnx.save(model, path)
    return node.input[1]


def timed(run: Callable[[], object], rounds: int) -> float:
    """Median of the wall-clock seconds."""
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def verification(oracle: Oracle, rounds: int) -> None:
    """Times PyTorch's own comparison of intermediate values, without the export it needs."""
    from torch.onnx.verification import verify_onnx_program

    case = oracle.declared[-1]
    inputs = tuple(torch.tensor(array) for array in case.inputs.values())
    program = torch.onnx.export(
        oracle.reference.module, inputs, dynamo=True, optimize=False, verbose=False
    )
    assert program is not None
    found: list[int] = []

    def run() -> None:
        with torch.inference_mode():
            found.append(len(verify_onnx_program(program, inputs, compare_intermediates=True)))

    seconds = timed(run, rounds)
    print(f"verify_onnx_program, {case.name}: {seconds:.2f} s, {found[0]} values compared")


if __name__ == "__main__":
    main()
