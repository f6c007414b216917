"""The time and memory an artefact takes, and took in earlier runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pytest_onnxcheck.machine import Machine
from pytest_onnxcheck.measurement.target import TargetMeasurement

__all__ = ["LatencyMeasurement", "PastRuns", "Ratio", "SpeedPoint", "Timing"]


@dataclass(frozen=True)
class Timing:
    """Wall times of one side in seconds, one sample per call, summarised.

    Attributes:
        backend: Whose, for a person.
        count: How many samples.
        median: Their median (p50).
        p90: The time that 90% of the calls need at most.
        p95: Likewise.
        p99: Likewise.
        iqr: Interquartile range.
        median_interval: 99% interval of the median.
        p95_interval: 99% interval of p95. Of fewer than 127 samples its upper end is the greatest,
            which bounds p95 with 95%; of fewer than 59 it is infinite.
        interrupted: Share of the calls that had to wait for the processor.
        quantiles: The times that 0%, 5%, ... 95% and 100% of the calls need at most, for plots;
            empty in an earlier version's record.
    """

    backend: str
    count: int
    median: float
    p90: float
    p95: float
    p99: float
    iqr: float
    median_interval: tuple[float, float]
    p95_interval: tuple[float, float]
    interrupted: float = 0.0
    quantiles: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ratio:
    """How many times as long another call takes as the artefact: the median over rounds.

    Attributes:
        value: The median.
        low: Lower end of its 99% interval.
        high: Upper end of it.
        clock: `processor` (the calling thread's) or `wall`.
        wall: The median on the wall clock, over the rounds that were not interrupted, or over all
            where too few were not.
        rounds: How many rounds.
        interrupted: Share of the rounds in which a call had to wait for the processor.
        sure: Whether it can be a failure: not on the wall clock where nearly all were interrupted.
    """

    value: float
    low: float
    high: float
    clock: str
    wall: float
    rounds: int
    interrupted: float
    sure: bool = True


@dataclass(frozen=True)
class LatencyMeasurement:
    """PyTorch against ONNX Runtime on one target and one set of dims, interleaved.

    Attributes:
        target: The target.
        provider: The provider that ran.
        dims: Values of the symbolic dims.
        threads: Threads on each side.
        boundary: What is inside the timed call: `host to host`, `device to device` or `device to
            device, CUDA graph`.
        torch: PyTorch's times.
        onnxruntime: The artefact's times, in the same rounds.
        load_seconds: What opening the session took; the median where it was opened more than once.
        ratios: Other side -> how many times as long it takes as the artefact: `torch`; `fp32` (the
            fp32 artefact; absent for fp32 itself), `kernel` (a fixed piece of work in numpy,
            the unit of times that are compared over machines and days), `baseline` (an earlier
            artefact, where one is named).
        fp32: Times of the fp32 artefact; None for fp32 itself, and where there is no such file.
        kernel: Times of the fixed kernel.
        baseline: Times of the earlier artefact.
        sha256: Hash of the artefact.
        kernel_name: Which kernel: times in units of another one do not compare.
        waiting: How the threads of PyTorch wait for work: `OMP_WAIT_POLICY`; None when unset.
        seconds: How long the sides were timed.
        load_interval: The fastest and the slowest opening.
        first_seconds: The first run, which allocates what later ones reuse.
        items: Size of the first symbolic dim, e.g. the batch; 1 without one.
        memory_bytes: What a session and one run add to the peak of the host's memory; None when it
            was not, or could not be, measured.
        device_memory_bytes: The same of a GPU's memory.
        assignment: Who ran which node of the timed session; None for targets without a fall back.
        transferred_bytes: The artefact's size on the way to a page, gzip; None but for
            onnxruntime-web.
        device: Which accelerator: the GPU's name, or what the provider's options ask for; empty for
            the CPU's provider.
    """

    #: properties that the record has too
    DERIVED: ClassVar[tuple[str, ...]] = ("speedup", "speedup_over_fp32", "throughput")

    target: str
    provider: str
    dims: dict[str, int]
    threads: int
    boundary: str
    torch: Timing
    onnxruntime: Timing
    load_seconds: float
    ratios: dict[str, Ratio]
    fp32: Timing | None = None
    kernel: Timing | None = None
    baseline: Timing | None = None
    sha256: str = ""
    kernel_name: str = ""
    waiting: str | None = None
    seconds: float = 0.0
    load_interval: tuple[float, float] | None = None
    first_seconds: float | None = None
    items: int = 1
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    assignment: TargetMeasurement | None = None
    transferred_bytes: int | None = None
    device: str = ""

    def __post_init__(self) -> None:
        if "torch" not in self.ratios:
            raise ValueError("ratios: there is none to torch")

    @property
    def speedup(self) -> float:
        """How many times as long PyTorch takes."""
        return self.ratios["torch"].value

    @property
    def speedup_over_fp32(self) -> float | None:
        """How many times as long the fp32 artefact takes; None where it was not timed beside."""
        ratio = self.ratios.get("fp32")
        return None if ratio is None else ratio.value

    @property
    def throughput(self) -> float:
        """Items a second, one call after the other."""
        return self.items / self.onnxruntime.median


@dataclass(frozen=True)
class SpeedPoint:
    """One latency check of an earlier run, as the history keeps it.

    Attributes:
        created: When, in UTC, as ISO 8601.
        manifest: The manifest, relative to pytest's rootdir.
        target: The target.
        normalised: The artefact's time in units of the fixed kernel's.
        interval: 99% interval of it, within that run.
        speedup: How many times as long PyTorch took.
        speedup_interval: 99% interval of it.
        median_seconds: Median wall time of each side.
        sha256: Hash of the artefact.
        kernel: Which kernel; points of different ones do not compare.
        threads: Threads on each side.
        noisy: Whether most rounds were interrupted by other processes.
        machine: What it ran on.
        limit: The `max_regression` it was measured under, for the plot.
        clock: The clock of `normalised`, see `Ratio`; None, like what follows, in older files.
        boundary: What was inside the timed call.
        dims: Values of the symbolic dims.
        device: Which accelerator, see `LatencyMeasurement`.
    """

    created: str
    manifest: str
    target: str
    normalised: float
    interval: tuple[float, float]
    speedup: float
    speedup_interval: tuple[float, float]
    median_seconds: dict[str, float]
    sha256: str
    kernel: str
    threads: int
    noisy: bool
    machine: Machine
    limit: float | None = None
    clock: str | None = None
    boundary: str | None = None
    dims: dict[str, int] | None = None
    device: str | None = None

    @property
    def cpu(self) -> str:
        """The processor's name."""
        return self.machine.cpu


@dataclass(frozen=True)
class PastRuns:
    """What the history knows of a latency check.

    Attributes:
        folder: Where the history is.
        machine: What this run is on.
        accepted: The accepted baseline, at most one point a processor.
        runs: The check's points in earlier runs, the oldest first.
        accepting: Whether this run is to become the baseline.
        problem: Why the baseline cannot be read; None when it can.
    """

    folder: str
    machine: Machine
    accepted: tuple[SpeedPoint, ...] = ()
    runs: tuple[SpeedPoint, ...] = ()
    accepting: bool = False
    problem: str | None = None
