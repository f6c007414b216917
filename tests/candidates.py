"""Variants as a record has them, for what is told of the frontier."""

from __future__ import annotations

import dataclasses

from entries import ratios

from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    FileCheck,
    LatencyMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
)
from pytest_onnxcheck.record.entry import Entry

FP32, FP16, STATIC = (f"dynamo-op20-{precision}" for precision in ("fp32", "fp16", "int8-static"))
MB = 1_000_000


def read(entries):
    """The entries of checks that are written here as a record has them."""
    return [Entry.from_json(found) for found in entries]


def entry(check, measurement=None, *, outcome="passed", target=None, **changes):
    made = {"manifest": "models.toml", "check": check, "target": target, "outcome": outcome}
    made["nodeid"] = f"test_{check}[{target}]"
    if measurement is not None:
        made["measurement"] = dataclasses.asdict(measurement)
    return made | {"grade": "pass", "reason": ""} | changes


def file(size):
    return FileCheck("net.onnx", "ab", size, None, None)


def outputs(rel_rms, top1=None, name="y", dtype="float32"):
    return OutputMeasurement(name, dtype, dtype, (1,), (1,), 1, rel_rms=rel_rms, top1=top1)


def equal(*cases, outcome="passed", target="cpu"):
    return entry(
        "equivalence",
        EquivalenceMeasurement(target, "CPU", cases),
        outcome=outcome,
        target=target,
    )


def timed(milliseconds, speedup=None, target="cpu", over_fp32=None, **changes):
    """Beside a PyTorch that takes 8 ms, unless a speed-up is given."""
    others = {} if over_fp32 is None else {"fp32": over_fp32}
    seconds = (milliseconds / 1e3,)
    measured = LatencyMeasurement(
        target=target,
        provider="CPU",
        dims={"batch": 1},
        threads=1,
        boundary="host to host",
        torch=summarised("torch", seconds),
        onnxruntime=summarised("onnxruntime", seconds),
        load_seconds=0.1,
        ratios=ratios(torch=speedup or 8 / milliseconds, **others),
    )
    return entry("latency", dataclasses.replace(measured, **changes), target=target)


def checks(variant, size=4 * MB, latency=4.0, loss=1e-7, more=(), without=(), model="net"):
    """The entries of a variant that passes; `more` come first, `without` names checks left out."""
    fp32 = variant.endswith("fp32")
    export = ExportMeasurement(file(size if fp32 else 4 * MB), "dynamo", 20, 1.0, False, None, ())
    made = [entry("export", export), entry("structure")]
    if not fp32:
        precision = variant.rpartition("op20-")[2]
        measured = QuantizationMeasurement(
            file(size), precision, 4 * MB, 1, {"QLinearConv": 1}, {}, None, 1.0
        )
        made.append(entry("quantization", measured))
    made.append(equal(CaseMeasurement("a", (outputs(loss),))))
    if latency is not None:
        made.append(timed(latency))
    names = {"model": model, "variant": variant, "position": [3, 0]}
    kept = [found for found in made if found["check"] not in without]
    return [names | found for found in [*more, *kept]]


def only(*variants):
    """The one frontier of a model, its candidates by name."""
    entries = [
        {**found, "position": [3, index]} for index, made in enumerate(variants) for found in made
    ]
    (found,) = frontiers(read(entries))
    return found, {candidate.variant: candidate for candidate in found.candidates}


def released(*variants):
    found = only(*variants)[0].released
    return found and found.variant


def untimed(variant, *targets, more=(), **changes):
    """A variant with a speed budget, where timing was off (pytest-xdist)."""
    skipped = entry("latency", outcome="skipped", target="cpu")
    made = checks(variant, latency=None, more=[skipped, *more], **changes)
    return planned(made, speed_budget=targets)


def planned(entries, **changes):
    return [found | {"planned": {"variants": 2, "checks": 1} | changes} for found in entries]
