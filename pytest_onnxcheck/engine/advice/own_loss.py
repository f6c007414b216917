"""What quantizing each node of a static int8 artefact loses, without what was lost before it.

ONNX Runtime's own tool, `onnxruntime.quantization.qdq_loss_debug`, is not used: it looks at tensors
and not at what a node makes of them, so that a channel that vanishes beside an outlier of another
costs nothing; it counts a Relu that the quantizer left to the range of QuantizeLinear as loss; and
it writes files beside the artefact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.convert.prepare import matching, prepared
from pytest_onnxcheck.engine.oracle.compare import sqnr
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.measurement import LayerLoss

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["Layer", "layers"]

#: how many times larger than all the others a value is that masks
_MASK = 100.0

#: what values are called that were quantized, and those that were computed of quantized ones
_READ = "_onnxcheck_read"
_OWN = "_onnxcheck_own"


@dataclass(frozen=True)
class Layer:
    """A quantized node.

    Attributes:
        loss: What quantizing its inputs, weights and outputs does to it.
        neighbours: The node, those that compute its quantized inputs (through those that only
            hand on one, such as Relu), and those that read them too: ONNX Runtime's quantizer
            leaves an input in float only when it quantizes none of them.
        readers: Those that read its outputs, for the same reason, through those that hand on.
    """

    loss: LayerLoss
    neighbours: tuple[str, ...]
    readers: tuple[str, ...] = ()


def layers(
    float_path: Path,
    quantized_path: Path,
    inputs: Mapping[str, Array],
    excluded: Sequence[str] = (),
    libraries: tuple[str, ...] = (),
) -> list[Layer]:
    """What quantization does to each node, without what was lost before it.

    Each quantized node is computed beside the fp32 graph, on that graph's values, quantized as the
    artefact quantizes them, and compared with what the graph has.

    Args:
        float_path: The fp32 artefact.
        quantized_path: The static int8 artefact (QDQ) made from it.
        inputs: Arrays by input name.
        excluded: Nodes that are in float already; globs.
        libraries: Their custom operators; see `Target`.

    Returns:
        The quantized nodes that have a name, the worst first.

    Raises:
        RunError: The artefact does not run on the inputs.
    """
    import onnx

    with prepared(float_path, libraries) as path:
        opened = OpenedGraph(quantized_path, libraries=libraries)
        pairing = _Pairing(opened, onnx.load(path).graph, excluded)
    beside, pairs = pairing.beside()
    exact = dict(beside.values(inputs, [name for name, _ in pairs.values()]))
    losses: dict[str, float] = {}
    for value, array in beside.values(inputs, list(pairs)):
        original, name = pairs[value]
        loss = _loss(exact[original], array)
        if loss is not None and loss < math.inf:
            losses[name] = min(loss, losses.get(name, loss))
    found = [
        Layer(LayerLoss(name, node.op_type, losses[name]), *pairing.neighbours(node))
        for name, node in pairing.quantized.items()
        if name in losses
    ]
    return sorted(found, key=lambda layer: layer.loss.sqnr_db)


def _loss(exact: Array, quantized: Array) -> float | None:
    """Signal to quantization noise in dB, of what is no mask.

    A mask lets nothing through wherever it is large enough. Its values are all about the same, far
    below all the others, and the loss of those is what counts.
    """
    import numpy as np

    if exact.dtype.kind == "f" and exact.shape == quantized.shape:
        finite = np.isfinite(exact)
        low = exact.min(where=finite, initial=0.0)
        kept = finite & (exact > low / 2)
        rest = np.abs(exact).max(where=kept, initial=0.0)
        if kept.any() and -low > _MASK * rest:
            exact, quantized = exact[kept], quantized[kept]
        if not exact.any() and np.abs(quantized).max(initial=0.0) > 0:
            return -math.inf  # something was made of nothing
    return sqnr(exact, quantized)


class _Pairing:
    """A static int8 artefact beside the float graph that the quantizer read.

    Attributes:
        quantized: The artefact's quantized nodes by name, in topological order.
    """

    def __init__(
        self, opened: OpenedGraph, original: onnx.GraphProto, excluded: Sequence[str]
    ) -> None:
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        self._opened = opened
        self._original = original
        names = Counter(node.name for node in opened.nodes)
        #: value -> the Relu or Clip that reads it, where it was left to QuantizeLinear's range
        self._merged = {
            node.input[0]: node
            for node in original.node
            if node.op_type in ("Relu", "Clip") and node.name not in names
        }
        # exclude_nodes, too, can only mean a node by a name of its own
        self._originals = {
            node.name: node for node in original.node if node.name and names[node.name] == 1
        }
        #: dequantized value -> the same before QuantizeLinear; None for a constant
        self._before = {
            node.output[0]: self._source(node)
            for node in opened.nodes
            if node.op_type == "DequantizeLinear"
        }
        self._after = {before: after for after, before in self._before.items() if before}
        #: value -> the same in the float graph
        self._exact = {
            value: exact
            for node in opened.nodes
            if node.name in self._originals
            for value, exact in zip(node.output, self._originals[node.name].output, strict=True)
        }
        self.quantized = {
            node.name: node
            for node in opened.nodes
            if node.name in self._originals
            and node.op_type in (QDQRegistry.keys() | QLinearOpsRegistry.keys())
            and any(name in self._before for name in node.input)
            and not matching(excluded, [node.name])
        }

    def neighbours(self, node: onnx.NodeProto) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The node with what else keeps its inputs quantized, and what keeps its outputs so."""
        names = [node.name]
        pending = [node]
        while pending:
            inputs = {name for name in pending.pop().input if self._before.get(name)}
            names += self._readers(inputs)
            for name in sorted(inputs):
                maker = self._opened.producers.get(str(self._before[name]))
                if maker is not None and maker.name in self.quantized:
                    names.append(maker.name)
                    if self._passes_on(maker):
                        pending.append(maker)
        readers: list[str] = []
        pending = [node]
        while pending:
            outputs = {self._after[name] for name in pending.pop().output if name in self._after}
            found = self._readers(outputs)
            readers += found
            passing = (self.quantized[name] for name in found)
            pending += [other for other in passing if self._passes_on(other)]
        return tuple(dict.fromkeys(names)), tuple(dict.fromkeys(readers))

    def _readers(self, values: set[str]) -> list[str]:
        """The quantized nodes that read one of some values."""
        return [name for name, node in self.quantized.items() if values & {*node.input}]

    def _passes_on(self, node: onnx.NodeProto) -> bool:
        """Whether a node only hands on its one input, which is quantized too: a Relu, a Reshape."""
        return sum(name in self._before for name in node.input) == 1

    def beside(self) -> tuple[OpenedGraph, dict[str, tuple[str, str]]]:
        """The float graph, with every quantized node beside it that reads its values.

        Returns:
            It, and by value that is read from such a node: the float graph's, and the node's name.
        """
        made: dict[str, tuple[str, str]] = {}
        nodes = list(self._original.node)
        for node in self._opened.nodes:
            if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
                nodes.append(self._reading(node))
            elif node.name in self.quantized:
                nodes += self._own(node, made)
        beside = OpenedGraph(self._opened.path, libraries=self._opened.libraries)
        held = {tensor.name for tensor in beside.graph.initializer}
        beside.graph.initializer.extend(
            tensor for tensor in self._original.initializer if tensor.name not in held
        )
        del beside.graph.value_info[:]
        del beside.graph.node[:]
        beside.graph.node.extend(nodes)
        return beside, made

    def _source(self, node: onnx.NodeProto) -> str | None:
        """What a DequantizeLinear gives again; None for a constant."""
        maker = self._opened.producers.get(node.input[0])
        quantizes = maker is not None and maker.op_type == "QuantizeLinear"
        return str(maker.input[0]) if maker is not None and quantizes else None

    def _reading(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """A QuantizeLinear on the float graph's value, or a DequantizeLinear behind such a one."""
        first, *others = node.input
        if node.op_type == "QuantizeLinear":
            first = self._exact.get(first, first)
        elif self._before[node.output[0]] is not None:
            first += _READ
        return _copy(node, [first, *others], _READ)

    def _own(
        self, node: onnx.NodeProto, made: dict[str, tuple[str, str]]
    ) -> Iterator[onnx.NodeProto]:
        """A quantized node on the float graph's values, and what quantizes its outputs."""
        inputs = [
            f"{name}{_READ}" if name in self._before else self._exact.get(name, name)
            for name in node.input
        ]
        yield _copy(node, inputs, _OWN)
        for value in filter(None, node.output):
            exact = self._exact[value]
            if value in self._after:
                dequantize = self._opened.producers[self._after[value]]
                quantize = self._opened.producers[dequantize.input[0]]
                yield _copy(quantize, [f"{value}{_OWN}", *quantize.input[1:]], _OWN)
                dequantized = [f"{quantize.output[0]}{_OWN}", *dequantize.input[1:]]
                yield _copy(dequantize, dequantized, _OWN)
                if exact in self._merged:
                    exact = self._merged[exact].output[0]
            made[f"{self._after.get(value, value)}{_OWN}"] = exact, node.name


def _copy(node: onnx.NodeProto, inputs: Sequence[str], suffix: str) -> onnx.NodeProto:
    """A node on other inputs, with a suffix to its name and its outputs."""
    import onnx

    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name += suffix
    copied.input[:] = inputs
    copied.output[:] = [name and f"{name}{suffix}" for name in node.output]
    return copied
