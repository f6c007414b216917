"""Rules that span several keys. Each yields the path of a key and a sentence about it."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.positions import Path
from pytest_onnxcheck.manifest.resolve import Model, Variant
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CUDA_GRAPH_OPTIONS, Target
from pytest_onnxcheck.manifest.terms import Exporter, Metric, Precision

__all__ = [
    "BAD_MODEL_NAME",
    "MODEL_NAME",
    "check_default_globs",
    "check_defaults",
    "check_model",
    "check_resolved",
    "check_target_names",
    "check_targets",
    "unknown_target",
]

Found = Iterator[tuple[Path, str]]

#: model names become node ids, folder names and globs
MODEL_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")
BAD_MODEL_NAME = (
    "model name {name!r} may hold letters, digits and . _ + - only, and starts with a letter, "
    "a digit or _: it becomes a pytest node id and a folder name"
)

_PRECISIONS = get_args(Precision)
_METRICS = get_args(Metric)
#: budgets that are given per target
_PER_TARGET = (
    *("min_speedup", "min_speedup_over_fp32", "max_cpu_fallback", "max_p95_ms"),
    *("min_throughput", "max_load_s", "max_memory_mb"),
)
#: tables whose keys are precisions, or globs over variant names
_TABLES = ("tolerance", "budget", "quantization")
#: precisions that no noise floor is measured for
_WITHOUT_FLOOR = [
    precision
    for precision, tolerance in s.BUILTIN_TOLERANCE.items()
    if tolerance.policy != "noise-floor"
]
_NO_FLOOR = (
    "a noise floor is what rounding alone does, and is only measured for "
    f"{', '.join(name for name in _PRECISIONS if name not in _WITHOUT_FLOOR)}. Judge "
    f'{", ".join(_WITHOUT_FLOOR)} by thresholds on rel_rms and cosine (policy = "fixed")'
)
#: metrics of an output -> the ends of what they can be
_ENDS = {"cosine": (-1, 1), "top1": (0, 1)}
#: metrics that are averaged over classes
_AVERAGED = ("precision", "recall", "f1")
#: metrics between 0 and 1
_SHARES = ("accuracy", *_AVERAGED)
_VARIANT = re.compile(
    rf"(?:(?:{'|'.join(get_args(Exporter))})-op\d+|file)-(?:{'|'.join(_PRECISIONS)})"
)


def check_defaults(defaults: s.Defaults) -> Found:
    """What can be wrong in `[defaults]`."""
    yield from _tables(defaults)


def check_targets(
    tables: Mapping[str, s.TargetOptions], given: Iterable[str] = BUILTIN_TARGETS
) -> Found:
    """What can be wrong in `[targets.NAME]`; `given` are targets a hook declares."""
    for name, table in tables.items():
        where: Path = ("targets", name)
        if not MODEL_NAME.fullmatch(name):
            yield where, BAD_MODEL_NAME.format(name=name).replace("model", "target", 1)
        if table.provider is None and name not in {*BUILTIN_TARGETS, *given}:
            close = difflib.get_close_matches(name, BUILTIN_TARGETS, n=1)
            hint = f" (or did you mean {close[0]!r}?)" if close else ""
            text = "missing key 'provider': the name of ONNX Runtime's execution provider"
            yield where, text + hint
        for option, value in (table.session_options or {}).items():
            yield from (((*where, *path), text) for path, text in _session_option(option, value))
        for option in sorted(CUDA_GRAPH_OPTIONS & (table.provider_options or {}).keys()):
            text = (
                f"{option} would have every check replay the addresses of its first run: set "
                "cuda_graph = true in [models.NAME.latency], where it holds for timing"
            )
            yield (*where, "provider_options", option), text


def _session_option(option: str, value: object) -> Found:
    where: Path = ("session_options", option)
    if "." in option:  # a config entry, of which ONNX Runtime has no list
        return
    allowed = s.SESSION_SETTINGS.get(option)
    if allowed is None:
        close = difflib.get_close_matches(option, s.SESSION_SETTINGS, n=1)
        names = ", ".join(s.SESSION_SETTINGS)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {names}"
        text = f"unknown session option {option!r} ({hint}"
        yield where, f"{text}; names of config entries have a dot)"
    elif isinstance(allowed, tuple) and value not in allowed:
        yield where, f"{option}: {value!r} is not one of {', '.join(map(str, allowed))}"
    elif isinstance(allowed, type) and type(value) is not allowed:
        kind = "true or false" if allowed is bool else "a whole number"
        yield where, f"{option}: expected {kind}, got {value!r}"


def check_target_names(section: s.Defaults, targets: Mapping[str, Target]) -> Found:
    """Targets that nobody declares, wherever `[defaults]` or a model names one."""
    for key in ("targets", "required_targets"):
        for name in getattr(section, key) or ():
            if name not in targets:
                yield (key,), f"{key}: {unknown_target(name, targets)}"
    for key, budget in (section.budget or {}).items():
        for limit in _PER_TARGET:
            for name in getattr(budget, limit) or {}:
                where: Path = ("budget", key, limit)
                fallback = limit == "max_cpu_fallback"
                if fallback and name == "*":
                    continue
                if name not in targets:
                    yield where, unknown_target(name, targets)
                elif fallback and not targets[name].accelerated:
                    yield where, f"{limit} has no effect on {name}: it runs on the CPU anyway"
    for kind in ("xfail", "skip"):
        for index, mark in enumerate(getattr(section, kind, ())):
            for name in mark.targets or ():
                if name not in targets:
                    yield (kind, index, "targets"), f"targets: {unknown_target(name, targets)}"


def unknown_target(name: str, targets: Iterable[str]) -> str:
    """What to say of a target that nobody declares."""
    names = list(targets)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return (
        f"{name!r} is not one of {', '.join(names)}{hint}; declare it in [targets.{name}], or by "
        "the hook pytest_onnxcheck_targets"
    )


def check_model(section: s.ModelSection) -> Found:
    """What can be wrong in one `[models.NAME]`."""
    if section.factory is None and section.checkpoint is None:
        yield (), "no reference: set factory = 'module:callable' or a self-contained checkpoint"
    for key in ("factory", "shapes"):
        yield from _import_path((key,), getattr(section, key))
    if section.checkpoint is None:
        for key in ("state_dict", "config_key"):
            if getattr(section, key) is not None:
                yield (key,), f"{key} needs a checkpoint"
    if section.onnx is not None:
        for key in ("exporters", "opsets", "precisions"):
            if getattr(section, key) is not None:
                yield (key,), f"{key} has no effect beside onnx: nothing is exported"
        for key in ("quantization", "calibration"):
            if getattr(section, key) is not None:
                yield (key,), f"{key} has no effect beside onnx: nothing is quantized"
    yield from _inputs(section)
    yield from _dims(section)
    yield from _ranges(section)
    yield from _tables(section)
    yield from _calibration(section)
    yield from _accuracy(section)
    for name, case in section.cases.items():
        if (case.file is None) == (case.source is None):
            yield ("cases", name), "give either file or source"
        yield from _import_path(("cases", name, "source"), case.source)
    if section.latency is not None:
        for point in section.latency.dims or ():
            for dim in point:
                if dim not in section.dims:
                    yield ("latency", "dims"), f"dims: {_undeclared(dim, section.dims)}"
    for name in [name for name in section.inputs if name in section.outputs]:
        yield ("outputs", name), f"{name!r} is an input and an output: ONNX needs distinct names"


def check_default_globs(defaults: s.Defaults, models: Iterable[Model]) -> Found:
    """Keys of `[defaults]` that select variants but match none of any model."""
    variants = [variant for model in models for variant in model.variants]
    names = [variant.name for variant in variants]
    for table in _TABLES:
        for key in getattr(defaults, table) or {}:
            if key not in _PRECISIONS and not fnmatch.filter(names, key):
                yield (table, key), f"{key!r} matches no variant of any model"
    for key, tolerance in (defaults.tolerance or {}).items():
        yield from _floor(key, tolerance, _chosen(key, variants))
    for key, options in (defaults.quantization or {}).items():
        yield from _options(key, options, _chosen(key, variants))
    for key, budget in (defaults.budget or {}).items():
        yield from _against_fp32(key, budget, _chosen(key, variants))


def check_resolved(section: s.ModelSection, model: Model) -> Found:
    """What can be wrong once inheritance is known: globs and targets that choose nothing."""
    names = [variant.name for variant in model.variants]
    precisions = list(dict.fromkeys(variant.precision for variant in model.variants))
    for table in _TABLES:
        for key in getattr(section, table) or {}:
            if key not in _PRECISIONS and not fnmatch.filter(names, key):
                yield (table, key), _no_variant(key, [*precisions, *names])
    for key, options in (section.quantization or {}).items():
        yield from _options(key, options, _chosen(key, model.variants))
    allowed = None if section.accuracy is None else section.accuracy.max_drop
    for key in allowed if isinstance(allowed, dict) else ():
        if key not in _PRECISIONS and not fnmatch.filter(names, key):
            yield ("accuracy", "max_drop", key), _no_variant(key, [*precisions, *names])
    own = section.latency
    known = [model.target(name) for name in model.targets if name in model.declared]
    on_gpu = any(target.device.startswith("cuda") for target in known)
    if own is not None and own.boundary == "device" and not on_gpu:
        text = f"boundary has no effect: no target ({', '.join(model.targets)}) is timed on a GPU"
        yield ("latency", "boundary"), text
    if model.latency.cuda_graph and model.latency.boundary != "device":
        text = 'cuda_graph needs boundary = "device": a graph replays fixed addresses'
        yield ("latency", "cuda_graph"), text
    for key in section.baseline or ():
        chosen = _chosen(key, model.variants)
        if not chosen:
            yield ("baseline", key), _no_variant(key, [*precisions, *names])
        elif all(variant.budget.max_regression is None for variant in chosen):
            yield (
                ("baseline", key),
                "baseline has no effect: say how much slower than it is allowed with "
                f'budget.{chosen[0].precision}.max_regression = "10%"',
            )
    for key, tolerance in (section.tolerance or {}).items():
        chosen = _chosen(key, model.variants)
        found = list(_floor(key, tolerance, chosen))
        yield from found
        fixed = chosen and all(variant.tolerance.policy == "fixed" for variant in chosen)
        if tolerance.safety is not None and fixed and not found:
            names_chosen = ", ".join(variant.name for variant in chosen)
            yield (
                ("tolerance", key, "safety"),
                f'safety has no effect: {names_chosen} is judged by policy = "fixed" (what is '
                'inherited or written elsewhere says so); set policy = "noise-floor"',
            )
    for kind in ("xfail", "skip"):
        for index, mark in enumerate(getattr(section, kind)):
            for pattern in mark.variants or ():
                if not fnmatch.filter(names, pattern):
                    yield (kind, index, "variants"), _no_variant(pattern, names)
    for target in model.required_targets:
        if target not in model.targets:
            yield ("required_targets",), _no_target(target, model)
    for key, budget in (section.budget or {}).items():
        for name in _PER_TARGET:
            for target in getattr(budget, name) or {}:
                if target not in (*model.targets, "*"):
                    yield ("budget", key, name), _no_target(target, model)
        yield from _against_fp32(key, budget, _chosen(key, model.variants))
        for name in ("max_size_ratio", "min_speedup_over_fp32"):
            given = section.onnx
            if getattr(budget, name) is not None and given is not None and "fp32" not in given:
                yield (
                    ("budget", key, name),
                    f"{name} has no effect: there is no fp32 artefact to compare with; "
                    "name one in onnx = { fp32 = ... }",
                )


def _chosen(key: str, variants: Iterable[Variant]) -> list[Variant]:
    return [
        variant
        for variant in variants
        if key == variant.precision or fnmatch.fnmatchcase(variant.name, key)
    ]


def _floor(key: str, tolerance: s.Tolerance, chosen: list[Variant]) -> Found:
    """What asks for a noise floor where there is none, through a glob."""
    without = [variant for variant in chosen if variant.precision in _WITHOUT_FLOOR]
    names = ", ".join(dict.fromkeys(variant.name for variant in without))
    if tolerance.policy == "noise-floor" and without:
        yield (
            ("tolerance", key, "policy"),
            f'policy "noise-floor" is not for {names}, which {key!r} selects: {_NO_FLOOR}',
        )
    elif tolerance.safety is not None and chosen and len(without) == len(chosen):
        yield (
            ("tolerance", key, "safety"),
            f"safety has no effect: {key!r} selects only {names}: {_NO_FLOOR}",
        )


def _against_fp32(key: str, budget: s.Budget, chosen: list[Variant]) -> Found:
    """Bounds that compare with fp32, where nothing but fp32 is selected."""
    if {variant.precision for variant in chosen} == {"fp32"}:
        for name in ("max_size_ratio", "min_speedup_over_fp32", "min_coverage"):
            if getattr(budget, name) is not None:
                yield ("budget", key, name), f"{name} has no effect on fp32: it is the measure"


def _options(key: str, options: s.Quantization, chosen: list[Variant]) -> Found:
    """What is wrong with options, once inheritance is known."""
    built = [variant for variant in chosen if variant.file is None]
    if key not in _PRECISIONS:  # those are told by `_tables`, whether a variant has them or not
        if chosen and not built:
            names = ", ".join(dict.fromkeys(variant.name for variant in chosen))
            yield ("quantization", key), f"{key!r} selects only files that exist already: {names}"
        yield from _known_options(key, options, {variant.precision for variant in built})
    methods = {variant.quantization.method for variant in built} - {None}
    if options.percentile is not None and methods and "percentile" not in methods:
        yield (
            ("quantization", key, "percentile"),
            'percentile has no effect without method = "percentile"',
        )


def _known_options(key: str, options: s.Quantization, precisions: set[str]) -> Found:
    """Options that none of the precisions has."""
    for option in s.Quantization.model_fields:
        have = [name for name, known in s.BUILTIN_QUANTIZATION.items() if option in known.written()]
        if option in options.written() and precisions and precisions.isdisjoint(have):
            without = ", ".join(name for name in _PRECISIONS if name in precisions)
            text = f"{option} has no effect on {without}: it is an option of {', '.join(have)}"
            yield ("quantization", key, option), text


def _calibration(section: s.ModelSection) -> Found:
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
    yield from _import_path(("calibration", "source"), calibration.source)


def _accuracy(section: s.ModelSection) -> Found:
    accuracy = section.accuracy
    if accuracy is None:
        return
    if (accuracy.file is None) == (accuracy.source is None):
        yield ("accuracy",), "give either file or source"
    elif accuracy.source is not None:
        for key in sorted({"batch", "labels"} & accuracy.model_fields_set):
            text = f"{key} has no effect beside source, which gives whole batches with their labels"
            yield ("accuracy", key), text
    yield from _import_path(("accuracy", "source"), accuracy.source)
    yield from _metric(accuracy)
    if accuracy.axis == 0:
        yield ("accuracy", "axis"), "axis = 0 counts the samples: classes lie on another"
    if accuracy.output is not None and accuracy.output not in section.outputs:
        yield (
            ("accuracy", "output"),
            f"no output {accuracy.output!r} (there are: {', '.join(section.outputs)})",
        )


def _metric(accuracy: s.Accuracy) -> Found:
    where: Path = ("accuracy", "metric")
    if ":" in accuracy.metric:
        yield from _import_path(where, accuracy.metric)
    elif accuracy.metric not in _METRICS:
        close = difflib.get_close_matches(accuracy.metric, _METRICS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(_METRICS)}"
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


def _import_path(where: Path, value: str | None) -> Found:
    if value is not None and not re.fullmatch(r"[^:]+:[A-Za-z_][\w.]*", value):
        text = f"expected 'module:callable' or 'path.py:callable', got {value!r}"
        yield where, f"{where[-1]}: {text}"


def _no_target(target: str, model: Model) -> str:
    return (
        f"{target!r} is not among the targets of this model ({', '.join(model.targets)}): add it "
        "to `targets`, or take it out here"
    )


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
        if (entry.fill == "file") != (entry.file is not None):
            yield where, "fill = 'file' and file = 'PATH' go together"
        elif fill in ("normal", "uniform") and is_int:
            yield (*where, "fill"), f"fill {fill!r} is for floats; use 'integers' with range"
        elif fill in ("uniform", "integers") and entry.range is None:
            wanted = f"fill {entry.fill!r} needs range = [lowest, highest]"
            hint = "give range = [lowest, highest], e.g. [0, vocabulary - 1]"
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


def _integer_ends(dtype: str) -> tuple[int, int]:
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _dims(section: s.ModelSection) -> Found:
    used: set[str] = set()
    for kind in ("inputs", "outputs"):
        for name, entry in getattr(section, kind).items():
            for index, size in enumerate(entry.shape or ()):
                if isinstance(size, str):
                    used.add(size)
                    if size not in section.dims:
                        text = f"shape: {_undeclared(size, section.dims)}"
                        yield (kind, name, "shape", index), text
                elif size < 1:
                    yield (kind, name, "shape", index), f"shape: size {size} is below 1"
    if section.shapes is None:
        for dim in [dim for dim in section.dims if dim not in used]:
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
    for table in _TABLES:
        for key in getattr(section, table) or {}:
            glob = any(char in key for char in "*?[") or _VARIANT.fullmatch(key)
            if key not in _PRECISIONS and not glob:
                yield (
                    (table, key),
                    (
                        f"{key!r} is neither a precision ({', '.join(_PRECISIONS)}) "
                        "nor a glob over variant names"
                    ),
                )
    for key, options in (section.quantization or {}).items():
        if key in _PRECISIONS:
            yield from _known_options(key, options, {key})
    for key, tolerance in (section.tolerance or {}).items():
        yield from _policy(key, tolerance)
        yield from _possible(key, tolerance)
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


def _possible(key: str, tolerance: s.Tolerance) -> Found:
    """Bounds that no value of their metric can be on either side of."""
    for metric, (low, high) in _ENDS.items():
        bounds = getattr(tolerance, metric)
        if isinstance(bounds, s.Bounds):
            for bound in dict.fromkeys((bounds.passes, bounds.fails)):
                if not low <= bound <= high:
                    text = f"{metric}: {bound:g} is not between {low} and {high}"
                    yield ("tolerance", key, metric), text


def _policy(key: str, tolerance: s.Tolerance) -> Found:
    if key in _WITHOUT_FLOOR and tolerance.policy == "noise-floor":
        yield ("tolerance", key, "policy"), f'policy "noise-floor" is not for {key}: {_NO_FLOOR}'
    elif tolerance.safety is None:
        return
    elif tolerance.policy == "fixed":
        text = 'safety has no effect with policy = "fixed": drop it, or set policy = "noise-floor"'
        yield ("tolerance", key, "safety"), text
    elif key in _WITHOUT_FLOOR:
        yield ("tolerance", key, "safety"), f"safety has no effect on {key}: {_NO_FLOOR}"
    elif tolerance.policy is None and tolerance.fixed:
        yield (
            ("tolerance", key, "safety"),
            'safety has no effect: thresholds without a policy mean policy = "fixed"; set '
            'policy = "noise-floor" to have both',
        )
