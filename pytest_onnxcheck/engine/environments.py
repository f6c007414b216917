"""Environments that are made for a target: packages in a folder of their own, kept there."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from filelock import FileLock

from pytest_onnxcheck.errors import RunError, TargetAbsent
from pytest_onnxcheck.progress import stage
from pytest_onnxcheck.wording import one_line

__all__ = ["clean_environment", "interpreter_of", "made", "node_modules"]

#: how long making one may take: a registry may be slow, and some packages have hundreds of MB
_MAKING_SECONDS = 1800.0
#: how much is repeated of what an installer said
_SAID = 600

#: before 1.19, onnxruntime was built for numpy 1, and does not say so
_FOR_NUMPY_1 = re.compile(r"onnxruntime(?:-\w+)?\s*==\s*1\.(?:\d|1[0-8])(?:\.|$)")
#: name and password in an address
_SECRET = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def made(
    requirements: Sequence[str],
    folder: Path,
    *,
    python: str = sys.executable,
    make: bool = True,
    mend: str = "mend `environment`, name an interpreter (`python`)",
) -> Path:
    """The interpreter of an environment with these packages; made unless it is there.

    It is made by uv where that is installed, else by `venv` and pip, under a temporary name:
    what is there is whole. Two processes that want one wait for each other.

    Args:
        requirements: As pip takes them, e.g. `onnxruntime==1.20.1`.
        folder: Where environments are kept, one folder each.
        python: The interpreter that it is made with.
        make: Whether it may be made.
        mend: What to do where it cannot be made, for a person.

    Raises:
        TargetAbsent: It is not there, and must not be made.
        RunError: It cannot be made.
    """
    wanted = _completed(requirements)
    named = json.dumps([wanted, str(Path(python).resolve())])
    listed = ", ".join(requirements)
    home = _kept(folder, named, listed, make, lambda home: _make(wanted, home, python, mend))
    return interpreter_of(home)


def node_modules(lock: Path, folder: Path, *, node: str, make: bool = True) -> Path:
    """The folder that `npm ci` installed the packages of a lock into; it does unless it is there.

    No script of a package is run. Two processes that want one wait for each other.

    Args:
        lock: The `package-lock.json`, with its `package.json` beside it.
        folder: Where environments are kept, one folder each.
        node: Node, for which they are: npm is looked for beside it first.
        make: Whether they may be installed.

    Raises:
        TargetAbsent: They are not there, and must not or cannot be installed: there is no npm.
        RunError: npm fails.
    """
    named = lock.read_text(encoding="utf-8")
    listed = ", ".join(
        f"{name} {version}"
        for name, version in json.loads(named)["packages"][""]["dependencies"].items()
    )
    return _kept(folder, named, listed, make, lambda home: _install(lock, listed, home, node))


def _kept(folder: Path, named: str, listed: str, make: bool, build: Callable[[Path], None]) -> Path:
    """The folder of an environment, which is made unless it is there.

    Args:
        folder: Where environments are kept.
        named: What makes this one another than others.
        listed: Its packages, for a person.
        make: Whether it may be made.
        build: Makes it in a folder, whole or not at all.

    Raises:
        TargetAbsent: It is not there, and must not be made.
        RunError: It cannot be made.
    """
    key = hashlib.sha256(named.encode()).hexdigest()[:16]
    home = folder / key
    if home.exists():
        return home
    if not make:
        raise TargetAbsent(
            f"the environment of {listed} is not in {folder}, and none is made "
            "(--onnxcheck-no-environments)."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
        with FileLock(folder / f"{key}.lock"):
            if not home.exists():
                with stage("making an environment", listed):
                    build(home)
    except OSError as error:
        raise RunError(
            f"the environment of {listed} cannot be kept in {folder}: {error}. Name a folder with "
            "room (--onnxcheck-cache=DIR)"
        ) from error
    return home


def interpreter_of(home: Path) -> Path:
    """The interpreter of an environment in a folder."""
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _completed(requirements: Sequence[str]) -> list[str]:
    """The requirements, with numpy 1 for what was built for it and does not say so."""
    numpy = any(re.match(r"numpy\b", each) for each in requirements)
    old = any(_FOR_NUMPY_1.match(each) for each in requirements)
    return [*requirements, "numpy<2"] if old and not numpy else list(requirements)


def _make(requirements: Sequence[str], home: Path, python: str, mend: str) -> None:
    """Makes an environment, which other processes see when it is whole.

    Raises:
        RunError: That failed.
    """
    with _workspace(home) as work:
        own = str(interpreter_of(work))
        uv = _uv()
        if uv:
            create = [*uv, "venv", "--quiet", "--no-project", "--python", python, str(work)]
            install = [*uv, "pip", "install", "--quiet", "--python", own, *requirements]
        else:
            create = [python, "-m", "venv", str(work)]
            pip = [own, "-m", "pip", "--disable-pip-version-check", "--no-input"]
            install = [*pip, "install", "--quiet", *requirements]
        listed = ", ".join(requirements)
        _run(create, listed, mend)
        _run(install, listed, mend)


def _install(lock: Path, listed: str, home: Path, node: str) -> None:
    """Installs what a lock names, which other processes see when it is whole.

    Raises:
        TargetAbsent: There is no npm.
        RunError: npm fails.
    """
    npm = shutil.which("npm", path=str(Path(node).parent)) or shutil.which("npm")
    if npm is None:
        raise TargetAbsent(f"there is no npm, which installs {listed}: install it (apt: npm).")
    with _workspace(home) as work:
        work.mkdir()
        for name in ("package.json", lock.name):
            shutil.copy(lock.with_name(name), work / name)
        quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
        mend = "see whether npm reaches its registry"
        _run([npm, "ci", "--prefix", str(work), *quiet], listed, mend)


@contextlib.contextmanager
def _workspace(home: Path) -> Iterator[Path]:
    """Where an environment is made; it then gets its name, unless that failed."""
    work = home.with_name(f".making-{home.name}")
    shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
    try:
        yield work
        work.rename(home)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _uv() -> list[str]:
    """How uv is called; empty where it is not installed."""
    beside = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if beside:
        return [beside]
    return [sys.executable, "-m", "uv"] if importlib.util.find_spec("uv") else []


def _run(command: Sequence[str], listed: str, mend: str) -> None:
    """Runs a command in an environment without this interpreter's own settings.

    Raises:
        RunError: It fails; what it said last is in the text, and what may mend it.
    """
    what = f"the environment of {listed} cannot be made"
    mend = f"{mend}, or use --onnxcheck-no-environments"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            env=clean_environment(),
            timeout=_MAKING_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunError(f"{what}: {one_line(error, _SAID)}; {mend}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", errors="replace")
        told = one_line(_SECRET.sub("****", said))[-_SAID:] or f"exit status {done.returncode}"
        by = next(Path(word).name for word in command if word not in (sys.executable, "-m"))
        raise RunError(f"{what} by {by}: {told}; {mend}")


def clean_environment() -> dict[str, str]:
    """This process's environment variables, without those by which Python finds its modules."""
    own = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
    return {name: value for name, value in os.environ.items() if name not in own}
