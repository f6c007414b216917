"""Servers as users start them, and their jobs followed to the end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx


@contextmanager
def started(manifest: Path, *options: str, **environment: str) -> Iterator[tuple[str, int]]:
    """URL and process of `onnxcheck serve --api`, which is ended afterwards."""
    command = [sys.executable, "-m", "pytest_onnxcheck.cli", "serve", "--api", "--port", "0"]
    with subprocess.Popen(
        [*command, *options],
        cwd=manifest.parent,
        env={**os.environ, **environment},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        yield from _served(process)


def _served(process: subprocess.Popen[str]) -> Iterator[tuple[str, int]]:
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found is not None, line + process.stderr.read()
        yield found[0], process.pid
    finally:
        process.terminate()
        status, told = process.wait(30), process.stderr.read()
        assert status == 0, told
        assert "Traceback" not in told


def ended(client: httpx.Client, job: str, seconds: float = 300.0) -> dict:
    """A job, once it has ended."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = client.get(f"/api/jobs/{job}").json()
        if found["ended"] is not None:
            return found
        time.sleep(0.2)
    raise AssertionError(f"{job} did not end within {seconds} s: {found}")
