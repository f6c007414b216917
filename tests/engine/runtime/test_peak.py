"""The peak of resident memory."""

from __future__ import annotations

from pytest_onnxcheck.engine.runtime import peak


def test_memory_is_none_where_the_run_fails():
    def broken():
        raise OSError("no")

    assert peak.added_peak(broken) is None
