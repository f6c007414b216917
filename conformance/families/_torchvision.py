"""Import torchvision beside a build of torch that its binaries were not made for.

torchvision's wheel on PyPI is made for the CUDA build of torch. Beside the CPU build its library
does not load, and the import fails at its first operator; so does that of transformers, which
imports torchvision where it is installed. Its models are plain torch and need none of its
operators: the schemas of two, declared before the import, are enough.
"""

from __future__ import annotations

import importlib
import sys

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


def make_torchvision_importable() -> None:
    """Make sure that ``import torchvision`` works, whichever build of torch is there.

    Does nothing where torchvision is not installed.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.startswith("torchvision.")]:
            del sys.modules[name]
        for name in OPERATORS:
            torch.library.define(f"torchvision::{name}", SCHEMA)
        importlib.import_module("torchvision")
