"""The tab *Benchmark*: PyTorch beside ONNX Runtime, for each precision."""

from __future__ import annotations

from pytest_onnxcheck.report.html.excerpt import Part
from pytest_onnxcheck.serve.panel.checked import of_record
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["PANE"]

_PARTS: tuple[Part, ...] = ("latency", "failures", "told", "limits", "skipped")


def _show(view: View) -> str:
    return of_record(
        view,
        ("benchmark", "gate", "release"),
        _PARTS,
        "Nothing is timed yet: press Benchmark. Jobs that time something run one after the other.",
    )


PANE = Pane(
    "Benchmark",
    "Times each precision beside PyTorch, call by call in turn, and gives the speed-up with its "
    "interval.",
    _show,
    "benchmark",
    "Benchmark",
)
