"""Sizes in shapes: a number, a dim, an expression of dims such as `past + sequence`, or `any`.

An expression holds names of dims, whole numbers, `+ - * / //`, parentheses, `min`, `max`, `ceil`
and `floor`. It is exact: `/` gives a fraction, and what comes out must be a whole number.
"""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

__all__ = [
    "ANY",
    "Shape",
    "SizeError",
    "dim_values",
    "dims_in",
    "exported_dims",
    "fits",
    "names_in",
    "shape_at",
    "size_at",
    "size_or_none",
]

#: a size of an output that nobody chooses, such as a number of detections
ANY = "any"

Shape = Sequence[int | str]

#: more combinations of dims than this, and dims are swept one at a time
_MAX_COMBINATIONS = 16

_GRAMMAR = (
    "an expression is made of dims, whole numbers, + - * / //, parentheses, min, max, ceil and "
    "floor, e.g. 'past + sequence' or 'ceil(height / 32)'"
)

_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction | int]] = {
    ast.Add: lambda one, other: one + other,
    ast.Sub: lambda one, other: one - other,
    ast.Mult: lambda one, other: one * other,
    ast.Div: lambda one, other: one / other,
    ast.FloorDiv: lambda one, other: one // other,
}
#: name -> what it computes, and the fewest and the most arguments that it takes
_FUNCTIONS: dict[str, tuple[Callable[..., Fraction | int], int, float]] = {
    "min": (min, 2, math.inf),
    "max": (max, 2, math.inf),
    "ceil": (math.ceil, 1, 1),
    "floor": (math.floor, 1, 1),
}


class SizeError(ValueError):
    """A size cannot be read, or is no whole number of at least 0; the text says which and why."""


def names_in(size: int | str, dims: Collection[str]) -> tuple[str, ...]:
    """The dims that a size follows from, in the order they stand there; none of `any`.

    Args:
        size: The size.
        dims: The dims that are declared: one of these names is that dim, whatever it looks like.

    Raises:
        SizeError: It is neither a name nor an expression.
    """
    if isinstance(size, int) or size == ANY:
        return ()
    if size in dims:
        return (size,)
    nodes = list(ast.walk(_parsed(size)))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    names = [node for node in nodes if isinstance(node, ast.Name) and node not in called]
    names.sort(key=lambda name: name.col_offset)
    return tuple(dict.fromkeys(name.id for name in names))


def dims_in(shapes: Iterable[Shape], dims: Collection[str]) -> set[str]:
    """The dims that stand in shapes, alone or in an expression."""
    return {name for shape in shapes for size in shape for name in names_in(size, dims)}


def size_at(size: int | str, dims: Mapping[str, int]) -> int:
    """A size, with the dims at these values.

    Raises:
        SizeError: It cannot be read, follows from other dims as well, or is no whole number >= 0.
    """
    if isinstance(size, int):
        return size
    if size in dims:
        return dims[size]
    try:
        found = _value(_parsed(size), dims)
    except ZeroDivisionError:
        raise SizeError(f"{size!r} divides by 0{_at(size, dims)}") from None
    if found.denominator != 1:
        raise SizeError(
            f"{size!r} is {float(found):g}{_at(size, dims)}, which is no size: round it with "
            "//, floor(...) or ceil(...), or give sizes that fit"
        )
    if found < 0:
        raise SizeError(f"{size!r} is {found}{_at(size, dims)}, and a size is at least 0")
    return int(found)


def size_or_none(size: int | str, dims: Mapping[str, int]) -> int | None:
    """The same; None where `size_at` raises."""
    try:
        return size_at(size, dims)
    except SizeError:
        return None


def shape_at(shape: Shape, dims: Mapping[str, int]) -> tuple[int, ...]:
    """A shape, with the dims at these values; raises as `size_at` does."""
    return tuple(size_at(size, dims) for size in shape)


def fits(shapes: Iterable[Shape], dims: Mapping[str, int]) -> bool:
    """Whether all sizes of shapes are whole numbers with the dims at these values."""
    try:
        for shape in shapes:
            shape_at(shape, dims)
    except SizeError:
        return False
    return True


def dim_values(dims: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
    """The combinations of dims to check: all of them, or, when many, each value once.

    Swept one at a time, the other dims stand at their first value; the combination of all last
    values is added.
    """
    if math.prod(map(len, dims.values())) <= _MAX_COMBINATIONS:
        every = itertools.product(*dims.values())
        return [dict(zip(dims, values, strict=True)) for values in every]
    first = {dim: values[0] for dim, values in dims.items()}
    swept = [first, *({**first, dim: value} for dim in dims for value in dims[dim][1:])]
    last = {dim: values[-1] for dim, values in dims.items()}
    return swept if last in swept else [*swept, last]


def exported_dims(dims: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """The dims to export with: each at its first value above 1.

    torch.export and the tracer turn a size of 1 into a constant.
    """
    return {dim: next((value for value in values if value > 1), 2) for dim, values in dims.items()}


def _at(size: str, dims: Mapping[str, int]) -> str:
    held = ", ".join(f"{name} = {dims[name]}" for name in names_in(size, dims) if name in dims)
    return f" at {held}" if held else ""


@lru_cache(maxsize=1024)
def _parsed(text: str) -> ast.expr:
    """The tree of an expression, of which every node is one that `_value` knows."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise SizeError(f"{text!r} cannot be read: {_GRAMMAR}") from None
    _check(tree, text)
    return tree


def _check(node: ast.expr, text: str) -> None:
    """Refuses what is not in the grammar."""
    parts: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = [node.left, node.right]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        parts = [node.operand]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        _check_call(node, node.func.id, text)
        parts = node.args
    elif not isinstance(node, ast.Name) and not (
        isinstance(node, ast.Constant) and type(node.value) is int
    ):
        odd = ast.unparse(node)
        within = "" if odd == text.strip() else f" in {text!r}"
        raise SizeError(f"{odd!r}{within} has no meaning here: {_GRAMMAR}")
    for part in parts:
        _check(part, text)


def _check_call(node: ast.Call, name: str, text: str) -> None:
    if name not in _FUNCTIONS:
        raise SizeError(f"{text!r}: there is no {name}(): {_GRAMMAR}")
    _, fewest, most = _FUNCTIONS[name]
    if node.keywords or not fewest <= len(node.args) <= most:
        wanted = "one size" if most == 1 else "two sizes or more"
        raise SizeError(f"{text!r}: {name}() takes {wanted}: {_GRAMMAR}")


def _value(node: ast.expr, dims: Mapping[str, int]) -> Fraction:
    """The value of a tree that `_check` let through."""
    if isinstance(node, ast.Constant):
        return Fraction(int(node.value))  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        if node.id not in dims:
            raise SizeError(f"the size of {node.id!r} is not known")
        return Fraction(dims[node.id])
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, dims)
    if isinstance(node, ast.Call):
        assert isinstance(node.func, ast.Name)
        function = _FUNCTIONS[node.func.id][0]
        return Fraction(function(*(_value(argument, dims) for argument in node.args)))
    assert isinstance(node, ast.BinOp)
    operate = _OPERATORS[type(node.op)]
    return Fraction(operate(_value(node.left, dims), _value(node.right, dims)))
