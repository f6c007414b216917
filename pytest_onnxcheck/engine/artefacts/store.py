"""Artefacts on disk: built once, under a key that hashes everything they are made of."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.cache.entry import AlteredError, Build
from pytest_onnxcheck.engine.artefacts.artefact import Artefact, Notes
from pytest_onnxcheck.engine.artefacts.external import locations
from pytest_onnxcheck.wording import one_line, several

__all__ = ["ArtefactStore"]

_FILE = "model.onnx"


class ArtefactStore:
    """Artefacts as entries of a cache; several processes may share it."""

    def __init__(self, cache: BuildCache) -> None:
        self._cache = cache

    def get(self, place: str, key: str, build: Callable[[Path], Notes]) -> Artefact:
        """The artefact under a key, built if it is not there yet.

        Args:
            place: Where it belongs, for people: `MODEL/VARIANT`.
            key: Hash of all it is made of.
            build: Writes the file at the path it is given and returns its notes. What it leaves
                behind when it fails is deleted.

        Raises:
            CacheError: There is no folder that can be written to.
        """

        def make(work: Path) -> Build:
            started = time.perf_counter()
            notes = build(work / _FILE)
            seconds = round(time.perf_counter() - started, 3)
            made = Artefact.of(work / _FILE, seconds=seconds, source="built", notes=notes)
            written = json.loads(json.dumps(notes.to_json()))  # as a later run reads them
            return Build(key, place, made.sha256, made.files, seconds, written)

        found = self._cache.get(place, key, make, _check)
        kept = found.build
        return Artefact(
            path=found.home / _FILE,
            sha256=kept.sha256,
            size_bytes=kept.size_bytes,
            seconds=kept.seconds,
            source=found.source,
            notes=Notes.from_json(kept.notes),
            files=kept.files,
        )


def _check(home: Path, build: Build) -> None:
    """Refuses a build that is no artefact of ours: weights are read from its own files alone.

    Raises:
        AlteredError: It is none.
    """
    try:
        Notes.from_json(build.notes)
        read = [_FILE, *locations(home / _FILE)]
    except Exception as error:  # whatever onnx raises for what is no ONNX
        raise AlteredError(f"it is no artefact: {one_line(error, 200)}") from None
    if read != [file.name for file in build.files]:
        raise AlteredError(f"it reads {several(read)}, which are not its files")
