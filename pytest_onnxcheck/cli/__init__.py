"""The `onnxcheck` command: a thin shell over the package's functions, one module a command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from pytest_onnxcheck import __version__
from pytest_onnxcheck.cli.bench import bench
from pytest_onnxcheck.cli.cache import cache
from pytest_onnxcheck.cli.compare import compare
from pytest_onnxcheck.cli.compat import compat
from pytest_onnxcheck.cli.doctor import doctor
from pytest_onnxcheck.cli.export import export
from pytest_onnxcheck.cli.frontier import frontier
from pytest_onnxcheck.cli.history import history
from pytest_onnxcheck.cli.init import init
from pytest_onnxcheck.cli.inspect import inspect
from pytest_onnxcheck.cli.merge import merge
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.publish import publish
from pytest_onnxcheck.cli.register import register
from pytest_onnxcheck.cli.release import release
from pytest_onnxcheck.cli.releases import releases
from pytest_onnxcheck.cli.report import report
from pytest_onnxcheck.cli.schema import schema
from pytest_onnxcheck.cli.serve import serve
from pytest_onnxcheck.cli.table import table
from pytest_onnxcheck.cli.validate import validate
from pytest_onnxcheck.cli.verify import verify
from pytest_onnxcheck.cli.worker import worker
from pytest_onnxcheck.errors import OnnxCheckError

__all__ = ["commands", "main"]

#: in the order in which `--help` lists them
_COMMANDS: tuple[click.Command, ...] = (
    *(init, validate, export, inspect, compat, bench),
    *(report, table, merge, compare, frontier, release, verify, publish, releases, register),
    *(serve, worker, history, cache, schema, doctor),
)


class _Commands(click.Group):
    """A group that lists its commands in their own order."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The commands' names, as they were added."""
        return list(self.commands)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    epilog="Exit status: 0 all is well, 1 something failed, 2 wrong usage.",
)
@click.version_option(__version__, message="%(version)s")
def _onnxcheck() -> None:
    """Helpers around `pytest --onnxcheck`, which is what checks models."""


for _command in _COMMANDS:
    _onnxcheck.add_command(_command)


def commands() -> list[str]:
    """The names of all commands, in the order of `--help`."""
    return [str(command.name) for command in _COMMANDS]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status: 0, 1 when something failed, 2 for wrong usage."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        status = _onnxcheck.main(arguments, prog_name="onnxcheck", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return 130  # as shells say of a process that Ctrl-C ended
    except FileNotFoundError as error:
        from pytest_onnxcheck.files import not_found

        echo(error if error.filename is None else not_found(Path(error.filename)), err=True)
        return 1
    except (OnnxCheckError, OSError) as error:
        echo(error, err=True)
        return 1
    return status if isinstance(status, int) else 0
