"""`onnxcheck table`: a record as the table that a run prints."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = commands.add_parser("table", help="print the table of a record as Markdown")
    parser.add_argument("record", type=Path, help="what --onnxcheck-json wrote")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.report.table import made_on, markdown

    record = load(arguments.record)
    return f"{markdown(record.checks)}\n{made_on(record)}"
