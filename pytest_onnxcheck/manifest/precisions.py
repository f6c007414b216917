"""What follows from a precision: one row each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["PRECISIONS", "Traits"]


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What follows from a precision.

    Attributes:
        bits: Of a weight that carries it.
        tensors: What such weights are in a file, in the words of onnx.TensorProto.
        floats: Their floating type; empty where they are integers.
        casts_module: Whether PyTorch's module itself is cast and exported. Of the others, all but
            fp32 are converted from the fp32 artefact.
        calibrated: Whether it is made with calibration data.
        noise_floor: Whether a noise floor is measured for it: what its rounding alone can do.
        cpu_kernels: Whether ONNX Runtime's CPU provider computes in it, and so should be faster.
            Other 16 bits and 4 bits it computes in float32.
    """

    bits: int
    tensors: tuple[str, ...]
    floats: Literal["float32", "float16", "bfloat16", ""] = ""
    casts_module: bool = False
    calibrated: bool = False
    noise_floor: bool = False
    cpu_kernels: bool = False


_INT8 = ("INT8", "UINT8")

#: every precision by name, in the order of `terms.Precision`
PRECISIONS: dict[str, Traits] = {
    "fp32": Traits(
        bits=32, tensors=("FLOAT",), floats="float32", noise_floor=True, cpu_kernels=True
    ),
    "fp16": Traits(bits=16, tensors=("FLOAT16",), floats="float16", noise_floor=True),
    "bf16": Traits(bits=16, tensors=("BFLOAT16",), floats="bfloat16"),
    "half": Traits(
        bits=16, tensors=("FLOAT16",), floats="float16", casts_module=True, noise_floor=True
    ),
    "int8-dynamic": Traits(bits=8, tensors=_INT8, cpu_kernels=True),
    "int8-static": Traits(bits=8, tensors=_INT8, cpu_kernels=True, calibrated=True),
    "int4-weight": Traits(bits=4, tensors=("INT4", "UINT4")),
}
