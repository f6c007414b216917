"""Rules for targets: tables that declare them, and names that choose them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.positions import KeyPath
from pytest_onnxcheck.manifest.rules.base import BAD_MODEL_NAME, Found
from pytest_onnxcheck.manifest.rules.budget import PER_TARGET
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CUDA_GRAPH_OPTIONS, EVALUATOR, Target
from pytest_onnxcheck.manifest.terms import NAME
from pytest_onnxcheck.wording import closest

__all__ = ["check_target_names", "check_targets", "unknown_target"]

#: what people call a target that has another name here, which its letters would not lead to
_CALLED = {"gpu": "cuda", "nvidia": "cuda", "trt": "tensorrt"}


def check_targets(
    tables: Mapping[str, s.TargetOptions], given: Iterable[str] = BUILTIN_TARGETS
) -> Found:
    """What can be wrong in `[targets.NAME]`; `given` are targets a hook declares."""
    for name, table in tables.items():
        where: KeyPath = ("targets", name)
        if not NAME.fullmatch(name):
            yield where, BAD_MODEL_NAME.format(name=name).replace("model", "target", 1)
        yield from ((where, text) for text in _misplaced(table))
        if (
            table.provider is None
            and not table.elsewhere
            and name not in {*BUILTIN_TARGETS, *given}
        ):
            close = _closest_target(name, BUILTIN_TARGETS)
            hint = f" (or did you mean {close!r}?)" if close else ""
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


def _misplaced(table: s.TargetOptions) -> Iterator[str]:
    """What cannot be together in a table of a target that runs elsewhere."""
    if table.elsewhere and table.provider == EVALUATOR:
        yield (f"{EVALUATOR} runs here: leave `python`, `environment`, `runtime` and `browser` out")
    in_python = table.python is not None or table.environment is not None
    if in_python and (table.runtime or table.browser):
        yield "`python` and `environment` are Python's: leave them out beside `runtime`, `browser`"
    if table.browser and table.runtime == "onnxruntime-node":
        yield "onnxruntime-node runs in no browser: leave `runtime` out, or `browser`"


def _session_option(option: str, value: object) -> Found:
    where: KeyPath = ("session_options", option)
    if "." in option:  # a config entry, of which ONNX Runtime has no list
        return
    allowed = s.SESSION_SETTINGS.get(option)
    if allowed is None:
        close = closest(option, s.SESSION_SETTINGS)
        names = ", ".join(s.SESSION_SETTINGS)
        hint = f"did you mean {close!r}?" if close else f"there are {names}"
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
        for at, name in enumerate(getattr(section, key) or ()):
            if name not in targets:
                yield (key, at), f"{key}: {unknown_target(name, targets)}"
    for key, budget in (section.budget or {}).items():
        for limit in PER_TARGET:
            for name in getattr(budget, limit) or {}:
                where: KeyPath = ("budget", key, limit)
                fallback = limit == "max_cpu_fallback"
                if fallback and name == "*":
                    continue
                if name not in targets:
                    yield (*where, name), unknown_target(name, targets)
                elif fallback and not targets[name].accelerated:
                    yield where, f"{limit} has no effect on {name}: it runs on the CPU anyway"
    for kind in ("xfail", "skip"):
        for index, mark in enumerate(getattr(section, kind, ())):
            for at, name in enumerate(mark.targets or ()):
                if name not in targets:
                    yield (kind, index, "targets", at), f"targets: {unknown_target(name, targets)}"


def unknown_target(name: str, targets: Iterable[str]) -> str:
    """What to say of a target that nobody declares."""
    names = list(targets)
    close = _closest_target(name, names)
    hint = "" if close is None else f" (did you mean {close!r}?)"
    return (
        f"{name!r} is not one of {', '.join(names)}{hint}; declare it in "
        f"[targets.{name}], or by the hook pytest_onnxcheck_targets"
    )


def _closest_target(name: str, targets: Iterable[str]) -> str | None:
    """The target that is meant by another name, such as `cuda` by `gpu`; None where none is."""
    known = list(targets)
    called = _CALLED.get(name.lower())
    return called if called in known else closest(name.lower(), known)
