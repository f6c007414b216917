"""The tab *Report*: the HTML report of the last run."""

from __future__ import annotations

from urllib.parse import quote

from pytest_onnxcheck.serve.jobs.job import REPORT
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["PANE"]


def _show(view: View) -> str:
    found = view.recorded("validate", "benchmark", "gate", "release")
    if found is None:
        text = "There is no report yet: Validate, Benchmark and Compare write one each."
        return render("nothing", text=text)
    job, _ = found
    return render("report", job=job, url=f"../api/jobs/{quote(job.id)}/files/{REPORT}")


PANE = Pane("Report", "The HTML report of the last run, which is one file to keep or send.", _show)
