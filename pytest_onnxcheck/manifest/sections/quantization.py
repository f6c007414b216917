"""The options of the precisions, and which of them each precision has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pytest_onnxcheck.manifest.sections.base import Array, Section, Strings, unique

__all__ = ["BUILTIN_QUANTIZATION", "Quantization"]

Operators = Annotated[tuple[str, ...], Array, Field(min_length=1), AfterValidator(unique)]


class Quantization(Section):
    """How a precision is made from fp32: the options of ONNX Runtime's own tools."""

    exclude_nodes: Strings | None = Field(
        None,
        description="fp16, bf16, int8, int4-weight: nodes left in float32, names or globs over "
        "names.",
    )
    op_block_list: Strings | None = Field(
        None, description="fp16, bf16: operator types left in float32, beside the converter's own."
    )
    keep_io_types: bool | None = Field(
        None, description="fp16, bf16: inputs and outputs stay float32; default: true."
    )
    operators: Operators | None = Field(
        None,
        description="int8-dynamic, int8-static, int4-weight: the operator types to quantize. "
        "Default: all that pay; int8-dynamic leaves convolutions alone, which as ConvInteger run "
        "1.5 to 5 times slower than in fp32.",
    )
    per_channel: bool | None = Field(
        None, description="int8: one scale per output channel of a weight; default: true."
    )
    weight_type: Literal["int8", "uint8"] | None = Field(
        None, description="int8: type of the weights; default: `int8`."
    )
    activation_type: Literal["int8", "uint8"] | None = Field(
        None, description="int8-static: type of the activations; default: `uint8`."
    )
    method: Literal["minmax", "entropy", "percentile"] | None = Field(
        None,
        description="int8-static: how ranges follow from the calibration data; default: `minmax`.",
    )
    percentile: Annotated[float, Field(gt=50, le=100)] | None = Field(
        None, description='int8-static, with method = "percentile"; default: 99.999.'
    )
    symmetric: bool | None = Field(
        None,
        description="int8-static: activations with zero point 0; int4-weight: weights; default: "
        "false for int8-static, true for int4-weight.",
    )
    reduce_range: bool | None = Field(
        None,
        description="int8: weights in 7 bits, so that x86 without VNNI does not saturate; default: "
        "where `cpus` holds `x86-avx2`.",
    )
    block_size: Literal[16, 32, 64, 128, 256] | None = Field(
        None, description="int4-weight: weights that share a scale; default: 32."
    )
    accuracy_level: Literal[0, 1, 2, 3, 4] | None = Field(
        None,
        description="int4-weight: least precision of the arithmetic: 0 unset, 1 fp32, 2 fp16, "
        "3 bf16, 4 int8; default: 0.",
    )


def _quantization(**options: object) -> Quantization:
    return Quantization.model_validate(options)


_FLOAT16 = _quantization(exclude_nodes=(), op_block_list=(), keep_io_types=True)

#: What holds for a precision when the manifest says nothing: these are also the only options it
#: has. A `reduce_range` of None follows the model's `cpus`, `operators` of None the precision.
BUILTIN_QUANTIZATION: dict[str, Quantization] = {
    "fp32": _quantization(),
    "fp16": _FLOAT16,
    "bf16": _FLOAT16,
    "half": _quantization(),
    "int8-dynamic": _quantization(
        exclude_nodes=(), operators=None, per_channel=True, weight_type="int8", reduce_range=None
    ),
    "int8-static": _quantization(
        exclude_nodes=(),
        operators=None,
        per_channel=True,
        weight_type="int8",
        activation_type="uint8",
        method="minmax",
        percentile=99.999,
        symmetric=False,
        reduce_range=None,
    ),
    "int4-weight": _quantization(
        exclude_nodes=(), operators=None, symmetric=True, block_size=32, accuracy_level=0
    ),
}
