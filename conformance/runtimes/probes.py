"""Models of one node, for every operator, version and type that the newest ONNX Runtime knows.

Run with the newest release: its wheels tell the schemas of their operators, older ones do not.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import onnx
from onnx import TensorProto, helper

DOMAINS = ("", "ai.onnx.ml", "com.microsoft")
#: the oldest opset that ONNX Runtime is made for
OLDEST_OPSET = 7
#: attributes that say the type of an output
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")
_ELEMENTS = {
    "float": TensorProto.FLOAT,
    "double": TensorProto.DOUBLE,
    **{
        name.lower(): number
        for name, number in TensorProto.DataType.items()
        if name not in ("UNDEFINED", "FLOAT", "DOUBLE")
    },
}
#: element type -> the first IR version that has it
_IR_OF_TYPES = {"float8": 9, "int4": 10, "uint4": 10, "float4": 11, "float8e8m0": 12, "int2": 13}
_IR_OF_TYPES["uint2"] = 13


#: element types that no PyTorch model has, or that no kernel of the CPU takes
_LEFT_OUT = ("complex", "float6", "fnuz", "e8m0", "int2", "sparse_tensor")
#: of operators with many combinations of types, those of these alone are tried
_USUAL = frozenset(
    ["bool", "double", "float", "float16", "int16", "int32", "int64", "int8", "uint8", "string"]
)
_MANY = 150
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Signature:
    """What a version of an operator takes, as far as types go.

    Attributes:
        domain: Its domain; empty for ai.onnx.
        operator: Its name.
        since: The opset that it begins with.
        inputs: Type, or parameter of one, of each input.
        required: How many inputs there must be.
        outputs: Likewise of outputs.
        keys: Where the types stand that tell one use from another: `i0` is the first input, `o1`
            the second output.
        usual_types_only: Whether there are so many combinations of types that those of `_USUAL`
            alone are tried.
    """

    domain: str
    operator: str
    since: int
    inputs: tuple[str, ...]
    required: int
    outputs: tuple[str, ...]
    keys: tuple[str, ...]
    usual_types_only: bool = False


@dataclass(frozen=True)
class Probe:
    """A model of one node.

    Attributes:
        of: Whose.
        header: Of the model's bytes, what says its IR version and opsets.
        body: The rest. The bodies of several probes behind one header are one model.
        types: The types at the signature's keys.
        attribute: The optional attribute that it tries; None where it tries types.
        inputs: How many inputs it tries; None likewise.
    """

    of: Signature
    header: bytes
    body: bytes
    types: tuple[str, ...]
    attribute: str | None = None
    inputs: int | None = None


def short(written: str) -> str:
    """`float` of `tensor(float)`; others as they are."""
    return written[7:-1] if written.startswith("tensor(") else written


def versions() -> Iterator[tuple[str, int, tuple[bytes, bytes]]]:
    """Models whose IR version or opset alone decides: domain or `ir`, its version, the model."""
    for ir_version in range(3, 20):
        yield "ir", ir_version, _identity([helper.make_opsetid("", OLDEST_OPSET)], ir_version)
    for opset in range(OLDEST_OPSET, 40):
        yield "ai.onnx", opset, _identity([helper.make_opsetid("", opset)], 7)
    for opset in range(1, 12):
        opsets = [helper.make_opsetid("", OLDEST_OPSET), helper.make_opsetid("ai.onnx.ml", opset)]
        node = helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml")
        yield "ai.onnx.ml", opset, _model(node, ["float"], opsets, 7)


def probes() -> Iterator[Probe]:
    """Every probe, operator by operator."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    by_name: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for schema in state.get_all_operator_schema():
        if schema.domain in DOMAINS:
            by_name[schema.domain, schema.name].append(schema)
    for _, schemas in sorted(by_name.items()):
        schemas.sort(key=lambda schema: schema.since_version)
        ends = [schema.since_version for schema in schemas[1:]] + [1000]
        for schema, end in zip(schemas, ends, strict=True):
            opset = schema.since_version
            if not schema.domain:
                opset = max(opset, OLDEST_OPSET)
            if opset < end and not schema.deprecated:
                yield from _of(schema, opset)


