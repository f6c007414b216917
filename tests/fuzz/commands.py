"""The command, run in this process; what it prints is left out."""

from __future__ import annotations

import contextlib
import os

import click

from pytest_onnxcheck.cli import _onnxcheck
from pytest_onnxcheck.errors import OnnxCheckError


def run(*arguments: str) -> None:
    """Runs a command.

    Raises:
        OnnxCheckError: It says what is wrong.
        Exception: It does not.
    """
    with (
        open(os.devnull, "w", encoding="utf-8") as nothing,  # noqa: PTH123
        contextlib.redirect_stdout(nothing),
        contextlib.redirect_stderr(nothing),
    ):
        try:
            _onnxcheck.main(arguments, prog_name="onnxcheck", standalone_mode=False)
        except click.ClickException as error:
            raise OnnxCheckError(error.message) from error
