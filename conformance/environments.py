"""Targets in other environments for the reference zoo: tox's `environments` and `web`."""

from __future__ import annotations

__all__ = ["TARGETS", "pytest_onnxcheck_targets"]

#: an old release; a build with another provider, which cannot be installed beside the first; and
#: what runs in JavaScript
TARGETS: dict[str, dict[str, object]] = {
    "ort-1.20": {"environment": ["onnxruntime==1.20.1"]},
    "openvino": {"environment": ["onnxruntime-openvino==1.24.1"]},
    "node": {"runtime": "onnxruntime-node"},
    "web": {"runtime": "onnxruntime-web"},
    "chromium": {"browser": "chromium"},
}


def pytest_onnxcheck_targets() -> dict[str, dict[str, object]]:
    """Gives them to every manifest of the run."""
    return TARGETS
