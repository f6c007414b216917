"""The names a manifest may use. Imports nothing of ours."""

from __future__ import annotations

import re
from typing import Literal

__all__ = [
    "FRONTIER",
    "NAME",
    "OPSETS",
    "PLAIN_CONTAINERS",
    "WITHOUT_VNNI",
    "Check",
    "Cpu",
    "Dtype",
    "Exporter",
    "Fill",
    "Metric",
    "Precision",
    "StageWord",
    "variant_name",
]

Check = Literal[
    "export",
    "quantization",
    "structure",
    "target",
    "equivalence",
    "accuracy",
    "mutation",
    "latency",
    "recommend",
    "release",
]
#: CPUs that an artefact runs on, told apart by how they add up products of 8 bits
Cpu = Literal["x86-vnni", "x86-avx2", "arm64"]
#: x86 whose products of 8 bits saturate in 16: up to AVX2, and AVX-512 without VNNI
WITHOUT_VNNI: Cpu = "x86-avx2"
#: containers of nested inputs that have a name of their own; others are `module:class`
PLAIN_CONTAINERS = ("list", "tuple", "dict")
Dtype = Literal["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"]
Exporter = Literal["dynamo", "torchscript"]
#: ONNX opsets that a model may be exported to
OPSETS = range(9, 31)
Fill = Literal["normal", "uniform", "integers", "mask", "constant", "file"]
Metric = Literal["accuracy", "precision", "recall", "f1", "mse"]
Precision = Literal["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]
#: what may have a limit of time: the stages by the words that the terminal and the record have for
#: them, what is outside of all of them, and all that are not named
StageWord = Literal[
    "*",
    "setup",
    "loading the checkpoint",
    "reading calibration data",
    "exporting",
    "quantizing",
    "stripping",
    "reading the file",
    "making an environment",
    "opening a session",
    "running PyTorch",
    "comparing",
    "searching",
    "diagnosing",
    "scoring PyTorch",
    "scoring",
    "injecting faults",
    "trying",
    "check",
    "teardown",
]
#: in place of a variant's name: the one that the budgets choose
FRONTIER = "frontier"
#: names that become node ids, folder names and globs
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


def variant_name(exporter: str, opset: int | None, precision: str) -> str:
    """`EXPORTER-opN-PRECISION`, or `file-PRECISION` of an artefact that already exists."""
    return "-".join([exporter, precision] if opset is None else [exporter, f"op{opset}", precision])
