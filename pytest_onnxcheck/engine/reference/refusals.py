"""What to write where `forward` does not take what the manifest gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.reference.plans import hint
from pytest_onnxcheck.manifest import Model

if TYPE_CHECKING:
    import inspect

__all__ = ["path_hint"]

#: what Python says where a list or dict is taken for one of transformers' caches
_NO_CACHE = re.compile(r"'(dict|list|tuple)' object has no attribute 'get_seq_length'")


def path_hint(
    model: Model, parameters: Mapping[str, inspect.Parameter], error: BaseException | str
) -> str:
    """How to say where inputs belong, or what holds them; empty where nothing hints at it.

    Args:
        model: Its inputs and their paths.
        parameters: Of `forward`, as far as Python knows them.
        error: What `forward` raised, or why it cannot be called.
    """
    paths = {name: entry.path or name for name, entry in model.inputs.items()}
    if _NO_CACHE.search(str(error)):
        held = [path.partition(".")[0] for path in paths.values() if "." in path]
        plain = [head for head in dict.fromkeys(held) if head not in model.containers]
        if plain:
            return (
                f" (what lies below {plain[0]!r} is held by a list or a dict, and transformers' "
                f"caches by a class: write containers.{plain[0]} = "
                '"transformers.cache_utils:DynamicCache")'
            )
    heads = {name: path.partition(".")[0] for name, path in paths.items()}
    loose = [name for name, head in heads.items() if head not in parameters]
    free = [name for name in parameters if name not in heads.values()]
    several = any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values())
    if several or not loose or not free:
        return ""
    if "too many positional" in str(error):
        return (
            f"; where {free[0]!r} takes several, say which is which: inputs.{loose[0]}.path = "
            f'"{free[0]}.0"'
        )
    if len(loose) == len(paths):
        return ""
    head = heads[loose[0]]
    return (
        f" (forward has no parameter {head!r}{hint(head, free, listed=False)}: "
        f"input {loose[0]!r} was passed by position)"
    )
