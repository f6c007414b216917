"""Loads the entries of a state_dict into a module, whatever wrappers and trainers call them.

Whether entries fit is decided by `load_state_dict(strict=True)` with its hooks; names and shapes
are compared only to say what does not.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.wording import listed, one_line, several

if TYPE_CHECKING:
    import torch

    StateDict = Mapping[str, torch.Tensor]

__all__ = ["entries_under", "load_state"]

#: what DataParallel, DistributedDataParallel, AveragedModel and torch.compile put into names
_WRAPPERS = ("module", "_orig_mod")
#: how many weights of a moving average were averaged: no part of the model
_COUNTER = "n_averaged"
#: norm and direction as `torch.nn.utils.weight_norm` and its parametrization call them
_NORMED = (
    ("{0}{1}_g", "{0}{1}_v"),
    ("{0}parametrizations.{1}.original0", "{0}parametrizations.{1}.original1"),
)


@dataclass(frozen=True)
class _Trial:
    """Entries with the names that the model may have for them, and what torch said of them."""

    prefix: str
    state: StateDict
    error: str | None
    folded: bool = False


def load_state(
    module: torch.nn.Module, state: StateDict, path: Path, prefix: str | None = None
) -> tuple[str, ...]:
    """Loads the entries of a state_dict that are the module's.

    Names of wrappers (`module.`, `_orig_mod.`) are stripped wherever they stand.

    Args:
        module: The module; when nothing fits, some of its weights may have been overwritten.
        state: All entries.
        path: The file, for the messages. In `.safetensors`, one name of tied weights is enough.
        prefix: Only entries under it are the module's; "" stands for those at the top whose first
            name the module has. By default the prefix under which the entries fit is looked for.

    Returns:
        What should be told: which prefix was used, what was ignored or computed.

    Raises:
        CheckpointError: None fit, or several do; the text names entries and what to write.
    """
    wanted = module.state_dict()
    tied = path.suffix == ".safetensors"
    if prefix is not None:
        return _load_chosen(module, wanted, state, path, prefix)
    trials = [_trial(module, wanted, state, "", tied=tied)]
    if trials[0].error is None:
        return _told_folding(path, trials[0])
    under = {there: entries_under(state, there) for there in _prefixes(state, len(wanted))}
    trials += [_trial(module, wanted, part, there, tied=tied) for there, part in under.items()]
    fitting = _distinct([trial for trial in trials if trial.error is None])
    top = replace(trials[0], state=_top(wanted, trials[0].state))
    if fitting and not _misfits(wanted, top.state, tied=tied):
        fitting = _distinct([top, *fitting])  # weights without prefix, and their average under one
    if not fitting:
        raise _unfit(module, wanted, trials, path)
    if len(fitting) > 1:
        lines = " or ".join(f'prefix = "{trial.prefix}"' for trial in fitting[:5])
        places = [f"under {t.prefix!r}" if t.prefix else "without prefix" for t in fitting[:5]]
        more = [f"under {len(fitting) - 5} more"] if len(fitting) > 5 else []
        raise CheckpointError(
            f"{path}: several sets of weights fit {type(module).__name__}: those "
            f"{listed(places + more)}, with different values. Say in [models.NAME] which is "
            f"released: {lines}"
        )
    chosen = fitting[0]
    error = _loads(module, wanted, chosen.state, tied=tied)  # others were tried after it
    if error is not None:
        raise _unfit(module, wanted, [replace(chosen, error=error)], path)
    used = set(_named_under(state, chosen.prefix) if chosen.prefix else _top(wanted, state))
    ignored = [name for name in state if name not in used]
    besides = f"; {several(ignored)} beside them ignored" if ignored else ""
    where = f"under {chosen.prefix!r}" if chosen.prefix else "without prefix"
    return (
        f"{path}: the entries {where} fit the model and were loaded{besides}; "
        f'write prefix = "{chosen.prefix}" in [models.NAME] if that is meant',
        *_told_folding(path, chosen),
    )


def entries_under(state: StateDict, prefix: str) -> StateDict:
    """The entries under a prefix such as `model.`, without it, with torch's versions of them."""
    start = _dotted(prefix)
    names = _named_under(state, prefix)
    bare = any(not name.startswith(start) for name in names)
    cut = len(_bare(start) if bare else start)
    renamed = {name: (_bare(name) if bare else name)[cut:] for name in names}
    part: OrderedDict[str, torch.Tensor] = OrderedDict(
        (new, state[old]) for old, new in renamed.items()
    )
    versions = getattr(state, "_metadata", None) or {}
    paths = {path: _bare(path + ".") if bare else path + "." for path in versions}
    kept = {
        there[cut:].removesuffix("."): versions[path]
        for path, there in paths.items()
        if there.startswith(_bare(start) if bare else start)
    }
    part._metadata = kept  # type: ignore[attr-defined]
    return part


