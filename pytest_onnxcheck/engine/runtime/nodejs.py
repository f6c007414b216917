"""Starts workers in JavaScript, in node or in a browser, with packages that npm installs."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from pathlib import Path

from pytest_onnxcheck.engine.environments import clean_environment, node_modules
from pytest_onnxcheck.errors import TargetAbsent
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.processes import Child

__all__ = ["KERNEL", "SCRIPTS", "javascript_child"]

#: the scripts, and the lock of the packages
SCRIPTS = Path(__file__).with_name("javascript")

#: `kernel` in `sessions.mjs`; a change of it needs another name
KERNEL = "JavaScript 128x128x128 float32, tanh; 1"

#: how long a browser may take to end by itself
_END_SECONDS = 5.0

#: browser in the manifest -> what its program may be called
_PROGRAMS = {"chromium": ("chromium", "chromium-browser", "google-chrome", "chrome")}


def javascript_child(target: Target) -> Child:
    """A worker for a target, which starts when it is first asked.

    Raises:
        TargetAbsent: There is no node, npm or browser, or the packages must not be installed.
        RunError: npm fails.
    """
    node = shutil.which("node")
    if node is None:
        raise TargetAbsent(f"there is no node, which runs {target.runtime}: install Node.js.")
    arguments = [target.runtime.removeprefix("onnxruntime-")]
    if target.browser:
        browser = next(filter(None, map(shutil.which, _PROGRAMS[target.browser])), None)
        if browser is None:
            raise TargetAbsent(f"there is no {target.browser} here: install it.")
        arguments.append(browser)
    lock = SCRIPTS / "package-lock.json"
    packages = node_modules(lock, Path(target.kept), node=node, make=target.makes)
    environment, command = clean_environment(), [str(SCRIPTS / "worker.mjs"), str(packages)]
    if not target.browser:
        return Child(*command, *arguments, program=node, environment=environment)
    # a browser that is killed, or whose node is, leaves its files behind: they are in here
    folder = tempfile.mkdtemp(prefix="onnxcheck-")
    child = Child(
        *command,
        *arguments,
        program=node,
        environment={**environment, "TMPDIR": folder},
        patience=_END_SECONDS,
    )
    weakref.finalize(child, _remove, folder)
    return child


def _remove(folder: str) -> None:
    """Removes a folder that a browser may still write to, for it ends after its node does."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)
