"""The JSON record: everything measured, and on what."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_onnxcheck import __version__
from pytest_onnxcheck.files import file_sha256, write_atomically
from pytest_onnxcheck.machine import cpu_name
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.report import frontier
from pytest_onnxcheck.versions import installed_versions

__all__ = ["FORMAT", "as_json", "make_record", "write_record"]

#: version of the record's format
FORMAT = 1

_PACKAGES = (
    *("pytest", "pytest-benchmark", "pydantic", "torch", "numpy", "safetensors"),
    *("onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
)


def make_record(
    entries: list[dict[str, Any]], errors: Sequence[dict[str, str]] = (), exitstatus: int = 0
) -> dict[str, Any]:
    """The record of one run.

    Args:
        entries: What the checks found, one dict per check.
        errors: What could not be collected: `nodeid` and `error`.
        exitstatus: pytest's exit status.
    """
    manifests = dict.fromkeys(entry["manifest"] for entry in entries)
    return {
        "format": FORMAT,
        "onnxcheck": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": _environment(),
        "manifests": [_manifest(Path(path)) for path in manifests],
        "exitstatus": exitstatus,
        "errors": list(errors),
        "frontier": frontier.data(frontier.frontiers(entries)),
        "checks": entries,
    }


def write_record(record: dict[str, Any], path: Path) -> None:
    """Writes a record as JSON."""
    write_atomically(path, as_json(record))


def as_json(value: Any) -> str:
    """JSON with NaN and infinity, which it has no numbers for, as strings."""
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def _environment() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "packages": installed_versions(_PACKAGES),
        "command": sys.argv,
    }


def _manifest(path: Path) -> dict[str, Any]:
    return {
        "path": str(path),
        "sha256": file_sha256(path),
        "seed": load_manifest(path).seed,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
