"""What an 8-bit artefact gives on x86 CPUs without VNNI, computed on any machine.

ONNX Runtime rewrites the graph first, since only then it is known which nodes compute on integers.
Of these, the nodes whose weights can saturate are computed by `integers`, and all between them by
ONNX Runtime, part by part.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.operators import SATURABLE_WEIGHTS
from pytest_onnxcheck.engine.graph.walk import constants, nodes_of, reads
from pytest_onnxcheck.engine.runtime.integers import compute, weights
from pytest_onnxcheck.engine.runtime.libraries import opening_of
from pytest_onnxcheck.engine.runtime.products import Products, saturable
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.engine.runtime.values import plain_session
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.machine import saturates
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.targets import CPU, Target
from pytest_onnxcheck.manifest.terms import WITHOUT_VNNI
from pytest_onnxcheck.measurement import SaturatedLayer, SaturationMeasurement
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["Emulation", "measure", "unsaturated"]

#: The session entry with which ONNX Runtime makes signed weights unsigned where pairs saturate.
_ENTRY = "session.x64quantprecision"

#: Levels of optimisation that do not depend on the CPU's instructions.
_PORTABLE_LEVELS = ("disable", "basic", "extended")

#: How many nodes a message lists.
_NAMED = 3

#: How many characters of an error a message repeats.
_REPEATED = 300

_DOMAINS = ("", "ai.onnx", "com.microsoft")
_QUANTIZED = frozenset(["QuantizeLinear", "DequantizeLinear", "QAttention", *SATURABLE_WEIGHTS])


def measure(
    path: Path, session: Session, variant: Variant, feeds: Mapping[str, Mapping[str, Array]]
) -> tuple[SaturationMeasurement | None, dict[str, dict[str, Array]]]:
    """What becomes of an artefact on the CPUs of its manifest, as far as this one differs.

    Args:
        path: The artefact.
        session: Its session on the target.
        variant: Its variant.
        feeds: Arrays by input name, by case.

    Returns:
        Which layers saturate without VNNI; None where nothing is computed on integers, or not by
        ONNX Runtime's CPU provider. And outputs by name, by case: of a CPU without VNNI where this
        machine's has it; of one with VNNI where this machine's has none, and the manifest leaves
        those out. There are none where nothing can saturate.
    """
    if session.target.elsewhere:  # the graph would be rewritten by another ONNX Runtime
        return None, {}
    if session.provider != CPU.provider or not _computes_on_integers(path):
        return None, {}
    here, included = saturates(), WITHOUT_VNNI in variant.cpus
    found = SaturationMeasurement(
        included=included, prevented=_is_prevented(session.target), here=here
    )
    counts: dict[str, Products] = {}
    outputs: dict[str, dict[str, Array]] = {}
    try:
        emulation = Emulation(path, session.target)
    except Exception as error:  # whatever a broken model brings about
        return replace(found, problem=one_line(error)[:_REPEATED]), {}
    for case, inputs in feeds.items() if emulation.layers and not found.prevented else ():
        try:
            given, products = emulation.run(inputs, saturating=not here or included)
        except RunError as error:
            found = replace(found, problem=f"{case}: {error}")
            continue
        for key, own in products.items():
            counts.setdefault(key, Products(saturating=True)).add(own)
        if not (here and included):
            outputs[case] = given
    layers = [
        SaturatedLayer(
            layer.node,
            layer.operator,
            layer.saturable,
            counts[layer.key].share if layer.key in counts else 0.0,
        )
        for layer in emulation.layers
    ]
    layers.sort(key=lambda layer: -layer.saturated)
    return replace(found, layers=tuple(layers), unknown=emulation.unknown), outputs


def unsaturated(path: Path, session: Session) -> Callable[[Mapping[str, Array]], dict[str, Array]]:
    """What runs an artefact as CPUs do that do not saturate: the session, where this one is such.

    Raises:
        RunError: ONNX Runtime does not rewrite it.
    """
    if not saturates():
        return lambda inputs: dict(zip(session.outputs, session.run(inputs), strict=True))
    emulation = Emulation(path, session.target)

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        outputs, _ = emulation.run(session.cast_inputs(inputs), saturating=False)
        return session.cast_outputs(outputs)

    return run


@dataclass(frozen=True)
class Layer:
    """A node whose weights can saturate.

    Attributes:
        key: The name of its first output.
        node: Its name in the graph as ONNX Runtime rewrites it; the key where it has none.
        operator: Its type.
        saturable: Share of its pairs of weights that saturate for the largest activations; None
            where the weights are computed.
    """

    key: str
    node: str
    operator: str
    saturable: float | None


def _computes_on_integers(path: Path) -> bool:
    """Whether an artefact has nodes that ONNX Runtime may compute on integers."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return any(node.op_type in _QUANTIZED for node in nodes_of(graph))


