"""One word a check, in every layer, and nowhere one of them forgotten."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import get_args

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.terms import Check
from pytest_onnxcheck.measurement import Measurement
from pytest_onnxcheck.plugin.hooks import _MARKERS
from pytest_onnxcheck.plugin.suite import OnnxChecks
from pytest_onnxcheck.record.entry import MEASUREMENTS

CHECKS = get_args(Check)
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("check", CHECKS)
def test_a_check_is_called_the_same_everywhere(check: str):
    engine = "advice" if check == "recommend" else "checks"  # it asks the other checks
    measured = importlib.import_module(f"pytest_onnxcheck.measurement.{check}")
    judged = importlib.import_module(f"pytest_onnxcheck.judge.{check}")
    room = importlib.import_module(f"pytest_onnxcheck.engine.{engine}.{check}")
    assert MEASUREMENTS[check].__module__ == measured.__name__
    assert callable(getattr(judged, check))
    assert callable(room.measure)
    assert hasattr(OnnxChecks, f"test_{check}")
    assert callable(getattr(judge, check))
    assert f"| [`test_{check}" in (ROOT / "docs" / "checks" / "index.md").read_text()


def test_no_list_of_checks_has_more_or_fewer():
    methods = {name.removeprefix("test_") for name in vars(OnnxChecks) if name.startswith("test_")}
    assert methods == set(CHECKS) == set(MEASUREMENTS) == set(_MARKERS) - {"onnxcheck"}
    assert set(get_args(Measurement)) == set(MEASUREMENTS.values())
