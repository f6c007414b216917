"""Starts workers in JavaScript, in node or in a browser, with packages that npm installs."""

from __future__ import annotations

import shutil
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
    return Child(
        str(SCRIPTS / "worker.mjs"),
        str(packages),
        *arguments,
        program=node,
        environment=clean_environment(),
    )
