"""The tab *Download*: what was exported, and the bundle of what is released."""

from __future__ import annotations

import re
from collections import Counter
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
    sizes: str
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
    plain = Counter(file_name(view.file_name, it) for it in view.known.artefacts)
    for artefact in view.known.artefacts:
        variant, shown = quote(artefact.variant), file_name(view.file_name, artefact)
        if plain[shown] > 1:
            shown = file_name(view.file_name, artefact, f"-{artefact.variant}")
        url = f"../download/artefact/{model}/{variant}/{quote(shown, safe='')}"
        if len(artefact.files) > 1:  # they know one another by their names
            url = f"../api/models/{model}/artefact/{variant}"
        yield _Line(
            artefact.variant,
            _sizes(artefact),
            shown,
            f"{url}?{urlencode(artefact.query)}",
            file_size(artefact.size_bytes),
            artefact.created,
            artefact.files,
        )


def _sizes(artefact: Artefact) -> str:
    """Which sizes it takes, where not all."""
    if artefact.dynamic:
        return ""
    return "fixed sizes" if artefact.batch_size is None else f"batch {artefact.batch_size} only"


def _bundle(job: Job) -> tuple[str, str]:
    """The name of a bundle, and a link to it; where it was published, its address and none."""
    assert job.result is not None
    released = job.result["released"]
    uri = str(released["uri"])
    if "://" in uri:
        return uri, ""
    name = f"{PurePosixPath(uri).name}.zip"
    return name, f"../download/bundle/{quote(job.id)}/{quote(name)}"


def file_name(wanted: str, artefact: Artefact, kind: str | None = None) -> str:
    """What an artefact is saved as: the name that is wanted, with what it is behind.

    Args:
        wanted: The name.
        artefact: The artefact.
        kind: What it is; default: its precision, unless that is fp32.
    """
    stem = _ODD.sub("_", wanted.removesuffix(".onnx")).strip(" .") or "model"
    if kind is None:
        kind = "" if artefact.precision == "fp32" else f"-{artefact.precision}"
    end = ".onnx" if len(artefact.files) == 1 else ".zip"
    return f"{stem}{kind}{artefact.suffix}{end}"


PANE = Pane(
    "Download",
    "Gives the exported files with their hashes. The bundle is what the manifest releases, with "
    "its evidence: the gate runs, and it is made only if every check passes.",
    _show,
    "release",
    "Make the bundle",
)