def _of(schema: Any, opset: int) -> Iterator[Probe]:
    signature = _signature(schema)
    if schema.name in ("If", "Loop", "Scan") and not schema.domain:
        node, inputs = _control_flow(schema.name)
        model = _model(node, inputs, _opsets(schema, opset), _ir_version(inputs))
        yield Probe(signature, *model, tuple(inputs))
        return
    allowed = {
        parameter.type_param_str: sorted(map(short, parameter.allowed_type_strs))
        for parameter in schema.type_constraints
    }
    at = [_parameter(signature, key) for key in signature.keys]
    kept = [[kind for kind in allowed[name] if not _left_out(kind)] for name in at]
    if math.prod(map(len, kept)) > _MANY:
        kept = [[kind for kind in kinds if set(_elements(kind)) <= _USUAL] for kinds in kept]
        signature = replace(signature, usual_types_only=True)
    given: list[tuple[str, ...]] = []
    for types in itertools.product(*kept):
        bound = dict(zip(at, types, strict=True))
        node, inputs = _node(schema, signature, bound)
        if node is not None:
            model = _model(node, inputs, _opsets(schema, opset), _ir_version(types))
            yield Probe(signature, *model, types)
            given.append(types)
    if schema.domain != "com.microsoft":
        return  # the others get another version with every attribute or input
    types = next((types for types in given if _has_kernel(schema, at, types)), None)
    if types is not None:
        bound = dict(zip(at, types, strict=True))
        for attribute in schema.attributes.values():
            if not attribute.required:
                node, inputs = _node(schema, signature, bound)
                assert node is not None
                node.attribute.append(_attribute(attribute, bound))
                model = _model(node, inputs, _opsets(schema, opset), _ir_version(types))
                yield Probe(signature, *model, types, attribute=attribute.name)
        for count in range(signature.required + 1, min(len(signature.inputs), 40) + 1):
            free = {name: sorts[0] for name, sorts in allowed.items()} | bound
            node, inputs = _node(schema, signature, free, count)
            assert node is not None
            model = _model(node, inputs, _opsets(schema, opset), _ir_version(inputs))
            yield Probe(signature, *model, types, inputs=count)


def _signature(schema: Any) -> Signature:
    inputs = [parameter.typeStr for parameter in schema.inputs]
    outputs = [parameter.typeStr for parameter in schema.outputs]
    variadic = bool(schema.inputs) and schema.inputs[-1].option.name == "Variadic"
    if schema.name in ("If", "Loop", "Scan") and not schema.domain:
        keys = {"If": ("i0",), "Loop": ("i0", "i1"), "Scan": ()}[schema.name]
        return Signature(
            schema.domain, schema.name, schema.since_version, tuple(inputs), len(keys),
            tuple(outputs), keys,
        )  # fmt: skip
    required = max(schema.min_input, 1 if inputs and variadic else 0)
    parameters = {parameter.type_param_str for parameter in schema.type_constraints}
    found: dict[str, str] = {}
    for place, kind in enumerate(inputs[:required]):
        if kind in parameters:
            found.setdefault(kind, f"i{place}")
    # an output that may be left out says nothing of a node that leaves it out
    for place, parameter in enumerate(schema.outputs[: max(1, schema.min_output)]):
        named = any(name in schema.attributes for name in (*_TYPE_ATTRIBUTES, "value"))
        if parameter.typeStr in parameters and named:
            found.setdefault(parameter.typeStr, f"o{place}")
    return Signature(
        schema.domain, schema.name, schema.since_version, tuple(map(short, inputs)), required,
        tuple(map(short, outputs)), tuple(found.values()),
    )  # fmt: skip


def _has_kernel(schema: Any, parameters: list[str], types: tuple[str, ...]) -> bool:
    """Whether the newest release says that its CPU provider has the operator on these types."""
    bound = dict(zip(parameters, types, strict=True))
    return any(
        all(
            bound[name] in map(short, held)
            for name, held in kernel.type_constraints.items()
            if name in bound
        )
        for kernel in _kernels()
        if (kernel.domain, kernel.op_name) == (schema.domain, schema.name)
    )


@functools.cache
def _kernels() -> list[Any]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = state.get_all_opkernel_def()
    return [kernel for kernel in found if kernel.provider == "CPUExecutionProvider"]


def _left_out(kind: str) -> bool:
    return any(part in kind for part in _LEFT_OUT)


def _elements(kind: str) -> list[str]:
    """The element types in a type: `float` of `seq(tensor(float))`."""
    return [word for word in re.findall(r"\w+", kind) if word in _ELEMENTS]


def _parameter(signature: Signature, key: str) -> str:
    kinds = signature.inputs if key[0] == "i" else signature.outputs
    return kinds[int(key[1:])]


def _node(
    schema: Any, signature: Signature, bound: dict[str, str], count: int | None = None
) -> tuple[onnx.NodeProto | None, list[str]]:
    """A node with types bound to the parameters, and the types of its inputs."""
    places = range(signature.required if count is None else count)
    kinds = [signature.inputs[min(place, len(signature.inputs) - 1)] for place in places]
    inputs = [bound.get(kind, kind) for kind in kinds]
    names = [f"x{place}" for place in places]
    outputs = [f"y{place}" for place in range(max(1, schema.min_output))]
    node = helper.make_node(schema.name, names, outputs, domain=schema.domain)
    for attribute in schema.attributes.values():
        if attribute.required:
            node.attribute.append(_attribute(attribute, bound))
    for key in signature.keys:
        if key[0] == "o":
            kind = bound[_parameter(signature, key)]
            if kind not in _ELEMENTS:
                return None, []
            named = next((n for n in _TYPE_ATTRIBUTES if n in schema.attributes), None)
            kept = [entry for entry in node.attribute if entry.name not in (named, "value")]
            del node.attribute[:]
            node.attribute.extend(kept)
            value: Any = _ELEMENTS[kind]
            if named is None:
                named, value = "value", TensorProto(data_type=_ELEMENTS[kind], dims=[1])
                if kind == "string":
                    value.string_data.append(b"a")
                else:
                    value.raw_data = bytes(_bytes(kind))
            node.attribute.append(helper.make_attribute(named, value))
    return node, inputs


