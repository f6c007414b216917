"""What a run ran on. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pytest_onnxcheck.versions import installed_versions

__all__ = ["Machine", "cpu_features", "cpu_name", "fingerprint", "saturates", "total_memory"]

#: packages whose version changes how long things take
_PACKAGES = (
    *("torch", "numpy", "onnx"),
    *("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
)

_CPUINFO = Path("/proc/cpuinfo")

#: what a container may hold, in bytes or `max`: as version 2 and version 1 of cgroups have it
_MEMORY_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

#: flags of the instructions that add up products of 8 bits in 32
_VNNI = frozenset(["avx512_vnni", "avx_vnni"])

#: flags that say how fast, or how exactly, artefacts run
_FEATURES = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "sve"),
)


@dataclass(frozen=True)
class Machine:
    """What times depend on besides the model. Of an earlier run, as far as its file tells.

    Attributes:
        cpu: The processor's name; empty where the system has none.
        cpus: Number of logical processors; None where it is unknown.
        machine: The architecture, e.g. `x86_64`.
        platform: The operating system, with its version.
        python: Version of Python.
        packages: Version of each package that matters and is installed.
    """

    cpu: str
    cpus: int | None = None
    machine: str = ""
    platform: str = ""
    python: str = ""
    packages: dict[str, str] = field(default_factory=dict)


def cpu_name() -> str:
    """The processor's name, as the operating system has it; empty where it has none."""
    if _CPUINFO.is_file():
        named = _named(_CPUINFO.read_text(encoding="utf-8", errors="replace"))
        if named:
            return named
    name = platform.processor()
    return "" if name == platform.machine() else name  # an architecture is no name


def _named(cpuinfo: str) -> str:
    """The name in `/proc/cpuinfo`: of arm64 it is the numbers of the makers and their cores."""
    found: dict[str, list[str]] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        values = found.setdefault(key.strip(), [])
        if value.strip() not in values:
            values.append(value.strip())
    if any(found.get("model name", ())):
        return found["model name"][0]
    keys = ("CPU implementer", "CPU part", "CPU variant")
    return ", ".join(f"{key} {'/'.join(found[key])}" for key in keys if any(found.get(key, ())))


def total_memory() -> int:
    """Bytes of RAM that this machine has, or that its container may hold. Linux only."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _MEMORY_LIMITS:
        with suppress(OSError, ValueError):  # no such limit
            found.append(int(path.read_text()))
    return min(found)


def saturates() -> bool:
    """Whether this CPU adds up products of 8 bits in 16: x86 with AVX2 and no VNNI.

    Older ones add up in 32 bits, as ONNX Runtime 1.32 does on emulated CPUs with SSE4 and AVX.
    Where it cannot be known (it is read on Linux only), the answer is no.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    try:
        flags = _CPUINFO.read_text(encoding="utf-8", errors="replace").split()
    except OSError:  # not Linux: what the CPU has is not known
        return False
    return "avx2" in flags and not _VNNI.intersection(flags)


def cpu_features() -> tuple[str, ...]:
    """Instructions that matter to artefacts, of those the processor has; known on Linux only."""
    try:
        flags = set(_CPUINFO.read_text(encoding="utf-8", errors="replace").split())
    except OSError:
        return ()
    return tuple(flag for flag in _FEATURES if flag in flags)


def fingerprint() -> Machine:
    """What this run is on."""
    return Machine(
        cpu=cpu_name(),
        cpus=os.cpu_count(),
        machine=platform.machine(),
        platform=platform.platform(),
        python=platform.python_version(),
        packages=installed_versions(_PACKAGES),
    )
