"""Rules that span several keys. Each yields the path of a key and a sentence about it."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.positions import Path
from pytest_onnxcheck.manifest.resolve import Model
from pytest_onnxcheck.terms import Precision

__all__ = ["BAD_MODEL_NAME", "MODEL_NAME", "check_defaults", "check_globs", "check_model"]

Found = Iterator[tuple[Path, str]]

#: model names become node ids, folder names and globs
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
BAD_MODEL_NAME = (
    "model name {name!r} may hold letters, digits and . _ + - only: "
    "it becomes a pytest node id and a folder name"
)

_PRECISIONS = get_args(Precision)


def check_defaults(defaults: s.Defaults) -> Found:
    """What can be wrong in `[defaults]`."""
    yield from _tables(defaults)


def check_model(section: s.ModelSection) -> Found:
    """What can be wrong in one `[models.NAME]`."""
    if section.factory is None and section.checkpoint is None:
        yield (), "no reference: set factory = 'module:callable' or a self-contained checkpoint"
    for key in ("factory", "shapes"):
        value = getattr(section, key)
        if value is not None and not re.fullmatch(r"[^:]+:[A-Za-z_][\w.]*", value):
            yield (key,), f"{key}: expected 'module:callable' or 'path.py:callable', got {value!r}"
    if section.checkpoint is None:
        for key in ("state_dict", "config_key"):
            if getattr(section, key) is not None:
                yield (key,), f"{key} needs a checkpoint"
    if section.onnx is not None:
        for key in ("exporters", "opsets", "precisions"):
            if getattr(section, key) is not None:
                yield (key,), f"{key} has no effect beside onnx: nothing is exported"
    yield from _inputs(section)
    yield from _dims(section)
    yield from _ranges(section)
    yield from _tables(section)
    if section.calibration is not None:
        given = [key for key in ("file", "source") if getattr(section.calibration, key)]
        if len(given) != 1:
            yield ("calibration",), "give either file or source"
    if section.latency is not None:
        for index, point in enumerate(section.latency.dims or ()):
            for dim in point:
                if dim not in section.dims:
                    yield ("latency", "dims", index), _undeclared(dim, section.dims)
    for name in section.inputs.keys() & section.outputs.keys():
        yield ("outputs", name), f"{name!r} is an input and an output: ONNX needs distinct names"


def check_globs(section: s.ModelSection, model: Model) -> Found:
    """Keys that select variants but match none of the model's."""
    names = [variant.name for variant in model.variants]
    for table in ("tolerance", "budget"):
        for key in getattr(section, table) or {}:
            if key not in _PRECISIONS and not fnmatch.filter(names, key):
                yield (table, key), _no_variant(key, [*_PRECISIONS, *names])
    for kind in ("xfail", "skip"):
        for index, mark in enumerate(getattr(section, kind)):
            for pattern in mark.variants or ():
                if not fnmatch.filter(names, pattern):
                    yield (kind, index, "variants"), _no_variant(pattern, names)


def _no_variant(pattern: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else f" (there are: {', '.join(names)})"
    return f"{pattern!r} matches no variant of this model{hint}"


def _inputs(section: s.ModelSection) -> Found:
    for name, entry in section.inputs.items():
        where: Path = ("inputs", name)
        if entry.shape is None and section.shapes is None:
            yield where, "missing key 'shape' (or give the model shapes = 'module:callable')"
        is_int = entry.dtype.startswith(("int", "uint"))
        fill = entry.fill or ("integers" if is_int else None)
        if fill == "integers" and entry.range is None:
            yield (
                where,
                f"{entry.dtype} input: give range = [lowest, highest], e.g. [0, vocabulary - 1]",
            )
        if fill in ("normal", "uniform") and is_int:
            yield (*where, "fill"), f"fill {fill!r} is for floats; use 'integers' with range"
        if fill == "uniform" and entry.range is None:
            yield where, "fill 'uniform' needs range = [lowest, highest]"
        if fill == "constant" and entry.value is None:
            yield where, "fill 'constant' needs value"
        if (fill == "file") != (entry.file is not None):
            yield where, "fill = 'file' and file = 'PATH' go together"


def _dims(section: s.ModelSection) -> Found:
    used: set[str] = set()
    for kind in ("inputs", "outputs"):
        for name, entry in getattr(section, kind).items():
            for index, size in enumerate(entry.shape or ()):
                if isinstance(size, str):
                    used.add(size)
                    if size not in section.dims:
                        yield (kind, name, "shape", index), _undeclared(size, section.dims)
                elif size < 1:
                    yield (kind, name, "shape", index), f"shape: size {size} is below 1"
    if section.shapes is None:
        for dim in section.dims.keys() - used:
            yield ("dims", dim), f"dim {dim!r} is in no shape of this model"


def _undeclared(dim: str, dims: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(dim, dims, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"add dims = {{ {dim} = [1, 2] }}"
    return f"symbolic dim {dim!r} is not in dims ({hint})"


def _ranges(section: s.ModelSection) -> Found:
    for kind in ("inputs", "outputs"):
        for name, entry in getattr(section, kind).items():
            if entry.range is not None and not entry.range[0] <= entry.range[1]:
                yield (kind, name, "range"), f"range: {list(entry.range)} is empty"


def _tables(section: s.Defaults) -> Found:
    for table in ("tolerance", "budget"):
        for key in getattr(section, table) or {}:
            if key not in _PRECISIONS and not any(char in key for char in "*?[-"):
                yield (
                    (table, key),
                    (
                        f"{key!r} is neither a precision ({', '.join(_PRECISIONS)}) "
                        "nor a glob over variant names"
                    ),
                )
    for key, tolerance in (section.tolerance or {}).items():
        for metric, larger_is_better in s.METRICS.items():
            bounds = getattr(tolerance, metric)
            if isinstance(bounds, s.Bounds):
                ordered = (
                    (bounds.fails, bounds.passes)
                    if larger_is_better
                    else (
                        bounds.passes,
                        bounds.fails,
                    )
                )
                if ordered[0] > ordered[1]:
                    yield (
                        ("tolerance", key, metric),
                        f"{metric}: the pair is [pass, fail]; {bounds.fails:g} cannot fail "
                        f"when {bounds.passes:g} passes",
                    )
        if (tolerance.rtol is None) != (tolerance.atol is None):
            yield ("tolerance", key), "rtol and atol go together (set one of them to 0.0)"
