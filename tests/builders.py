"""Builders of small artefacts, in a module that a process of its own can import."""

import time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.engine.artefacts.artefact import Notes
from pytest_onnxcheck.engine.artefacts.store import ArtefactStore

FOLDER = "net/dynamo-op20-fp32"
KEY = "0123456789abcdef" * 4
OTHER_KEY = "fedcba9876543210" * 4


def graph(value=1.0, size=4):
    weights = numpy_helper.from_array(np.full(size, value, "float32"), "weights")
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Add", ["x", "weights"], ["y"])],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size])],
            [weights],
        )
    )


class Builder:
    """Builds a small file, and counts."""

    def __init__(self, value=1.0, *, external=False):
        self.count = 0
        self.value = value
        self.external = external

    def __call__(self, path):
        self.count += 1
        onnx.save(
            graph(self.value, 64),
            path,
            save_as_external_data=self.external,
            location="model.onnx.data",
            size_threshold=0,
        )
        return Notes(options={"operators": ["Add"]}, narrowed=("x",))


def get_together(root, log, start):
    """Builds one key when the other process does; writes down that it did."""

    def build(path):
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)  # long enough for the other process to come to the lock
        return Builder()(path)

    start.wait()
    ArtefactStore(BuildCache(root)).get(FOLDER, KEY, build)
