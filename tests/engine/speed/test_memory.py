"""Memory of a GPU, as far as it can be tested without one."""

from __future__ import annotations

import torch

from pytest_onnxcheck.engine.speed import memory


def test_a_gpus_memory_is_what_is_no_longer_free(monkeypatch):
    # a mock, for there is no GPU
    free = iter([(900, 1000), (650, 1000)])
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda *args: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: next(free))
    assert memory.device_added(object, "cuda:0") == 250
