"""The templates of the panel, beside those of the report: everything they show is escaped."""

from __future__ import annotations

import functools

from jinja2 import ChoiceLoader, Environment, PackageLoader

from pytest_onnxcheck.report.html.rendering import environment

__all__ = ["asset", "render"]


def render(name: str, **values: object) -> str:
    """The HTML that a template makes of values.

    Args:
        name: Its file, without `.html`.
        values: What it shows.
    """
    return _environment().get_template(f"{name}.html").render(**values)


def asset(name: str) -> str:
    """The text of a file beside the templates, as it is."""
    return _own().get_source(_environment(), name)[0]


@functools.cache
def _environment() -> Environment:
    of_report = environment()
    assert of_report.loader is not None
    # templates that extend or include others find the panel's own first
    return of_report.overlay(loader=ChoiceLoader([_own(), of_report.loader]))


@functools.cache
def _own() -> PackageLoader:
    return PackageLoader("pytest_onnxcheck.serve.panel", "templates")
