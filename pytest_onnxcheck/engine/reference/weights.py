"""Loads the entries of a state_dict into a module, whatever wrappers and trainers call them.

Whether entries fit is decided by `load_state_dict(strict=True)` with its hooks; names and shapes
are compared only to say what does not.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.reference.misfits import KEPT, Trial, differences, shape_of, unfit
from pytest_onnxcheck.engine.reference.names import (
    at_top,
    bare_name,
    dotted,
    entries_under,
    named_under,
    prefixes,
    tops,
)
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.wording import listed, one_line, several

if TYPE_CHECKING:
    import torch

    StateDict = Mapping[str, torch.Tensor]

__all__ = ["Loaded", "load_state"]

#: how many weights of a moving average were averaged: no part of the model
_COUNTER = "n_averaged"
#: norm and direction as `torch.nn.utils.weight_norm` and its parametrization call them
_NORMED = (
    ("{0}{1}_g", "{0}{1}_v"),
    ("{0}parametrizations.{1}.original0", "{0}parametrizations.{1}.original1"),
)


@dataclass(frozen=True)
class Loaded:
    """How entries were loaded.

    Attributes:
        prefix: The one under which they are in the file; None where names needed none.
        notes: What should be told: which prefix was found, what was ignored or computed.
    """

    prefix: str | None
    notes: tuple[str, ...] = ()


def load_state(
    module: torch.nn.Module,
    state: StateDict,
    path: Path,
    prefix: str | None = None,
    *,
    tied: bool = False,
) -> Loaded:
    """Loads the entries of a state_dict that are the module's.

    Names of wrappers (`module.`, `_orig_mod.`) are stripped wherever they stand.

    Args:
        module: The module; when nothing fits, some of its weights may have been overwritten.
        state: All entries.
        path: The file, for the messages.
        prefix: Only entries under it are the module's; "" stands for those at the top whose first
            name the module has. By default the prefix under which the entries fit is looked for.
        tied: Whether one name of tied weights is enough, as in safetensors.

    Returns:
        Which prefix was used, and what should be told.

    Raises:
        CheckpointError: None fit, or several do; the text names entries and what to write.
    """
    loading = _Loading(module, module.state_dict(), state, path, tied=tied)
    return loading.searched() if prefix is None else loading.chosen(prefix)


@dataclass(frozen=True)
class _Loading:
    """Tries entries in a module.

    Attributes:
        module: The module.
        wanted: Its own state_dict.
        state: All entries of the file.
        path: The file, for the messages.
        tied: Whether one name of tied weights is enough.
    """

    module: torch.nn.Module
    wanted: StateDict
    state: StateDict
    path: Path
    tied: bool

    def chosen(self, prefix: str) -> Loaded:
        """Loads what is under the prefix of the manifest."""
        part = entries_under(self.state, prefix) if prefix else at_top(self.wanted, self.state)
        if not part:
            raise CheckpointError(
                f"{self.path}: prefix = {prefix!r}: no entry has it; "
                f"the entries begin with {several(tops(self.state), 8)}"
            )
        trial = self._trial(part, dotted(prefix))
        if trial.error is not None:
            raise self._unfit([trial])
        return Loaded(prefix, _told_folding(self.path, trial))

    def searched(self) -> Loaded:
        """Loads the entries as they are, or what is under the one prefix that makes them fit."""
        state = self.state
        whole = self._trial(state, "")
        if whole.error is None:
            return Loaded(None, _told_folding(self.path, whole))
        under = {there: entries_under(state, there) for there in prefixes(state, len(self.wanted))}
        trials = [whole, *(self._trial(part, there) for there, part in under.items())]
        fitting = [trial for trial in trials if trial.error is None]
        bare = replace(whole, state=at_top(self.wanted, whole.state))
        if fitting and not differences(self.wanted, bare.state, tied=self.tied):
            fitting = [bare, *fitting]  # weights without prefix, and their average under one
        fitting = _distinct(fitting)
        if not fitting:
            raise self._unfit(trials)
        if len(fitting) > 1:
            raise self._ambiguous(fitting)
        chosen = fitting[0]
        error = self._load(chosen.state)  # others were tried after it
        if error is not None:
            raise self._unfit([replace(chosen, error=error)])
        told = self._told_prefix(chosen.prefix)
        return Loaded(chosen.prefix, (told, *_told_folding(self.path, chosen)))

    def _trial(self, state: StateDict, prefix: str) -> Trial:
        """Tries entries as they are, without wrappers' names, and with weight norms folded."""
        error = self._load(state)
        if error is None:
            return Trial(prefix, state, None)
        bare = _without_wrappers(self.module, self.wanted, state)
        bare = _without_computed(self.module, self.wanted, bare)
        if list(bare) != list(state):
            error = self._load(bare)
            if error is None:
                return Trial(prefix, bare, None)
        folded = _without_weight_norm(self.wanted, bare)
        if list(folded) != list(bare) and self._load(folded) is None:
            return Trial(prefix, folded, None, folded=True)
        return Trial(prefix, bare, error)

    def _load(self, state: StateDict) -> str | None:
        """Loads entries; what torch says where it refuses, or `KEPT`."""
        lacking = set(differences(self.wanted, state, tied=self.tied)) - {"unexpected"}
        watched = _weights(self.module, self.wanted) if lacking else {}
        try:
            self.module.load_state_dict(state)  # strict by default, also where a model has its own
        except Exception as error:
            if self.tied and not differences(self.wanted, state, tied=True):
                self.module.load_state_dict(state, strict=False)
                return None
            return one_line(error, 300)
        return KEPT if _kept(self.module, watched) else None

    def _unfit(self, trials: Sequence[Trial]) -> CheckpointError:
        return unfit(self.module, self.wanted, trials, self.state, self.path, tied=self.tied)

    def _ambiguous(self, fitting: Sequence[Trial]) -> CheckpointError:
        """The error about several sets of weights that fit."""
        lines = " or ".join(f'prefix = "{trial.prefix}"' for trial in fitting[:5])
        places = [_place(trial.prefix) for trial in fitting[:5]]
        more = [f"under {len(fitting) - 5} more"] if len(fitting) > 5 else []
        return CheckpointError(
            f"{self.path}: several sets of weights fit {type(self.module).__name__}: those "
            f"{listed(places + more)}, with different values. Say in [models.NAME] which is "
            f"released: {lines}"
        )

    def _told_prefix(self, prefix: str) -> str:
        """Which entries were loaded, and which were not."""
        state = self.state
        used = set(named_under(state, prefix) if prefix else at_top(self.wanted, state))
        ignored = [name for name in state if name not in used]
        besides = f"; {several(ignored)} beside them ignored" if ignored else ""
        return (
            f"{self.path}: the entries {_place(prefix)} fit the model and were loaded{besides}; "
            f'write prefix = "{prefix}" in [models.NAME] if that is meant'
        )


