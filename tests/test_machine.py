"""What is known of the machine."""

import pytest

from pytest_onnxcheck import machine


@pytest.mark.parametrize(
    ("architecture", "flags", "saturates"),
    [
        ("x86_64", "fpu avx avx2", True),
        ("x86_64", "fpu avx2 avx512f avx512_vnni", False),
        ("AMD64", "fpu avx2 avx_vnni", False),
        ("AMD64", "fpu avx2", True),
        ("x86_64", "fpu sse4_1 avx", False),  # adds up in 32 bits
        ("aarch64", "asimd asimddp", False),
        ("arm64", "", False),
    ],
)
def test_x86_with_avx2_and_no_vnni_saturates(monkeypatch, tmp_path, architecture, flags, saturates):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(machine.platform, "machine", lambda: architecture)
    assert machine.saturates() is saturates


def test_where_flags_cannot_be_read_nothing_is_claimed(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "nothing")
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.saturates() is False


@pytest.mark.parametrize(("limit", "there"), [("1000\n", True), ("max\n", False), (None, False)])
def test_memory_is_the_containers_where_it_has_less(monkeypatch, tmp_path, limit, there):
    file = tmp_path / "memory.max"
    if limit is not None:
        file.write_text(limit, encoding="utf-8")
    monkeypatch.setattr(machine, "_MEMORY_LIMITS", (file,))
    monkeypatch.setattr(machine.os, "sysconf", lambda name: 2048, raising=False)
    assert machine.total_memory() == (1000 if there else 2048 * 2048)
