"""What all sections share: their base class, the types and the validators of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, Strict
from pydantic_core import PydanticCustomError

__all__ = [
    "Array",
    "DimSize",
    "Positive",
    "Section",
    "Size",
    "Strings",
    "invalid",
    "numbers_by",
    "unique",
]


class Section(BaseModel):
    """Base of every section: immutable, strict, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def written(self) -> dict[str, Any]:
        """The fields that were written in the file, for merging."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def invalid(text: str) -> PydanticCustomError:
    """The error that a validator raises: pydantic reports `text` as it is, without a prefix."""
    # PydanticCustomError formats its template with str.format
    return PydanticCustomError("onnxcheck", "{text}", {"text": text})


def unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A validator that refuses a value that is listed twice."""
    twice = sorted({value for value in values if values.count(value) > 1}, key=str)
    if twice:
        raise invalid(f"{', '.join(map(repr, twice))} stands there twice")
    return values


def numbers_by(key: str) -> Callable[[object], object]:
    """A validator that takes a bare number for a table with `key` alone."""

    def table_of(value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {key: value}
        if not isinstance(value, dict):
            raise invalid(f"expected a number or a table of numbers, got {value!r}")
        return value

    return table_of


Array = Strict(False)  # TOML has arrays, which are lists in Python; the sections hold tuples
Strings = Annotated[tuple[str, ...], Array]
Size = Annotated[int, Field(ge=1)]
DimSize = Annotated[int, Field(ge=0)]  # 0: an empty cache
Positive = Annotated[float, Field(gt=0)]
