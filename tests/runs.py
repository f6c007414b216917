"""Records of runs that never were, for reports: one of everything that a report shows."""

from __future__ import annotations

import dataclasses

from entries import EXPORT, LATENCY, QUANTIZATION, entry, equivalence, output, ratios

from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    Diagnosis,
    Divergence,
    Exclusion,
    FloorMeasurement,
    HashedFile,
    HeldTo,
    LayerLoss,
    SensitivityMeasurement,
    SkippedProbes,
    Step,
)
from pytest_onnxcheck.record.entry import Entry, Planned
from pytest_onnxcheck.record.origin import Job, Source
from pytest_onnxcheck.record.record import Environment, ManifestFile, NotCollected, Record
from pytest_onnxcheck.verdict import Finding, Grade, Limit

#: what a manifest or a file may hold
EVIL = "</script><img src=x onerror=alert(1)>|`*\x1b[31m\n::error::@all #1 \u202eabc"

ENVIRONMENT = Environment(
    python="3.11.9",
    platform="Linux-6.1",
    machine="x86_64",
    cpu="A CPU",
    cpus=2,
    packages={"torch": "2.13.0", "onnx": "1.23.0", "onnxruntime": "1.32.0", "pytest": "9.2.0"},
    command=("pytest", "--onnxcheck"),
)

FLOOR = FloorMeasurement(
    "float64 and 3 perturbed runs", 4.0, 1e-6, 5e-7, 2.5e-7, 1e-7, 1e-6, 0, 0, 0
)

#: what the manifest leaves out is told with its reason
HELD_TO = HeldTo(1, 2, 3, sizes=4, skipped=(SkippedProbes("inf*", "no audio is infinite"),))

LIBRARY = HashedFile("libops.so", 4096, "ef" * 32)

DIAGNOSIS = Diagnosis(
    case="batch=1",
    stage="quantization",
    steps=(
        Step("capture", "exported program", 0.5, True),
        Step("quantization", "int8-static", 12.0, False, unit="of the bound"),
    ),
    divergence=Divergence(
        "conv_1", "Conv", "conv_1_out", "layer1.conv", "aten.convolution", "net.py:12"
    ),
    losses=(LayerLoss("layer1.conv", "Conv", 12.5), LayerLoss("fc", "Gemm", 33.0)),
    sensitivity=SensitivityMeasurement(
        layers=(LayerLoss("fc", "Gemm", 20.0),),
        tried=(Exclusion(("fc",), 0.01, 0.6, None),),
        toml='[models.net.quantization.int8-static]\nexclude_nodes = ["fc"]',
    ),
    repro="python .onnxcheck/repro/net/run.py",
    notes=("a note",),
)


def latency(torch: float = 0.003, onnx: float = 0.002, **changes: object) -> object:
    facts = {
        "torch": summarised("torch", [torch * (1 + n / 100) for n in range(21)]),
        "onnxruntime": summarised("onnxruntime", [onnx * (1 + n / 50) for n in range(21)]),
        "ratios": ratios(torch=torch / onnx),
    }
    return dataclasses.replace(LATENCY, **{**facts, **changes})


