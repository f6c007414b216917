"""Rules for inputs, outputs and their dims, for cases, calibration data and labelled data."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.positions import KeyPath
from pytest_onnxcheck.manifest.resolve import drawn_sizes
from pytest_onnxcheck.manifest.rules.base import Found, check_import_path
from pytest_onnxcheck.manifest.sizes import (
    ANY,
    SizeError,
    dim_values,
    exported_dims,
    names_in,
    size_at,
)
from pytest_onnxcheck.manifest.terms import Metric
from pytest_onnxcheck.wording import closest

__all__ = [
    "check_accuracy",
    "check_calibration",
    "check_cases",
    "check_dims",
    "check_inputs",
    "check_ranges",
    "undeclared",
]

_METRICS = get_args(Metric)
#: metrics that are averaged over classes
_AVERAGED = ("precision", "recall", "f1")
#: metrics between 0 and 1
_SHARES = ("accuracy", *_AVERAGED)


def check_inputs(section: s.ModelSection, *, drawn: bool) -> Found:
    """Inputs without a shape, or whose `fill` does not go with their other keys.

    Args:
        section: The model's table.
        drawn: Whether anything is drawn: integers need a range for that.
    """
    for name, written in section.inputs.items():
        entry = written.named(name)
        where: KeyPath = ("inputs", name)
        if entry.shape is None and section.shapes is None:
            yield where, "missing key 'shape' (or give the model shapes = 'module:callable')"
        yield from _mask(where, entry)
        is_int = entry.dtype.startswith(("int", "uint"))
        fill = entry.fill or ("integers" if is_int else None)
        if (entry.fill == "file") != (entry.file is not None):
            yield where, "fill = 'file' and file = 'PATH' go together"
        elif fill in ("normal", "uniform") and is_int:
            yield (*where, "fill"), f"fill {fill!r} is for floats; use 'integers' with range"
        elif fill in ("uniform", "integers") and entry.range is None and drawn:
            wanted = f"fill {entry.fill!r} needs range = [lowest, highest]"
            hint = "give range = [lowest, highest], e.g. [0, vocabulary - 1]"
            if "mask" in name.lower():
                hint = "give fill = 'mask', or range = [lowest, highest]"
            yield where, wanted if entry.fill else f"{entry.dtype} input: {hint}"
        if fill == "constant" and entry.value is None:
            yield where, "fill 'constant' needs value"
        if entry.value is not None and fill != "constant":
            yield (*where, "value"), "value has no effect without fill = 'constant'"
        if is_int and entry.range is not None:
            low, high = _integer_ends(entry.dtype)
            ends = entry.range
            if not all(isinstance(end, int) and low <= end <= high for end in ends):
                yield (
                    (*where, "range"),
                    f"range: {list(ends)} does not fit {entry.dtype}, whole numbers "
                    f"from {low} to {high}",
                )


def _mask(where: KeyPath, entry: s.Input) -> Found:
    """Keys of a mask beside another fill, or that do not go with its dtype, shape and range."""
    if entry.fill != "mask":
        for key in sorted({"masked", "padding", "empty_rows"} & entry.model_fields_set):
            yield (*where, key), f"{key} has no effect without fill = 'mask'"
        return
    assert entry.masked is not None
    both = sorted({entry.masked, float(entry.masked == 0)})
    fits = entry.dtype.startswith("float") or set(both) == {0, 1}
    if math.isnan(entry.masked) or not fits:
        text = f"masked: {entry.masked:g} does not fit {entry.dtype}; give 0 or 1"
        yield (*where, "masked"), text
    elif entry.range is not None and not entry.range[0] <= both[0] <= both[1] <= entry.range[1]:
        text = (
            f"range: {list(entry.range)} does not hold {both[0]:g} and {both[1]:g}, as a mask has"
        )
        yield (*where, "range"), text
    if entry.padding == "causal" and entry.shape is not None and not _of_places(entry.shape):
        text = "padding = 'causal' needs a shape that ends in two axes of places, e.g. [time, time]"
        yield (*where, "padding"), text


def _of_places(shape: tuple[int | str, ...]) -> bool:
    """Whether the last two axes may both be places; of two in all, the first may be a batch."""
    return len(shape) > 2 or (len(shape) == 2 and shape[0] == shape[1])


def _integer_ends(dtype: str) -> tuple[int, int]:
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def check_dims(section: s.ModelSection) -> Found:
    """Sizes that cannot be read or follow from dims nobody declares; dims that nothing uses."""
    used: set[str] = set()
    for kind in ("inputs", "outputs"):
        for name, entry in getattr(section, kind).items():
            for index, size in enumerate(entry.shape or ()):
                where: KeyPath = (kind, name, "shape", index)
                try:
                    used.update(names_in(size, section.dims))
                except SizeError as error:
                    yield where, f"shape: {error}"
                else:
                    texts = _size(size, kind, section.dims)
                    yield from ((where, f"shape: {text}") for text in texts)
    for dim, sizes in section.dims.items():
        if dim == ANY:
            text = (
                f"{ANY!r} stands for sizes of outputs that nobody chooses: name the dim otherwise"
            )
            yield ("dims", dim), text
        if isinstance(sizes, s.Span):
            yield from _span(("dims", dim), sizes)
    if section.shapes is None:
        for dim in [dim for dim in section.dims if dim not in used and dim != ANY]:
            yield ("dims", dim), f"dim {dim!r} is in no shape of this model"


def _size(
    size: int | str, kind: str, dims: Mapping[str, s.Span | tuple[int, ...]]
) -> Iterator[str]:
    """What is wrong with one size of an input or output that can be read."""
    if isinstance(size, int):
        if size < 0:
            yield f"size {size} is below 0"
        return
    if size == ANY:
        if kind == "inputs":
            yield (
                f"{ANY!r} is for sizes of outputs, which nobody chooses; name a dim: its sizes in "
                "dims are what the input is made with"
            )
        return
    names = names_in(size, dims)
    if not names:
        yield f"{size!r} holds no dim: write the number"
    unknown = [name for name in names if name not in dims]
    yield from (undeclared(name, dims) for name in unknown)
    if not unknown and size not in dims:
        yield from _misfit(size, {name: drawn_sizes(dims[name]) for name in names})


def _misfit(size: str, dims: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Why an expression is no size at some of the sizes that dims are drawn or exported with."""
    for sizes in (*dim_values(dims), exported_dims(dims)):
        try:
            size_at(size, sizes)
        except SizeError as error:
            yield str(error)
            return


