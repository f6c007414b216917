"""Which nodes of a static int8 artefact lose most, and what leaving them in float does.

ONNX Runtime's own tool for the first half, `onnxruntime.quantization.qdq_loss_debug`, is not
used: it looks at tensors and not at what a node makes of them, so that a channel that vanishes
beside an outlier of another costs nothing; it counts a Relu that the quantizer left to the range
of QuantizeLinear as loss; and it writes files beside the artefact.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import quantization
from pytest_onnxcheck.engine.checks.equivalence import measure_case
from pytest_onnxcheck.engine.convert.prepare import matching, prepared
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.graph.operators import WEIGHTED
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.compare import sqnr
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.writing import quantization_table
from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    Exclusion,
    LayerLoss,
    SensitivityMeasurement,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["Build", "Layer", "layers", "measure", "measure_cases"]

#: makes the artefact of a variant
Build = Callable[[Variant], Artefact]

#: how many of the worst nodes are left in float, in the order tried
_COUNTS = (1, 2, 4, 8)

#: what the values of twins are called, and those of a Relu or Clip that was left away
_TWIN = "_onnxcheck_float"
_BOUNDED = "_onnxcheck_bounded"


@dataclass(frozen=True)
class Layer:
    """A quantized node.

    Attributes:
        loss: What quantizing its inputs, weights and outputs does to it.
        neighbours: The node, those that compute its quantized inputs (through those that only
            hand on one, such as Relu), and those that read them too: ONNX Runtime's quantizer
            leaves an input in float only when it quantizes none of them.
    """

    loss: LayerLoss
    neighbours: tuple[str, ...]


def measure(
    subject: Subject,
    case: Case,
    *,
    build: Build,
    failure: Failure,
    seconds: float,
) -> SensitivityMeasurement:
    """Ranks the nodes by their own loss, and leaves the worst in float until it no longer fails.

    An artefact that loses little enough is held to its size and coverage too, and is the last: with
    more in float it would only be larger.

    Args:
        subject: What it is about; its artefact is a static int8 one.
        case: Inputs to measure the loss on; beside the declared ones, also to judge by.
        build: Makes the artefact of a variant.
        failure: Says what fails of a measurement of a variant.
        seconds: How long to try; none is begun that would take longer if it took as long as the
            last.

    Raises:
        StageError: The artefact does not run, or the quantizer refuses it.
    """
    started = time.monotonic()
    variant, float_artefact = subject.variant, subject.float_artefact
    excluded = variant.quantization.exclude_nodes or ()
    ranked = layers(float_artefact.path, subject.artefact.path, case.inputs, excluded)
    cases = {each.name: each for each in (*subject.oracle.declared, case)}
    tried: list[Exclusion] = []
    last = 0.0
    for nodes in _selections(ranked):
        begun = time.monotonic()
        if begun - started + last > seconds:
            break
        options = {"exclude_nodes": (*excluded, *nodes)}
        changed = dataclasses.replace(
            variant, quantization=variant.quantization.model_copy(update=options)
        )
        built = build(changed)
        other = dataclasses.replace(subject, artefact=built, variant=changed)
        measured = measure_cases(other, cases.values())
        size_ratio = built.size_bytes / float_artefact.size_bytes
        lossy = costly = failure(measured, changed)
        if lossy is None:
            file = quantization.measure(built, float_artefact, subject.reference, changed)
            costly = failure(file, changed)
            costly = costly or ("no smaller than fp32" if size_ratio >= 1 else None)
        nodes = options["exclude_nodes"]
        tried.append(Exclusion(nodes, measured.worst("rel_rms"), size_ratio, costly))
        if lossy is None:
            break
        last = time.monotonic() - begun
    toml = None
    if tried and tried[-1].problem is None:
        options = {"exclude_nodes": tried[-1].nodes}
        toml = quantization_table(subject.model, variant, options)
    losses = tuple(layer.loss for layer in ranked[: max(_COUNTS)])
    return SensitivityMeasurement(losses, tuple(tried), toml)


def measure_cases(subject: Subject, cases: Iterable[Case]) -> EquivalenceMeasurement:
    """Compares an artefact with PyTorch on some cases, and on no other.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
    """
    session = open_session(subject.artefact, subject.target)
    found = (measure_case(session, subject.oracle, subject.variant, case) for case in cases)
    return EquivalenceMeasurement(
        subject.target.name, session.provider, tuple(case for case in found if case is not None)
    )


def layers(
    float_path: Path,
    quantized_path: Path,
    inputs: Mapping[str, Array],
    excluded: Sequence[str] = (),
) -> list[Layer]:
    """What quantization does to each node, without what was lost before it.

    Beside each quantized node a twin is computed in float, from the same inputs before they are
    quantized, and compared with what is read from the node.

    Args:
        float_path: The fp32 artefact.
        quantized_path: The static int8 artefact (QDQ) made from it.
        inputs: Arrays by input name.
        excluded: Nodes that are in float already; globs.

    Returns:
        The quantized nodes that have a name, the worst first.

    Raises:
        RunError: The artefact does not run on the inputs.
    """
    import onnx

    with prepared(float_path) as path:
        pairing = _Pairing(OpenedGraph(quantized_path), onnx.load(path).graph, excluded)
    twinned, twins = pairing.twinned()
    exact = dict(twinned.values(inputs, [twin for twin, _ in twins.values()]))
    losses: dict[str, float] = {}
    for value, array in twinned.values(inputs, list(twins)):
        twin, name = twins[value]
        loss = sqnr(exact[twin], array)
        if loss is not None and loss < math.inf:
            losses[name] = min(loss, losses.get(name, loss))
    found = [
        Layer(LayerLoss(name, node.op_type, losses[name]), pairing.neighbours(node))
        for name, node in pairing.quantized.items()
        if name in losses
    ]
    return sorted(found, key=lambda layer: layer.loss.sqnr_db)


def _selections(ranked: Sequence[Layer]) -> Iterator[tuple[str, ...]]:
    """Nodes to leave in float: the worst alone, then the 1, 2, 4 and 8 worst with their neighbours.

    None that would leave no node with weights quantized.
    """
    weighted = {each.loss.value for each in ranked if each.loss.operator in WEIGHTED}
    before: tuple[str, ...] = ()
    chosen = [ranked[0].loss.value] if ranked else []
    for count in (0, *_COUNTS):
        for layer in ranked[:count]:
            chosen += layer.neighbours
        nodes = tuple(dict.fromkeys(chosen))
        if weighted <= set(nodes):
            return
        if nodes != before:
            yield nodes
        before = nodes


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
        #: value before such a QuantizeLinear -> the same within the range
        self._bounded: dict[str, str] = {}
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
        self.quantized = {
            node.name: node
            for node in opened.nodes
            if node.name in self._originals
            and node.op_type in (QDQRegistry.keys() | QLinearOpsRegistry.keys())
            and any(name in self._before for name in node.input)
            and not matching(excluded, [node.name])
        }

    def neighbours(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """The node, and what else keeps its inputs quantized."""
        names = [node.name]
        pending = [node]
        while pending:
            inputs = {name for name in pending.pop().input if self._before.get(name)}
            names += [name for name, other in self.quantized.items() if inputs & {*other.input}]
            for name in sorted(inputs):
                maker = self._opened.producers.get(str(self._before[name]))
                if maker is not None and maker.name in self.quantized:
                    names.append(maker.name)
                    if self._passes_on(maker):
                        pending.append(maker)
        return tuple(dict.fromkeys(names))

    def _passes_on(self, node: onnx.NodeProto) -> bool:
        """Whether a node only hands on its one input, which is quantized too: a Relu, a Reshape."""
        return sum(name in self._before for name in node.input) == 1

    def twinned(self) -> tuple[OpenedGraph, dict[str, tuple[str, str]]]:
        """The artefact with a float twin behind every quantized node.

        Returns:
            It, and by value that is read from a node: its twin's value, and the node's name.
        """
        made: dict[str, tuple[str, str]] = {}
        nodes: list[onnx.NodeProto] = []
        for node in self._opened.nodes:
            nodes.append(node)
            if node.name in self.quantized:
                nodes.append(self._twin(node))
            if node.name in self._originals:
                nodes += self._activations(node, made)
        twinned = OpenedGraph(self._opened.path)
        read = {name for node in nodes for name in node.input}
        constants = (node for node in self._original.node if node.op_type == "Constant")
        # the bounds of a Clip, where its exporter and ONNX Runtime leave them in nodes
        nodes[:0] = [
            _copy(each, [], _TWIN) for each in constants if f"{each.output[0]}{_TWIN}" in read
        ]
        for tensor in self._original.initializer:
            if f"{tensor.name}{_TWIN}" in read:
                tensor.name += _TWIN  # some dequantized weights go by their old name
                twinned.graph.initializer.append(tensor)
        del twinned.graph.node[:]
        twinned.graph.node.extend(nodes)
        return twinned, made

    def _source(self, node: onnx.NodeProto) -> str | None:
        """What a DequantizeLinear gives again; None for a constant."""
        maker = self._opened.producers.get(node.input[0])
        quantizes = maker is not None and maker.op_type == "QuantizeLinear"
        return str(maker.input[0]) if maker is not None and quantizes else None

    def _exact(self, name: str, constant: str) -> str:
        """What a node reads, before it is quantized."""
        if name not in self._before:
            return name
        before = self._before[name]
        return f"{constant}{_TWIN}" if before is None else self._bounded.get(before, before)

    def _twin(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """A quantized node in float, on what its inputs are before they are quantized."""
        original = self._originals[node.name]
        inputs = [
            self._exact(name, constant)
            for name, constant in zip(node.input, original.input, strict=True)
        ]
        return _copy(original, inputs, _TWIN)

    def _activations(
        self, node: onnx.NodeProto, made: dict[str, tuple[str, str]]
    ) -> Iterator[onnx.NodeProto]:
        """The Relu or Clip behind a node that was left to the range of QuantizeLinear."""
        for value, exact in zip(node.output, self._originals[node.name].output, strict=True):
            twin = f"{exact}{_TWIN}"
            merged = self._merged.get(exact)
            bounds = [name and f"{name}{_TWIN}" for name in merged.input[1:]] if merged else []
            if merged is not None:
                self._bounded[value] = f"{merged.output[0]}{_BOUNDED}"
                yield _copy(merged, [value, *bounds], _BOUNDED)
            if node.name in self.quantized:
                if merged is not None:
                    yield _copy(merged, [twin, *bounds], _TWIN)
                    twin = f"{merged.output[0]}{_TWIN}"
                made[self._after.get(value, value)] = twin, node.name


def _copy(node: onnx.NodeProto, inputs: Sequence[str], suffix: str) -> onnx.NodeProto:
    """A node on other inputs, with a suffix to its name and its outputs."""
    import onnx

    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    copied.name += suffix
    copied.input[:] = inputs
    copied.output[:] = [name and f"{name}{suffix}" for name in node.output]
    return copied