def model(name: str = "net", *, fails: bool = False, line: int = 3) -> list[Entry]:
    """The checks of a model in fp32 and int8-static."""
    int8 = "dynamo-op20-int8-static"
    common = {
        "model": name,
        "position": (line, 0, 0),
        "planned": Planned(2, 4),
        "exporter": "dynamo",
        "opset": 20,
        "stages": {"exporting": 1.5, "setup": 0.1, "check": 0.25},
    }
    quantized = {**common, "variant": int8, "precision": "int8-static", "position": (line, 0, 1)}
    good = CaseMeasurement("batch=1", (output(rel_rms=0.01, floor=FLOOR, top1=1.0),))
    bad = CaseMeasurement("batch=1", (output(rel_rms=0.5, top1=0.5),))
    wrong = Finding(Grade.FAIL, "output 'y' rel_rms", "0.5, pass is at most 0.15", "batch=1")
    close = Finding(Grade.WARN, "speed-up", "0.63 times the fp32 artefact: slower here")
    found = [
        entry("export", dataclasses.replace(EXPORT, libraries=(LIBRARY,)), **common),
        entry("structure", **common, grade=Grade.PASS),
        entry(
            "equivalence",
            dataclasses.replace(equivalence(good), held_to=HELD_TO),
            target="cpu",
            point="cpu",
            limits=(Limit("tolerance.safety", 8, 8),),
            **common,
        ),
        entry("latency", latency(), target="cpu", point="cpu-batch1", **common),
        entry(
            "latency",
            target="cuda",
            point="cuda-batch1",
            outcome="skipped",
            reason="cuda: CUDAExecutionProvider is not in this onnxruntime",
            **common,
        ),
        entry("quantization", QUANTIZATION, **quantized),
        entry(
            "equivalence",
            dataclasses.replace(
                equivalence(bad if fails else good), diagnosis=DIAGNOSIS if fails else None
            ),
            target="cpu",
            point="cpu",
            limits=(Limit("tolerance.rel_rms", 0.15, 0.35),),
            **quantized,
            **({"outcome": "failed", "findings": (wrong,), "reason": str(wrong)} if fails else {}),
        ),
        entry(
            "latency",
            latency(onnx=0.001),
            target="cpu",
            point="cpu-batch1",
            findings=(close,),
            reason=str(close),
            limits=(Limit("budget.min_speedup.cpu", 1.5, 1.5, True),),
            **quantized,
        ),
    ]
    grades = {"failed": Grade.FAIL}
    return [
        dataclasses.replace(
            each,
            grade=Grade.WARN if each.reason == str(close) else grades.get(each.outcome, each.grade),
            nodeid=each.nodeid + (f"[{each.point}]" if each.point else ""),
            manifest="/work/models.toml",
        )
        for each in found
    ]


def record(*entries: Entry, **changes: object) -> Record:
    facts = {
        "onnxcheck": "0.1.0",
        "created": "2026-11-30T20:00:00+00:00",
        "environment": ENVIRONMENT,
        "exitstatus": 1 if any(found.outcome == "failed" for found in entries) else 0,
        "checks": entries,
        "manifests": (ManifestFile("/work/models.toml", "cd" * 32, 0),),
        "source": Source("0123456789abcdef0123456789abcdef01234567", "feature", False),
        "job": Job("github", "gate", "7", "https://github.com/a/b/actions/runs/7"),
    }
    return Record(**{**facts, **changes})


def failing() -> Record:
    """A good model, a bad one, and one that could not be collected."""
    wrong = "models.toml:30: [models.typo.inputs.x] unknown key 'shpae' (did you mean 'shape'?)"
    return record(
        *model("net"),
        *model("bad", fails=True, line=20),
        errors=(NotCollected("models.toml::typo", wrong),),
    )


def evil() -> Record:
    """A run in which every text that is not ours tries to get out."""
    bad = [
        dataclasses.replace(
            each,
            reason=EVIL,
            findings=(Finding(each.grade or Grade.PASS, EVIL, EVIL, EVIL),) if each.grade else (),
        )
        for each in model("net", fails=True)
    ]
    losses = (LayerLoss(EVIL, EVIL, 1.0),)
    for number, each in enumerate(bad):
        measured = each.measurement
        if getattr(measured, "diagnosis", None) is not None:
            found = dataclasses.replace(
                DIAGNOSIS,
                losses=losses,
                case=EVIL,
                repro=EVIL,
                notes=(EVIL,),
                divergence=Divergence(EVIL, EVIL, EVIL, EVIL, EVIL, EVIL, note=EVIL),
            )
            cases = (CaseMeasurement(EVIL, (output(EVIL, rel_rms=0.5),)),)
            held = dataclasses.replace(HELD_TO, skipped=(SkippedProbes(EVIL, EVIL),))
            measured = dataclasses.replace(measured, diagnosis=found, cases=cases, held_to=held)
            bad[number] = dataclasses.replace(each, measurement=measured)
    return record(
        *bad,
        errors=(NotCollected("models.toml::typo", EVIL),),
        environment=dataclasses.replace(ENVIRONMENT, cpu=EVIL, command=("pytest", EVIL)),
        source=Source(EVIL, EVIL, True),
        job=Job(EVIL, EVIL, EVIL, f"javascript:{EVIL}"),
        history=(EVIL,),
    )
