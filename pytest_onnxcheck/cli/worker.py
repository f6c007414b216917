"""`onnxcheck worker`: runs the jobs that others ask for."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click

from pytest_onnxcheck.cli.options import job_settings, store_options, worker_options
from pytest_onnxcheck.cli.printing import echo

__all__ = ["worker"]


@click.command()
@store_options
@worker_options
def worker(manifest: Path, store: str | None, folder: Path | None, **options: Any) -> None:
    """Run the jobs of a manifest, one after the other, until Ctrl-C.

    onnxcheck serve has one such worker of its own; start more on this machine, or, with a --store
    that all reach, on others. Each job runs in processes of its own.
    """
    from pytest_onnxcheck.manifest import load_manifest
    from pytest_onnxcheck.serve.jobs.queue import open_jobs
    from pytest_onnxcheck.serve.jobs.store import without_password
    from pytest_onnxcheck.serve.jobs.worker import Worker

    load_manifest(manifest.absolute(), shown=str(manifest))
    settings = job_settings(options)
    settings.check()
    jobs = open_jobs(manifest, store=store, folder=folder)
    running = Worker(jobs, settings)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: running.stop())
    echo(f"working off the jobs of {manifest} in {without_password(jobs.store)}; Ctrl-C ends it")
    running.run()
