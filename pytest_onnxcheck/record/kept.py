"""Entries of a run that goes on: with hundreds of models, what they measured would fill memory."""

from __future__ import annotations

import pickle
import zlib

from pytest_onnxcheck.record.entry import Entry

__all__ = ["Kept"]


class Kept(Entry):
    """An entry whose measurement is packed, and made anew each time it is asked for."""

    _packed: bytes

    @classmethod
    def of(cls, entry: Entry) -> Kept:
        """The entry, packed."""
        return cls(**vars(entry))

    @property
    def measurement(self) -> object:
        """What was measured; an object of its own each time."""
        return pickle.loads(zlib.decompress(self._packed))

    @measurement.setter
    def measurement(self, value: object) -> None:
        object.__setattr__(self, "_packed", zlib.compress(pickle.dumps(value), 1))
