"""The fp32 artefact with weights in 4 bits, by ONNX Runtime's quantizer."""

from __future__ import annotations

from pathlib import Path

from pytest_onnxcheck.engine.artefacts.writing import save
from pytest_onnxcheck.engine.convert.prepare import (
    AS_PREPARED,
    check_operators,
    excluded,
    prepared,
)
from pytest_onnxcheck.manifest.sections import Quantization

__all__ = ["INT4_OPERATORS", "to_int4_weight"]

#: what int4-weight is applied to when no operators are named
INT4_OPERATORS = ("MatMul",)

#: what MatMulNBitsQuantizer knows; a Gemm is made a MatMul and an Add first
_SUPPORTED = ("MatMul", "Gather")


def to_int4_weight(
    source: Path, path: Path, options: Quantization, libraries: tuple[str, ...] = ()
) -> None:
    """Writes the artefact `source` with weights in 4 bits to `path`.

    Args:
        source: The fp32 artefact.
        path: The file to write.
        options: The manifest's.
        libraries: Its custom operators; see `Target`.

    Raises:
        OptionError: An option does not fit the graph.
    """
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with prepared(source, libraries, without_gemm=True) as file:
        model = onnx.load(file)
    check_operators(options, model.graph, _SUPPORTED)
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=4,
        block_size=options.block_size,
        is_symmetric=options.symmetric,
        accuracy_level=options.accuracy_level,
        nodes_to_exclude=excluded(options, model.graph, AS_PREPARED.format(source)),
        op_types_to_quantize=options.operators or INT4_OPERATORS,
    )
    quantizer.process()
    quantizer.model.topological_sort()
    save(quantizer.model.model, path)
