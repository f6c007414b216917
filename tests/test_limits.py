"""What a model is held to, by its manifest, the command line, and where its file comes from."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from manifests import IO

from pytest_onnxcheck.manifest.load import parse_manifest
from pytest_onnxcheck.plugin import limits
from pytest_onnxcheck.plugin.limits import limits_of
from pytest_onnxcheck.plugin.usage import refuse
from pytest_onnxcheck.supervised.limits import Limits

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")

MODEL = 'schema = 1\n[models.net]\nfactory = "nets.py:net"\nprobe_seconds = 2.0\n{}' + IO


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    monkeypatch.setattr(limits, "total_memory", lambda: 8_000_000_000)


def held(*, given=False, options=None, **keys):
    """What a model with these keys is held to, with these options."""
    text = MODEL.format('onnx = "net.onnx"\n' if given else "")
    model = replace(parse_manifest(text, Path("models.toml")).models["net"], **keys)
    unsaid = {"isolate": False, "timeout": None, "memory_mb": None, "search_seconds": 0.0}
    return limits_of(model, SimpleNamespace(**{**unsaid, **(options or {})}))


def test_what_the_gate_builds_has_no_limit_by_default():
    assert held() is None
    assert held(isolate=True) == Limits()


def test_a_given_file_has_limits_by_default(monkeypatch):
    assert held(given=True) == Limits({"*": 602.0}, 4_000_000_000)
    assert held(given=True, isolate=True) == held(given=True)
    assert held(given=True, isolate=False) is None
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "4")
    assert held(given=True).memory == 1_000_000_000


def test_what_was_asked_for_is_not_cut_short():
    found = held(given=True, probe_seconds=1000.0, options={"search_seconds": 3600.0})
    assert found.of("probing") == 5200.0


def test_a_manifest_says_more_than_an_option_and_that_more_than_the_default():
    found = held(given=True, timeout={"exporting": 5.0})
    assert (found.of("exporting"), found.of("comparing")) == (5.0, 602.0)
    options = {"timeout": 7.0, "memory_mb": 20.0}
    assert held(given=True, options=options) == Limits({"*": 7.0}, 20_000_000)
    keys = {"timeout": {"*": 8.0}, "memory_mb": 10.0}
    assert held(given=True, options=options, **keys) == Limits({"*": 8.0}, 10_000_000)


def test_off_linux_nothing_is_isolated(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert held(given=True) is None
    asked = {"isolate": False, "timeout": 5.0, "memory_mb": None}
    others = {"wanted": False, "unused_option": "", "search_seconds": 0.0, "ahead": 0}
    others["release"] = None
    config = SimpleNamespace(getoption=lambda name: None)
    with pytest.raises(pytest.UsageError, match=r"^--onnxcheck-timeout needs Linux$"):
        refuse(config, SimpleNamespace(**asked, **others))
