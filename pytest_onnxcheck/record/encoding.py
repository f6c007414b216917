"""Dataclasses to JSON and back; the one place where NaN and infinity become text and back.

JSON has no numbers for NaN and infinity. They are written as the strings `nan`, `inf` and `-inf`,
which pydantic reads where a field is a float.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

__all__ = ["as_json", "as_line", "pieces", "read"]

T = TypeVar("T")


def as_json(value: object) -> str:
    """JSON with NaN and infinity, which it has no numbers for, as strings.

    Args:
        value: Dicts, lists, tuples, strings, numbers, booleans and None.

    Raises:
        TypeError: It holds something else.
    """
    return json.dumps(_plain(value), indent=1, allow_nan=False) + "\n"


def as_line(value: object) -> bytes:
    """The same as one line, with its end, in UTF-8."""
    return json.dumps(_plain(value), allow_nan=False).encode() + b"\n"


def pieces(value: Mapping[str, object]) -> Iterator[str]:
    """What `as_json` gives of a dict, piece by piece, so that it need not be in memory whole.

    Args:
        value: As for `as_json`; an iterator in place of a list is only asked for what comes next.

    Raises:
        TypeError: It holds something else.
    """
    before = "{"
    for key, each in value.items():
        yield f"{before}\n {json.dumps(str(key))}: "
        yield from _listed(each) if isinstance(each, Iterator) else [_indented(each, 1)]
        before = ","
    yield "\n}\n"


def _listed(values: Iterator[object]) -> Iterator[str]:
    before = "["
    for each in values:
        yield f"{before}\n  {_indented(each, 2)}"
        before = ","
    yield "[]" if before == "[" else "\n ]"


def _indented(value: object, by: int) -> str:
    # in JSON a line's end is never part of a text
    return as_json(value)[:-1].replace("\n", "\n" + " " * by)


def read(kind: type[T], value: object) -> T:
    """The dataclass that was written as a dict; keys that it has no field for are left out.

    Args:
        kind: The dataclass. Dataclasses in its fields are read too.
        value: The dict, with tuples or lists, and with NaN and infinity as numbers or strings.

    Raises:
        ValueError: A field is missing, or of another type; the text says which.
    """
    try:
        found: T = _adapter(kind).validate_python(value)  # type: ignore[arg-type] # it is hashable
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from error
    return found


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    """Building one takes longer than what it reads."""
    return TypeAdapter(kind)


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
