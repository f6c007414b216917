"""Rules that span several keys. Each yields the path of a key and a sentence about it."""

from __future__ import annotations

from pytest_onnxcheck.manifest.rules.base import BAD_MODEL_NAME
from pytest_onnxcheck.manifest.rules.resolved import check_default_globs, check_resolved
from pytest_onnxcheck.manifest.rules.targets import (
    check_target_names,
    check_targets,
    unknown_target,
)
from pytest_onnxcheck.manifest.rules.written import check_defaults, check_model

__all__ = [
    "BAD_MODEL_NAME",
    "check_default_globs",
    "check_defaults",
    "check_model",
    "check_resolved",
    "check_target_names",
    "check_targets",
    "unknown_target",
]
