"""What several rules share: what they yield, names, and what a key of a table selects."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator

from pytest_onnxcheck.manifest.model import Variant
from pytest_onnxcheck.manifest.positions import KeyPath
from pytest_onnxcheck.wording import meant

__all__ = [
    "BAD_MODEL_NAME",
    "TABLES",
    "Found",
    "check_import_path",
    "chosen_by",
    "no_variant",
]

#: what a rule yields: the path of a key, and a sentence about it
Found = Iterator[tuple[KeyPath, str]]

BAD_MODEL_NAME = (
    "model name {name!r} may hold letters, digits and . _ + - only, and starts with a letter, "
    "a digit or _: it becomes a pytest node id and a folder name"
)

#: tables whose keys are precisions, or globs over variant names
TABLES = ("tolerance", "budget", "quantization")


def check_import_path(where: KeyPath, value: str | None) -> Found:
    """A value that does not look like `module:callable`; None is none."""
    if value is not None and not re.fullmatch(r"[^:]+:[A-Za-z_][\w.]*", value):
        text = f"expected 'module:callable' or 'path.py:callable', got {value!r}"
        yield where, f"{where[-1]}: {text}"


def chosen_by(key: str, variants: Iterable[Variant]) -> list[Variant]:
    """The variants that a key of a table selects: a precision, or a glob over their names."""
    return [
        variant
        for variant in variants
        if key == variant.precision or fnmatch.fnmatchcase(variant.name, key)
    ]


def no_variant(pattern: str, names: list[str]) -> str:
    """What to say of a key that selects none of the variants called `names`."""
    hint = meant(pattern, names) or f" (there are: {', '.join(names)})"
    return f"{pattern!r} matches no variant of this model{hint}"
