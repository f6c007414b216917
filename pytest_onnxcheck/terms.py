"""The closed sets of names a manifest or an option may use. Imports nothing."""

from __future__ import annotations

from typing import Literal

__all__ = ["Check", "Dtype", "Exporter", "Fill", "Precision", "Target"]

Check = Literal["export", "quantization", "structure", "equivalence", "mutation", "latency"]
Dtype = Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
Exporter = Literal["dynamo", "torchscript"]
Fill = Literal["normal", "uniform", "integers", "constant", "file"]
Precision = Literal["fp32", "fp16", "int8-dynamic", "int8-static"]
Target = Literal["cpu", "cuda", "tensorrt", "openvino"]
