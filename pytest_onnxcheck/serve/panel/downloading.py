"""The tab *Download*: what was exported, and the bundle of what is released."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_onnxcheck.report.table import file_size
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import View

if TYPE_CHECKING:
    from pytest_onnxcheck.measurement import HashedFile
    from pytest_onnxcheck.serve.catalogue import Artefact

__all__ = ["PANE", "file_name"]


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
    return render(
        "downloads",
        lines=list(_lines(view)),
        bundle=next(
            (job for job in view.jobs if job.kind == "release" and job.state == "done"), None
        ),
    )


def _lines(view: View) -> Iterator[_Line]:
    for artefact in view.known.artefacts:
        shown = file_name(view.file_name, artefact)
        yield _Line(
            artefact.variant,
            shown,
            f"artefact/{quote(view.known.name)}/{quote(artefact.variant)}/{quote(shown, safe='')}",
            file_size(artefact.size_bytes),
            artefact.created,
            artefact.files,
        )


def file_name(wanted: str, artefact: Artefact) -> str:
    """What an artefact is saved as: the name that is wanted, with its precision behind."""
    stem = wanted.removesuffix(".onnx")
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
