"""What a run ran on. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from pytest_onnxcheck.versions import installed_versions

__all__ = ["cpu_name", "fingerprint"]

#: packages whose version changes how long things take
_PACKAGES = (
    *("torch", "numpy", "onnx"),
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
)


def cpu_name() -> str:
    """The processor's name, as the operating system has it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def fingerprint() -> dict[str, Any]:
    """What times depend on besides the model: the processor, the system and the versions."""
    return {
        "cpu": cpu_name(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": installed_versions(_PACKAGES),
    }
