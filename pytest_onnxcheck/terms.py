"""The closed sets of names a manifest or an option may use. Imports nothing."""

from __future__ import annotations

from typing import Literal

__all__ = ["Check", "Dtype", "Exporter", "Fill", "Metric", "Precision", "Target"]

Check = Literal[
    "export",
    "quantization",
    "structure",
    "equivalence",
    "accuracy",
    "mutation",
    "latency",
    "recommend",
]
Dtype = Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
Exporter = Literal["dynamo", "torchscript"]
Fill = Literal["normal", "uniform", "integers", "constant", "file"]
Metric = Literal["accuracy", "precision", "recall", "f1", "mse"]
Precision = Literal["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]
Target = Literal["cpu", "cuda", "tensorrt", "openvino"]
