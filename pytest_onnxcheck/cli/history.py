"""`onnxcheck history`: the latencies that `--onnxcheck-history` kept."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.places import HISTORY

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = commands.add_parser(
        "history", help="list and plot the latencies that --onnxcheck-history kept"
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(HISTORY), help=f"default: {HISTORY}"
    )
    parser.add_argument(
        "checks", nargs="?", default="*", help="only checks or models that match this glob"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a plot of each check")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.files import write_atomically
    from pytest_onnxcheck.history import History
    from pytest_onnxcheck.report import history as show

    history = History(arguments.folder)
    if not history:
        raise OnnxCheckError(
            f"{arguments.folder}: no history: run pytest --onnxcheck --onnxcheck-history="
            f"{arguments.folder}, or name the folder first: onnxcheck history DIR 'MODEL::*'"
        )
    found = show.chosen(history, arguments.checks)
    if not found and not history.problems:
        names = ", ".join(show.chosen(history))
        raise OnnxCheckError(
            f"{arguments.folder}: no check matches {arguments.checks!r}; it holds: {names}"
        )
    if arguments.svg is not None:
        write_atomically(arguments.svg, show.svg(history, arguments.checks))
    return show.listing(history, arguments.checks)
