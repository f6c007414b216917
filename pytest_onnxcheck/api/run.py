"""The gate from Python: pytest in a process of its own, and what it left."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.record.record import Record, load

__all__ = ["gate", "run"]

#: lines of pytest's output that an error repeats
_TAIL = 15


def run(
    manifest: Path | str = "models.toml",
    *,
    models: Sequence[str] = (),
    targets: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> Record:
    """Runs `pytest --onnxcheck` on a manifest, in its folder.

    Args:
        manifest: The manifest.
        models: Only models whose name matches one of these globs.
        targets: Targets in place of the manifest's.
        arguments: More arguments of pytest, e.g. `["-k", "fp32", "--onnxcheck-strict"]`.

    Returns:
        The record; its `exitstatus` is 0 where every check passed, and 1 where one failed.

    Raises:
        OnnxCheckError: pytest did not run the manifest; the text ends with what it printed.
    """
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        record = Path(folder) / "record.json"
        return gate(manifest, record, models=models, targets=targets, arguments=arguments)


def gate(
    manifest: Path | str,
    record: Path,
    *,
    models: Sequence[str] = (),
    targets: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> Record:
    """The same as `run`, with the record left in a file."""
    path = Path(manifest).absolute()
    command = [sys.executable, "-m", "pytest", path.name, "--onnxcheck", "-q"]
    command += [f"--onnxcheck-manifest={path}", f"--onnxcheck-json={record}"]
    command += [f"--onnxcheck-model={model}" for model in models]
    command += [f"--onnxcheck-target={target}" for target in targets]
    # the run is of its own, also where it is started from a test
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [*command, *arguments], cwd=path.parent, env=env, capture_output=True, text=True
    )
    if not record.is_file() or done.returncode in (3, 4):  # an internal error, wrong usage
        raise OnnxCheckError(
            f"{manifest}: pytest ended with {done.returncode} and ran nothing:\n{_tail(done)}"
        )
    found = load(record)
    if not found.finished and done.returncode not in (0, 1):
        raise OnnxCheckError(
            f"{manifest}: pytest ended with {done.returncode} after {len(found.checks)} of "
            f"{found.selected} checks:\n{_tail(done)}"
        )
    return found


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-_TAIL:])
