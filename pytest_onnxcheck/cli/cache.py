"""`onnxcheck cache`: the artefacts that runs share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pytest_onnxcheck.cli.options import SIZE, json_option
from pytest_onnxcheck.cli.printing import echo

if TYPE_CHECKING:
    from pytest_onnxcheck.api.cache import Removed

__all__ = ["cache"]

_WHERE = click.argument("where", default=".onnxcheck")


@click.group(short_help="List, verify and prune the artefacts that runs share.")
def cache() -> None:
    """List, verify and prune the artefacts that runs share.

    WHERE is the folder of --onnxcheck-cache (.onnxcheck by default), or the address of
    --onnxcheck-cache-remote: s3://BUCKET/PREFIX or file:///FOLDER.
    """


@cache.command("ls")
@_WHERE
@json_option
def _ls(where: str, as_data: bool) -> None:
    """List builds, the longest unused first."""
    from pytest_onnxcheck.api.cache import ls
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.table import file_size

    found = ls(where)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
        return
    for build in found.builds:
        state = "  in use" if build.in_use else "  damaged" if build.seconds is None else ""
        used = build.used[:16].replace("T", " ")
        echo(f"{file_size(build.size_bytes):>8}  {used}  {build.name}{state}")
    echo(f"{_builds(len(found.builds))}, {file_size(found.size_bytes)}, in {where}")


@cache.command("verify")
@_WHERE
@json_option
def _verify(where: str, as_data: bool) -> int:
    """Read every byte, and say what is not what was built.

    A run reads nothing of that: it builds it again.
    """
    from pytest_onnxcheck.api.cache import verify
    from pytest_onnxcheck.record.encoding import as_json

    found = verify(where)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        for name, text in found.damaged.items():
            echo(f"{name}: {text}")
        damaged = f"{len(found.damaged)} damaged (onnxcheck cache prune removes them)"
        echo(f"{_builds(found.count)} in {where}: {damaged if found.damaged else 'as built'}")
    return 1 if found.damaged else 0


@cache.command("prune")
@_WHERE
@click.option("--size", type=SIZE, required=True, metavar="SIZE", help="What may be left, as 20GB.")
@json_option
def _prune(where: str, size: int, as_data: bool) -> None:
    """Remove damaged builds, then the longest unused, down to a size."""
    from pytest_onnxcheck.api.cache import prune

    _tell(prune(where, size), as_data)


@cache.command("clear")
@_WHERE
@json_option
def _clear(where: str, as_data: bool) -> None:
    """Remove every build that no living run uses."""
    from pytest_onnxcheck.api.cache import clear

    _tell(clear(where), as_data)


def _tell(removed: Removed, as_data: bool) -> None:
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.table import file_size

    if as_data:
        echo(as_json(removed.to_json()), nl=False)
        return
    for build in removed.builds:
        echo(f"removed {file_size(build.size_bytes):>8}  {build.name}")
    in_use = f", {removed.in_use} of them in use" if removed.in_use else ""
    left = f"{_builds(removed.left)} left, {file_size(removed.left_bytes)}{in_use}"
    echo(f"{_builds(len(removed.builds))} removed, {left}, in {removed.where}")


def _builds(count: int) -> str:
    return f"{count} build" if count == 1 else f"{count} builds"
