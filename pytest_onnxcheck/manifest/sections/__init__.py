"""The sections of `models.toml`, one class each: the single source of validation and schema.

A field that is None was not written; `resolve.py` fills it by the order of precedence. The
field descriptions are the reference documentation (`onnxcheck schema`).
"""

from __future__ import annotations

from pytest_onnxcheck.manifest.sections.base import Section
from pytest_onnxcheck.manifest.sections.budget import Budget
from pytest_onnxcheck.manifest.sections.data import (
    Accuracy,
    Calibration,
    CaseFile,
    Input,
    Output,
    Span,
)
from pytest_onnxcheck.manifest.sections.deploy import Deploy
from pytest_onnxcheck.manifest.sections.file import Defaults, ManifestFile, ModelSection
from pytest_onnxcheck.manifest.sections.quantization import BUILTIN_QUANTIZATION, Quantization
from pytest_onnxcheck.manifest.sections.release import Release
from pytest_onnxcheck.manifest.sections.runs import (
    SESSION_SETTINGS,
    Latency,
    Mark,
    SkippedProbe,
    TargetOptions,
)
from pytest_onnxcheck.manifest.sections.tolerance import (
    BUILTIN_TOLERANCE,
    FIXED_TOLERANCE,
    METRICS,
    NOISE_FLOOR,
    Bounds,
    Tolerance,
    share_used,
)

__all__ = [
    "BUILTIN_QUANTIZATION",
    "BUILTIN_TOLERANCE",
    "FIXED_TOLERANCE",
    "METRICS",
    "NOISE_FLOOR",
    "SESSION_SETTINGS",
    "Accuracy",
    "Bounds",
    "Budget",
    "Calibration",
    "CaseFile",
    "Defaults",
    "Deploy",
    "Input",
    "Latency",
    "ManifestFile",
    "Mark",
    "ModelSection",
    "Output",
    "Quantization",
    "Release",
    "Section",
    "SkippedProbe",
    "Span",
    "TargetOptions",
    "Tolerance",
    "share_used",
]
