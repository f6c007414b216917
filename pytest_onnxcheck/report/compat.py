"""What `onnxcheck compat` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_onnxcheck.wording import several

if TYPE_CHECKING:
    from pytest_onnxcheck.api.compat import Compatibility, Release

__all__ = ["compatibility_lines"]

_LABEL = 8
#: reasons that are told of a release, at most
_REASONS = 3


def compatibility_lines(found: Compatibility, *, width: int = 80) -> Iterator[str]:
    """The file's versions, then a line or more for each release.

    Args:
        found: What is known of the file.
        width: Columns.
    """
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    yield from _wrapped("file", f"IR version {found.ir_version}, opset {opsets}", width)
    if found.unknown:
        text = f"not in the table, nothing is said of them: {several(found.unknown, 5)}"
        yield from _wrapped("", text, width)
    for release in found.releases:
        yield from _wrapped(release.version, _said(release, ran=found.ran), width)


def _said(release: Release, *, ran: bool) -> str:
    if release.tried is None:
        text = f"does not load: {_reasons(release)}" if release.obstacles else "loads"
        return text + (f" (not run: {release.not_run})" if release.not_run else "")
    where = f"run in {release.tried}" if ran else f"loaded in {release.tried}"
    if release.problem is None:
        text = f"loads, {where}" + ("" if ran else "; no input that can be drawn for it runs")
    else:
        text = f"does not load: {_reasons(release) or release.problem}, {where}"
    if not release.agrees:
        table = _reasons(release) or "loads"
        text += f". THE TABLE SAYS OTHERWISE: {table}. {release.problem or ''}".rstrip()
    return text


def _reasons(release: Release) -> str:
    more = len(release.obstacles) - _REASONS
    return "; ".join(release.obstacles[:_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _wrapped(label: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=f"{label:<{_LABEL}}",
        subsequent_indent=" " * (_LABEL + 2),
        break_on_hyphens=False,
    )
