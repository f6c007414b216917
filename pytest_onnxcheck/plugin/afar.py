"""Workers of pytest-xdist in another folder, or on another machine: what they send is made ours.

A worker names files by its own paths, and leaves the folders that reproduce failures where it is.
Its reports are given the paths of the process that sees all, and bring these folders along.
"""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import os
import platform
import shlex
import shutil
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import pytest

from pytest_onnxcheck.plugin.settings import SETTINGS

__all__ = ["Afar", "send"]

#: what a worker is given under this name: machine and rootdir of the process that sees all
_INPUT = "onnxcheck_home"


def _home(config: pytest.Config) -> str:
    return f"{platform.node()}:{config.rootpath}"


def at_home(config: pytest.Config, measurement: Any) -> Any:
    """A measurement whose command that reproduces a failure is to be given in the rootdir."""
    diagnosis = getattr(measurement, "diagnosis", None)
    if not _is_afar(config) or diagnosis is None or diagnosis.repro is None:
        return measurement
    *python, script = shlex.split(diagnosis.repro)
    script = os.path.relpath(script, config.rootpath)
    found = dataclasses.replace(diagnosis, repro=shlex.join([*python, script]))
    return dataclasses.replace(measurement, diagnosis=found)


def _is_afar(config: pytest.Config) -> bool:
    home = getattr(config, "workerinput", {}).get(_INPUT)
    return home is not None and home != _home(config)


def send(config: pytest.Config, report: pytest.TestReport, measurement: object) -> None:
    """Puts on a report of a worker that is elsewhere what the process that sees all lacks.

    Args:
        config: pytest's.
        report: The report of a check.
        measurement: What the check measured; None if it did not.
    """
    if not _is_afar(config):
        return
    report.onnxcheck_root = str(config.rootpath)  # type: ignore[attr-defined]
    diagnosis = getattr(measurement, "diagnosis", None)
    if diagnosis is None or diagnosis.repro is None:
        return
    folder = (config.rootpath / shlex.split(diagnosis.repro)[-1]).resolve().parent
    artefacts = config.stash[SETTINGS].artifacts.resolve()
    if folder.is_relative_to(artefacts) and folder.is_dir():
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(folder, arcname=".")
        place = folder.relative_to(artefacts).as_posix()
        text = base64.b64encode(packed.getvalue()).decode()  # a report may become JSON
        report.onnxcheck_repro = (place, text)  # type: ignore[attr-defined]


class Afar:
    """A plugin of the process that sees every report."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tells a worker where this process is."""
        node.workerinput[_INPUT] = _home(self._config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gives a report our paths, and unpacks what it brought, before anybody reads it."""
        root = vars(report).pop("onnxcheck_root", None)
        repro = vars(report).pop("onnxcheck_repro", None)
        if root is None:
            return
        from pytest_onnxcheck.record.moving import moved

        own: Any = report
        ours = partial(moved, old=PurePath(root), new=self._config.rootpath)
        own.onnxcheck = ours(own.onnxcheck)
        if repro is not None:
            place, packed = repro
            _unpack(self._config.stash[SETTINGS].artifacts, place, packed, ours)


def _unpack(artefacts: Path, place: str, packed: str, ours: Callable[[Any], Any]) -> None:
    """Puts a folder below the artefacts' in place of what is there.

    Args:
        artefacts: Where.
        place: The folder's, below that.
        packed: What is in it.
        ours: Gives what JSON holds the paths of this process.
    """
    from pytest_onnxcheck.files import building

    home = (artefacts / place).resolve()
    if not home.is_relative_to(artefacts.resolve()):  # a worker is no stranger, but may be wrong
        return
    home.parent.mkdir(parents=True, exist_ok=True)
    with building(home.parent) as temporary:
        folder = temporary / "new"
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(packed))) as archive:
            archive.extractall(folder, filter="data")
        about = folder / "repro.json"  # says where the model's project is
        moved = ours(json.loads(about.read_text(encoding="utf-8")))
        text = json.dumps(moved, indent=2, ensure_ascii=False)
        about.write_text(f"{text}\n", encoding="utf-8")
        shutil.rmtree(home, ignore_errors=True)
        folder.rename(home)
