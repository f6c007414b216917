"""`metadata.json`: what is known of a release, typed. All of it follows from the record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    HashedFile,
    LatencyMeasurement,
    OutputMeasurement,
    StructureMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.release.choice import Choice
from pytest_onnxcheck.release.git import Source

__all__ = ["FORMAT", "Metadata", "describe"]

#: version of the format of `metadata.json`
FORMAT = 1


@dataclass(frozen=True)
class OutputErrors:
    """How far one output is from PyTorch's, over the declared cases.

    Attributes:
        name: The output.
        max_abs: Largest |a - e|.
        rel_rms: Worst ||a - e|| / ||e||; -20 log10 of it is the SQNR in dB.
        top1: Smallest share of rows whose largest element is the same.
        floors: Largest error in noise floors, where floors were measured.
        floor: Noise floor of the worst element there.
    """

    name: str
    max_abs: float | None
    rel_rms: float | None
    top1: float | None
    floors: float | None
    floor: float | None


@dataclass(frozen=True)
class Errors:
    """What was compared with PyTorch on one target.

    Attributes:
        target: The target.
        provider: ONNX Runtime's provider.
        cases: Cases that the manifest declares.
        probes: Cases that were added.
        outputs: The outputs, over the declared cases.
    """

    target: str
    provider: str
    cases: int
    probes: int
    outputs: tuple[OutputErrors, ...]


@dataclass(frozen=True)
class Latency:
    """Speed at one point.

    Attributes:
        target: The target.
        device: Which accelerator; empty for the CPU.
        dims: Sizes of the symbolic dims.
        threads: Threads of PyTorch and of ONNX Runtime.
        median_ms: Median time of a call.
        torch_median_ms: PyTorch's, in the same rounds.
        speedup: How many times as long PyTorch takes.
        memory_bytes: What a session and one run add to the peak of the host's memory.
    """

    target: str
    device: str
    dims: dict[str, int]
    threads: int
    median_ms: float
    torch_median_ms: float
    speedup: float
    memory_bytes: int | None


@dataclass(frozen=True)
class Skipped:
    """A check that was not made.

    Attributes:
        check: Its name, with its parameters.
        reason: Why.
    """

    check: str
    reason: str


@dataclass(frozen=True)
class Run:
    """The run of the gate, and what a clock has a part in.

    Attributes:
        id: First sixteen digits of the SHA-256 of the record as the run left it.
        date: When it ended, in UTC, as ISO 8601.
        python: Version of Python.
        platform: The operating system.
        machine: The architecture, e.g. `x86_64`.
        cpu: The processor.
        cpus: Number of logical processors.
        latency: Speed, where it was measured.
    """

    id: str
    date: str
    python: str
    platform: str
    machine: str
    cpu: str
    cpus: int | None
    latency: tuple[Latency, ...]


@dataclass(frozen=True)
class Metadata:
    """What is known of a release.

    Everything but `run` is the same for every run on the same sources.

    Attributes:
        format: Version of this format.
        name: Name of the bundle.
        version: Its version.
        model: The model in the manifest.
        variant: The variant.
        framework: What it was made from: `pytorch`.
        architecture: Class of the PyTorch module.
        parameters: Elements of its parameters.
        precision: The precision asked for.
        coverage: Share of the multiply-accumulates that carry it; None for fp32.
        exporter: `dynamo`, `torchscript`, or `file` for an artefact that was given.
        opset: Version of the default operator set.
        opsets: Domain -> version.
        ir_version: Version of ONNX's format.
        producer: What wrote the file.
        oldest_onnxruntime: The oldest ONNX Runtime that loads it, by its IR version, opsets,
            operators and types; None where that is not known.
        inputs: The file's inputs; dims are sizes, symbols, or null where nothing is said.
        outputs: Its outputs.
        files: The file and its external data, with their hashes.
        size_bytes: Bytes of them.
        sha256: Hash of their contents, one after the other.
        checkpoint_sha256: Hash of the checkpoint; None where the factory makes the weights.
        sources: The files it was made from, by their path from the manifest.
        libraries: Libraries of custom operators that it is run with; not in the bundle.
        manifest_sha256: Hash of the manifest.
        source: The commit that holds the sources.
        packages: Version of each package that matters.
        onnxcheck: Version of pytest-onnxcheck.
        errors: How far it is from PyTorch, by target.
        accuracy: Task metrics, by target.
        skipped: Checks that were not made.
        run: The run that it comes from.
    """

    format: int
    name: str
    version: str
    model: str
    variant: str
    framework: str
    architecture: str
    parameters: int
    precision: str
    coverage: float | None
    exporter: str
    opset: int
    opsets: dict[str, int]
    ir_version: int
    producer: str
    oldest_onnxruntime: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[HashedFile, ...]
    size_bytes: int
    sha256: str
    checkpoint_sha256: str | None
    sources: tuple[HashedFile, ...]
    libraries: tuple[HashedFile, ...]
    manifest_sha256: str
    source: Source
    packages: dict[str, str]
    onnxcheck: str
    errors: tuple[Errors, ...]
    accuracy: tuple[AccuracyMeasurement, ...]
    skipped: tuple[Skipped, ...]
    run: Run


def describe(
    record: Record, choice: Choice, *, name: str, version: str, source: Source, run_id: str
) -> Metadata:
    """What a record says of the variant that is released.

    Args:
        record: The record, with the checks of this one model.
        choice: The variant, of which `export`, `structure` and `release` were made.
        name: Name of the bundle.
        version: Its version; empty for the first digits of the file's hash.
        source: The commit that holds the sources.
        run_id: What the run is known by.
    """
    row, stripped = choice.row, choice.stripped[0]
    exported, structure = row.measured(ExportMeasurement)[0], row.measured(StructureMeasurement)[0]
    return Metadata(
        format=FORMAT,
        name=name,
        version=version or stripped.file.sha256[:12],
        model=row.model,
        variant=row.variant,
        framework="pytorch",
        architecture=stripped.architecture,
        parameters=stripped.parameters,
        precision=row.entries[0].precision,
        coverage=row.coverage(),
        exporter=row.entries[0].exporter,
        opset=structure.opset,
        opsets=stripped.opsets,
        ir_version=stripped.ir_version,
        producer=stripped.producer,
        oldest_onnxruntime=stripped.oldest_onnxruntime,
        inputs=structure.inputs,
        outputs=structure.outputs,
        files=stripped.file.files,
        size_bytes=stripped.file.size_bytes,
        sha256=stripped.file.sha256,
        checkpoint_sha256=exported.checkpoint_sha256,
        sources=stripped.sources,
        libraries=exported.libraries,
        manifest_sha256=record.manifests[0].sha256,
        source=source,
        packages=dict(record.environment.packages),
        onnxcheck=record.onnxcheck,
        errors=tuple(map(_errors, row.measured(EquivalenceMeasurement))),
        accuracy=tuple(row.measured(AccuracyMeasurement)),
        skipped=tuple(
            Skipped(entry.check + (f"[{entry.point}]" if entry.point else ""), entry.reason)
            for entry in row.entries
            if entry.outcome == "skipped"
        ),
        run=_run(record, row.measured(LatencyMeasurement), run_id),
    )


def _run(record: Record, timed: Sequence[LatencyMeasurement], run_id: str) -> Run:
    environment = record.environment
    return Run(
        id=run_id,
        date=record.created,
        python=environment.python,
        platform=environment.platform,
        machine=environment.machine,
        cpu=environment.cpu,
        cpus=environment.cpus,
        latency=tuple(map(_latency, timed)),
    )


def _latency(measured: LatencyMeasurement) -> Latency:
    return Latency(
        target=measured.target,
        device=measured.device,
        dims=measured.dims,
        threads=measured.threads,
        median_ms=1e3 * measured.onnxruntime.median,
        torch_median_ms=1e3 * measured.torch.median,
        speedup=measured.speedup,
        memory_bytes=measured.memory_bytes,
    )


def _errors(measured: EquivalenceMeasurement) -> Errors:
    by_name: dict[str, list[OutputMeasurement]] = {}
    for case in measured.declared:
        for output in case.outputs:
            by_name.setdefault(output.name, []).append(output)
    held = measured.held_to
    return Errors(
        target=measured.target,
        provider=measured.provider,
        cases=0 if held is None else held.cases,
        probes=0 if held is None else held.probes,
        outputs=tuple(_output(name, found) for name, found in by_name.items()),
    )


def _output(name: str, found: Sequence[OutputMeasurement]) -> OutputErrors:
    floors = [output.floor for output in found if output.floor is not None]
    worst = max(floors, key=lambda floor: floor.farthest, default=None)
    return OutputErrors(
        name=name,
        max_abs=_of(max, (output.max_abs for output in found)),
        rel_rms=_of(max, (output.rel_rms for output in found)),
        top1=_of(min, (output.top1 for output in found)),
        floors=None if worst is None else _finite(worst.farthest),
        floor=None if worst is None else _finite(worst.floor_worst),
    )


def _of(choose: Callable[[Sequence[float]], float], values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _finite(choose(known)) if known else None


def _finite(value: float) -> float | None:
    """JSON has no numbers for NaN and infinity."""
    return value if math.isfinite(value) else None
