"""Parts of the report for another page, which shows one model at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.html.document import sections
from pytest_onnxcheck.report.html.rendering import asset, environment
from pytest_onnxcheck.report.html.trends import trends

__all__ = ["Part", "excerpt", "style"]

#: what the section of a model is made of: the files of `templates/model/`
Part = Literal[
    "failures",
    "proposal",
    "told",
    "checks",
    "limits",
    "sizes",
    "latency",
    "frontier",
    "trends",
    "losses",
    "worst",
    "spent",
    "skipped",
    "files",
]


def excerpt(record: Record, model: str, parts: Sequence[Part], *, anchor: str) -> str:
    """Parts of a model's section, as HTML for an element with the rules of `style`.

    Args:
        record: The run.
        model: The model's name; of one that the run has not checked, there is nothing to show.
        parts: Which, in their order. One without content shows nothing.
        anchor: What ids begin with.
    """
    template = environment().get_template("excerpt.html")
    names = [f"model/{part}.html" for part in parts]
    return "".join(
        template.render(section=replace(section, anchor=anchor), names=names)
        for section in sections(record, trends([record], None))
        if section.name == model
    )


def style(selector: str) -> str:
    """The report's rules, for what stands inside the elements that a selector names."""
    return f"{selector} {{\n{asset('style.css').replace(':root', '&')}}}\n"