def _bytes(kind: str) -> int:
    """Bytes of one element."""
    if kind.endswith(("int4", "int2")) or kind.startswith(("float4", "float8")):
        return 1
    return int(helper.tensor_dtype_to_np_dtype(_ELEMENTS[kind]).itemsize)


def _attribute(attribute: Any, bound: dict[str, str]) -> onnx.AttributeProto:
    kind = attribute.type.name
    values: dict[str, Any] = {
        "INT": 1, "FLOAT": 1.0, "STRING": "a", "INTS": [1], "FLOATS": [1.0], "STRINGS": ["a"],
        "TENSOR": helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0]),
        "TENSORS": [helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])],
    }  # fmt: skip
    if kind not in values:
        return onnx.AttributeProto(name=attribute.name, type=onnx.AttributeProto.GRAPH)
    return helper.make_attribute(attribute.name, values[kind])


def _control_flow(operator: str) -> tuple[onnx.NodeProto, list[str]]:
    def body(inputs: list[str], *nodes: onnx.NodeProto) -> onnx.GraphProto:
        outputs = [onnx.ValueInfoProto(name=node.output[0]) for node in nodes]
        kinds = [_value(name, "bool" if name == "c" else "int64" if name == "n" else "float")
                 for name in inputs]  # fmt: skip
        return helper.make_graph(nodes, "body", kinds, outputs)

    one = helper.make_tensor("t", TensorProto.FLOAT, [1], [1.0])
    if operator == "If":
        branches = {
            f"{name}_branch": body([], helper.make_node("Constant", [], [name], value=one))
            for name in ("then", "else")
        }
        return helper.make_node("If", ["x0"], ["y0"], **branches), ["bool"]
    if operator == "Loop":
        keeps = helper.make_node("Identity", ["c"], ["c1"])
        inner = body(["n", "c"], keeps, helper.make_node("Constant", [], ["v"], value=one))
        return helper.make_node("Loop", ["x0", "x1"], ["y0"], body=inner), ["int64", "bool"]
    inner = body(["a"], helper.make_node("Identity", ["a"], ["b"]))
    return helper.make_node("Scan", ["x0"], ["y0"], body=inner, num_scan_inputs=1), ["float"]


def _opsets(schema: Any, opset: int) -> list[onnx.OperatorSetIdProto]:
    if not schema.domain:
        return [helper.make_opsetid("", opset)]
    return [helper.make_opsetid("", 15), helper.make_opsetid(schema.domain, opset)]


def _ir_version(types: Any) -> int:
    found = [7]
    for kind in types:
        found += [ir for name, ir in _IR_OF_TYPES.items() if name in kind]
    return max(found)


def _identity(opsets: list[onnx.OperatorSetIdProto], ir_version: int) -> tuple[bytes, bytes]:
    return _model(helper.make_node("Identity", ["x0"], ["y0"]), ["float"], opsets, ir_version)


def _model(
    node: onnx.NodeProto,
    inputs: list[str],
    opsets: list[onnx.OperatorSetIdProto],
    ir_version: int,
) -> tuple[bytes, bytes]:
    """A model in two parts, with names that no other has."""
    number = next(_NUMBERS)
    names = [f"x{number}_{place}" for place in range(len(inputs))]
    outputs = [f"y{number}_{place}" for place in range(len(node.output))]
    del node.input[:], node.output[:]
    node.input.extend(names)
    node.output.extend(outputs)
    node.name = f"n{number}"
    graph = helper.make_graph(
        [node],
        "probe",
        [_value(name, kind) for name, kind in zip(names, inputs, strict=True)],
        [onnx.ValueInfoProto(name=outputs[0])],
    )
    header = onnx.ModelProto(ir_version=ir_version, opset_import=opsets)
    body = onnx.ModelProto(graph=graph)
    return header.SerializeToString(), body.SerializeToString()


def _value(name: str, kind: str) -> onnx.ValueInfoProto:
    value = onnx.ValueInfoProto(name=name)
    value.type.CopyFrom(_type(kind))
    return value


def _type(kind: str) -> onnx.TypeProto:
    """The type of `float`, `seq(tensor(float))`, `map(int64,tensor(float))`, and so on."""
    found = onnx.TypeProto()
    word, _, rest = kind.partition("(")
    inner = rest[:-1]
    if word == "seq":
        found.sequence_type.elem_type.CopyFrom(_type(inner))
    elif word == "optional":
        found.optional_type.elem_type.CopyFrom(_type(inner))
    elif word == "map":
        key, _, value = inner.partition(",")
        found.map_type.key_type = _ELEMENTS[key.strip()]
        found.map_type.value_type.CopyFrom(_type(value.strip()))
    elif word == "sparse_tensor":
        found.sparse_tensor_type.elem_type = _ELEMENTS[inner]
    else:
        found.tensor_type.elem_type = _ELEMENTS[inner if word == "tensor" else word]
    return found
