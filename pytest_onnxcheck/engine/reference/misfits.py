"""Which entries of a state_dict a module has not, and the other way round; what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.names import at_top, bare_name, tops
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.wording import several

if TYPE_CHECKING:
    import torch

    StateDict = Mapping[str, torch.Tensor]

__all__ = ["KEPT", "Trial", "differences", "shape_of", "unfit"]

#: in place of what torch says: a `load_state_dict` of the module's own took what does not fit
KEPT = "weights were left as the factory made them"


@dataclass(frozen=True)
class Trial:
    """Entries with the names that the model may have for them, and what torch said of them."""

    prefix: str
    state: StateDict
    error: str | None
    folded: bool = False


def unfit(
    module: torch.nn.Module,
    wanted: StateDict,
    trials: Sequence[Trial],
    state: StateDict,
    path: Path,
    *,
    tied: bool,
) -> CheckpointError:
    """The error about the entries that come closest.

    Args:
        module: The module.
        wanted: Its own state_dict.
        trials: All that was tried; where there is one, its prefix was asked for.
        state: All entries of the file.
        path: The file.
        tied: Whether one name of tied weights is enough.
    """
    closest = max(trials, key=lambda trial: _alike(wanted, trial.state))
    found = differences(wanted, closest.state, tied=tied)
    texts = [
        f"{kind} {several(names)}" if kind != "of another shape" else f"{kind}: {several(names)}"
        for kind, names in found.items()
    ]
    under = f" under {closest.prefix!r}" if closest.prefix else ""
    said = "; ".join(texts) or closest.error
    advice = (
        _whole(wanted, closest, state)
        or _computed(module, found)
        or _hint(wanted, closest, trials, found)
    )
    return CheckpointError(
        f"{path}: does not fit {type(module).__name__}{under}: {said}. "
        f"{_passed_over(module, closest)}{_elsewhere(closest, state, found)}{advice}"
    )


def _passed_over(module: torch.nn.Module, closest: Trial) -> str:
    """What a `load_state_dict` means that takes what does not fit."""
    if closest.error != KEPT:
        return ""
    return (
        f"The load_state_dict of {type(module).__name__} passes over that: weights stay as the "
        "factory made them. "
    )


def _elsewhere(closest: Trial, state: StateDict, found: Mapping[str, list[str]]) -> str:
    """Where in the file the first is of what is missing under a prefix."""
    missing = found.get("missing", []) if closest.prefix else []
    ends = (other for name in missing[:1] for other in state if other.endswith(f".{name}"))
    there = next(ends, None)
    return f"{missing[0]} is in the file as {there}. " if there else ""


def _whole(wanted: StateDict, closest: Trial, state: StateDict) -> str | None:
    """The prefix that has all names, where another was asked for."""
    first = next(iter(wanted), "")
    starts = [name.removesuffix(first) for name in state if name.endswith(f".{first}")]
    fits = (s for s in starts if s != closest.prefix and all(s + name in state for name in wanted))
    there = next(fits, None) if closest.prefix else None
    return there and f'All names of the model are under {there!r}: write prefix = "{there}"'


def _computed(module: torch.nn.Module, found: Mapping[str, list[str]]) -> str | None:
    """What to do about entries that the module computes itself, where nothing else is off."""
    names = {name for name, _ in module.named_buffers()}
    if list(found) != ["unexpected"] or not names.issuperset(found["unexpected"]):
        return None
    return (
        f"The model computes {several(found['unexpected'])} itself and has other numbers than the "
        "file: give the factory the checkpoint's kwargs"
    )


def _alike(wanted: StateDict, state: StateDict) -> int:
    """How far entries come: those whose shape fits too count twice."""
    named = [name for name in wanted if name in state]
    return len(named) + 2 * len([n for n in named if shape_of(state[n]) == shape_of(wanted[n])])


def _hint(
    wanted: StateDict, closest: Trial, trials: Sequence[Trial], found: Mapping[str, list[str]]
) -> str:
    """What was tried, and what to write."""
    strangers = [name for name in closest.state if name not in at_top(wanted, closest.state)]
    if "of another shape" in found:
        return _other_shapes(wanted, closest.state)
    if found == {"unexpected": strangers} and not closest.prefix:
        return (
            "If these are no part of the model (a loss's, a metric's), write "
            'prefix = "" in [models.NAME]; otherwise give the factory the checkpoint\'s kwargs'
        )
    fitting = sum(name in closest.state for name in wanted)
    if closest.prefix or not found or 2 * fitting >= len(wanted):
        return "Give the factory the checkpoint's kwargs"
    inner = _inner(wanted, closest.state)
    if inner is not None:
        return (
            f"They are those of the model's {inner!r} alone: the factory puts a module around the "
            f"one that was saved. Load them in the factory (`model.{inner}.load_state_dict(...)`) "
            "and leave out checkpoint"
        )
    under = [f"under {trial.prefix!r}" for trial in trials if trial.prefix]
    tried = ", ".join(["as they are", "without module. or _orig_mod.", *under[:5]])
    return (
        f"Tried: the names {tried}. In the file they begin with {several(tops(closest.state))}, in "
        f"the model with {several(tops(wanted))}: give the factory the checkpoint's kwargs, or "
        'write prefix = "..." in [models.NAME], what the names of the model\'s weights begin with'
    )


def _other_shapes(wanted: StateDict, state: StateDict) -> str:
    """What mostly makes the shapes of one layer differ; of several, the architecture."""
    names = [name for name in wanted if name in state and _differ(state[name], wanted[name])]
    layers = {name.rpartition(".")[0] for name in names}
    ranks = {len(shape_of(state[name])) - len(shape_of(wanted[name])) for name in names}
    if len(layers) > 1 or ranks != {0}:
        return (
            "The checkpoint belongs to another architecture or other kwargs: write those it was "
            "trained with, kwargs = { ... } in [models.NAME], or name its own factory"
        )
    (layer,) = layers
    pairs = list(zip(state[names[0]].shape, wanted[names[0]].shape, strict=True))
    axes = [axis for axis, (one, other) in enumerate(pairs) if one != other]
    order = list(dict.fromkeys(name.rpartition(".")[0] for name in wanted))
    size = pairs[axes[0]][0]
    meant = f"a width: the checkpoint's has {size}"
    if axes == [0] and f"{layer}.bias" not in wanted and "emb" in layer.lower():
        meant = f"the vocabulary or the longest sequence: the checkpoint's has {size}"
    elif axes == [0] and layer == order[-1]:
        meant = f"the number of classes or outputs: the checkpoint's has {size}"
    elif axes == [1] and layer == order[0]:
        meant = f"the number of input channels or features: the checkpoint's has {size}"
    return (
        f"No layer but {layer or names[0]} differs, which is mostly {meant}. Give it to the "
        "factory by kwargs in [models.NAME]"
    )


def _inner(wanted: StateDict, state: StateDict) -> str | None:
    """The submodule whose whole state_dict the entries are; None where there is none."""
    bare = {bare_name(name) for name in state}
    first = next(iter(wanted), "").split(".")
    paths = [".".join(first[:depth]) for depth in range(1, len(first))]
    for path in paths:
        if (
            bare
            and {n.removeprefix(f"{path}.") for n in wanted if n.startswith(f"{path}.")} == bare
        ):
            return path
    return None


def differences(wanted: StateDict, state: StateDict, *, tied: bool) -> dict[str, list[str]]:
    """By names and shapes: the entries in which the two differ, by kind; empty where in none."""
    loaded = {_place(wanted[name]) for name in state if name in wanted} - {None} if tied else set()
    kinds = {
        "missing": [k for k in wanted if k not in state and _place(wanted[k]) not in loaded],
        "unexpected": [name for name in state if name not in wanted],
        "of another shape": [
            f"{name} is {list(state[name].shape)}, the model has {list(wanted[name].shape)}"
            for name in wanted
            if name in state and _differ(state[name], wanted[name])
        ],
    }
    return {kind: names for kind, names in kinds.items() if names}


def _place(value: Any) -> tuple[Any, ...] | None:
    """Where a tensor's numbers are in memory: the same for tied ones."""
    if shape_of(value) is None or value.numel() == 0 or value.data_ptr() == 0:
        return None
    return value.device, value.data_ptr(), value.dtype, value.shape, value.stride()


def _differ(value: Any, other: Any) -> bool:
    return None not in (shape_of(value), shape_of(other)) and shape_of(value) != shape_of(other)


def shape_of(value: Any) -> Any:
    """A tensor's shape; None for what is none, or has no shape yet."""
    import torch

    known = isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)
    return value.shape if known else None