def _place(prefix: str) -> str:
    return f"under {prefix!r}" if prefix else "without prefix"


def _weights(
    module: torch.nn.Module, wanted: StateDict
) -> dict[str, tuple[torch.Tensor, int, torch.Tensor]]:
    """Parameters and running statistics: each with how often it was written, and a copy."""
    names = {name for name, _ in module.named_parameters()}
    return {
        name: (value, value._version, value.clone())
        for name, value in wanted.items()
        if shape_of(value) is not None
        and not value.is_inference()
        and (name in names or name.rpartition(".")[2].startswith("running_"))
    }


def _kept(
    module: torch.nn.Module, watched: Mapping[str, tuple[torch.Tensor, int, torch.Tensor]]
) -> bool:
    """Whether a `load_state_dict` that did not complain left some as they were."""
    import torch

    now = module.state_dict() if watched else {}
    return any(
        name in now
        and now[name].data_ptr() == value.data_ptr()
        and value._version == version
        and torch.equal(value, copy)
        for name, (value, version, copy) in watched.items()
    )


def _told_folding(path: Path, trial: Trial) -> tuple[str, ...]:
    if not trial.folded:
        return ()
    return (
        f"{path}: holds weights as weight_norm does (norm and direction), the model has none: "
        "they were multiplied as torch.nn.utils.remove_weight_norm does, and whatever exports the "
        "model for release must do so too (load, then remove the norm)",
    )


def _distinct(trials: Sequence[Trial]) -> list[Trial]:
    """Trials of which no two give the model the same values."""
    import torch

    def same(one: Trial, other: Trial) -> bool:
        return one.state.keys() == other.state.keys() and all(
            value is other.state[name]
            or (value.dtype == other.state[name].dtype and torch.equal(value, other.state[name]))
            for name, value in one.state.items()
            if shape_of(value) is not None
        )

    kept: list[Trial] = []
    for trial in trials:
        if not any(same(trial, other) for other in kept):
            kept.append(trial)
    return kept


def _without_wrappers(module: torch.nn.Module, wanted: StateDict, state: StateDict) -> StateDict:
    """Entries with the names of the module that are the same but for wrappers' names."""
    entries = {bare_name(name): name for name in wanted}
    modules = {bare_name(name): name for name, _ in module.named_modules()}

    def renamed(name: str) -> str:
        if name in wanted:
            return name
        if bare_name(name) in entries:
            return entries[bare_name(name)]
        # a name that a hook of the module knows
        owner, _, leaf = bare_name(name).rpartition(".")
        return f"{modules[owner]}.{leaf}".lstrip(".") if owner in modules else bare_name(name)

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
        modules.get(bare_name(path), bare_name(path)): version for path, version in versions.items()
    }
    return result


def _without_computed(module: torch.nn.Module, wanted: StateDict, state: StateDict) -> StateDict:
    """Entries without those that the module computes itself, with the same values.

    Buffers that were saved once and no longer are, such as `position_ids` and `inv_freq`.
    """
    computed = {name: value for name, value in module.named_buffers() if name not in wanted}
    dropped = [name for name in state if name in computed and _alike(state[name], computed[name])]
    if not dropped:
        return state
    result = OrderedDict((name, value) for name, value in state.items() if name not in dropped)
    result._metadata = getattr(state, "_metadata", {})  # type: ignore[attr-defined]
    return result


def _alike(value: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors have the same numbers but for the coarser dtype's rounding."""
    import torch

    if shape_of(value) is None or shape_of(value) != shape_of(other):
        return False
    kinds = [t.dtype for t in (value, other) if t.is_floating_point()]
    rtol = 4 * max((torch.finfo(kind).eps for kind in kinds), default=0.0)
    return torch.allclose(value.double(), other.double(), rtol=rtol, atol=0.0, equal_nan=True)


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
