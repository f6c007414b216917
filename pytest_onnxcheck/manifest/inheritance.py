"""Tables of several levels made one: which apply to a variant, and what the strongest say."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pytest_onnxcheck.manifest import sections as s

__all__ = ["matching", "merged", "tolerance_of"]

_V = TypeVar("_V")
_T = TypeVar("_T", s.Tolerance, s.Budget, s.Latency, s.Quantization)


def matching(
    defaults: Mapping[str, _V] | None, model: Mapping[str, _V] | None, precision: str, variant: str
) -> list[_V]:
    """The tables that apply to a variant, the weakest first."""
    found: list[_V] = []
    for tables in (defaults or {}, model or {}):
        found += [tables[key] for key in ("*", precision) if key in tables]
        found += [
            table
            for key, table in tables.items()
            if key not in ("*", precision) and fnmatch.fnmatchcase(variant, key)
        ]
    return found


def tolerance_of(precision: str, levels: list[s.Tolerance]) -> s.Tolerance:
    """What is written; built-in thresholds where it has none of its own.

    See `sections.Tolerance.fixed` for the policy, and `replaces` for the thresholds.
    """
    policy = s.BUILTIN_TOLERANCE[precision].policy
    for level in levels:
        policy = level.policy or ("fixed" if level.fixed else policy)
    written = merged(s.Tolerance, list(map(_replacing, levels)))
    own = {key: value for key, value in written.written().items() if value is not None}
    builtin: dict[str, Any] = {}
    if policy == "noise-floor":
        builtin = s.NOISE_FLOOR.written()
    elif not written.replaces:
        builtin = s.FIXED_TOLERANCE[precision].written()
    whole = {**builtin, **own, "policy": policy}
    return s.Tolerance.model_construct(set(whole), **whole)


def _replacing(level: s.Tolerance) -> s.Tolerance:
    """The level with what it takes off: `rel_rms` and `sqnr_db` bound the same quantity."""
    for metric, other in (("rel_rms", "sqnr_db"), ("sqnr_db", "rel_rms")):
        if isinstance(getattr(level, metric), s.Bounds) and getattr(level, other) is None:
            return level.model_copy(update={other: None})
    return level


def merged(kind: type[_T], levels: Sequence[_T | None]) -> _T:
    """One table of several: of each field what the strongest says that has it.

    Args:
        kind: Their class.
        levels: The tables, the weakest first; None for one that is not there.
    """
    written: dict[str, Any] = {}  # of each field what its own type says
    for level in levels:
        written.update(level.written() if level is not None else {})
    return kind.model_construct(set(written), **written)
