"""The tab *Export*: files in the chosen precisions, each held against PyTorch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_onnxcheck.report.export import close_text, grade
from pytest_onnxcheck.report.html.plots import Bar, bars
from pytest_onnxcheck.report.table import file_size
from pytest_onnxcheck.report.text import allowed
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import View

if TYPE_CHECKING:
    from pytest_onnxcheck.api.export import Exported, ExportedFile
    from pytest_onnxcheck.judge import Margin
    from pytest_onnxcheck.serve.jobs.job import Job

__all__ = ["PANE"]


@dataclass(frozen=True)
class _Line:
    """One variant: its size as a bar, how close it is to PyTorch, and what became of it."""

    variant: str
    size: Bar | None
    error: str
    allowed: str
    grade: str
    trouble: str
    warnings: tuple[str, ...]


def _show(view: View) -> str:
    if view.known.given:
        return render("given", known=view.known)
    for job in view.jobs:
        found = _exported(job)
        if found is not None:
            lines = list(_lines(found))
            troubles: dict[str, list[str]] = {}
            for line in lines:
                if line.trouble:
                    troubles.setdefault(line.trouble, []).append(line.variant)
            shown = {"lines": lines, "troubles": troubles, "exported": found}
            return render("exported", job=job, **shown)
    if view.goes_on("export"):
        return ""
    text = "Nothing is exported yet: choose precisions above, and press Export."
    return render("nothing", text=text)


def _exported(job: Job) -> Exported | None:
    from pytest_onnxcheck.api.export import Exported
    from pytest_onnxcheck.record.encoding import read

    if job.kind != "export" or not job.ended or job.result is None:
        return None
    return read(Exported, job.result)


def _lines(exported: Exported) -> Iterator[_Line]:
    sized = [file for file in exported.files if file.size_bytes]
    drawn = bars(
        [(file.variant, float(file.size_bytes), _size(file), _kind(file)) for file in sized]
    )
    sizes = {bar.label: bar for bar in drawn}
    for file in exported.files:
        checked = file.checked
        close = None if checked is None else checked.closeness
        yield _Line(
            variant=file.variant,
            size=sizes.get(file.variant),
            error="" if close is None else close_text(close),
            allowed="" if checked is None else _allowed(checked.margins),
            grade=grade(file),
            trouble=file.error or "",
            warnings=() if checked is None else checked.warnings,
        )


def _allowed(margins: Sequence[Margin]) -> str:
    """What is nearest to its limit, or farthest beyond, beside what is allowed."""
    if not margins:
        return ""
    worst = max(margins, key=lambda margin: margin.share)
    metric = worst.limit.key.partition(".")[2].replace("safety", "floors")
    return f"{metric} {worst.value:.2g}, allowed {allowed(worst.limit)}"


def _kind(file: ExportedFile) -> str:
    return "fp32" if file.precision == "fp32" else "size"


def _size(file: ExportedFile) -> str:
    size, share = file_size(file.size_bytes), file.size_ratio
    if share is None or file.precision == "fp32":
        return size
    change = 1 - share
    return f"{size}, {abs(change):.0%} {'smaller' if change >= 0 else 'larger'} than fp32"


PANE = Pane(
    "Export",
    "Writes an ONNX file for each precision, and holds it against PyTorch.",
    _show,
    "export",
    "Export",
)
