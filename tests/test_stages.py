"""How long the stages of a check take, on a clock of the test's own."""

from __future__ import annotations

import types

import pytest

from pytest_onnxcheck import stages
from pytest_onnxcheck.stages import staged, watched


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(stages, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_what_no_stage_accounts_for_is_the_rest(clock: types.SimpleNamespace):
    found: dict[str, float] = {}
    with watched(found, "setup"):
        clock.now += 1
        with staged("export"):
            clock.now += 2
            with staged("reference"):
                clock.now += 4
        clock.now += 8
    with watched(found, "check"), staged("export"):
        clock.now += 16
    assert found == {"setup": 9, "export": 18, "reference": 4, "check": 0}


def test_a_stage_that_fails_is_counted(clock: types.SimpleNamespace):
    found: dict[str, float] = {}

    def export() -> None:
        with watched(found, "setup"), staged("export"):
            clock.now += 2
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        export()
    assert found == {"export": 2, "setup": 0}


def test_a_stage_that_nobody_watches_is_not_counted():
    with staged("export"):
        pass
