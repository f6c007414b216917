"""The part of a manifest that concerns one model, as it is written there."""

from __future__ import annotations

from pathlib import Path

from pytest_onnxcheck.manifest.load import carries_schema
from pytest_onnxcheck.manifest.model import Model
from pytest_onnxcheck.manifest.positions import KeyPath, key_lines

__all__ = ["write_excerpt"]


def write_excerpt(path: Path, manifest: Path, model: Model) -> None:
    """Writes what a manifest says of a model; all it says, where that cannot be cut out by lines.

    Args:
        path: The file to write.
        manifest: The manifest that the model stands in.
        model: The model; other models are left out, everything else is kept.

    Raises:
        OSError: The manifest cannot be read, or the file not be written.
    """
    text = manifest.read_text(encoding="utf-8")
    name = model.section
    excerpt = _excerpt(text, name)
    path.write_text(excerpt, encoding="utf-8")
    if not (carries_schema(path) and _keys(excerpt, name) == _keys(text, name)):
        path.write_text(text, encoding="utf-8")


def _excerpt(text: str, name: str) -> str:
    """The lines of a manifest without those of other models; comments go with what follows."""
    starts: dict[int, bool] = {}
    for path, start in key_lines(text).items():
        if path != ("models",):  # stands in the first model's line
            wanted = path[0] != "models" or path[1] == name
            starts[start] = starts.get(start, False) or wanted
    kept: list[str] = []
    waiting: list[str] = []
    keep = True
    for number, line in enumerate(text.split("\n"), 1):
        keep = starts.get(number, keep)
        waiting.append(line)
        if number in starts or not _is_comment(line):
            kept += waiting if keep else []
            waiting = []
    return "\n".join([*kept, ""])


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _keys(text: str, name: str) -> set[KeyPath]:
    return {path for path in key_lines(text) if path[:2] == ("models", name)}