def _span(where: KeyPath, span: s.Span) -> Found:
    """A range without sizes, or whose end its steps do not meet."""
    if span.from_ > span.to:
        yield where, f"{where[-1]}: from = {span.from_} is above to = {span.to}"
    elif span.sizes[-1] != span.to:
        steps = f"from = {span.from_} in steps of {span.step}"
        near = f"{span.sizes[-1]} and {span.sizes[-1] + span.step}"
        yield where, f"{where[-1]}: to = {span.to} is not reached {steps} (but {near} are)"


def undeclared(dim: str, dims: Mapping[str, Any]) -> str:
    """What to say of a dim that is not among those declared."""
    close = closest(dim, dims)
    hint = f"did you mean {close!r}?" if close else f"add dims = {{ {dim} = [1, 2] }}"
    return f"symbolic dim {dim!r} is not in dims ({hint})"


def check_ranges(section: s.ModelSection) -> Found:
    """Ranges that no value lies in."""
    for kind in ("inputs", "outputs"):
        for name, entry in getattr(section, kind).items():
            if entry.range is not None and not entry.range[0] <= entry.range[1]:
                yield (kind, name, "range"), f"range: {list(entry.range)} is empty"


def check_cases(section: s.ModelSection, *, drawn: bool) -> Found:
    """What is wrong in `cases`, and that there is a case at all."""
    if not drawn and not section.cases and section.example is None:
        yield (
            ("draws",),
            "draws = 0 leaves this model without a case: give inputs of your own, [models.NAME."
            "cases.CASE] with file = 'inputs.npz', or example = 'inputs.npz'; or draw some",
        )
    for name, case in section.cases.items():
        if (case.file is None) == (case.source is None):
            yield ("cases", name), "give either file or source"
        yield from check_import_path(("cases", name, "source"), case.source)


def check_calibration(section: s.ModelSection) -> Found:
    """What is wrong in `calibration`."""
    calibration = section.calibration
    if calibration is None:
        return
    given = [key for key in ("file", "folder", "source") if getattr(calibration, key) is not None]
    if len(given) > 1:
        yield ("calibration",), f"give one of file, folder and source, not {' and '.join(given)}"
    elif given == ["source"]:
        for key in sorted({"batch", "seed"} & calibration.model_fields_set):
            text = f"{key} has no effect beside source, which gives whole batches in its own order"
            yield ("calibration", key), text
    elif not given and calibration.seed is not None:
        text = "seed has no effect without file or folder: draws follow the seed of the model"
        yield ("calibration", "seed"), text
    yield from check_import_path(("calibration", "source"), calibration.source)


def check_accuracy(section: s.ModelSection) -> Found:
    """What is wrong in `accuracy`."""
    accuracy = section.accuracy
    if accuracy is None:
        return
    if (accuracy.file is None) == (accuracy.source is None):
        yield ("accuracy",), "give either file or source"
    elif accuracy.source is not None:
        for key in sorted({"batch", "labels"} & accuracy.model_fields_set):
            text = f"{key} has no effect beside source, which gives whole batches with their labels"
            yield ("accuracy", key), text
    yield from check_import_path(("accuracy", "source"), accuracy.source)
    yield from _metric(accuracy)
    if accuracy.axis == 0:
        yield ("accuracy", "axis"), "axis = 0 counts the samples: classes lie on another"
    if accuracy.output is not None and accuracy.output not in section.outputs:
        yield (
            ("accuracy", "output"),
            f"no output {accuracy.output!r} (there are: {', '.join(section.outputs)})",
        )


def _metric(accuracy: s.Accuracy) -> Found:
    where: KeyPath = ("accuracy", "metric")
    if ":" in accuracy.metric:
        yield from check_import_path(where, accuracy.metric)
    elif accuracy.metric not in _METRICS:
        close = closest(accuracy.metric, _METRICS)
        hint = f"did you mean {close!r}?" if close else f"there are {', '.join(_METRICS)}"
        yield where, f"unknown metric {accuracy.metric!r} ({hint}; your own is 'module:callable')"
    if "average" in accuracy.model_fields_set and accuracy.metric not in _AVERAGED:
        yield (
            ("accuracy", "average"),
            f"average has no effect on {accuracy.metric}: it is for {', '.join(_AVERAGED)}",
        )
    if accuracy.axis is not None and accuracy.metric not in _SHARES:
        yield (
            ("accuracy", "axis"),
            f"axis has no effect on {accuracy.metric}: it is for {', '.join(_SHARES)}",
        )
    for key, drop in (accuracy.max_drop or {}).items():
        if drop >= 0.5 and accuracy.metric in _SHARES:
            yield (
                ("accuracy", "max_drop", key),
                f"max_drop: {drop:g} is {100 * drop:g} points, since {accuracy.metric} lies "
                "between 0 and 1 (0.005 is half a point)",
            )
