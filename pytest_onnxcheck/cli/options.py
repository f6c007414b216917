"""Options that several commands have, and how their values are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.settings import Settings

    _Type = click.ParamType[Any]
else:  # generic since click 8.2
    _Type = click.ParamType

__all__ = [
    *("ADDRESS", "FILE", "SHAPE", "SIZE", "Named", "job_settings", "json_option"),
    *("recipe_options", "registry_options", "shapes", "store_options", "trust_option"),
    *("variant_options", "worker_options"),
]

_F = TypeVar("_F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path)


class Named(_Type):
    """One of the names that the manifest has for something, which are only looked up when used."""

    def __init__(self, term: str) -> None:
        self.name = term.lower()
        self.term = term

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The name, if it is one."""
        from typing import get_args

        from pytest_onnxcheck.manifest import terms

        names = get_args(getattr(terms, self.term))
        if value not in names:
            self.fail(f"{value!r} is not one of {', '.join(names)}", param, ctx)
        return str(value)


class _Shape(_Type):
    name = "name=shape"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, tuple[int | str, ...]]:
        """`x=batch,3,224,224` as a name and sizes."""
        name, equals, sizes = str(value).partition("=")
        parts = [part.strip() for part in sizes.split(",") if part.strip()]
        if not (name.strip() and equals):
            self.fail(f"{value!r}: write NAME=SIZE,SIZE, e.g. image=batch,3,224,224", param, ctx)
        shape = tuple(int(part) if part.isdecimal() else part for part in parts)
        wrong = [part for part in shape if isinstance(part, str) and part != "batch"]
        if wrong or 0 in shape:
            self.fail(f"{value!r}: a size is a number from 1 up, or the word batch", param, ctx)
        return name.strip(), shape


class _Size(_Type):
    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """`20GB` as bytes."""
        from pytest_onnxcheck.digits import byte_count

        try:
            return byte_count(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class _Address(_Type):
    name = "uri"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        """The address of a store as a URI, which is the same in every folder."""
        from pytest_onnxcheck.errors import StorageError
        from pytest_onnxcheck.storage import parse

        try:
            return parse(str(value)).uri()
        except StorageError as error:
            self.fail(str(error), param, ctx)


ADDRESS = _Address()
SHAPE = _Shape()
SIZE = _Size()


def shapes(given: Sequence[tuple[str, tuple[int | str, ...]]]) -> dict[str, Any]:
    """What `--input` gave, by name."""
    return dict(given)


def _with(command: _F, *options: Callable[[_F], _F]) -> _F:
    """A command with options, the last of which its help has first."""
    for option in options:
        command = option(command)
    return command


def variant_options(command: _F) -> _F:
    """Which variants: `precisions`, `exporter` and `opset`."""
    return _with(
        command,
        click.option(
            "--opset",
            type=click.IntRange(9, 30),
            metavar="N",
            help="Default: the manifest's first, or 20.",
        ),
        click.option(
            "--exporter", type=Named("Exporter"), metavar="NAME", help="dynamo or torchscript."
        ),
        click.option(
            "--precision",
            "precisions",
            type=Named("Precision"),
            multiple=True,
            metavar="NAME",
            help="fp32, fp16, int8-dynamic, ...; may be repeated. Default: the manifest's, or "
            "fp32.",
        ),
    )


def json_option(command: _F) -> _F:
    """`--json`, as `as_data`."""
    decorate = click.option("--json", "as_data", is_flag=True, help="Print the result as JSON.")
    return decorate(command)


def registry_options(command: _F) -> _F:
    """What becomes of a version in the registry: `alias` and `stage`."""
    return _with(
        command,
        click.option(
            "--stage",
            metavar="STAGE",
            help="Put the version into a stage, which MLflow has deprecated.",
        ),
        click.option("--alias", metavar="NAME", help="Move an alias to the version: candidate."),
    )


def trust_option(command: _F) -> _F:
    """`--trust`."""
    decorate = click.option(
        "--trust", is_flag=True, help="Let the checkpoint run code: only for files of your own."
    )
    return decorate(command)


def recipe_options(command: _F) -> _F:
    """Where inputs and outputs are declared: `manifest`, `model`, `factory`, `inputs`, `trust`."""
    return _with(
        command,
        trust_option,
        click.option(
            "--input",
            "inputs",
            type=SHAPE,
            multiple=True,
            metavar="NAME=SHAPE",
            help="Shape of an input without a manifest, e.g. x=batch,3,224,224.",
        ),
        click.option(
            "--factory",
            metavar="MODULE:NAME",
            help="What builds the model without a manifest.",
        ),
        click.option("--model", metavar="NAME", help="The model of the manifest."),
        click.option(
            "--manifest",
            type=FILE,
            help="Declares the model; default: models.toml, where it has the checkpoint.",
        ),
    )


def store_options(command: _F) -> _F:
    """Whose jobs, and where they are: `manifest`, `store`, `folder`."""
    return _with(
        command,
        click.option(
            "--folder",
            type=FILE,
            help="Where the files of jobs are put; default: .onnxcheck/serve beside the manifest.",
        ),
        click.option(
            "--store",
            metavar="URL",
            envvar="ONNXCHECK_STORE",
            help="Where the jobs are: redis://HOST:PORT/DB, which machines share; default: a file "
            "in the folder. Also ONNXCHECK_STORE.",
        ),
        click.option(
            "--manifest",
            type=FILE,
            default=Path("models.toml"),
            show_default=True,
            help="Declares the models.",
        ),
    )


def worker_options(command: _F) -> _F:
    """What jobs are held to, and where they keep what they build: `settings`' own."""
    return _with(
        command,
        click.option(
            "--sign",
            "key",
            type=FILE,
            metavar="KEY",
            help="Sign releases with this private key; see onnxcheck release.",
        ),
        click.option(
            "--release-to",
            "releases",
            type=ADDRESS,
            metavar="URI",
            help="Publish releases there: s3://BUCKET/PREFIX or file:///FOLDER; default: a bundle "
            "among the job's files.",
        ),
        click.option(
            "--cache-remote",
            type=ADDRESS,
            metavar="URI",
            help="Fetch artefacts from there, and store there what is built.",
        ),
        click.option(
            "--cache-size", type=SIZE, metavar="SIZE", help="Hold that folder to a size, as 20GB."
        ),
        click.option(
            "--cache", type=FILE, help="Keep artefacts there, where other checkouts find them too."
        ),
        click.option(
            "--artifacts", type=FILE, help="Default: .onnxcheck beside the manifest, as the gate's."
        ),
        click.option(
            "--job-memory", type=SIZE, metavar="SIZE", help="End a job that holds more, as 8GB."
        ),
        click.option(
            "--job-timeout",
            type=click.FloatRange(0, min_open=True),
            metavar="SECONDS",
            help="End a job that takes longer.",
        ),
    )


def job_settings(options: dict[str, Any]) -> Settings:
    """What `worker_options` gave; they are taken out of the options."""
    from pytest_onnxcheck.serve.jobs.settings import Settings

    found = {name: options.pop(name) for name in ("cache_size", "cache_remote", "releases")}
    for name in ("artifacts", "cache", "key"):
        path = options.pop(name)
        found[name] = None if path is None else str(path.absolute())
    return Settings(options.pop("job_timeout"), options.pop("job_memory"), **found)
