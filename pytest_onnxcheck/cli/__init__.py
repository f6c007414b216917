"""The `onnxcheck` command: a thin shell over the package's functions, one module a command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pytest_onnxcheck import __version__
from pytest_onnxcheck.cli import frontier, history, schema, table, validate
from pytest_onnxcheck.errors import OnnxCheckError

__all__ = ["main"]

#: in the order in which `--help` lists them
_COMMANDS = (validate, schema, table, frontier, history)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, or 1 when something is wrong."""
    arguments = _parser().parse_args(argv)
    try:
        text: str = arguments.run(arguments)
    except (OnnxCheckError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.write(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="onnxcheck",
        description="Helpers around `pytest --onnxcheck`, which is what checks models.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    return parser
