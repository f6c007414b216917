"""What an artefact's graph is made of: inputs, outputs, operators."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.graph.runtimes import (
    lowest_release,
    obstacles,
    oldest_onnxruntime,
    release,
    runtimes,
    uses,
)
from pytest_onnxcheck.engine.graph.walk import nodes_of, reached
from pytest_onnxcheck.engine.oracle.dependence import (
    constant_outputs,
    ignores,
    runs_at_other_sizes,
)
from pytest_onnxcheck.engine.oracle.given_sizes import declared_sizes, size_mismatches
from pytest_onnxcheck.engine.oracle.merged import merged_dims
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.measurement import Axis, RuntimeFit, StructureMeasurement, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["measure"]

_RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


def measure(artefact: Artefact, reference: Reference, variant: Variant) -> StructureMeasurement:
    """Reads an artefact's graph from disk; its weights are loaded only where it has to be run."""
    import onnx

    model = onnx.load(artefact.path, load_external_data=False)
    measured = measure_model(model, reference, variant)
    return dataclasses.replace(
        measured,
        followed=_followed(artefact, reference, measured),
        size_mismatches=size_mismatches(reference, measured),
        runtime=_runtime(model, artefact, reference),
    )


def _runtime(model: onnx.ModelProto, artefact: Artefact, reference: Reference) -> RuntimeFit | None:
    """Whether the ONNX Runtimes that the manifest names load it, by the table of releases."""
    deploy = reference.model.deploy
    if deploy is None:
        return None
    used, oldest = uses(model), release(deploy.oldest_onnxruntime)
    held = [each for each in runtimes() if each.number >= oldest.number]
    found = {each.version: tuple(obstacles(used, each)) for each in held}
    return RuntimeFit(
        wanted=deploy.onnxruntime,
        obstacles={version: texts for version, texts in found.items() if texts},
        oldest=oldest_onnxruntime(used),
        newest=held[-1].version,
        ir_version=model.ir_version,
        lowered_from=artefact.notes.lowered_from,
        run_in=_run_in(reference.model),
    )


def _run_in(model: Model) -> str | None:
    """The release in whose environment the model is compared because of `deploy`."""
    oldest = model.target(model.deploy_target).oldest if model.deploy_target else ""
    return lowest_release(oldest) if oldest else None


def measure_model(
    model: onnx.ModelProto, reference: Reference, variant: Variant
) -> StructureMeasurement:
    """Looks at a graph in memory."""
    graph = model.graph
    nodes = list(nodes_of(graph))
    constants = {tensor.name for tensor in graph.initializer}
    # before IR version 4 initializers were listed among the inputs
    inputs = [value for value in graph.input if value.name not in constants]
    unused = tuple(_unused([value.name for value in inputs], graph, nodes))
    declared = reference.model.outputs
    fed = reached([value.name for value in inputs], graph)
    unreached = tuple(v.name for v in graph.output if v.name in declared and v.name not in fed)
    outputs = tuple(_spec(value) for value in graph.output)
    measured = StructureMeasurement(
        inputs=tuple(_spec(value) for value in inputs),
        outputs=outputs,
        expected_inputs=tuple(
            TensorSpec(name, variant.io_dtype(entry.dtype), reference.shapes[name])
            for name, entry in reference.model.inputs.items()
        ),
        expected_outputs=tuple(
            TensorSpec(name, _output_dtype(name, entry.dtype, variant, outputs), entry.shape)
            for name, entry in reference.model.outputs.items()
        ),
        opset=max(
            (e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=0
        ),
        expected_opset=variant.opset,
        allowed_opsets=variant.allowed_opsets,
        nodes=len(nodes),
        operators=dict(Counter(node.op_type for node in nodes).most_common()),
        training=tuple(f"{node.op_type} ({node.name})" for node in _training(graph, nodes)),
        random=tuple(f"{node.op_type} ({node.name})" for node in nodes if node.op_type in _RANDOM),
        unused_inputs=unused,
        ignored_inputs=tuple(
            name for name in unused if name in reference.shapes and ignores(reference, name)
        ),
        unreached_outputs=unreached,
        constant_outputs=constant_outputs(reference, unreached),
    )
    return dataclasses.replace(measured, merged_dims=merged_dims(reference, measured))


def _followed(
    artefact: Artefact, reference: Reference, measured: StructureMeasurement
) -> tuple[Axis, ...]:
    """Axes of outputs that the file calls static, if all shapes are PyTorch's when it is run.

    torch.export gives what follows an LSTM or GRU the length of its example, for one.
    """
    shapes = {spec.name: spec.shape or () for spec in measured.outputs}
    static = [
        Axis("output", spec.name, axis)
        for spec in measured.expected_outputs
        for axis, (dim, size) in enumerate(
            zip(declared_sizes(spec, shapes), shapes.get(spec.name, ()), strict=False)
        )
        if isinstance(dim, str) and isinstance(size, int)
    ]
    if not static:
        return ()
    tried = 0
    try:
        session = open_session(artefact, reference.model.cpu)
        for _, inputs, outputs in runs_at_other_sizes(reference):
            if outputs is not None:
                given = dict(zip(session.outputs, session.run(inputs), strict=True))
                if any(given[axis.name].shape != outputs[axis.name].shape for axis in static):
                    return ()
                tried += 1
    except OnnxCheckError:
        return ()
    return tuple(static) if tried > 1 else ()


def _output_dtype(name: str, declared: str, variant: Variant, outputs: Iterable[TensorSpec]) -> str:
    """The dtype an output should have; a module in `half` may itself cast one back."""
    itself = variant.traits.casts_module and (name, declared) in {
        (spec.name, spec.dtype) for spec in outputs
    }
    return declared if itself else variant.io_dtype(declared)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type") or not tensor.elem_type:
        return TensorSpec(value.name, value.type.WhichOneof("value") or "unknown", None)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, dtype, None)
    shape: list[int | str | None] = []
    for dim in tensor.shape.dim:
        kind = dim.WhichOneof("value")
        shape.append(getattr(dim, kind) if kind else None)
    return TensorSpec(value.name, dtype, tuple(shape))


def _training(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    import onnx

    for node in nodes:
        if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2]:
            mode = _constant(graph, node.input[2])
            if mode is None or onnx.numpy_helper.to_array(mode).any():
                yield node
        elif node.op_type == "BatchNormalization":
            attributes = {entry.name: entry.i for entry in node.attribute}
            if attributes.get("training_mode") or len([name for name in node.output if name]) > 1:
                yield node


def _constant(graph: onnx.GraphProto, name: str) -> onnx.TensorProto | None:
    tensors: list[onnx.TensorProto] = [t for t in graph.initializer if t.name == name]
    tensors += [
        attribute.t
        for node in nodes_of(graph)
        if node.op_type == "Constant" and node.output[0] == name
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return tensors[0] if tensors else None


def _unused(
    inputs: list[str], graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]
) -> Iterator[str]:
    read = {name for node in nodes for name in node.input} | {v.name for v in graph.output}
    return (name for name in inputs if name not in read)
