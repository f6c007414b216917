"""Judges the time and memory an artefact takes: a pass, a failure, or too close to tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

from pytest_onnxcheck.digits import milliseconds, three_digits
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.measurement import LatencyMeasurement, Ratio, Timing
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["latency", "near_end"]

#: two sessions of one artefact differ by half a percent: less than this below a speed-up of at
#: least 1 is no miss
_SAME = 0.98
#: memory repeats within this factor
_MEMORY_NOISE = 1.15
#: share of interrupted calls beyond which an absolute time tells nothing of the artefact: of p95 it
#: is the twentieth that p95 is about
_MOSTLY = 0.5
_DISTURBED = {"p95": 0.05, "throughput": _MOSTLY, "load": 0.0}
_ABSOLUTE = "an absolute time, which depends on the machine"


def latency(measured: LatencyMeasurement, precision: str, budget: s.Budget) -> Verdict:
    """Judges the speed-up over PyTorch, and over fp32 for another precision, and absolute budgets.

    A limit is kept when the whole 99% interval keeps it. It is broken when both the median and the
    whole interval break it (the interval alone is too narrow, since times depend on each other);
    otherwise the finding is inconclusive. A speed-up within 2% of a limit from 1 on is no miss.
    """
    return Verdict.of(
        [
            *_over_torch(measured, precision, budget),
            *_over_fp32(measured, precision, budget),
            *_absolute(measured, budget),
        ]
    )


def near_end(limit: float) -> float:
    """Below which a speed-up's interval must end to fail: 2% off the limit, or half-way from 1.

    Half-way where a slow-down is allowed: one that has used up half of what it may, with its
    median beyond all of it, is one. What is no miss of a speed-up of 1 is none of less.
    """
    return min((1 + limit) / 2, _SAME) if limit < 1 else _SAME * limit


def _over_torch(
    measured: LatencyMeasurement, precision: str, budget: s.Budget
) -> Iterator[Finding]:
    ratio, text = measured.ratios["torch"], f"{measured.speedup:.2f} times PyTorch"
    asked = (budget.min_speedup or {}).get(measured.target)
    if asked is not None:
        key = f"budget.min_speedup.{measured.target}"
        reason = f"asked for at least {asked:g} ({key})"
        yield from _slow(measured, text, measured.torch, ratio, reason, asked)
    elif _pays_by_speed(precision, measured.provider) and _surely_below(ratio, 1.0):
        yield Finding(
            Grade.WARN,
            "speed-up",
            f"{text} ({_times(measured.torch, measured)}): ONNX Runtime is slower than PyTorch "
            f"here. Set budget.min_speedup.{measured.target} to what will do: below 1 states that "
            "it is known",
        )


def _over_fp32(measured: LatencyMeasurement, precision: str, budget: s.Budget) -> Iterator[Finding]:
    ratio, fp32, key = measured.ratios.get("fp32"), measured.fp32, "min_speedup_over_fp32"
    if ratio is None or fp32 is None:
        return
    target = measured.target
    asked = (budget.min_speedup_over_fp32 or {}).get(target)
    text = f"{ratio.value:.2f} times the fp32 artefact"
    if asked is not None:
        reason = f"asked for at least {asked:g} (budget.{key}.{target})"
        yield from _slow(measured, text, fp32, ratio, reason, asked)
    elif target in (budget.min_speedup or {}):
        reason = (
            f"slower than fp32: release that one, or allow it (budget.{key}.{target}, 1 where "
            "budget.min_speedup is given)"
        )
        yield from _slow(measured, text, fp32, ratio, reason, 1.0)
    elif PRECISIONS[precision].cpu_kernels and _surely_below(ratio, 1.0):
        yield Finding(
            Grade.WARN,
            "speed-up",
            f"{text} ({_times(fp32, measured)}): {precision} makes it slower here. Set "
            f"budget.{key} to fail on it",
        )


def _pays_by_speed(precision: str, provider: str) -> bool:
    """Whether a precision is meant to be faster: a CPU computes 16 and 4 bits in float32."""
    return PRECISIONS[precision].cpu_kernels or provider != "CPUExecutionProvider"


def _surely_below(ratio: Ratio, bound: float) -> bool:
    return ratio.high < bound


def _slow(
    measured: LatencyMeasurement,
    text: str,
    other: Timing,
    ratio: Ratio,
    reason: str,
    asked: float,
) -> Iterator[Finding]:
    """What is to say of a speed-up, unless the whole interval is what is asked for."""
    low, high = ratio.low, ratio.high
    if low >= min(asked, near_end(asked)):
        return
    sure = not (ratio.value >= asked or high >= near_end(asked)) and ratio.sure
    rounds = f"{_times(other, measured)}, {ratio.clock} time, 99% interval [{low:.2f}, {high:.2f}]"
    where = f"{measured.threads} thread{'s' * (measured.threads > 1)} a side, {measured.boundary}"
    told = f"{text} ({rounds}, {where}), {reason}"
    if sure:
        yield Finding(Grade.FAIL, "speed-up", told)
    else:
        yield _close(measured, "speed-up", told, ratio.interrupted)


def _absolute(measured: LatencyMeasurement, budget: s.Budget) -> Iterator[Finding]:
    target, own = measured.target, measured.onnxruntime
    p95 = _limit(budget.max_p95_ms, target)
    if p95 is not None:
        what = (
            f"p95 {milliseconds(own.p95)} of {own.count} calls (median {milliseconds(own.median)})"
        )
        if own.p95_interval[0] <= p95 / 1e3 and math.isinf(own.p95_interval[1]):
            what += ", too few to tell how high it may be (more: latency.longest)"
        allowed = f"{p95:g} ms (budget.max_p95_ms.{target})"
        interval, limit = own.p95_interval, p95 / 1e3
        yield from _above(measured, "p95", what, interval, limit, milliseconds, allowed)
    load = _limit(budget.max_load_s, target)
    if load is not None:
        what = f"opening the session takes {_s(measured.load_seconds)}"
        interval = measured.load_interval or (measured.load_seconds,) * 2
        allowed = f"{load:g} s (budget.max_load_s.{target})"
        yield from _above(measured, "load", what, interval, load, _s, allowed)
    yield from _throughput(measured, _limit(budget.min_throughput, target))
    yield from _memory(measured, _limit(budget.max_memory_mb, target))


def _throughput(measured: LatencyMeasurement, asked: float | None) -> Iterator[Finding]:
    if asked is None:
        return
    items, own = measured.items, measured.onnxruntime
    high, low = (items / end for end in own.median_interval)
    if low >= asked:
        return
    told = (
        f"{measured.throughput:.4g} items/s ({items} in {milliseconds(own.median)}, 99% interval "
        f"[{low:.4g}, {high:.4g}]), asked for at least {asked:g} "
        f"(budget.min_throughput.{measured.target}); {_ABSOLUTE}"
    )
    if high < _SAME * asked and own.interrupted <= _DISTURBED["throughput"]:
        yield Finding(Grade.FAIL, "throughput", told)
    else:
        yield _close(measured, "throughput", told, own.interrupted)


def _memory(measured: LatencyMeasurement, limit: float | None) -> Iterator[Finding]:
    if limit is None:
        return
    key, device = f"budget.max_memory_mb.{measured.target}", measured.device_memory_bytes
    found = measured.memory_bytes if device is None else device
    if found is None:
        why = "it needs /proc of Linux, and a run that does not fail in the child process"
        text = f"could not be measured here ({why}), and {key} limits it"
        yield Finding(Grade.WARN, "memory", text, inconclusive=True)
        return
    if device is None:
        told = f"add {found / 1e6:.1f} MB to the process's peak"
        option = "enable_cpu_mem_arena = false in the target's session_options"
    else:
        told = f"take {found / 1e6:.1f} MB of the GPU's memory, other processes' changes included"
        option = "gpu_mem_limit in the target's provider_options"
    told = f"a session and one run {told}, allowed {limit:g} MB ({key})"
    if found > limit * 1e6 * _MEMORY_NOISE:
        less = f"a smaller batch, another precision, or {option} take less"
        yield Finding(Grade.FAIL, "memory", f"{told}: {less}")
    elif found * _MEMORY_NOISE > limit * 1e6:
        close = "too close to tell, for it repeats within 15%: set the bar further off"
        yield Finding(Grade.WARN, "memory", f"{told}; {close}", inconclusive=True)


def _above(
    measured: LatencyMeasurement,
    kind: str,
    what: str,
    interval: tuple[float, float],
    limit: float,
    shown: Callable[[float], str],
    allowed: str,
) -> Iterator[Finding]:
    """What is to say of a time, unless its whole interval is within the limit."""
    low, high = interval
    if high <= limit:
        return
    span = f"[{shown(low)}, {'unknown' if math.isinf(high) else shown(high)}]"
    told = f"{what}, interval {span}, allowed {allowed}; {_ABSOLUTE}"
    own = measured.onnxruntime
    interrupted = 0.0 if kind == "load" else own.interrupted
    # where not even half of the calls keep it, interruptions are not why
    hopeless = kind == "p95" and own.median_interval[0] > limit and interrupted <= _MOSTLY
    if low > limit / _SAME and (interrupted <= _DISTURBED[kind] or hopeless):
        yield Finding(Grade.FAIL, kind, told)
    else:
        yield _close(measured, kind, told, interrupted)


def _close(measured: LatencyMeasurement, kind: str, told: str, interrupted: float) -> Finding:
    noise = ""
    if interrupted > _DISTURBED.get(kind, 0.1):
        noise = f", {interrupted:.0%} of the rounds were interrupted"
    return Finding(
        Grade.WARN,
        kind,
        f"{told}; too close to tell after {measured.seconds:.2g} s{noise}: measure on a quiet "
        "machine, or set the bar at least 10% off what you measured",
        inconclusive=True,
        longer=kind != "load",
    )


def _limit(table: Mapping[str, float] | None, target: str) -> float | None:
    return (table or {}).get(target)


def _s(seconds: float) -> str:
    return f"{three_digits(seconds)} s"


def _times(other: Timing, measured: LatencyMeasurement) -> str:
    own = measured.onnxruntime
    return (
        f"{milliseconds(other.median)} / {milliseconds(own.median)}, median of {own.count} "
        "interleaved rounds"
    )
