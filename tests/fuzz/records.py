"""Spoilt records, read by every command that reads one."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import runs
from commands import run
from mutate import spoil_bytes, spoil_document

from pytest_onnxcheck.record.encoding import as_json

_DATA = Path(__file__).parents[1] / "data"
_COMMANDS = (
    *(["report"], ["report", "--format=markdown"], ["report", "--html"], ["report", "--json"]),
    *(["table"], ["table", "--json"], ["frontier"], ["frontier", "--json"]),
)


class Subject:
    """Records."""

    def __init__(self, name: str, work: Path) -> None:
        whole = [(_DATA / "record-0.1.0.json").read_text()]
        made = [runs.failing(), runs.evil()]
        self.texts = whole + [as_json(record.to_json()) for record in made]
        self.documents = [json.loads(text) for text in self.texts]
        self.good = work / "good.json"
        self.good.write_text(self.texts[1])

    def warm(self) -> None:
        self.attempt(self.good)

    def make(self, rng: Random, folder: Path) -> Path:
        path = folder / "record.json"
        if rng.random() < 0.3:
            path.write_bytes(spoil_bytes(rng, rng.choice(self.texts).encode()))
        else:
            path.write_text(json.dumps(spoil_document(rng, rng.choice(self.documents))))
        return path

    def attempt(self, made: Path) -> None:
        for command in _COMMANDS:
            run(*command, str(made))
        run("compare", str(self.good), str(made))
        run("compare", str(made), str(self.good))
