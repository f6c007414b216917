"""`onnxcheck serve`: the panel and the HTTP API."""

from __future__ import annotations

from typing import Any

import click

from pytest_onnxcheck.cli.options import SIZE, job_settings, store_options, worker_options
from pytest_onnxcheck.cli.printing import echo

__all__ = ["serve"]


@click.command()
@click.option("--api", "api_only", is_flag=True, help="The HTTP API alone, without the panel.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any."
)
@click.option(
    "--token",
    envvar="ONNXCHECK_TOKEN",
    metavar="TOKEN",
    help="What every request has to show; required unless HOST is this machine's own. Better in "
    "ONNXCHECK_TOKEN, where other users do not see it.",
)
@click.option(
    "--allowed-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name that a proxy has for it; may be repeated.",
)
@click.option("--root-path", default="", metavar="PATH", help="The path that a proxy takes off.")
@click.option("--uploads", is_flag=True, help="Take checkpoints that people send.")
@click.option(
    "--upload-limit",
    type=SIZE,
    default="2GB",
    show_default=True,
    metavar="SIZE",
    help="Of the largest of them.",
)
@click.option(
    "--worker/--no-worker",
    default=True,
    help="Run jobs here (the default), or leave them to onnxcheck worker.",
)
@store_options
@worker_options
def serve(
    api_only: bool,
    names: tuple[str, ...],
    uploads: bool,
    upload_limit: int,
    worker: bool,
    **options: Any,
) -> None:
    """Serve the panel and the HTTP API for the models of a manifest.

    Jobs run in processes of their own, which end with the server; Ctrl-C ends it. What had ended
    is there when it is started again.
    """
    from pytest_onnxcheck.errors import OnnxCheckError

    try:
        from pytest_onnxcheck.serve.starting import Server
        from pytest_onnxcheck.serve.starting import serve as start

        settings = job_settings(options)
        server = Server(
            panel=not api_only,
            names=names,
            uploads=upload_limit if uploads else None,
            worker=settings if worker else None,
            **options,
        )
        start(server, lambda text: echo(text, err=True))
    except ModuleNotFoundError as error:
        if str(error.name).startswith("pytest_onnxcheck"):
            raise
        raise OnnxCheckError(
            f"onnxcheck serve needs {error.name}: pip install '/path/to/the/clone[panel]', "
            "pytest-onnxcheck's, which is not on PyPI yet"
        ) from error
