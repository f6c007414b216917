"""fp16 and bf16: what is stored and computed in 16 bits, and what stays in float32."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.checks.structure import measure as measure_structure
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.runtime.evaluator import reference_evaluator
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import QuantizeError, Unsupported
from pytest_onnxcheck.manifest.targets import CPU

NAMES = [
    f"{net}-{exporter}"
    for net in ("convolutional", "block")
    for exporter in ("torchscript", "dynamo")
]


@pytest.mark.parametrize("keep_io_types", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_a_valid_file_and_as_close_as_pytorchs_own_bfloat16(make, name, keep_io_types):
    made = make(name, "bf16", keep_io_types=keep_io_types)
    checked = check_file(made.artefact)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)
    held = {made.type_of(name) for name, t in made.tensors.items() if len(t.dims) > 1}
    assert held == {"BFLOAT16"}
    inputs = example(made.reference)
    (exact,) = made.reference.run(inputs)
    module = made.reference.module.to(torch.bfloat16)
    try:
        own = module(torch.tensor(inputs["x"]).bfloat16()).float().detach().numpy()
    finally:
        module.float()
    fed = inputs["x"]
    if not keep_io_types:
        fed = numpy_helper.to_array(onnx.helper.make_tensor("x", 16, fed.shape, fed.ravel()))
    (found,) = reference_evaluator(str(made.artefact.path)).run(None, {"x": fed})
    assert found.dtype.name == ("float32" if keep_io_types else "bfloat16")
    found = found.astype(np.float32)

    def error(array):
        return np.linalg.norm(array - exact) / np.linalg.norm(exact)

    assert 1e-3 < error(found) < 2 * error(own) < 0.05


def test_bf16_does_not_load_on_the_cpu_which_is_told_in_onnx_runtimes_words(make):
    made = make("block", "bf16")
    with pytest.raises(Unsupported) as caught:
        open_session(made.artefact, CPU)
    assert str(caught.value).startswith(
        "bf16 does not load on CPUExecutionProvider: Could not find an implementation for MatMul"
    )
    assert len(str(caught.value)) < 300


def test_values_beyond_float16_are_kept_by_bf16(make):
    made = make("wide", "bf16")
    x = example(made.reference)["x"]
    (found,) = reference_evaluator(str(made.artefact.path)).run(None, {"x": x})
    (expected,) = made.reference.run({"x": x})
    assert expected.max() > 9e5
    assert expected.min() < -9e8
    np.testing.assert_allclose(found, expected, rtol=2.0**-7)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_inputs_and_outputs_keep_their_types_or_not(make, precision, kind):
    kept = make("mlp", precision)
    assert (kept.type_of("x"), kept.type_of("y")) == ("FLOAT", "FLOAT")
    cast = make("mlp", precision, keep_io_types=False)
    assert (cast.type_of("x"), cast.type_of("y")) == (kind, kind)
    measured = measure_structure(cast.artefact, cast.reference, cast.variant)
    assert [spec.dtype for spec in measured.inputs] == [kind.lower()]
    assert [spec.dtype for spec in measured.expected_inputs] == [kind.lower()]
    assert [spec.dtype for spec in measured.expected_outputs] == [kind.lower()]


@pytest.mark.parametrize("options", [{"precision": "fp16", "keep_io_types": False}, {}])
def test_16_bit_inputs_and_outputs_are_cast_at_the_sessions_boundary(make, options):
    made = make("mlp", **{"precision": "half", **options})
    assert made.artefact.notes.narrowed == ("x", "y")
    session = open_session(made.artefact, CPU)
    assert session.inputs == {"x": "tensor(float16)"}
    (found,) = session.run(example(made.reference))
    assert found.dtype == np.float32
    assert 1e-6 < made.loss() < 2e-3
    (called,) = session.call(example(made.reference))()
    assert called.dtype == np.float16


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_blocked_operators_and_excluded_nodes_stay_in_float32(make, precision, kind):
    made = make("mlp", precision)
    assert {made.type_of(gemm.input[1]) for gemm in made.nodes("Gemm")} == {kind}
    blocked = make("mlp", precision, op_block_list=("Gemm",))
    assert {blocked.type_of(gemm.input[1]) for gemm in blocked.nodes("Gemm")} == {"FLOAT"}
    assert blocked.type_of(blocked.nodes("Relu")[0].input[0]) == kind
    excluded = make("mlp", precision, exclude_nodes=("/0/*",))
    types = {gemm.name: excluded.type_of(gemm.input[1]) for gemm in excluded.nodes("Gemm")}
    assert types == {"/0/Gemm": "FLOAT", "/2/Gemm": kind}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_value_that_two_blocked_nodes_read_is_cast_once(make, precision):
    made = make("fork", precision, op_block_list=("Gemm",))
    left, right = made.nodes("Gemm")
    assert made.type_of(left.input[0]) == made.type_of(right.input[0]) == "FLOAT"
    # before, ONNX Runtime's converter gives each reader a cast of its own
    recent = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31)
    assert left.input[0] == right.input[0] or not recent
    checked = check_file(made.artefact)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)


def test_operators_onnx_has_not_in_bfloat16_compute_in_float32_on_stored_bfloat16(make):
    made = make("convolutional", "bf16")  # Conv takes bfloat16 from opset 22 on
    conv = made.nodes("Conv")[0]
    assert made.type_of(conv.output[0]) == "FLOAT"
    (cast,) = [node for node in made.nodes("Cast") if node.output[0] == conv.input[1]]
    assert made.type_of(cast.input[0]) == "BFLOAT16"
    excluded = make("convolutional", "bf16", exclude_nodes=(conv.name,))
    assert excluded.type_of(conv.input[1]) == "FLOAT"
    assert conv.input[1] in excluded.tensors


def test_bf16_before_opset_13_is_told(project):
    models, builds = project
    reference = builds.reference(models["early"])
    variant = models["early"].variant("torchscript", 12, "bf16")
    with pytest.raises(QuantizeError, match=r"casts to bfloat16 from opset 13 on, and .* is of 12"):
        builds.artefact(reference, variant)
