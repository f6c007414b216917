"""Which container holds nested inputs: as the manifest says, as annotations do, or by the keys."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.reference.structures import CACHE_ENTRIES, is_cache
from pytest_onnxcheck.places import relative

__all__ = [
    "by_annotation",
    "by_keys",
    "hints_of",
    "inner",
    "layer_misfit",
    "misfit",
    "named",
]


def hints_of(function: Any) -> dict[str, Any]:
    """What the parameters of a function, or the fields of a class, are annotated with.

    Without those that Python cannot tell: names that are imported for type checkers alone.
    """
    function = inspect.unwrap(function)
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    known = getattr(function, "__globals__", None) or vars(module or types)
    found: dict[str, Any] = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        one = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(Exception):
            found |= typing.get_type_hints(one, globalns=known)
    return found


def by_annotation(annotation: Any, keys: Iterable[str]) -> Any:
    """The container that an annotation names and that takes these keys; None where there is none.

    Of a union the first that fits, caches before others, since they are what a model makes of the
    others.

    Returns:
        `list`, `tuple`, `dict`, or a class.
    """
    found = [kind for option in _options(annotation) if (kind := _container(option)) is not None]
    fitting = [kind for kind in found if not misfit(kind, list(keys))]
    return next(iter(sorted(fitting, key=lambda kind: not is_cache(kind))), None)


def by_keys(keys: Iterable[str]) -> str:
    """A list of what is numbered, else a dict."""
    return "list" if all(key.isdigit() for key in keys) else "dict"


def misfit(kind: Any, keys: list[str]) -> str:
    """Why a container does not take these keys; empty where it does."""
    numbered = sorted(int(key) for key in keys if key.isdigit())
    if kind in ("list", "tuple") or is_cache(kind):
        word = kind if isinstance(kind, str) else kind.__name__
        if len(numbered) < len(keys):
            names = [key for key in keys if not key.isdigit()]
            return f"a {word} has numbers, and not {names[0]!r}"
        if numbered != list(range(len(keys))) and not is_cache(kind):
            return f"a {word} has all numbers from 0 on, and not {', '.join(map(str, numbered))}"
    if isinstance(kind, type) and dataclasses.is_dataclass(kind) and len(numbered) < len(keys):
        fields = [field.name for field in dataclasses.fields(kind)]
        odd = [key for key in keys if key not in fields]
        if odd:
            return f"{kind.__name__} has the fields {', '.join(fields)}, and not {odd[0]!r}"
    return ""


def layer_misfit(keys: Iterable[str]) -> str:
    """Why a layer of a cache, or one of its halves, does not take these keys; else empty."""
    given = set(keys)
    if given in [{key, value} for key, value in zip(*CACHE_ENTRIES, strict=True)]:
        return ""
    return (
        "a layer of a cache has .key and .value (or .0 and .1), below .decoder and .encoder where "
        f"there are both, and not {', '.join(sorted(given)) or 'one tensor'}"
    )


def inner(annotation: Any, kind: Any, key: str) -> Any:
    """What an entry of an annotated container is annotated with; None where nothing says."""
    if isinstance(kind, type):
        return hints_of(kind).get(key)
    for option in _options(annotation):
        if _container(option) != kind:
            continue
        if typing.is_typeddict(option):
            return hints_of(option).get(key)
        arguments = typing.get_args(option)
        if kind == "tuple" and len(arguments) > 1 and arguments[-1] is not ...:
            return arguments[int(key)] if int(key) < len(arguments) else None
        if arguments:
            return arguments[-1] if kind != "tuple" else arguments[0]
    return None


def named(kind: type, root: Path) -> str:
    """`module:class` of a class, or `path.py:class` of one in a file of the project."""
    module = sys.modules.get(kind.__module__)
    file = getattr(module, "__file__", None)
    if kind.__module__.startswith("_onnxcheck_") and file is not None:
        return f"{relative(Path(file), root)}:{kind.__qualname__}"
    return f"{kind.__module__}:{kind.__qualname__}"


def _options(annotation: Any) -> Iterator[Any]:
    """The members of a union, and what is inside `Annotated`; else the annotation itself."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for member in typing.get_args(annotation):
            yield from _options(member)
    elif origin is typing.Annotated:
        yield from _options(typing.get_args(annotation)[0])
    elif annotation is not None:
        yield annotation


def _container(option: Any) -> Any:
    """The container that one annotation names; None where it names none."""
    if typing.is_typeddict(option):
        return "dict"
    kind = typing.get_origin(option) or option
    if not isinstance(kind, type):
        return None
    if is_cache(kind) or dataclasses.is_dataclass(kind) or hasattr(kind, "_fields"):
        return kind
    if issubclass(kind, tuple):
        return "tuple"
    if kind in (dict, collections.OrderedDict, Mapping, collections.abc.MutableMapping):
        return "dict"
    sequences = (collections.abc.Sequence, collections.abc.MutableSequence, Iterable)
    return "list" if kind is list or kind in sequences else None
