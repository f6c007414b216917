"""Rules for `[defaults]` and `[models.NAME]` as they are written, before anything is inherited."""

from __future__ import annotations

import re
from typing import get_args

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.rules.base import TABLES, Found, check_import_path
from pytest_onnxcheck.manifest.rules.call import check_call
from pytest_onnxcheck.manifest.rules.data import (
    check_accuracy,
    check_calibration,
    check_cases,
    check_dims,
    check_inputs,
    check_ranges,
    undeclared,
)
from pytest_onnxcheck.manifest.rules.quantization import check_known_options
from pytest_onnxcheck.manifest.rules.tolerance import check_tolerance
from pytest_onnxcheck.manifest.rules.translations import check_translations
from pytest_onnxcheck.manifest.terms import Exporter

__all__ = ["check_defaults", "check_model"]

#: the name of a variant, which a table may have for a key without being a glob
_VARIANT = re.compile(
    rf"(?:(?:{'|'.join(get_args(Exporter))})-op\d+|file)-(?:{'|'.join(PRECISIONS)})"
)


def check_defaults(defaults: s.Defaults) -> Found:
    """What can be wrong in `[defaults]`."""
    yield from _tables(defaults)
    yield from check_translations(defaults)


def check_model(section: s.ModelSection, defaults: s.Defaults | None = None) -> Found:
    """What can be wrong in one `[models.NAME]`.

    Args:
        section: The table.
        defaults: What it inherits; None where that is wrong itself.
    """
    inherited = None if defaults is None else defaults.draws
    drawn = (inherited if section.draws is None else section.draws) != 0
    yield from _reference(section)
    yield from _beside_onnx(section)
    yield from check_inputs(section, drawn=drawn)
    yield from check_call(section)
    yield from check_dims(section)
    yield from check_ranges(section)
    yield from _tables(section)
    yield from check_translations(section)
    yield from check_calibration(section)
    yield from check_accuracy(section)
    yield from check_cases(section, drawn=drawn)
    yield from _latency(section)
    for name in [name for name in section.inputs if name in section.outputs]:
        yield ("outputs", name), f"{name!r} is an input and an output: ONNX needs distinct names"


def _reference(section: s.ModelSection) -> Found:
    """A model needs a factory or a checkpoint, and some keys need the latter."""
    if section.factory is None and section.checkpoint is None and section.pretrained is None:
        text = "factory = 'module:callable', a self-contained checkpoint or a pretrained folder"
        yield (), f"no reference: set {text}"
    if section.pretrained is not None and section.checkpoint is not None:
        text = "a folder of save_pretrained has its weights itself"
        yield ("checkpoint",), f"checkpoint stands beside pretrained: {text}; leave one of them out"
    for key in ("factory", "shapes"):
        yield from check_import_path((key,), getattr(section, key))
    if section.checkpoint is None:
        for key in ("state_dict", "prefix", "config_key"):
            if getattr(section, key) is not None:
                yield (key,), f"{key} needs a checkpoint"


def _beside_onnx(section: s.ModelSection) -> Found:
    """Keys about export and quantization, where the artefacts exist already."""
    if section.onnx is None:
        return
    for key in ("exporters", "precisions"):
        if getattr(section, key) is not None:
            yield (key,), f"{key} has no effect beside onnx: nothing is exported"
    if section.translations is not None:
        yield ("translations",), "translations has no effect beside onnx: nothing is exported"
    for key in ("quantization", "calibration"):
        if getattr(section, key) is not None:
            yield (key,), f"{key} has no effect beside onnx: nothing is quantized"


def _latency(section: s.ModelSection) -> Found:
    """Points that name dims which the model does not have."""
    points = () if section.latency is None else section.latency.dims or ()
    for point in points:
        for dim in point:
            if dim not in section.dims:
                yield ("latency", "dims"), f"dims: {undeclared(dim, section.dims)}"


def _tables(section: s.Defaults) -> Found:
    """What is wrong in the tables by precision or glob."""
    for table in TABLES:
        for key in getattr(section, table) or {}:
            glob = any(char in key for char in "*?[") or _VARIANT.fullmatch(key)
            if key not in PRECISIONS and not glob:
                known = ", ".join(PRECISIONS)
                text = f"{key!r} is neither a precision ({known}) nor a glob over variant names"
                yield (table, key), text
    for key, options in (section.quantization or {}).items():
        if key in PRECISIONS:
            yield from check_known_options(key, options, {key})
    for key, tolerance in (section.tolerance or {}).items():
        yield from check_tolerance(key, tolerance)
