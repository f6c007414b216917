"""Ways to spoil bytes, JSON documents and protobuf messages; each draws from a `random.Random`."""

from __future__ import annotations

import copy
from random import Random
from typing import Any

NUMBERS = (0, 1, -1, 2, 7, 127, 255, 2**31 - 1, -(2**31), 2**32, 2**40, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-300, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    *("", " ", ".", "..", "../outside/secret.bin", "/etc/passwd", "/dev/zero", "C:\\x", "a" * 5000),
    *("<script>alert(1)</script>", "\x1b[31m", "\x00", "\ud800", "%s%n{0}", "::error::x", "\n"),
    *("nan", "1e999", "x", "y", "é\u202e", "[/a]", "`$(id)`"),
)


def spoil_bytes(rng: Random, data: bytes) -> bytes:
    """Flips, cuts, repeats and inserts."""
    spoilt = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(spoilt) + 1)
        how = rng.randrange(6)
        if how == 0 and spoilt:
            spoilt[at % len(spoilt)] ^= 1 << rng.randrange(8)
        elif how == 1 and spoilt:
            spoilt[at % len(spoilt)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif how == 2:
            del spoilt[at : at + rng.choice((1, 2, 8, 64, len(spoilt)))]
        elif how == 3:
            spoilt[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))
        elif how == 4:
            part = spoilt[at : at + rng.choice((1, 8, 64, 512))]
            spoilt[at:at] = part * rng.choice((1, 2, 50))
        else:
            number = rng.choice(NUMBERS) & (2**64 - 1)
            spoilt[at : at + 8] = number.to_bytes(8, "little")
    return bytes(spoilt)


def spoil_document(rng: Random, document: Any) -> Any:
    """Changes, takes away, doubles and moves parts of nested dicts and lists."""
    document = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        places = list(_places(document))
        if not places:
            return odd(rng)
        holder, key = rng.choice(places)
        how = rng.randrange(6)
        if how == 0:
            del holder[key]
        elif how == 1:
            other, named = rng.choice(places)
            holder[key] = copy.deepcopy(other[named])
        elif how == 2 and isinstance(holder, dict):
            holder[rng.choice((*TEXTS, *map(str, holder)))] = holder.pop(key)
        elif how == 3 and isinstance(holder, list):
            holder[key:key] = [copy.deepcopy(holder[key])] * rng.choice((1, 3, 100))
        else:
            holder[key] = odd(rng)
    return document


def odd(rng: Random) -> Any:
    """A value that is seldom right."""
    how = rng.randrange(9)
    if how < 3:
        return rng.choice(NUMBERS)
    if how < 5:
        return rng.choice(TEXTS)
    if how == 5:
        return rng.choice(FLOATS)
    plain = (None, True, False, [], {}, [[]], [{}], {"": {}}, ["x", 1, None], {"x": [1]})
    return copy.deepcopy(rng.choice(plain))


def _places(document: Any):
    stack = [document]
    while stack:
        here = stack.pop()
        keys = list(here) if isinstance(here, dict) else range(len(here))
        for key in keys:
            yield here, key
            if isinstance(here[key], dict | list) and here[key]:
                stack.append(here[key])


def spoil_message(rng: Random, message: Any) -> None:
    """Changes a protobuf message in place, anywhere in it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        holder = rng.choice(list(_messages(message)))
        field = rng.choice(list(holder.DESCRIPTOR.fields))
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
        (_spoil_repeated if repeated else _spoil_single)(rng, message, holder, field)


def _messages(message: Any):
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        repeated = field.is_repeated if hasattr(field, "is_repeated") else field.label == 3
        for inner in value if repeated else [value]:
            yield from _messages(inner)


def _spoil_repeated(rng: Random, message: Any, holder: Any, field: Any) -> None:
    values = getattr(holder, field.name)
    how = rng.randrange(4)
    if how == 0 and values:
        del values[rng.randrange(len(values))]
    elif how == 1 and values and field.message_type is not None:
        values.add().CopyFrom(values[rng.randrange(len(values))])
    elif how == 2 and len(values) > 1:
        held = list(values)
        rng.shuffle(held)
        del values[:]
        values.extend(held)
    elif field.message_type is not None:
        values.add()
    elif values and rng.random() < 0.7:
        values[rng.randrange(len(values))] = _scalar(rng, message, field)
    else:
        values.append(_scalar(rng, message, field))


def _spoil_single(rng: Random, message: Any, holder: Any, field: Any) -> None:
    if rng.random() < 0.2:
        holder.ClearField(field.name)
    elif field.message_type is not None:
        alike = [m for m in _messages(message) if m.DESCRIPTOR is field.message_type]
        if alike and rng.random() < 0.7:
            chosen = type(alike[0])()
            chosen.CopyFrom(rng.choice(alike))
            getattr(holder, field.name).CopyFrom(chosen)
        else:
            getattr(holder, field.name).SetInParent()
    else:
        setattr(holder, field.name, _scalar(rng, message, field))


def _scalar(rng: Random, message: Any, field: Any) -> Any:
    kind = field.cpp_type
    if kind == field.CPPTYPE_STRING:
        known = [
            value
            for inner in _messages(message)
            for each, value in inner.ListFields()
            if each.cpp_type == field.CPPTYPE_STRING and isinstance(value, str | bytes)
        ]
        text = rng.choice(known) if known and rng.random() < 0.6 else rng.choice(TEXTS)
        as_bytes = field.type == field.TYPE_BYTES
        if isinstance(text, str):
            text = text.encode("utf-8", "replace")
        return text if as_bytes else text.decode("utf-8", "replace")
    if kind in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return rng.choice(FLOATS)
    number = rng.choice((*NUMBERS, *range(24)))
    if kind == field.CPPTYPE_INT32 or kind == field.CPPTYPE_ENUM:
        number = max(-(2**31), min(number, 2**31 - 1))
        if kind == field.CPPTYPE_ENUM:
            return rng.choice(tuple(field.enum_type.values_by_number))
    if kind in (field.CPPTYPE_UINT64, field.CPPTYPE_UINT32):
        number = abs(number) & 0xFFFFFFFF
    return number
