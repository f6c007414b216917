"""The tab *Compare variants*: what each costs and loses, and which one to release."""

from __future__ import annotations

from glob import escape

from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.frontier import unproposed
from pytest_onnxcheck.report.html.excerpt import Part
from pytest_onnxcheck.serve.panel.checked import of_record
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["PANE"]

_PARTS: tuple[Part, ...] = ("proposal", "failures", "told", "frontier", "sizes", "checks")


def _show(view: View) -> str:
    def said(record: Record) -> str:
        return " ".join(
            f"{text} Tick their precisions; what has another exporter or opset is compared too by "
            "pytest --onnxcheck, of all that the manifest has."
            for found in frontiers(record.checks, escape(view.known.name))
            if (text := unproposed(found, view.known.variants))
        )

    return of_record(
        view,
        ("gate", "release"),
        _PARTS,
        "Nothing is compared yet: press Compare. It runs the whole gate, since size, loss and "
        "speed have to be of one run.",
        said=said,
    )


PANE = Pane(
    "Compare variants",
    "Runs the whole gate, and sets size, loss and speed of the variants against one another.",
    _show,
    "gate",
    "Compare",
)
