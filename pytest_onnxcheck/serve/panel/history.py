"""The tab *History*: the jobs of all models, the newest first."""

from __future__ import annotations

from pytest_onnxcheck.serve.panel.job import state, took
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["PANE"]


def _show(view: View) -> str:
    if not view.history:
        return render("nothing", text="No job was started yet.")
    return render("history", lines=[(job, state(job), took(job)) for job in view.history])


PANE = Pane(
    "History", "The last jobs of all models; choose one to read its log or cancel it.", _show
)
