"""Inputs, outputs and operators: judged red, and judged green."""

import dataclasses

import pytest
from helpers import only

from pytest_onnxcheck import judge
from pytest_onnxcheck.measurement import (
    Axis,
    RuntimeFit,
    SizeMismatch,
    StructureMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.verdict import Grade

X = TensorSpec("x", "float32", ("batch", 4))
MASK = TensorSpec("mask", "bool", ("batch",))
Y = TensorSpec("y", "float32", ("batch", 2))


def structure(**changes):
    measured = StructureMeasurement(
        inputs=(X, MASK),
        outputs=(Y,),
        expected_inputs=(X, MASK),
        expected_outputs=(Y,),
        opset=20,
        expected_opset=20,
        nodes=3,
        operators={"Gemm": 3},
        training=(),
        random=(),
        unused_inputs=(),
        unreached_outputs=(),
    )
    return judge.structure(dataclasses.replace(measured, **changes))


def test_the_declared_structure_passes():
    assert structure().findings == ()


def test_a_missing_input_fails():
    finding = only(structure(inputs=(X,)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "input 'mask': declared in the manifest but not in the artefact, which has ['x']: "
        "callers that use the name get an error"
    )


def test_an_undeclared_output_fails():
    finding = only(structure(outputs=(Y, TensorSpec("z", "float32", (1,)))))
    assert finding.grade is Grade.FAIL
    assert finding.what == "output 'z'"
    assert finding.text.startswith("in the artefact but not declared")


def test_a_renamed_output_is_missing_and_undeclared():
    verdict = structure(outputs=(TensorSpec("z", "float32", ("batch", 2)),))
    assert [finding.what for finding in verdict.findings] == ["output 'y'", "output 'z'"]
    assert verdict.grade is Grade.FAIL


def test_another_order_fails():
    finding = only(structure(inputs=(MASK, X)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "inputs: order is ['mask', 'x'], declared ['x', 'mask']"


def test_another_dtype_fails():
    finding = only(structure(outputs=(TensorSpec("y", "float16", ("batch", 2)),)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "output 'y': dtype is float16, declared float32"


def test_another_rank_fails():
    finding = only(structure(outputs=(TensorSpec("y", "float32", ("batch", 2, None)),)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "output 'y': rank is 3 [batch, 2, ?], declared 2 [batch, 2]"


def test_a_size_that_should_be_dynamic_fails():
    finding = only(structure(outputs=(TensorSpec("y", "float32", (2, 2)),)))
    assert finding.grade is Grade.FAIL
    assert str(finding).startswith(
        "output 'y': dim 0 ('batch') is static: 2 in [2, 2], declared dynamic [batch, 2]. "
    )


@pytest.mark.parametrize("size", ["n", None])
def test_a_size_that_should_be_static_warns_when_dynamic(size):
    finding = only(structure(outputs=(TensorSpec("y", "float32", ("batch", size)),)))
    assert finding.grade is Grade.WARN
    assert finding.text.startswith(f"dim 1 is {size!r} in [batch, ")
    assert finding.text.endswith("declared 2")


def test_another_static_size_fails():
    finding = only(structure(outputs=(TensorSpec("y", "float32", ("batch", 3)),)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "output 'y': dim 1 is 3 in [batch, 3], declared 2"


@pytest.mark.parametrize("size", ["s0", None])
def test_a_dynamic_size_may_have_any_name(size):
    assert structure(outputs=(TensorSpec("y", "float32", (size, 2)),)).findings == ()


def test_an_output_without_a_shape_warns():
    finding = only(structure(outputs=(TensorSpec("y", "float32", None),)))
    assert finding.grade is Grade.WARN
    assert "the artefact declares no shape" in finding.text


def test_another_opset_fails_and_none_asked_for_passes():
    assert structure(opset=17, expected_opset=None).findings == ()
    finding = only(structure(opset=17))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "opset: the artefact declares 17, asked for 20"


def test_an_opset_that_dynamo_could_not_go_down_to_names_the_other_exporter():
    finding = only(structure(opset=18, expected_opset=12))
    assert str(finding) == (
        "opset: the artefact declares 18, asked for 12: dynamo writes opset 18 and up, and this "
        "graph could not be converted down; choose torchscript for lower"
    )


def test_a_given_file_of_an_opset_that_is_not_allowed_fails():
    assert structure(opset=17, expected_opset=None, allowed_opsets=(17, 20)).findings == ()
    finding = only(structure(opset=17, expected_opset=None, allowed_opsets=(18, 20)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "opset: the file declares 17, and the manifest allows 18, 20. Export it at one of them, or "
        "write opsets = [18, 20, 17] if what loads it can"
    )


def test_a_graph_without_nodes_warns():
    finding = only(structure(nodes=0))
    assert finding.grade is Grade.WARN
    assert str(finding) == "graph: it has no nodes: outputs are inputs or constants"


def test_nodes_in_training_mode_fail():
    verdict = structure(training=("Dropout (d)", "BatchNormalization (b)"))
    assert [finding.grade for finding in verdict.findings] == [Grade.FAIL, Grade.FAIL]
    assert str(verdict.findings[0]) == (
        "Dropout (d): is in training mode: outputs are random or follow the batch. "
        "Call model.eval() before the export"
    )


def test_nodes_that_draw_random_numbers_fail():
    finding = only(structure(random=("RandomNormal (r)",)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "RandomNormal (r): draws random numbers: the same inputs give other outputs"
    )


def test_an_input_that_is_not_read_fails():
    finding = only(structure(unused_inputs=("mask",)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "input 'mask': declared but read by no node: the artefact ignores what callers feed"
    )


def test_an_output_that_depends_on_no_input_fails():
    finding = only(structure(unreached_outputs=("y",)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y': depends on no input: it was folded into a constant, and PyTorch gives another "
        "one for other values or sizes"
    )
    finding = only(structure(unreached_outputs=("y",), constant_outputs=("y",)))
    assert finding.grade is Grade.WARN
    assert finding.text.endswith("callers get the same values every time, as in PyTorch")


def test_what_is_declared_as_any_may_be_anything_but_of_another_rank():
    anything = (dataclasses.replace(Y, shape=("batch", "any")),)
    for size in (2, "n", None):
        given = (dataclasses.replace(Y, shape=("batch", size)),)
        assert structure(expected_outputs=anything, outputs=given).findings == ()
    given = (dataclasses.replace(Y, shape=("batch",)),)
    assert "rank is 1" in only(structure(expected_outputs=anything, outputs=given)).text
    undeclared = (dataclasses.replace(Y, shape=None),)
    assert structure(expected_outputs=undeclared, outputs=given).findings == ()
    assert structure(expected_outputs=undeclared, outputs=undeclared).findings == ()
    given = (dataclasses.replace(Y, dtype="int64"),)
    finding = only(structure(expected_outputs=undeclared, outputs=given))
    assert finding.text == "dtype is int64, declared float32"


@pytest.mark.parametrize(
    ("facts", "grade", "text"),
    [
        ({"declared": "2 * n", "wanted": 6}, Grade.FAIL, "where the manifest has it at 6. Write"),
        ({"declared": "m", "formula": "n + 1"}, Grade.WARN, 'nobody chooses them. Write "n + 1"'),
        (
            {"declared": "any", "fixed": 3},
            Grade.FAIL,
            "static: 3 in the artefact, and 4 in PyTorch",
        ),
    ],
)
def test_a_size_that_is_another_in_pytorch(facts, grade, text):
    size = SizeMismatch(Axis("output", "y", 1), **{"wanted": None, **facts}, found=4, dims={"n": 3})
    finding = only(structure(size_mismatches=(size,)))
    assert finding.grade is grade
    assert text in finding.text
    assert "4 in PyTorch at n = 3" in finding.text


# ---------------------------------------------------------------- runtimes it is deployed on

FIT = RuntimeFit(
    wanted=">=1.17", obstacles={}, oldest="1.16", newest="1.32", ir_version=9, lowered_from=None
)


def test_a_file_that_its_runtimes_load_passes():
    assert structure(runtime=FIT).findings == ()


def test_a_runtime_that_does_not_load_the_file_fails():
    texts = ("IR version 11, and it reads 9 and older", "opset 24 of ai.onnx, and it has 20")
    fit = dataclasses.replace(FIT, obstacles={"1.17": texts, "1.18": texts[:1]}, oldest="1.25")
    finding = only(structure(runtime=fit))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "onnxruntime >=1.17: 1.17 does not load the file: IR version 11, and it reads 9 and older; "
        "opset 24 of ai.onnx, and it has 20. Export at a lower opset or in another precision, or "
        'leave out what it lacks, or write deploy.onnxruntime = ">=1.25", the oldest that loads it'
    )


def test_of_many_obstacles_the_first_are_told():
    fit = dataclasses.replace(FIT, obstacles={"1.17": tuple("abcdefg")}, oldest=None)
    text = only(structure(runtime=fit)).text
    assert "a; b; c; d; e; and 2 more. Export" in text
    assert "the oldest that loads it" not in text


def test_a_lowered_ir_version_is_a_remark():
    finding = only(structure(runtime=dataclasses.replace(FIT, lowered_from=10)))
    assert finding.grade is Grade.PASS
    assert str(finding) == (
        "IR version: 9 in place of the exporter's 10, so that onnxruntime >=1.17 reads it: nothing "
        "else in the file needs more"
    )


def test_it_is_told_where_another_release_than_the_oldest_is_run():
    fit = dataclasses.replace(FIT, run_in="1.20.0")
    finding = only(structure(runtime=fit))
    assert finding.grade is Grade.PASS
    assert str(finding) == (
        "onnxruntime >=1.17: run in 1.20.0: no older one has a wheel for this Python"
    )
    assert structure(runtime=dataclasses.replace(FIT, run_in="1.17.0")).findings == ()
