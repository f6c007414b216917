"""The templates: everything they show is escaped."""

from __future__ import annotations

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pytest_onnxcheck.report.escaping import visible

__all__ = ["asset", "environment"]


@functools.cache
def environment() -> Environment:
    """Where the templates are found."""
    return Environment(
        loader=PackageLoader("pytest_onnxcheck.report.html", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _finalized(value: object) -> object:
    """What a template shows: control characters are no text of ours."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def asset(name: str) -> str:
    """The text of a file beside the templates, as it is."""
    found = environment()
    assert found.loader is not None
    return found.loader.get_source(found, name)[0]
