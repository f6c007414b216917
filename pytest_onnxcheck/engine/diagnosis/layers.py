"""How much of each layer's signal a quantized artefact keeps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.compare import sqnr
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.measurement import LayerLoss

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["layer_losses"]

#: Operators that hold weights, in float artefacts and in quantized ones.
_WEIGHTED = frozenset(
    """
    Attention Conv ConvInteger ConvTranspose DynamicQuantizeLSTM DynamicQuantizeMatMul
    FusedConv FusedGemm FusedMatMul GRU Gemm LSTM MatMul MatMulInteger MatMulIntegerToFloat
    MultiHeadAttention QAttention QGemm QLinearConv QLinearMatMul RNN
    """.split()  # noqa: SIM905 - a table of names
)

#: how many layers are told
_MOST_LAYERS = 8


def layer_losses(
    float_path: Path,
    quantized_path: Path,
    inputs: Mapping[str, Array],
    libraries: tuple[str, ...] = (),
) -> tuple[LayerLoss, ...]:
    """Measures how much of each layer's signal a quantized artefact keeps.

    Values are paired by name. Where a value is quantized itself, its dequantized copy is taken.
    Values of operators with weights are measured; other values only where there are none.

    Args:
        float_path: The artefact it was made from.
        quantized_path: The quantized artefact.
        inputs: Arrays by input name.
        libraries: Their custom operators; see `Target`.

    Returns:
        At most 8, the worst first.

    Raises:
        RunError: One of the two does not run on the inputs.
    """
    exact, quantized = (
        OpenedGraph(path, libraries=libraries) for path in (float_path, quantized_path)
    )
    pairs = dict(_pairs(exact, quantized))
    weighted = {name for name in pairs if _is_weighted(exact, quantized, name)}
    names = [name for name in pairs if name in weighted] or list(pairs)
    originals = dict(exact.values(inputs, names))
    name_of = {pairs[name]: name for name in names}
    found = []
    for value, array in quantized.values(inputs, list(name_of)):
        name = name_of[value]
        loss = sqnr(originals[name], array) if name in originals else None
        if loss is not None and loss < math.inf:
            found.append(LayerLoss(name, exact.producers[name].op_type, loss))
    return tuple(sorted(found, key=lambda layer: layer.sqnr_db)[:_MOST_LAYERS])


def _pairs(exact: OpenedGraph, quantized: OpenedGraph) -> Iterator[tuple[str, str]]:
    """Values by their names in the float artefact and in the quantized one."""
    for name in exact.producers:
        dequantized = f"{name}_DequantizeLinear_Output"
        if dequantized in quantized.producers:
            yield name, dequantized
        elif name in quantized.producers:
            yield name, name


def _is_weighted(exact: OpenedGraph, quantized: OpenedGraph, name: str) -> bool:
    """Whether an operator with weights computes a value, in one of the two artefacts."""
    return any(
        name in side.producers and side.producers[name].op_type in _WEIGHTED
        for side in (exact, quantized)
    )
