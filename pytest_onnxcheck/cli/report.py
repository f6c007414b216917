"""`onnxcheck report`: a record for people."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import columns

__all__ = ["report"]


@click.command()
@click.argument("records", type=FILE, nargs=-1, required=True, metavar="RECORD...")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "markdown", "html"]),
    default="text",
    help="Default: text. Of several, Markdown and HTML show the last beside the one before.",
)
@click.option("--html", "form", flag_value="html", help="The same as --format html.")
@click.option("--output", type=FILE, help="Write it there.")
@json_option
def report(records: tuple[Path, ...], form: str, output: Path | None, as_data: bool) -> None:
    """Print what records say: verdicts, and what failed and why."""
    from pytest_onnxcheck.files import write_atomically
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.report import summary
    from pytest_onnxcheck.report.html import page
    from pytest_onnxcheck.report.markdown import comment

    read = [(load(path), str(path)) for path in records]
    if as_data:
        parts = [as_json([summary.as_data(record, title) for record, title in read])]
    elif form == "text":
        parts = [summary.as_text(record, title, columns()) for record, title in read]
    elif form == "markdown":
        last, *earlier = reversed([record for record, _ in read])
        parts = [comment(last, earlier[0] if earlier else None)]
    else:
        parts = [page([record for record, _ in read])]
    text = "\n".join(parts)
    if output is None:
        echo(text, nl=False)
    else:
        write_atomically(output, text)
