"""What the plugin costs: its export and equivalence checks against a bare script doing the same.

Both load the model, export it with dynamo, check the file, open a session, run the same cases on
both sides and compare. They run as processes of their own, in turn, and the ratio is the median
over the rounds.

Usage: python benchmarks/overhead.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODELS = {
    "radio-localisation": ("conformance.zoo.radio:localisation_net", (3, 128, 32), [1, 2, 3]),
    "resnet18-224": ("conformance.zoo.resnet:resnet18", (3, 224, 224), [1, 2]),
    "vit-tiny": ("conformance.zoo.vit:vit_tiny", (3, 64, 64), [1, 2, 3]),
}

BARE = """
import copy, importlib, sys
import numpy as np, onnx, onnxruntime, torch

module, _, name = {factory!r}.partition(":")
torch.manual_seed(0)
model = getattr(importlib.import_module(module), name)().eval()
path = sys.argv[1] + "/model.onnx"
torch.onnx.export(
    copy.deepcopy(model), (torch.randn(2, *{shape!r}),), path, dynamo=True, opset_version=20,
    dynamic_shapes=({{0: "batch"}},), external_data=False, verbose=False,
)
onnx.checker.check_model(path, full_check=True)
session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
rng = np.random.default_rng(0)
for batch in {batches!r}:
    for _ in range(2):
        x = rng.normal(size=(batch, *{shape!r})).astype("float32")
        with torch.inference_mode():
            outputs = model(torch.tensor(x))
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        feed = {{session.get_inputs()[0].name: x}}
        for expected, actual in zip(outputs, session.run(None, feed), strict=True):
            assert np.abs(expected.numpy() - actual).max() < 1e-4
"""


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return time.perf_counter() - started


def bare(model: str) -> float:
    factory, shape, batches = MODELS[model]
    script = BARE.format(factory=factory, shape=shape, batches=batches)
    with tempfile.TemporaryDirectory() as folder:
        return seconds([sys.executable, "-c", script, folder])


def gated(model: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return seconds(
            [
                *(sys.executable, "-m", "pytest", "--onnxcheck", f"--onnxcheck-model={model}"),
                *("--onnxcheck-target=cpu", f"--onnxcheck-artifacts={folder}"),
                *("-k", "(export or equivalence) and dynamo-op20-fp32", "-p", "no:cacheprovider"),
            ]
        )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| model | bare script | pytest --onnxcheck | ratio |")
    print("| --- | --- | --- | --- |")
    for model in MODELS:
        pairs = []
        for number in range(rounds):
            # alternate which goes first
            if number % 2:
                after = gated(model)
                before = bare(model)
            else:
                before = bare(model)
                after = gated(model)
            pairs.append((before, after))
        ratio = statistics.median(after / before for before, after in pairs)
        first, second = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"| {model} | {first:.1f} s | {second:.1f} s | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
