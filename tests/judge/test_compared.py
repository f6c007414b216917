"""What is other in a run than in an earlier one."""

from __future__ import annotations

import dataclasses

from entries import EXPORT, entry

from pytest_onnxcheck.judge.compared import Change, compared
from pytest_onnxcheck.verdict import Grade


def named(name: str, **changes):
    return dataclasses.replace(entry("export", EXPORT, **changes), nodeid=name)


def test_checks_are_worse_better_new_or_gone():
    before = [named("a"), named("b", outcome="failed"), named("c"), named("d")]
    after = [
        named("a", outcome="failed", reason="broken"),
        named("b"),
        named("c"),
        named("e", outcome="skipped"),
    ]
    found = compared(before, after)
    assert found.worse == (Change("a", "net", "passed", "failed", "broken"),)
    assert found.better == (Change("b", "net", "failed", "passed"),)
    assert found.new == (Change("e", "net", "", "skipped"),)
    assert found.gone == (Change("d", "net", "passed", ""),)
    assert found


def test_a_warning_and_a_skip_are_worse_than_a_pass():
    warned = dataclasses.replace(named("a"), grade=Grade.WARN)
    assert compared([named("a")], [warned]).worse[0].after == "warn"
    assert compared([named("a")], [named("a", outcome="skipped")]).worse[0].after == "skipped"
    assert compared([named("a", outcome="skipped")], [named("a")]).better[0].after == "passed"


def test_the_same_run_has_no_changes():
    assert not compared([named("a")], [named("a")])
