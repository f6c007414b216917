"""Rules for models once inheritance is known: what selects nothing, and what has no effect."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.model import Model, Variant
from pytest_onnxcheck.manifest.positions import KeyPath
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.rules.base import TABLES, Found, chosen_by, no_variant
from pytest_onnxcheck.manifest.rules.budget import (
    PER_TARGET,
    check_against_fp32,
    check_fp32_artefact,
)
from pytest_onnxcheck.manifest.rules.quantization import check_options
from pytest_onnxcheck.manifest.rules.tolerance import check_floor
from pytest_onnxcheck.manifest.rules.translations import check_exporters, check_inherited
from pytest_onnxcheck.manifest.terms import FRONTIER

__all__ = ["check_default_globs", "check_resolved"]


def check_default_globs(defaults: s.Defaults, models: Iterable[Model]) -> Found:
    """Keys of `[defaults]` that select variants but match none of any model."""
    models = list(models)
    variants = [variant for model in models for variant in model.variants]
    names = [variant.name for variant in variants]
    for table in TABLES:
        for key in getattr(defaults, table) or {}:
            if key not in PRECISIONS and not fnmatch.filter(names, key):
                yield (table, key), f"{key!r} matches no variant of any model"
    yield from check_inherited(defaults, models)
    for key, tolerance in (defaults.tolerance or {}).items():
        yield from check_floor(key, tolerance, chosen_by(key, variants))
    for key, options in (defaults.quantization or {}).items():
        yield from check_options(key, options, chosen_by(key, variants))
    for key, budget in (defaults.budget or {}).items():
        yield from check_against_fp32(key, budget, chosen_by(key, variants))


def check_resolved(section: s.ModelSection, model: Model) -> Found:
    """What can be wrong once inheritance is known: globs and targets that choose nothing."""
    for table in TABLES:
        yield from _globs((table,), getattr(section, table) or {}, model)
    for key, options in (section.quantization or {}).items():
        yield from check_options(key, options, chosen_by(key, model.variants))
    allowed = None if section.accuracy is None else section.accuracy.max_drop
    yield from _globs(("accuracy", "max_drop"), allowed or {}, model)
    yield from _latency(section, model)
    yield from _baseline(section, model)
    for key, tolerance in (section.tolerance or {}).items():
        yield from _tolerance(key, tolerance, chosen_by(key, model.variants))
    yield from _marks(section, model)
    yield from _release(section, model)
    yield from _isolation(section, model)
    yield from check_exporters(section.translations or {}, model)
    for at, target in enumerate(model.required_targets):
        if target not in model.compared_on:
            yield ("required_targets", at), _no_target(target, model)
    for key, budget in (section.budget or {}).items():
        yield from _budget_targets(key, budget, model)
        yield from check_against_fp32(key, budget, chosen_by(key, model.variants))
        yield from check_fp32_artefact(key, budget, section)


def _globs(where: KeyPath, keys: Iterable[str], model: Model) -> Found:
    """Keys of a table that are no precision and select no variant of the model."""
    names = [variant.name for variant in model.variants]
    for key in keys:
        if key not in PRECISIONS and not fnmatch.filter(names, key):
            yield (*where, key), no_variant(key, _selectors(model))


def _selectors(model: Model) -> list[str]:
    """What can stand for variants of the model: its precisions, and the variants' names."""
    precisions = dict.fromkeys(variant.precision for variant in model.variants)
    return [*precisions, *(variant.name for variant in model.variants)]


def _latency(section: s.ModelSection, model: Model) -> Found:
    """Settings for a GPU where nothing is timed on one; graphs where addresses are not fixed."""
    own = section.latency
    known = [model.target(name) for name in model.targets if name in model.declared]
    on_gpu = any(target.device.startswith("cuda") for target in known)
    if own is not None and own.boundary == "device" and not on_gpu:
        text = f"boundary has no effect: no target ({', '.join(model.targets)}) is timed on a GPU"
        yield ("latency", "boundary"), text
    if model.latency.cuda_graph and model.latency.boundary != "device":
        text = 'cuda_graph needs boundary = "device": a graph replays fixed addresses'
        yield ("latency", "cuda_graph"), text


def _baseline(section: s.ModelSection, model: Model) -> Found:
    """Baselines of no variant, or of variants whose speed nothing limits."""
    for key in section.baseline or ():
        chosen = chosen_by(key, model.variants)
        if not chosen:
            yield ("baseline", key), no_variant(key, _selectors(model))
        elif all(variant.budget.max_regression is None for variant in chosen):
            yield (
                ("baseline", key),
                "baseline has no effect: say how much slower than it is allowed with "
                f'budget.{chosen[0].precision}.max_regression = "10%"',
            )


def _tolerance(key: str, tolerance: s.Tolerance, chosen: list[Variant]) -> Found:
    """A noise floor that is asked for where there is none, or where a fixed policy is inherited."""
    found = list(check_floor(key, tolerance, chosen))
    yield from found
    fixed = chosen and all(variant.tolerance.policy == "fixed" for variant in chosen)
    if tolerance.safety is not None and fixed and not found:
        names = ", ".join(variant.name for variant in chosen)
        yield (
            ("tolerance", key, "safety"),
            f'safety bounds no declared case: {names} is judged by policy = "fixed" (what is '
            'inherited or written elsewhere says so); set policy = "noise-floor"',
        )


def _marks(section: s.ModelSection, model: Model) -> Found:
    """Globs of `xfail` and `skip` that select no variant."""
    names = [variant.name for variant in model.variants]
    for kind in ("xfail", "skip"):
        for index, mark in enumerate(getattr(section, kind)):
            for at, pattern in enumerate(mark.variants or ()):
                if not fnmatch.filter(names, pattern):
                    yield (kind, index, "variants", at), no_variant(pattern, names)


def _release(section: s.ModelSection, model: Model) -> Found:
    """A variant that the model does not have; one name for all models of a glob; a lone alias."""
    release, names = section.release, [variant.name for variant in model.variants]
    if release is None:
        return
    if release.variant not in (FRONTIER, *names):
        yield ("release", "variant"), no_variant(release.variant, [FRONTIER, *names])
    if release.name is not None and model.name != model.section:
        yield (
            ("release", "name"),
            f"{release.name!r} is the name of each of the models that the glob in `checkpoint` "
            f"makes: leave it out, and each bundle has the name of its own, such as {model.name!r}",
        )
    if release.registered_model is not None and model.name != model.section:
        yield (
            ("release", "registered_model"),
            f"{release.registered_model!r} holds versions of one model, and the glob in "
            "`checkpoint` makes several: leave it out, and register each with `onnxcheck register`",
        )
    if release.alias is not None and release.registered_model is None:
        yield (
            ("release", "alias"),
            f"{release.alias!r} is of a version in the registry: give `registered_model` too",
        )


def _isolation(section: s.ModelSection, model: Model) -> Found:
    """Limits that nothing can hold the model to."""
    if model.isolate is not False:
        return
    for key in ("timeout", "memory_mb"):
        if getattr(section, key) is not None:
            yield (
                (key,),
                f"{key} has no effect with isolate = false: only a process of its own can be ended",
            )


def _budget_targets(key: str, budget: s.Budget, model: Model) -> Found:
    """Bounds for targets that the model does not run on."""
    for name in PER_TARGET:
        for target in getattr(budget, name) or {}:
            if target not in (*model.targets, "*"):
                yield ("budget", key, name, target), _no_target(target, model)


def _no_target(target: str, model: Model) -> str:
    return (
        f"{target!r} is not among the targets of this model ({', '.join(model.targets)}): add it "
        "to `targets`, or take it out here"
    )
