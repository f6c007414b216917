"""The tab *Download*: what was exported, and the bundle of what is released."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from pytest_onnxcheck.report.table import file_size
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import View

if TYPE_CHECKING:
    from pytest_onnxcheck.measurement import HashedFile
    from pytest_onnxcheck.serve.catalogue import Artefact
    from pytest_onnxcheck.serve.jobs.job import Job

__all__ = ["PANE", "file_name"]


#: what no file is called, on one system or another
_ODD = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]')


@dataclass(frozen=True)
class _Line:
    """An artefact, with a link to it, and its files."""

    variant: str
    shown: str
    url: str
    size: str
    created: str
    files: tuple[HashedFile, ...]


def _show(view: View) -> str:
    made = (job for job in view.jobs if job.kind == "release" and job.state == "done")
    job = next(made, None)
    bundle = None if job is None else _bundle(job)
    lines = list(_lines(view))
    return render("downloads", known=view.known, lines=lines, job=job, bundle=bundle)


def _lines(view: View) -> Iterator[_Line]:
    model = quote(view.known.name)
    for artefact in view.known.artefacts:
        variant, shown = quote(artefact.variant), file_name(view.file_name, artefact)
        url = f"../download/artefact/{model}/{variant}/{quote(shown, safe='')}"
        if len(artefact.files) > 1:  # they know one another by their names
            url = f"../api/models/{model}/artefact/{variant}"
        if artefact.checkpoint is not None:
            url += f"?{urlencode({'checkpoint': artefact.checkpoint})}"
        yield _Line(
            artefact.variant,
            shown,
            url,
            file_size(artefact.size_bytes),
            artefact.created,
            artefact.files,
        )


def _bundle(job: Job) -> tuple[str, str]:
    """The name of a bundle, and a link to it; where it was published, its address and none."""
    assert job.result is not None
    released = job.result["released"]
    uri = str(released["uri"])
    if "://" in uri:
        return uri, ""
    name = f"{PurePosixPath(uri).name}.zip"
    return name, f"../download/bundle/{quote(job.id)}/{quote(name)}"


def file_name(wanted: str, artefact: Artefact) -> str:
    """What an artefact is saved as: the name that is wanted, with its precision behind."""
    stem = _ODD.sub("_", wanted.removesuffix(".onnx")).strip(" .") or "model"
    precision = "" if artefact.precision == "fp32" else f"-{artefact.precision}"
    return f"{stem}{precision}{'.onnx' if len(artefact.files) == 1 else '.zip'}"


PANE = Pane(
    "Download",
    "Gives the exported files with their hashes. The bundle is what the manifest releases, with "
    "its evidence: the gate runs, and it is made only if every check passes.",
    _show,
    "release",
    "Make the bundle",
)
