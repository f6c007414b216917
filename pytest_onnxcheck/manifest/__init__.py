"""The manifest: `models.toml`, parsed and validated. Imports neither torch nor pytest."""

from __future__ import annotations

from pytest_onnxcheck.manifest.load import Manifest, Problem, carries_schema, load_manifest
from pytest_onnxcheck.manifest.model import Model, Variant
from pytest_onnxcheck.manifest.schema import json_schema
from pytest_onnxcheck.manifest.targets import Target

__all__ = [
    "Manifest",
    "Model",
    "Problem",
    "Target",
    "Variant",
    "carries_schema",
    "json_schema",
    "load_manifest",
]
