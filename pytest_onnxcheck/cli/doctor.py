"""`onnxcheck doctor`: what this machine has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import columns

if TYPE_CHECKING:
    from pytest_onnxcheck.api.doctor import Diagnosis

__all__ = ["doctor"]


@click.command()
@click.option("--manifest", type=FILE, help="Default: models.toml, where there is one.")
@json_option
def doctor(manifest: Path | None, as_data: bool) -> int:
    """Show versions, targets that run, the processor, and what would be skipped."""
    from pytest_onnxcheck.api.doctor import doctor as run
    from pytest_onnxcheck.record.encoding import as_json

    found = run(manifest)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        _tell(found)
    return 0 if found.ok else 1


def _tell(found: Diagnosis) -> None:
    import textwrap

    from pytest_onnxcheck.wording import several

    versions = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    threads = ", ".join(f"{name} {value}" for name, value in found.threads.items())
    saturates = "; 8-bit products saturate here" if found.saturates else ""
    lines = [("versions", versions), ("processor", found.cpu or "unknown")]
    lines += [("features", f"{', '.join(found.features) or 'unknown'}{saturates}")]
    lines += [("threads", threads)]
    for target in found.targets:
        lines.append((target.target, "runs" if target.problem is None else str(target.problem)))
    for skipped in found.skipped:
        names = f" ({several(skipped.models, 3)})" if skipped.models else ""
        lines.append(("would skip", f"{skipped.what}{names}: {skipped.reason}"))
    lines += [("PROBLEM", problem) for problem in found.problems]
    for label, text in lines:
        first, rest = f"{label:<12}", " " * 14
        width = max(columns(), 40)
        for line in textwrap.wrap(text, width, initial_indent=first, subsequent_indent=rest):
            echo(line)
