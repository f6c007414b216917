"""Nodes on the CPU, judged."""

from __future__ import annotations

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import FallenNode, TargetMeasurement
from pytest_onnxcheck.verdict import Grade

SHAPE = FallenNode("Shape", "node_1", multiplies=False)
GATHER = FallenNode("Gather", "", multiplies=False)
CONV = FallenNode("Conv", "stem", multiplies=True)


def judged(*fallen: FallenNode, taken=7, limit=None, compute=None, said=(), multiplying=0):
    nodes = {"CUDAExecutionProvider": taken, "CPUExecutionProvider": len(fallen)}
    providers = ("CUDAExecutionProvider", "CPUExecutionProvider")
    measured = TargetMeasurement(
        target="cuda",
        provider=providers[0],
        before=providers,
        after=providers,
        nodes={name: count for name, count in nodes.items() if count},
        multiplying=multiplying,
        fallen=fallen,
        compute=compute,
        said=said,
    )
    return judge.target(measured, Budget.model_validate({"max_cpu_fallback": limit}))


def test_all_nodes_on_the_accelerator_pass_without_a_word():
    assert judged().findings == ()
    assert judged(limit=0.0).findings == ()


def test_a_convolution_on_the_cpu_fails():
    verdict = judged(SHAPE, GATHER, CONV, compute=0.25)
    assert verdict.grade is Grade.FAIL
    assert verdict.reason == (
        "nodes on the CPU: 3 of 10 (30.0%, 25.0% of the multiply-accumulates), among them 1 Conv "
        "(stem), for which CUDAExecutionProvider has no kernel (or not in this precision or with "
        "these attributes). Export with another opset or precision, or allow a share of nodes and "
        "of the computation (budget.max_cpu_fallback.cuda = 0.3)"
    )


def test_shapes_on_the_cpu_warn_and_a_limit_settles_it():
    verdict = judged(SHAPE, GATHER)
    assert verdict.grade is Grade.WARN
    assert verdict.reason == (
        "nodes on the CPU: 2 of 9 (22.2%): 1 Shape, 1 Gather (node_1); none multiplies and "
        "accumulates. Allow a share of nodes to settle it (budget.max_cpu_fallback.cuda = 0.23)"
    )
    assert judged(SHAPE, GATHER, limit=0.23).grade is Grade.PASS


@pytest.mark.parametrize("limit", [0, {"cuda": 0.1}, {"*": 0.1, "openvino": 1.0}])
def test_a_share_beyond_the_limit_fails_whatever_the_nodes_do(limit):
    verdict = judged(SHAPE, GATHER, limit=limit)
    assert verdict.grade is Grade.FAIL
    assert "2 of 9 (22.2%), asked for at most" in verdict.reason
    assert "(budget.max_cpu_fallback.cuda): 1 Shape, 1 Gather (node_1)" in verdict.reason


def test_a_limit_lets_convolutions_through():
    assert judged(CONV, limit={"cuda": 0.5, "*": 0.0}, compute=0.4).grade is Grade.PASS


def test_a_limit_holds_for_the_computation_as_well():
    verdict = judged(CONV, limit=0.5, compute=0.95)
    assert verdict.grade is Grade.FAIL
    assert "1 of 8 (12.5%, 95.0% of the multiply-accumulates), asked for at most" in verdict.reason
    (finding,) = judged(CONV, limit=0.5).findings
    assert (finding.grade, finding.inconclusive) == (Grade.WARN, True)
    assert finding.text.endswith(
        "; which share of the computation 1 Conv (stem) make is not known. Allow all "
        "(budget.max_cpu_fallback.cuda = 1) to settle it"
    )
    (finding,) = judged(CONV, limit=1).findings
    assert finding.grade is Grade.PASS


def test_an_accelerator_with_nothing_to_do_fails_even_with_a_limit():
    verdict = judged(SHAPE, taken=0, limit=1.0, said=("Device GPU is not available",))
    assert verdict.grade is Grade.FAIL
    assert verdict.reason == (
        "nodes: CUDAExecutionProvider runs none of 1: 1 on CPUExecutionProvider. ONNX Runtime "
        "said: Device GPU is not available. Mend its options ([targets.cuda]), or leave the target "
        "out for this model"
    )


def test_a_graph_without_nodes_is_fine():
    assert judged(taken=0).findings == ()


def test_a_limit_is_not_kept_where_onnx_runtime_tells_of_no_node():
    (finding,) = judged(taken=0, limit=0.0).findings
    assert (finding.grade, finding.inconclusive, finding.longer) == (Grade.WARN, True, False)
    assert "budget.max_cpu_fallback.cuda limits those on the CPU" in finding.text


def test_nodes_that_onnx_runtime_does_not_tell_of_fail():
    verdict = judged(taken=0, multiplying=2)
    assert verdict.grade is Grade.FAIL
    assert "runs none, nor does another provider, of the file's 2 that multiply" in verdict.reason


def test_many_nodes_are_counted_and_some_named():
    many = [FallenNode("Cast", f"cast_{index}", multiplies=False) for index in range(12)]
    assert "12 Cast (cast_0, cast_1, cast_2, cast_3, cast_4, …)" in judged(*many).reason
