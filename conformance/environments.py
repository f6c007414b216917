"""Targets in other environments for the reference zoo: `python -m tox run -e environments`."""

from __future__ import annotations

__all__ = ["TARGETS", "pytest_onnxcheck_targets"]

#: an old release, and a build with another provider, which cannot be installed beside the first
TARGETS: dict[str, dict[str, object]] = {
    "ort-1.20": {"environment": ["onnxruntime==1.20.1"]},
    "openvino": {"environment": ["onnxruntime-openvino==1.24.1"]},
}


def pytest_onnxcheck_targets() -> dict[str, dict[str, object]]:
    """Gives them to every manifest of the run."""
    return TARGETS
