"""Models of transformers, built from a config: nothing is downloaded."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from conformance.families._torchvision import make_torchvision_importable
from conformance.families._weights import calibrate, seed_weights


def from_config(model: str, config: dict[str, Any], part: str = "") -> nn.Module:
    """Build a model with seeded random weights; of images, with calibrated batch norms.

    Args:
        model: Class in ``transformers``.
        config: Arguments of the class's config.
        part: Name of the module in it to return, such as ``encoder``; by default all of it.

    Returns:
        Eval-mode model.
    """
    make_torchvision_importable()
    build = getattr(importlib.import_module("transformers"), model)
    module = build(build.config_class(**config))
    seed_weights(module)
    if module.main_input_name == "pixel_values":
        calibrate(module, size=getattr(module.config, "image_size", 64))
    return module.get_submodule(part).eval()