def _load_chosen(
    module: torch.nn.Module, wanted: StateDict, state: StateDict, path: Path, prefix: str
) -> tuple[str, ...]:
    """Loads what is under the prefix of the manifest."""
    part = entries_under(state, prefix) if prefix else _top(wanted, state)
    if not part:
        tops = list(Counter(name.split(".")[0] + "." for name in state if "." in name))
        raise CheckpointError(
            f"{path}: prefix = {prefix!r}: no entry has it; "
            f"the entries begin with {several(tops or list(state), 8)}"
        )
    trial = _trial(module, wanted, part, _dotted(prefix), tied=path.suffix == ".safetensors")
    if trial.error is not None:
        raise _unfit(module, wanted, [trial], path)
    return _told_folding(path, trial)


def _trial(
    module: torch.nn.Module, wanted: StateDict, state: StateDict, prefix: str, *, tied: bool
) -> _Trial:
    """Tries entries as they are, without wrappers' names, and with weight norms folded."""
    error = _loads(module, wanted, state, tied=tied)
    if error is None:
        return _Trial(prefix, state, None)
    bare = _without_wrappers(module, wanted, state)
    if list(bare) != list(state):
        error = _loads(module, wanted, bare, tied=tied)
        if error is None:
            return _Trial(prefix, bare, None)
    folded = _without_weight_norm(wanted, bare)
    if list(folded) != list(bare) and _loads(module, wanted, folded, tied=tied) is None:
        return _Trial(prefix, folded, None, folded=True)
    return _Trial(prefix, bare, error)


def _loads(
    module: torch.nn.Module, wanted: StateDict, state: StateDict, *, tied: bool
) -> str | None:
    """Loads entries; what torch says where it refuses."""
    try:
        module.load_state_dict(state)  # strict by default, also where a model has its own
    except Exception as error:
        if tied and not any(_misfits(wanted, state, tied=True).values()):
            module.load_state_dict(state, strict=False)
            return None
        return one_line(error, 300)
    return None


def _misfits(wanted: StateDict, state: StateDict, *, tied: bool) -> dict[str, list[str]]:
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
    if _shape(value) is None or value.numel() == 0 or value.data_ptr() == 0:
        return None
    return value.device, value.data_ptr(), value.dtype, value.shape, value.stride()


def _differ(value: Any, other: Any) -> bool:
    return None not in (_shape(value), _shape(other)) and _shape(value) != _shape(other)


def _shape(value: Any) -> Any:
    """A tensor's shape; None for what is none, or has no shape yet."""
    import torch

    known = isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)
    return value.shape if known else None


def _unfit(
    module: torch.nn.Module, wanted: StateDict, trials: Sequence[_Trial], path: Path
) -> CheckpointError:
    """The error about the entries that come closest."""

    def matches(trial: _Trial) -> int:
        alike = [
            n for n in wanted if n in trial.state and _shape(trial.state[n]) == _shape(wanted[n])
        ]
        return 2 * len(alike) + len([n for n in wanted if n in trial.state])

    closest = max(trials, key=matches)
    found = _misfits(wanted, closest.state, tied=path.suffix == ".safetensors")
    text = "; ".join(
        f"{kind} {several(names)}" if kind != "of another shape" else f"{kind}: {several(names)}"
        for kind, names in found.items()
    )
    strangers = [name for name in closest.state if name not in _top(wanted, closest.state)]
    if "of another shape" in found:
        hint = "The checkpoint belongs to another architecture or other kwargs"
    elif found == {"unexpected": strangers} and not closest.prefix:
        hint = (
            "If these are no part of the model (a loss's, a metric's), write "
            'prefix = "" in [models.NAME]; otherwise give the factory the checkpoint\'s kwargs'
        )
    elif closest.prefix:
        hint = "Give the factory the checkpoint's kwargs"
    else:
        hint = (
            "Give the factory the checkpoint's kwargs, or say with prefix in [models.NAME] what "
            "the names of the model's weights begin with"
        )
    under = f" under {closest.prefix!r}" if closest.prefix else ""
    return CheckpointError(
        f"{path}: does not fit {type(module).__name__}{under}: {text or closest.error}. {hint}"
    )


