"""What schemathesis is told: names that there are, for three requests in four."""

from __future__ import annotations

import os
import zlib
from typing import Any

import schemathesis

KNOWN = {
    "name": ["mlp", "seeded"],
    "variant": ["fp32", "torchscript-op20-fp32"],
    "file": ["mlp.onnx", "report.html", "record.json"],
    "id": os.environ["ONNXCHECK_JOBS"].split(),
}


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Names that there are in place of most that were drawn."""
    drawn = zlib.crc32(repr(path_parameters).encode())
    if not path_parameters or drawn % 4 == 0:
        return path_parameters
    return {
        name: KNOWN[name][drawn // 4 % len(KNOWN[name])] if name in KNOWN else value
        for name, value in path_parameters.items()
    }
