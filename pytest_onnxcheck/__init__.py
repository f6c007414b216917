"""pytest-onnxcheck decides whether a PyTorch model may be released as ONNX.

The names below are loaded on first use (PEP 562), so that importing the package costs nothing.

PYTEST_DONT_REWRITE: pytest warns of a plugin that was imported before it starts, as this one is in
the children of isolated models and of jobs, and where warnings are errors it would not start.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_onnxcheck.api.benchmark import benchmark
    from pytest_onnxcheck.api.compat import compat
    from pytest_onnxcheck.api.export import export_model
    from pytest_onnxcheck.api.inspect import inspect
    from pytest_onnxcheck.api.release import release_model
    from pytest_onnxcheck.api.run import run
    from pytest_onnxcheck.api.validate import validate
    from pytest_onnxcheck.api.validate_onnx import validate_onnx
    from pytest_onnxcheck.engine.artefacts.artefact import Artefact
    from pytest_onnxcheck.engine.oracle.oracle import Oracle
    from pytest_onnxcheck.engine.reference.reference import Reference
    from pytest_onnxcheck.errors import (
        BehaviourError,
        CacheError,
        CheckpointError,
        ExportError,
        HistoryError,
        InputError,
        ManifestError,
        OnnxCheckError,
        QuantizeError,
        RecordError,
        ReleaseError,
        RunError,
        StageError,
        TargetAbsent,
        Unsupported,
    )
    from pytest_onnxcheck.manifest import Manifest, Model, Variant, load_manifest
    from pytest_onnxcheck.plugin.suite import OnnxChecks
    from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__version__ = "0.1.0"

_HOMES = {
    "export_model": "api.export",
    "benchmark": "api.benchmark",
    "compat": "api.compat",
    "inspect": "api.inspect",
    "release_model": "api.release",
    "run": "api.run",
    "validate_onnx": "api.validate_onnx",
    "validate": "api.validate",
    "BehaviourError": "errors",
    "CacheError": "errors",
    "CheckpointError": "errors",
    "ExportError": "errors",
    "HistoryError": "errors",
    "InputError": "errors",
    "ManifestError": "errors",
    "OnnxCheckError": "errors",
    "QuantizeError": "errors",
    "RecordError": "errors",
    "ReleaseError": "errors",
    "RunError": "errors",
    "StageError": "errors",
    "TargetAbsent": "errors",
    "Unsupported": "errors",
    "Manifest": "manifest",
    "Model": "manifest",
    "Variant": "manifest",
    "load_manifest": "manifest",
    "OnnxChecks": "plugin.suite",
    "Artefact": "engine.artefacts.artefact",
    "Oracle": "engine.oracle.oracle",
    "Reference": "engine.reference.reference",
    "Finding": "verdict",
    "Grade": "verdict",
    "Verdict": "verdict",
}

__all__ = [  # noqa: RUF022 - grouped for the reader
    # what the command does, from Python
    "benchmark",
    "compat",
    "export_model",
    "inspect",
    "release_model",
    "run",
    "validate",
    "validate_onnx",
    # errors
    "BehaviourError",
    "CacheError",
    "CheckpointError",
    "ExportError",
    "HistoryError",
    "InputError",
    "ManifestError",
    "OnnxCheckError",
    "QuantizeError",
    "RecordError",
    "ReleaseError",
    "RunError",
    "StageError",
    "TargetAbsent",
    "Unsupported",
    # manifest
    "Manifest",
    "Model",
    "Variant",
    "load_manifest",
    # what fixtures give
    "Artefact",
    "Oracle",
    "Reference",
    # extension
    "OnnxChecks",
    # verdicts
    "Finding",
    "Grade",
    "Verdict",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
