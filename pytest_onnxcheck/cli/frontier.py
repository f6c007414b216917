"""`onnxcheck frontier`: what each variant in a record costs and loses, and which to release."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_onnxcheck.errors import OnnxCheckError

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = commands.add_parser(
        "frontier", help="print what each variant in a record costs and loses, and which to release"
    )
    parser.add_argument("record", type=Path, help="what --onnxcheck-json wrote")
    parser.add_argument("model", nargs="?", default="*", help="only models that match this glob")
    parser.add_argument("--json", action="store_true", help="as data, for a plot")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.judge.frontier import frontiers
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.report.frontier import data, markdown
    from pytest_onnxcheck.report.table import made_on

    record = load(arguments.record)
    found = frontiers(record.checks, arguments.model)
    if not found:
        names = ", ".join(dict.fromkeys(entry.model for entry in record.checks))
        raise OnnxCheckError(
            f"{arguments.record}: no model matches {arguments.model!r}; it holds: {names or 'none'}"
        )
    return as_json(data(found)) if arguments.json else f"{markdown(found)}\n{made_on(record)}"
