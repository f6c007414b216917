"""The tab *Validate*: is what was exported right."""

from __future__ import annotations

from pytest_onnxcheck.report.html.excerpt import Part
from pytest_onnxcheck.serve.panel.checked import of_record
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["PANE"]

_PARTS: tuple[Part, ...] = ("failures", "told", "checks", "limits", "losses", "worst", "skipped")


def _show(view: View) -> str:
    return of_record(
        view,
        ("validate", "gate", "release"),
        _PARTS,
        "Nothing is validated yet: press Validate. It builds what is not built yet, and says of "
        "each output how far it is from PyTorch.",
    )


PANE = Pane(
    "Validate",
    "Runs every check of the gate but those of speed: the error of each output against its noise "
    "floor, the worst elements, and the guilty layer where one fails.",
    _show,
    "validate",
    "Validate",
)
