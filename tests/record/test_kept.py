"""Entries of which the measurement is packed."""

from __future__ import annotations

import dataclasses
import math

import pytest
from entries import entry, whole_variant

from pytest_onnxcheck.record.kept import Kept


@pytest.mark.parametrize(
    "found",
    [*whole_variant(), entry("odd", measurement={"own": (1, math.inf)}), entry("structure")],
)
def test_a_kept_entry_is_that_entry(found):
    kept = Kept.of(found)
    assert kept.to_json() == found.to_json()
    assert kept.measurement == found.measurement
    assert all(
        getattr(kept, each.name) == getattr(found, each.name) for each in dataclasses.fields(found)
    )


def test_what_it_measured_is_not_in_memory():
    measured = {"values": [0.5] * 10_000}
    kept = Kept.of(entry("odd", measurement=measured))
    assert kept.measurement is not kept.measurement
    assert all(value is not measured for value in vars(kept).values())
    assert len(vars(kept)["_packed"]) < 1_000
