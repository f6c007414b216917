"""The tab *Compare variants*: what each costs and loses, and which one to release."""

from __future__ import annotations

from pytest_onnxcheck.report.html.excerpt import Part
from pytest_onnxcheck.serve.panel.checked import of_record
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["PANE"]

_PARTS: tuple[Part, ...] = ("proposal", "failures", "frontier", "sizes", "checks")


def _show(view: View) -> str:
    return of_record(
        view,
        ("gate", "release"),
        _PARTS,
        "Nothing is compared yet: press Compare. It runs the whole gate, since size, loss and "
        "speed have to be of one run.",
    )


PANE = Pane(
    "Compare variants",
    "Runs the whole gate, and sets size, loss and speed of the variants against one another.",
    _show,
    "gate",
    "Compare",
)
