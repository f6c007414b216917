"""Rules for how `forward` is called, and where in what it returns the outputs stand."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.rules.base import Found, check_import_path
from pytest_onnxcheck.manifest.sections.data import is_path
from pytest_onnxcheck.manifest.terms import PLAIN_CONTAINERS

__all__ = ["check_call"]


def check_call(section: s.ModelSection) -> Found:
    """Paths that are none, or are given twice; containers that are none."""
    inputs = {name: entry.path or name for name, entry in section.inputs.items()}
    for kind, paths in (("inputs", inputs), ("outputs", _selected(section))):
        first: dict[str, str] = {}
        for name, path in paths.items():
            if first.setdefault(path, name) != name:
                yield (kind, name, "path"), f"path: {path!r} is that of {first[path]!r} too"
    for key in section.arguments:
        if key in inputs.values():
            yield (
                ("arguments", key),
                f"{key!r} is an input too: take it out there, or here",
            )
    for table in ("arguments", "containers"):
        for key in getattr(section, table):
            if not is_path(key):
                yield (table, key), f"{key!r} is no path: expected names and numbers between dots"
    for key, kind in section.containers.items():
        if kind not in PLAIN_CONTAINERS and ":" not in kind:
            known = ", ".join(map(repr, PLAIN_CONTAINERS))
            yield ("containers", key), f"{key}: expected {known} or 'module:class', got {kind!r}"
        elif kind not in PLAIN_CONTAINERS:
            yield from check_import_path(("containers", key), kind)


def _selected(section: s.ModelSection) -> Mapping[str, str]:
    """The paths of outputs, where they are chosen by them."""
    outputs = section.outputs
    if all(entry.path is None for entry in outputs.values()):
        return {}
    return {name: entry.path or name for name, entry in outputs.items()}
