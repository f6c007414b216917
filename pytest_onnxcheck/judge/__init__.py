"""Measurement against tolerance or budget gives a verdict. Pure: no model runs here."""

from pytest_onnxcheck.judge.accuracy import accuracy
from pytest_onnxcheck.judge.equivalence import equivalence
from pytest_onnxcheck.judge.export import export
from pytest_onnxcheck.judge.failure import failure
from pytest_onnxcheck.judge.latency import latency
from pytest_onnxcheck.judge.limits import Margin, limits, margins, used
from pytest_onnxcheck.judge.mutation import mutation
from pytest_onnxcheck.judge.quantization import quantization
from pytest_onnxcheck.judge.recommend import recommend
from pytest_onnxcheck.judge.regression import regression
from pytest_onnxcheck.judge.release import release
from pytest_onnxcheck.judge.structure import structure
from pytest_onnxcheck.judge.target import target
from pytest_onnxcheck.judge.vacuity import VACUOUS, unchecked
from pytest_onnxcheck.judge.vanished import unmatched, vanished

__all__ = [
    "VACUOUS",
    "Margin",
    "accuracy",
    "equivalence",
    "export",
    "failure",
    "latency",
    "limits",
    "margins",
    "mutation",
    "quantization",
    "recommend",
    "regression",
    "release",
    "structure",
    "target",
    "unchecked",
    "unmatched",
    "used",
    "vanished",
]