def _is_prevented(target: Target) -> bool:
    """Whether a target's session options keep 8-bit weights from saturating.

    ONNX Runtime makes them unsigned while it rewrites the graph, and not below `extended`.
    """
    level = target.session_options.get("graph_optimization_level", "all")
    on = str(target.session_options.get(_ENTRY, "0")) in ("1", "True")
    return on and level not in ("disable", "basic")


class Emulation:
    """An artefact as CPUs of a kind compute it.

    Attributes:
        layers: The nodes that can saturate, in topological order; empty where none can.
        unknown: Nodes that can saturate and are not computed; empty where all are.
    """

    def __init__(self, path: Path, target: Target) -> None:
        """Reads the artefact as ONNX Runtime rewrites it for a target.

        Raises:
            RunError: ONNX Runtime does not load it.
        """
        self._path = path
        self._libraries = target.libraries
        self._model = _rewritten(path, target)
        graph = self._model.graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self.layers = [layer for node in graph.node if (layer := self._layer(node)) is not None]
        self._parts = _parts(graph, {layer.key for layer in self.layers})
        self.unknown = self._unknown()

    def run(
        self, inputs: Mapping[str, Array], *, saturating: bool
    ) -> tuple[dict[str, Array], dict[str, Products]]:
        """What the artefact gives.

        Args:
            inputs: Arrays by input name, as the artefact takes them.
            saturating: True for CPUs without VNNI, False for those with it.

        Returns:
            Outputs by name, and what was multiplied in each of `layers`, by `Layer.key`.

        Raises:
            RunError: ONNX Runtime refused a part, or a node is not known here.
        """
        held: dict[str, Any] = dict(inputs)
        products: dict[str, Products] = {}
        for part in self._parts:
            held |= self._run_part(part, held)
            for node in part.emulated:
                found = products[_key(node)] = Products(saturating=saturating)
                try:
                    held |= compute(node, [self._value(name, held) for name in node.input], found)
                except Exception as error:  # numpy's, of inputs that nobody thought of
                    said = one_line(error)[:_REPEATED]
                    where = f"{node.name or _key(node)} ({node.op_type})"
                    raise RunError(f"{where}: {said}") from error
        outputs = [value.name for value in self._model.graph.output]
        return {name: self._value(name, held) for name in outputs}, products

    def _value(self, name: str, held: Mapping[str, Any]) -> Any:
        """A value by name: computed, or a constant; None without a name."""
        if not name or name in held:
            return held.get(name)
        return self._constant(self._constants[name])

    def _constant(self, tensor: onnx.TensorProto) -> Array:
        import onnx

        return onnx.numpy_helper.to_array(tensor, base_dir=str(self._path.parent))

    def _layer(self, node: onnx.NodeProto) -> Layer | None:
        """A node as a layer; None where it cannot saturate."""
        import onnx

        key, pairs, found, computed = "", 0, 0, False
        for at, zero in _operator(node):
            key = _key(node)
            tensor = self._constants.get(node.input[at])
            if tensor is None:
                # of unsigned weights the zero point is unsigned; without one it is not known
                point = self._constants.get(node.input[zero] if zero < len(node.input) else "")
                computed |= point is None or point.data_type == onnx.TensorProto.INT8
            elif tensor.data_type == onnx.TensorProto.INT8:
                for weight in weights(node, self._constant(tensor)):
                    pairs += math.ceil(len(weight) / 2) * weight.shape[1]
                    found += saturable(weight)
        if not (found or computed):
            return None
        share = None if computed else found / pairs
        return Layer(key, node.name or key, node.op_type, share)

    def _unknown(self) -> str:
        """The nodes that can saturate and are not computed here; empty without any."""
        import onnx

        graph = self._model.graph
        held, outer = dict(constants(graph)), {_key(node) for node in graph.node}

        def can(node: onnx.NodeProto, at: int) -> bool:
            tensor = held.get(node.input[at])
            if tensor is None or tensor.data_type != onnx.TensorProto.INT8:
                return tensor is None
            return any(map(saturable, weights(node, self._constant(tensor))))

        found = []
        for node in nodes_of(graph):
            nested = _key(node) not in outer
            places = [1] if node.op_type == "QAttention" else []
            places += [at for at, _ in _operator(node)] if nested else []
            if any(can(node, at) for at in places):
                where = " inside If, Loop or Scan" if nested else ""
                found.append(f"{node.op_type} {node.name!r}{where}")
        more = ", ..." if len(found) > _NAMED else ""
        return f"{', '.join(found[:_NAMED])}{more}: not known" if found else ""

    def _run_part(self, part: _Part, held: Mapping[str, Any]) -> dict[str, Any]:
        """What ONNX Runtime gives for the nodes of a part that others read."""
        if not part.gives:
            return {}
        fed = {name: held[name] for name in part.reads if name in held}
        try:
            if part.session is None:
                part.session = plain_session(
                    self._path, self._cut(part, fed), libraries=self._libraries
                )
            return dict(zip(part.gives, part.session.run(part.gives, fed), strict=True))
        except Exception as error:
            said = f"a part of {self._path} does not run by itself: {one_line(error)[:_REPEATED]}"
            raise RunError(said) from error

    def _cut(self, part: _Part, fed: Mapping[str, Array]) -> bytes:
        """A part as a model of its own."""
        import onnx

        model = onnx.ModelProto(ir_version=self._model.ir_version)
        model.opset_import.extend(self._model.opset_import)
        model.functions.extend(self._model.functions)
        graph = model.graph
        graph.name = "part"
        graph.node.extend(part.nodes)
        held = (self._constants.get(name) for name in part.reads)
        graph.initializer.extend(tensor for tensor in held if tensor is not None)
        for name, array in fed.items():
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, None))
        # without a type, ONNX Runtime infers it
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in part.gives)
        serialised: bytes = model.SerializeToString()
        return serialised


