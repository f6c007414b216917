"""Measurement against tolerance or budget gives a verdict. Pure: no model runs here."""

from pytest_onnxcheck.judge.advice import fault, recommend
from pytest_onnxcheck.judge.artefacts import export, quantization
from pytest_onnxcheck.judge.contract import structure
from pytest_onnxcheck.judge.faults import mutation
from pytest_onnxcheck.judge.outputs import VACUOUS, equivalence, problem
from pytest_onnxcheck.judge.presence import changes, vanished
from pytest_onnxcheck.judge.regression import regression
from pytest_onnxcheck.judge.speed import latency
from pytest_onnxcheck.judge.targets import target
from pytest_onnxcheck.judge.task import accuracy

__all__ = [
    "VACUOUS",
    "accuracy",
    "changes",
    "equivalence",
    "export",
    "fault",
    "latency",
    "mutation",
    "problem",
    "quantization",
    "recommend",
    "regression",
    "structure",
    "target",
    "vanished",
]
