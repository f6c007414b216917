"""Nested arguments made from tensors, and nested results taken apart; transformers' caches too.

A repro folder carries a copy of this file, which therefore imports nothing of this package. It
does not import transformers either: a cache's class brings its module along.

A *plan* says how an argument is made, in what JSON can hold: `{"input": name}` is a tensor,
`{"value": constant}` a constant, and `{"container": kind, "entries": {key: plan}}` a structure:
a `list`, `tuple` or `dict`, or what `module:class` makes of its fields.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["CACHE_ENTRIES", "build", "is_cache", "leaves"]

#: a plan, see above
Plan = Mapping[str, Any]

#: what the two tensors of a cache's layer may be called; those of results have the first names
CACHE_ENTRIES = (("key", "0"), ("value", "1"))
#: the parts of a layer of `EncoderDecoderCache`, and the attributes that hold their caches
_PARTS = {"decoder": "self_attention_cache", "encoder": "cross_attention_cache"}
#: what layers without keys and values hold
_STATES = ("conv_states", "recurrent_states")


def build(plan: Plan, tensors: Mapping[str, Any], find: Callable[[str], Any]) -> Any:
    """What a plan says, made anew: a call may change what it is given.

    Args:
        plan: The plan.
        tensors: Tensors by the names of the plan.
        find: Gives the class of `module:class`.
    """
    if "input" in plan:
        return tensors[plan["input"]]
    if "value" in plan:
        return copy.deepcopy(plan["value"])
    entries = {key: build(entry, tensors, find) for key, entry in plan["entries"].items()}
    kind = plan["container"]
    if kind == "dict":
        return entries
    if kind in ("list", "tuple"):
        values = list(entries.values())
        return values if kind == "list" else tuple(values)
    made = find(kind)
    if is_cache(made):
        return _cache(made, entries)
    if all(key.isdigit() for key in entries):
        return made(*entries.values())
    return made(**entries)


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The tensors and numbers in what `forward` returned, in order, each with its path.

    None is left out. A cache gives `0.key`, `0.value`, `1.key`, ..., one of encoder and decoder
    `0.decoder.key`, `0.decoder.value`, `0.encoder.key`, ...

    Raises:
        TypeError: Something else is in it.
    """
    import torch

    if value is None:
        return
    if isinstance(value, torch.Tensor | bool | int | float):
        yield path, value
        return
    parts = _parts(value)
    if parts is None:
        raise TypeError(f"forward returned a {type(value).__name__}, which holds no tensors")
    for key, entry in parts:
        yield from leaves(entry, f"{path}.{key}" if path else str(key))


def _parts(value: Any) -> list[tuple[Any, Any]] | None:
    """What a structure holds, by key; None where it is none that is known."""
    from torch.utils import _pytree

    if is_cache(type(value)):
        return list(_layers(value))
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(zip(getattr(value, "_fields", range(len(value))), value, strict=True))
    if hasattr(value, "__dataclass_fields__"):
        return [(name, getattr(value, name)) for name in value.__dataclass_fields__]
    node = _pytree.SUPPORTED_NODES.get(type(value))
    return None if node is None else list(enumerate(node.flatten_fn(value)[0]))


# transformers' caches


def is_cache(kind: Any) -> bool:
    """Whether a class is one of transformers' caches."""
    bases = getattr(kind, "__mro__", ())
    return any(b.__name__ == "Cache" and b.__module__ == "transformers.cache_utils" for b in bases)


def _cache(kind: Any, layers: Mapping[str, Mapping[str, Any]]) -> Any:
    """A cache that holds these layers: what is declared as any `Cache` is a dynamic one."""
    module = sys.modules["transformers.cache_utils"]
    both = any(part in layer for layer in layers.values() for part in _PARTS)
    if not both:
        cache = module.DynamicCache() if kind is module.Cache else kind()
        _fill(cache, layers)
        return cache
    parts = []
    for part in _PARTS:
        parts.append(module.DynamicCache())
        _fill(parts[-1], {key: layer[part] for key, layer in layers.items() if part in layer})
    made = module.EncoderDecoderCache if kind is module.Cache else kind
    return made(*parts)


def _fill(cache: Any, layers: Mapping[str, Mapping[str, Any]]) -> None:
    import torch

    for index, layer in layers.items():
        states = [next(layer[name] for name in names if name in layer) for names in CACHE_ENTRIES]
        with contextlib.ExitStack() as inside:
            if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
                # a layer begins with an empty tensor, which may well be a constant
                inside.enter_context(warnings.catch_warnings())
                warnings.filterwarnings("ignore", "torch.tensor results are registered")
            cache.update(*states, int(index))


def _layers(cache: Any) -> Iterator[tuple[str, Any]]:
    """The layers of a cache, each a dict."""
    halves = {part: getattr(cache, attribute, None) for part, attribute in _PARTS.items()}
    if None not in halves.values():
        layers: dict[str, dict[str, Any]] = {}
        for part, half in halves.items():
            for index, layer in _layers(half):
                layers.setdefault(index, {})[part] = layer
        yield from layers.items()
        return
    if hasattr(cache, "layers"):
        held: list[Any] = [vars(layer) for layer in cache.layers]
    else:  # before 4.54
        pairs = zip(cache.key_cache, cache.value_cache, strict=True)
        held = [{"keys": keys, "values": values} for keys, values in pairs]
    for place, layer in enumerate(held):
        found = {"key": layer.get("keys"), "value": layer.get("values")}
        found |= {name: layer[name] for name in _STATES if name in layer}
        # a layer that was never filled has None, or an empty list
        yield str(place), {name: state for name, state in found.items() if state is not None}
