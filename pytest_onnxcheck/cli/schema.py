"""`onnxcheck schema`: what a manifest may hold."""

from __future__ import annotations

import argparse

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = commands.add_parser("schema", help="print the manifest's JSON Schema")
    parser.add_argument("--markdown", action="store_true", help="as reference documentation")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.manifest.schema import json_schema, reference

    return reference() if arguments.markdown else json_schema()
