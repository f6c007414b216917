"""The `onnxcheck` command: a thin shell over the package's functions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_onnxcheck import __version__
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.places import HISTORY

__all__ = ["main"]


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
    validate = commands.add_parser("validate", help="check a manifest and list its variants")
    validate.add_argument("manifest", type=Path, nargs="?", default=Path("models.toml"))
    validate.set_defaults(run=_validate)
    schema = commands.add_parser("schema", help="print the manifest's JSON Schema")
    schema.add_argument("--markdown", action="store_true", help="as reference documentation")
    schema.set_defaults(run=_schema)
    table = commands.add_parser("table", help="print the table of a record as Markdown")
    table.add_argument("record", type=Path, help="what --onnxcheck-json wrote")
    table.set_defaults(run=_table)
    frontier = commands.add_parser(
        "frontier", help="print what each variant in a record costs and loses, and which to release"
    )
    frontier.add_argument("record", type=Path, help="what --onnxcheck-json wrote")
    frontier.add_argument("model", nargs="?", default="*", help="only models that match this glob")
    frontier.add_argument("--json", action="store_true", help="as data, for a plot")
    frontier.set_defaults(run=_frontier)
    history = commands.add_parser(
        "history", help="list and plot the latencies that --onnxcheck-history kept"
    )
    history.add_argument(
        "folder", type=Path, nargs="?", default=Path(HISTORY), help=f"default: {HISTORY}"
    )
    history.add_argument(
        "checks", nargs="?", default="*", help="only checks or models that match this glob"
    )
    history.add_argument("--svg", type=Path, metavar="FILE", help="write a plot of each check")
    history.set_defaults(run=_history)
    return parser


def _validate(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.manifest import load_manifest

    manifest = load_manifest(arguments.manifest, shown=str(arguments.manifest))
    manifest.check()
    return "".join(
        f"{model.name}::{variant.name}\n"
        for model in manifest.models.values()
        for variant in model.variants
    )


def _schema(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.manifest.schema import json_schema, reference

    return reference() if arguments.markdown else json_schema()


def _table(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.report.table import markdown

    record = _record(arguments.record)
    return f"{markdown(record['checks'])}\n{_made_on(record)}"


def _frontier(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.report import frontier
    from pytest_onnxcheck.report.record import as_json

    record = _record(arguments.record)
    entries = record["checks"]
    found = frontier.frontiers(entries, arguments.model)
    if not found:
        names = ", ".join(dict.fromkeys(entry["model"] for entry in entries))
        raise OnnxCheckError(
            f"{arguments.record}: no model matches {arguments.model!r}; it holds: {names or 'none'}"
        )
    if arguments.json:
        return as_json(frontier.data(found))
    return f"{frontier.markdown(found)}\n{_made_on(record)}"


def _history(arguments: argparse.Namespace) -> str:
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


def _record(path: Path) -> Any:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        record = None
    if not isinstance(record, dict) or "checks" not in record:
        raise OnnxCheckError(f"{path}: not a record: write one with --onnxcheck-json=PATH")
    return record


def _made_on(record: dict[str, Any]) -> str:
    """One line with versions, processor and date."""
    packages = record["environment"]["packages"]
    shown = [name for name in packages if name in ("torch", "onnx") or "onnxruntime" in name]
    versions = ", ".join(f"{name} {packages[name]}" for name in shown)
    return (
        f"onnxcheck {record['onnxcheck']}, {versions}; {record['environment']['cpu']}, "
        f"{record['environment']['cpus']} CPUs; {record['created'][:10]}.\n"
    )
