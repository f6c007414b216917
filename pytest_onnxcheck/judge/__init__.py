"""Measurement against tolerance or budget gives a verdict. Pure: no model runs here."""

from pytest_onnxcheck.judge.artefacts import export, quantization
from pytest_onnxcheck.judge.contract import structure
from pytest_onnxcheck.judge.faults import mutation
from pytest_onnxcheck.judge.outputs import VACUOUS, equivalence, problem
from pytest_onnxcheck.judge.speed import latency

__all__ = [
    "VACUOUS",
    "equivalence",
    "export",
    "latency",
    "mutation",
    "problem",
    "quantization",
    "structure",
]
