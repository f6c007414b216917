"""What the command prints: nothing in it reaches the terminal as a control sequence."""

from __future__ import annotations

import click

from pytest_onnxcheck.report.escaping import visible

__all__ = ["echo"]


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Prints a text, to stderr with `err`; without a line's end where not `nl`."""
    click.echo(visible(text), err=err, nl=nl)
