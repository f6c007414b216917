"""Runs pytest many times for the price of importing torch once: each run is a fork of this process.

A run of the gate in a process of its own spends three quarters of its time on imports. This script
makes them once and forks for every request; only Linux does that safely, elsewhere every run gets
an interpreter (`Project.pytest`). A request is one JSON list a line: folder, arguments, environment
and the file for the output; the answer is one line with the exit status, negative for a signal.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import traceback
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

#: nothing of a pytest plugin, whose assertions pytest would rewrite while it imports it
IMPORTS = (
    *("pytest", "numpy", "pydantic", "onnx", "onnxruntime.quantization", "onnxscript", "torch"),
    *("torch.export", "torch.onnx._internal.torchscript_exporter.utils", "sklearn.metrics"),
    *("torch._dynamo", "torch.onnx._internal.exporter._core", "networkx"),
)
#: conftest of a run that imports the rest, as pytest does it: with assertions rewritten
PLUGINS = """
    import importlib
    import pkgutil

    import hypothesis
    import pytest_onnxcheck

    for found in pkgutil.walk_packages(pytest_onnxcheck.__path__, "pytest_onnxcheck."):
        importlib.import_module(found.name)
"""
#: what that run collects, for what is imported when it is
MANIFEST = """
    schema = 1
    [models.net]
    factory = "nets.py:net"
    dims.batch = [1]
    inputs.x.shape = ["batch", 8]
    outputs.y.shape = ["batch", 4]
"""
#: seconds after which the kernel ends a run
LONGEST = 600
#: exit status of a fork that failed outside pytest, which has none of this number
NOT_RUN = 70


class Warm:
    """The process that forks. Started when it is first needed."""

    @functools.cached_property
    def _process(self) -> subprocess.Popen[str]:
        # as the plugin sets it before torch is imported, which is here
        env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
        return subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )

    def pytest(
        self, folder: Path, args: Sequence[str], env: Mapping[str, str]
    ) -> tuple[int, str, str]:
        """Exit status, stdout and stderr of pytest in a folder."""
        if "_process" in vars(self) and self._process.poll() is not None:
            del self._process  # it was killed, for want of memory perhaps
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as temporary:
            out, err = (Path(temporary, name) for name in ("out", "err"))
            request = [str(folder), args, {"OMP_WAIT_POLICY": "PASSIVE", **env}, str(out), str(err)]
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, "the process that forks has ended"
            assert int(answer) != NOT_RUN, err.read_text()
            return int(answer), out.read_text(), err.read_text()

    def close(self) -> None:
        """Ends it: it reads the end of its input."""
        if "_process" in vars(self):
            self._process.communicate()


def _run(folder: str, args: list[str], env: dict[str, str], stdout: str, stderr: str) -> int:
    """What a fork does."""
    signal.alarm(LONGEST)
    for descriptor, path in enumerate((os.devnull, stdout, stderr)):
        opened = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.path[0] = folder  # as of `python -m pytest` there
    import pytest

    try:
        return int(pytest.main(args))
    except Exception:  # a plugin's: Python would end with 1
        traceback.print_exc()
        return 1


def _import_plugins() -> None:
    """Collects a manifest in this process, after which all that a run imports is imported."""
    import pytest

    before = list(sys.path)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("conftest.py").write_text(textwrap.dedent(PLUGINS))
        Path("models.toml").write_text(textwrap.dedent(MANIFEST))
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            status = pytest.main(
                [
                    "--onnxcheck",
                    "--collect-only",
                    "-p",
                    "no:cacheprovider",
                    "-p",
                    "no:hypothesispytest",
                ]
            )
    assert status == 0, "the process that forks cannot collect"
    sys.path[:] = before
    del sys.modules["conftest"]


def _serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what an import prints is no answer
    for name in IMPORTS:
        importlib.import_module(name)
    _import_plugins()
    # numpy has threads of its own, which Python 3.12 warns of; a fork starts them anew
    warnings.filterwarnings("ignore", category=DeprecationWarning, message=".*fork")
    gc.freeze()  # collecting would copy what the forks share
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            status = NOT_RUN
            try:
                status = _run(*json.loads(line))
                atexit._run_exitfuncs()
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
