"""`onnxcheck cache`: the artefacts that runs share, and environments of targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pytest_onnxcheck.cli.options import SIZE, json_option
from pytest_onnxcheck.cli.printing import echo

if TYPE_CHECKING:
    from pytest_onnxcheck.api.cache import Removed

__all__ = ["cache"]

_WHERE = click.argument("where", default=".onnxcheck")


@click.group(short_help="List, verify and prune artefacts and environments that are kept.")
def cache() -> None:
    """List, verify and prune the artefacts that runs share, and targets' environments.

    WHERE is the folder of --onnxcheck-cache (.onnxcheck by default), or the address of
    --onnxcheck-cache-remote: s3://BUCKET/PREFIX or file:///FOLDER.
    """


@cache.command("ls")
@_WHERE
@json_option
def _ls(where: str, as_data: bool) -> None:
    """List builds, then environments, the longest unused first."""
    from pytest_onnxcheck.api.cache import ls
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.escaping import terminal
    from pytest_onnxcheck.report.table import file_size

    found = ls(where)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
        return
    for build in found.builds:
        state = "  in use" if build.in_use else "  damaged" if build.seconds is None else ""
        echo(f"{file_size(build.size_bytes):>8}  {_minute(build.used)}  {build.name}{state}")
    for each in found.environments:
        state = "  in use" if each.in_use else ""
        told = f"{each.name}  {terminal(each.packages)}".rstrip()
        echo(f"{file_size(each.size_bytes):>8}  {_minute(each.used)}  {told}{state}")
    counted = _counted(len(found.builds), len(found.environments))
    echo(f"{counted}, {file_size(found.size_bytes)}, in {where}")


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
    """Remove damaged builds, then what is longest unused, environments too, down to a size."""
    from pytest_onnxcheck.api.cache import prune

    _tell(prune(where, size), as_data)


@cache.command("clear")
@_WHERE
@json_option
def _clear(where: str, as_data: bool) -> None:
    """Remove every build and environment that no living run uses."""
    from pytest_onnxcheck.api.cache import clear

    _tell(clear(where), as_data)


def _tell(removed: Removed, as_data: bool) -> None:
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.escaping import terminal
    from pytest_onnxcheck.report.table import file_size

    if as_data:
        echo(as_json(removed.to_json()), nl=False)
        return
    for build in removed.builds:
        echo(f"removed {file_size(build.size_bytes):>8}  {build.name}")
    for each in removed.environments:
        told = f"{each.name}  {terminal(each.packages)}".rstrip()
        echo(f"removed {file_size(each.size_bytes):>8}  {told}")
    in_use = f", {removed.in_use} of them in use" if removed.in_use else ""
    left = _counted(removed.left, removed.environments_left)
    gone = _counted(len(removed.builds), len(removed.environments))
    size = file_size(removed.left_bytes)
    echo(f"{gone} removed, {left} left, {size}{in_use}, in {removed.where}")


def _minute(when: str) -> str:
    return when[:16].replace("T", " ")


def _counted(builds: int, environments: int) -> str:
    """`2 builds`, with environments where there are any."""
    if not environments:
        return _builds(builds)
    return f"{_builds(builds)}, {environments} environment{'s' * (environments > 1)}"


def _builds(count: int) -> str:
    return f"{count} build" if count == 1 else f"{count} builds"
