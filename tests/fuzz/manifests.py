"""Spoilt manifests: documents and texts, made of the good and the bad ones of the tests."""

from __future__ import annotations

import json
import math
import tomllib
from pathlib import Path
from random import Random
from typing import Any

from manifest.test_schema import FULL
from mutate import spoil_bytes, spoil_document

from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.load import carries_schema

_BAD = Path(__file__).parents[1] / "manifest" / "bad"


class Subject:
    """Manifests in a folder with the checkpoints that they name."""

    def __init__(self, name: str, work: Path) -> None:
        self.texts = [FULL, *(path.read_text() for path in sorted(_BAD.glob("*.toml")))]
        self.documents = []
        for text in self.texts:
            try:
                self.documents.append(tomllib.loads(text))
            except ValueError:  # it is not TOML, which is what is bad of it
                continue

    def warm(self) -> None:
        return

    def make(self, rng: Random, folder: Path) -> Path:
        # the whole one is slow to read, and has every key
        first = rng.random() < 0.15
        path = folder / "models.toml"
        if rng.random() < 0.4:
            text = FULL if first else rng.choice(self.texts)
            path.write_bytes(spoil_bytes(rng, text.encode()))
        else:
            document = self.documents[0] if first else rng.choice(self.documents)
            spoilt = spoil_document(rng, document)
            whole = spoilt if isinstance(spoilt, dict) else {"models": spoilt}
            path.write_text(_toml(whole), errors="replace")
        return path

    def attempt(self, made: Path) -> None:
        carries_schema(made)
        load_manifest(made).check()


def _toml(document: dict[str, Any]) -> str:
    lines = []
    for key, value in document.items():
        tables = value if isinstance(value, dict) else {}
        if key in ("models", "targets") and tables:
            lines += [f"[{key}.{_text(name)}]\n{_keys(table)}" for name, table in tables.items()]
        elif key == "defaults" and tables:
            lines.append(f"[defaults]\n{_keys(tables)}")
        else:
            lines.insert(0, f"{_text(key)} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _keys(table: Any) -> str:
    if not isinstance(table, dict):
        return f"value = {_value(table)}"
    return "\n".join(f"{_text(key)} = {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    """A value as TOML has it, on one line; what it has none for is an empty text."""
    if isinstance(value, dict):
        entries = (f"{_text(key)} = {_value(inner)}" for key, inner in value.items())
        return f"{{ {', '.join(entries)} }}"
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return '""' if value is None else _text(value) if isinstance(value, str) else json.dumps(value)


def _text(text: Any) -> str:
    return json.dumps(str(text)).replace("\\/", "/").replace("\x7f", "\\u007f")