@dataclass(eq=False)
class _Part:
    """Nodes that ONNX Runtime runs, and those that are computed here after them.

    Attributes:
        nodes: The former.
        emulated: The latter.
        reads: What `nodes` read from elsewhere, constants included.
        gives: What they compute that is read elsewhere.
        session: An open session of `nodes`, once they have been run.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    emulated: list[onnx.NodeProto] = field(default_factory=list)
    reads: list[str] = field(default_factory=list)
    gives: list[str] = field(default_factory=list)
    session: Any = None


def _parts(graph: onnx.GraphProto, computed: set[str]) -> list[_Part]:
    """A graph cut at the nodes that are computed here, named by `_key`."""
    depth: dict[str, int] = {}
    parts = [_Part()]
    readers: dict[str, set[int]] = {value.name: {-1} for value in graph.output}
    for node in graph.node:
        own = max((depth.get(name, 0) for name in reads(node)), default=0)
        here = _key(node) in computed
        for name in reads(node):
            readers.setdefault(name, set()).add(-1 if here else own)
        (parts[own].emulated if here else parts[own].nodes).append(node)
        if here and own + 1 == len(parts):
            parts.append(_Part())
        depth.update(dict.fromkeys(node.output, own + here))
    for index, part in enumerate(parts):
        made = {name: None for node in part.nodes for name in node.output if name}
        read = {name: None for node in part.nodes for name in reads(node)}
        part.reads = [name for name in read if name not in made]
        part.gives = [name for name in made if readers.get(name, set()) - {index}]
    return parts


def _operator(node: onnx.NodeProto) -> tuple[tuple[int, int], ...]:
    """Positions of a node's weights and of their zero points, where it can saturate."""
    return SATURABLE_WEIGHTS.get(node.op_type, ()) if node.domain in _DOMAINS else ()


def _key(node: onnx.NodeProto) -> str:
    """The node's first output, which no other has; names of nodes may stand there twice."""
    return str(next(filter(None, node.output)))


def _rewritten(path: Path, target: Target) -> onnx.ModelProto:
    """The artefact as ONNX Runtime rewrites it on x86: its level, but no layouts of the CPU's."""
    import onnx

    level = str(target.session_options.get("graph_optimization_level", "extended"))
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        written = Path(folder) / "rewritten.onnx"
        options = {
            **target.session_options,
            "graph_optimization_level": level if level in _PORTABLE_LEVELS else "extended",
            "optimized_model_filepath": str(written),
            # Arm computes on signed activations, x86 makes them unsigned
            "session.qdqisint8allowed": "0",
            _ENTRY: "0",
        }
        try:
            open_handle(str(path), **{**opening_of(target), "session_options": options})
            # data outside the file stay where they are: beside the artefact
            return onnx.load(written, load_external_data=False)
        except Exception as error:
            raise RunError(f"{path} cannot be rewritten: {one_line(error)[:_REPEATED]}") from error
