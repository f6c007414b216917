"""`onnxcheck merge`: what the shards of a run left, as if one job had run alone."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["merge"]


@click.command()
@click.argument("paths", type=FILE, nargs=-1, required=True, metavar="RECORD...")
@click.option(
    "--expect", type=FILE, metavar="MANIFEST", help="Every model of this manifest must be there."
)
@click.option(
    "--to",
    type=FILE,
    default=Path("merged"),
    show_default=True,
    help="The folder to write record.json, junit.xml and history into.",
)
@json_option
def merge(paths: tuple[Path, ...], expect: Path | None, to: Path, as_data: bool) -> None:
    """Join the records of shards into one.

    Beside records, name their JUnit files (.xml) and folders of --onnxcheck-history. A shard, model
    or check that is missing or there twice is refused, and so are other manifests, versions or
    commits; nothing is written then.
    """
    from pytest_onnxcheck.api.merge import merge as join
    from pytest_onnxcheck.record.encoding import as_json

    histories = [path for path in paths if path.is_dir()]
    junit = [path for path in paths if path.suffix == ".xml"]
    records = [path for path in paths if path not in (*histories, *junit)]
    made = join(records, to, junit=junit, histories=histories, expect=expect)
    if as_data:
        echo(as_json(made.to_json()), nl=False)
    else:
        checks, parts = len(made.record.checks), len(made.record.parts)
        echo(f"{checks} checks of {parts} records: {', '.join(map(str, made.files))}")
