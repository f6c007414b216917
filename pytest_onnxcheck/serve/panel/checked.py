"""What a run of the gate found of a model, in the report's own words and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.html.excerpt import Part, excerpt
from pytest_onnxcheck.report.markdown import headline
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import View

__all__ = ["of_record"]


def of_record(
    view: View,
    kinds: Sequence[str],
    parts: Sequence[Part],
    otherwise: str,
    *,
    said: Callable[[Record], str] = lambda _: "",
) -> str:
    """Parts of the report of the newest job of a kind.

    Args:
        view: The model.
        kinds: The kind; where there is no job of it, the next.
        parts: The parts.
        otherwise: What is said where there is none, and none is on its way.
        said: What is said of its record, before the parts.
    """
    found = next(filter(None, (view.recorded(kind) for kind in kinds)), None)
    if found is None:
        return "" if view.goes_on(kinds[0]) else render("nothing", text=otherwise)
    job, record = found
    return render(
        "checked",
        job=job,
        record=record,
        headline=headline(record).partition("onnxcheck: ")[2],
        good=not record.exitstatus,
        said=said(record),
        body=Markup(excerpt(record, view.known.name, parts, anchor=job.kind)),
    )
