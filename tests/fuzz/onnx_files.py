"""Spoilt `.onnx` files: looked into, and held against PyTorch as files that were given."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import numpy as np
import onnx
from commands import run
from mutate import spoil_bytes, spoil_message
from onnx import helper, numpy_helper

from pytest_onnxcheck.api.checking import check_artefact
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.guess.files import precision_of
from pytest_onnxcheck.manifest.load import parse_manifest

_MANIFEST = """
schema = 1
[models.net]
factory = "nets.py:net"
probe_seconds = 0
dims = { batch = [2] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""

_NETS = """
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return torch.relu(x)[:, :4]


def net():
    return Net().eval()
"""

_TEXTS = {
    "plain": "(float[n, 8] x) => (float[n, 4] y) { a = MatMul(x, w) b = Add(a, c) y = Relu(b) }",
    "branch": """(float[n, 8] x) => (float[n, 4] y) {
        a = MatMul(x, w)
        t = Constant <value = bool {1}> ()
        y = If (t) <
            then_branch = g1 () => (float[n, 4] p) { p = Relu(a) },
            else_branch = g2 () => (float[n, 4] q) { q = Neg(a) }
        >
    }""",
    "loop": """(float[n, 8] x) => (float[n, 4] y) {
        a = MatMul(x, w)
        m = Constant <value = int64 {3}> ()
        t = Constant <value = bool {1}> ()
        y = Loop (m, t, a) <
            body = g (int64 i, bool go, float[n, 4] s) => (bool on, float[n, 4] z)
                { on = Identity(go) z = Add(s, s) }
        >
    }""",
    "quantized": """(float[n, 8] x) => (float[n, 4] y) {
        s = Constant <value = float {0.1}> ()
        z = Constant <value = int8 {0}> ()
        q = QuantizeLinear(x, s, z)
        d = DequantizeLinear(q, s, z)
        a = MatMul(d, w)
        y = Softmax <axis = 1> (a)
    }""",
    "shapes": """(float[n, 8] x) => (float[n, 4] y) {
        d = Shape <end = 1> (x)
        k = Constant <value = int64[1] {4}> ()
        e = Concat <axis = 0> (d, k)
        v = Expand(c, e)
        y = Identity(v)
    }""",
}


class Subject:
    """Small artefacts of one interface."""

    STARTS = True  # the sandbox, which opens sessions first

    def __init__(self, name: str, work: Path) -> None:
        self.work, self.outside = work, work.parent / "outside" / "secret.bin"
        (work / "nets.py").write_text(_NETS)
        manifest = parse_manifest(_MANIFEST, work / "models.toml")
        manifest.check()
        self.model = manifest.models["net"]
        self.builds = Builds(work / "artefacts")
        self.reference = self.builds.reference(self.model)
        self.models = [_model(text) for text in _TEXTS.values()]

    def warm(self) -> None:
        folder = self.work / "good"
        folder.mkdir()
        for number, model in enumerate(self.models):
            path = folder / f"{number}.onnx"
            onnx.save(model, path)
            self.attempt(path)

    def make(self, rng: Random, folder: Path) -> Path:
        path, model = folder / "net.onnx", onnx.ModelProto()
        model.CopyFrom(rng.choice(self.models))
        external = rng.random() < 0.3
        if external:
            whole = folder / "whole.onnx"
            onnx.save(
                model, whole, save_as_external_data=True, location="net.data", size_threshold=0
            )
            model = onnx.load(whole, load_external_data=False)
            whole.unlink()
            if rng.random() < 0.5:
                self._point_elsewhere(rng, folder, model)
        how = rng.random()
        if how < 0.7:
            spoil_message(rng, model)
        data = model.SerializeToString()
        path.write_bytes(spoil_bytes(rng, data) if how > 0.6 else data)
        return path

    def attempt(self, made: Path) -> None:
        run("inspect", "--graph", str(made))
        precision = precision_of(made)
        variant = self.model.make_variant("file", None, precision, str(made))
        artefact = self.builds.artefact(self.reference, variant)
        source = self.builds.float_artefact(self.reference, variant)
        check_artefact(self.builds, self.reference, variant, artefact, source)

    def _point_elsewhere(self, rng: Random, folder: Path, model: onnx.ModelProto) -> None:
        """Lets a weight lie outside of the folder, by its name or by a link."""
        link = folder / "link"
        (link if rng.random() < 0.5 else folder / "net.data").unlink(missing_ok=True)
        target = rng.choice((str(self.outside), os.path.relpath(self.outside, folder), "/dev/zero"))
        link.symlink_to(target)
        (folder / "sub").mkdir()
        (folder / "sub" / "up").symlink_to(self.outside.parent)
        names = [target, "link", "sub/up/secret.bin", "./link", "sub/../link", "net.data/../link"]
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location" and rng.random() < 0.7:
                    entry.value = rng.choice(names)


def _model(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 17]> net {text}')
    rng = np.random.default_rng(0)
    used = {name for node in model.graph.node for name in node.input}
    for name, shape in {"w": (8, 4), "c": (4,)}.items():
        if name in used:
            array = rng.normal(size=shape).astype("float32")
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.initializer.append(
        helper.make_tensor("unused", onnx.TensorProto.INT64, [2], [1, 2])
    )
    onnx.checker.check_model(model)
    return model
