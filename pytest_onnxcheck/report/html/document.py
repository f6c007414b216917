"""Puts the parts together into one file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence

from markupsafe import Markup

from pytest_onnxcheck.history import History
from pytest_onnxcheck.judge.compared import compared
from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.record.rows import Row, rows
from pytest_onnxcheck.report.html.models import Section, section
from pytest_onnxcheck.report.html.overview import about, overview
from pytest_onnxcheck.report.html.plots import Trend
from pytest_onnxcheck.report.html.rendering import asset, environment
from pytest_onnxcheck.report.html.trends import Trends, trends

__all__ = ["page", "sections"]


def page(records: Sequence[Record], *, history: History | None = None) -> str:
    """The report of a run as HTML.

    Args:
        records: Runs, the oldest first. The last is shown; the one before it is what it is compared
            with.
        history: Latencies of earlier runs, as `--onnxcheck-history` keeps them, for the trends;
            without any the trends are those of the records.

    Raises:
        ValueError: There is no run.
    """
    if not records:
        raise ValueError("a report needs a record")
    record = records[-1]
    before = records[-2] if len(records) > 1 else None
    found = sections(record, trends(records, history))
    script, style = asset("script.js"), asset("style.css")
    return (
        environment()
        .get_template("page.html")
        .render(
            record=record,
            overview=overview(record, found),
            changes=None if before is None else compared(before.checks, record.checks),
            before=before,
            sections=found,
            about=about(record),
            script=Markup(script),
            style=Markup(style),
            policy=f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; "
            "base-uri 'none'; form-action 'none'",
        )
    )


def sections(record: Record, over_time: Trends) -> list[Section]:
    """One section a model, in the order of the manifest."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows(record.checks):
        grouped.setdefault((row.manifest, row.model), []).append(row)
    costs = {(one.manifest, one.model): one for one in frontiers(record.checks)}
    return [
        section(f"model-{number}", found, costs[key], _of_model(over_time, *key))
        for number, (key, found) in enumerate(grouped.items(), 1)
    ]


def _of_model(over_time: Trends, manifest: str, model: str) -> list[Trend]:
    """A model's trends; the history knows manifests by a path relative to its project."""
    return [
        trend
        for (told, name), found in over_time.items()
        if name == model and (manifest == told or manifest.endswith(f"/{told}"))
        for trend in found
    ]


def _hash(text: str) -> str:
    """What a content security policy calls an inline script or style."""
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