def _told_folding(path: Path, trial: _Trial) -> tuple[str, ...]:
    if not trial.folded:
        return ()
    return (
        f"{path}: holds weights as weight_norm does (norm and direction), the model has none: "
        "they were multiplied as torch.nn.utils.remove_weight_norm does, and whatever exports the "
        "model for release must do so too (load, then remove the norm)",
    )


# names


def _bare(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _dotted(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith(".") else f"{prefix}."


def _named_under(state: StateDict, prefix: str) -> list[str]:
    """The names under a prefix; where there are none, those that are but for wrappers' names."""
    start = _dotted(prefix)
    return [name for name in state if name.startswith(start)] or [
        name for name in state if _bare(start) and _bare(name).startswith(_bare(start))
    ]


def _top(wanted: StateDict, state: StateDict) -> StateDict:
    """The entries whose first name, but for wrappers', is one of the module's."""
    tops = {_bare(name).split(".")[0] for name in wanted}
    return {name: value for name, value in state.items() if _bare(name).split(".")[0] in tops}


def _prefixes(state: StateDict, count: int) -> list[str]:
    """Prefixes of at least half as many entries as the model has, outer ones first."""
    held = Counter(prefix for name in state for prefix in _outer(name))
    # hooks may make two entries of one, and tied weights may have one name
    return sorted((p for p, n in held.items() if 2 * n >= count), key=lambda p: p.count("."))


def _outer(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:depth]) + "." for depth in range(1, len(parts)))


def _distinct(trials: Sequence[_Trial]) -> list[_Trial]:
    """Trials of which no two give the model the same values."""
    import torch

    def same(one: _Trial, other: _Trial) -> bool:
        return one.state.keys() == other.state.keys() and all(
            value is other.state[name]
            or (value.dtype == other.state[name].dtype and torch.equal(value, other.state[name]))
            for name, value in one.state.items()
            if _shape(value) is not None
        )

    kept: list[_Trial] = []
    for trial in trials:
        if not any(same(trial, other) for other in kept):
            kept.append(trial)
    return kept


def _without_wrappers(module: torch.nn.Module, wanted: StateDict, state: StateDict) -> StateDict:
    """Entries with the names of the module that are the same but for wrappers' names."""
    entries = {_bare(name): name for name in wanted}
    modules = {_bare(name): name for name, _ in module.named_modules()}

    def renamed(name: str) -> str:
        if name in wanted:
            return name
        if _bare(name) in entries:
            return entries[_bare(name)]
        owner, _, leaf = _bare(name).rpartition(".")  # of a name that a hook of the module knows
        return f"{modules[owner]}.{leaf}".lstrip(".") if owner in modules else _bare(name)

    names = {
        name: renamed(name)
        for name in state
        if name in wanted or name.rpartition(".")[2] != _COUNTER
    }
    if len(set(names.values())) < len(names):
        return state  # two entries would be one
    result: OrderedDict[str, torch.Tensor] = OrderedDict(
        (n, state[old]) for old, n in names.items()
    )
    versions = getattr(state, "_metadata", None) or {}
    result._metadata = {  # type: ignore[attr-defined]
        modules.get(_bare(path), _bare(path)): version for path, version in versions.items()
    }
    return result


def _without_weight_norm(wanted: StateDict, state: StateDict) -> StateDict:
    """Entries with weights in place of the norms and directions that the model does not have."""
    folded = OrderedDict(state)
    for name in [name for name in wanted if name not in state]:
        owner, dot, leaf = name.rpartition(".")
        for pair in _NORMED:
            norm, direction = (part.format(owner + dot, leaf) for part in pair)
            if norm in folded and _is_norm(folded[norm], folded.get(direction)):
                folded[name] = _weight(folded.pop(norm), folded.pop(direction))
    folded._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    return folded


def _is_norm(norm: torch.Tensor, direction: torch.Tensor | None) -> bool:
    """Whether one may be the other's norm: of all its numbers, or kept for one dim."""
    if direction is None or norm.dim() == 0:
        return direction is not None
    longer = [dim for dim, size in enumerate(norm.shape) if size > 1]
    fits = norm.dim() == direction.dim() and len(longer) <= 1
    return fits and all(norm.shape[dim] == direction.shape[dim] for dim in longer)


def _weight(norm: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """The weight of a norm, of size 1 in all dims but the one that it is kept for."""
    import torch

    kept = next((dim for dim, size in enumerate(norm.shape) if size > 1), None)
    if kept is None:  # a norm of all, or one row
        dims = [dim for dim, size in enumerate(norm.shape) if size == direction.shape[dim]]
        kept = dims[0] if norm.dim() == direction.dim() and dims else -1
    return torch._weight_norm(direction, norm, kept)
