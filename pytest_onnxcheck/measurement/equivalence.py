"""What an artefact computes beside what PyTorch computes."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_onnxcheck.measurement.diagnosis import Diagnosis
from pytest_onnxcheck.measurement.outputs import OutputMeasurement

__all__ = [
    "CaseMeasurement",
    "EmptyRows",
    "EquivalenceMeasurement",
    "HeldTo",
    "PortabilityMeasurement",
    "SaturatedLayer",
    "SaturationMeasurement",
    "SkippedProbes",
    "SweepMeasurement",
]


@dataclass(frozen=True)
class EmptyRows:
    """An input of a case with rows that mask everything.

    Attributes:
        input: Its name.
        mask: Whether it is filled as a mask; else it is 0 or 1, and may be one.
        expected: Whether the manifest says that such rows occur.
    """

    input: str
    mask: bool
    expected: bool


@dataclass(frozen=True)
class CaseMeasurement:
    """One case: its outputs, or the error that ended it.

    Attributes:
        case: Its name.
        outputs: What its outputs measure.
        error: Why there are none.
        lenient: Why a difference is only told: the model is not made for these inputs.
        probe: Whether the plugin thought of the case by itself.
        overflowed: float16 values that are infinite where they are stored as such.
        underflowed: float16 values that are mostly zero, and are not in float32.
        cpu: The kind of CPU it was computed for (`terms.Cpu`); empty where this machine ran it.
        empty_rows: The inputs with rows that mask everything.
        whole_rows: The masks of 0 and 1 with rows that mask nothing.
        odd_mask: Whether a probe masks an input as the manifest does not say that it is.
        dim: The dim whose sizes were swept; empty where the case belongs to no sweep.
        size: The size it had.
    """

    case: str
    outputs: tuple[OutputMeasurement, ...] = ()
    error: str | None = None
    lenient: str | None = None
    probe: bool = False
    overflowed: tuple[str, ...] = ()
    underflowed: tuple[str, ...] = ()
    cpu: str = ""
    empty_rows: tuple[EmptyRows, ...] = ()
    whole_rows: tuple[str, ...] = ()
    odd_mask: bool = False
    dim: str = ""
    size: int = 0

    @property
    def perturbed_runs(self) -> int:
        """How many perturbed runs of PyTorch its floors were measured from: outputs share them."""
        floors = (output.floor for output in self.outputs)
        return max((floor.perturbed_runs for floor in floors if floor is not None), default=0)


@dataclass(frozen=True)
class SweepMeasurement:
    """The sizes of one dim that were run; those that are off are cases.

    Attributes:
        dim: The dim.
        low: The smallest size it may have.
        high: The largest.
        step: How far apart the sizes are.
        ran: The sizes that were run, in ascending order.
        refused: How many more PyTorch itself did not take.
        ranged: Whether the manifest gives the dim as a range.
        stopped: How many were off when the rest was left; 0 where all that were planned were run.
        perturbed_runs: Runs of PyTorch that the noise floors of all its sizes were measured from.
        skipped: How many of those that the time allows the manifest's `skip_probes` leaves out.
    """

    dim: str
    low: int
    high: int
    step: int
    ran: tuple[int, ...]
    refused: int = 0
    ranged: bool = False
    stopped: int = 0
    perturbed_runs: int = 0
    skipped: int = 0

    @property
    def count(self) -> int:
        """How many sizes there are."""
        return len(range(self.low, self.high + 1, self.step))


@dataclass(frozen=True)
class SaturatedLayer:
    """A node whose 8-bit weights can saturate on x86 without VNNI.

    Attributes:
        node: Its name, in the graph as ONNX Runtime rewrites it.
        operator: Its type.
        saturable: Share of its pairs of weights that saturate for the largest activations; None
            where the weights are computed.
        saturated: Share of the pairs of products that did, over the cases.
    """

    node: str
    operator: str
    saturable: float | None
    saturated: float = 0.0


@dataclass(frozen=True)
class SaturationMeasurement:
    """What becomes of an 8-bit artefact on x86 without VNNI, whichever machine measured it.

    Attributes:
        layers: The nodes that can saturate, those that did most first; empty where none can.
        included: Whether the manifest's `cpus` hold such CPUs.
        prevented: Whether the target's session options keep ONNX Runtime from saturating.
        here: Whether this machine's own CPU is one: its runs are what they give.
        problem: Why it could not be computed; None when it could, or was not needed.
        unknown: Nodes that can saturate and are not computed; empty where all are.
    """

    layers: tuple[SaturatedLayer, ...] = ()
    included: bool = True
    prevented: bool = False
    here: bool = False
    problem: str | None = None
    unknown: str = ""


@dataclass(frozen=True)
class PortabilityMeasurement:
    """What weights of 7 bits cost, that are taken for the sake of x86 without VNNI.

    Attributes:
        sqnr_db: Worst signal-to-quantization-noise ratio of the artefact, in dB, over the declared
            cases and floating outputs.
        eight_bits_db: The same of one made with 8 bits, as CPUs compute it that do not saturate.
    """

    sqnr_db: float
    eight_bits_db: float

    @property
    def cost_db(self) -> float:
        """What they cost in dB; negative where they are better."""
        return self.eight_bits_db - self.sqnr_db


@dataclass(frozen=True)
class SkippedProbes:
    """Probes or sizes that the manifest leaves out.

    Attributes:
        name: The glob over their names.
        reason: Why.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class HeldTo:
    """What an artefact was held to.

    Attributes:
        cases: Cases that the manifest declares.
        probes: Cases that the plugin thought of by itself, without those that PyTorch refuses.
        perturbed_runs: Runs of PyTorch that its noise floors were measured from, beside the one
            in float64 of each case.
        unprobed: Why there are no probes, or where there are, none of values; empty otherwise.
        sizes: Sizes that dims were run at besides, without those that PyTorch refuses.
        skipped: What the manifest leaves out of both by name.
        drawn: Whether the manifest has inputs drawn, rather than all of them given.
    """

    cases: int
    probes: int
    perturbed_runs: int = 0
    unprobed: str = ""
    sizes: int = 0
    skipped: tuple[SkippedProbes, ...] = ()
    drawn: bool = True


@dataclass(frozen=True)
class EquivalenceMeasurement:
    """Every case of one artefact on one target.

    Attributes:
        target: The target.
        provider: The provider that ran.
        cases: The cases, in the order they ran.
        notes: What should be told about the reference.
        no_float64: Why the reference could not be run in float64; None when it could.
        diagnosis: What was found out about a failure.
        saturation: What becomes of 8-bit products on x86 without VNNI; None without any.
        portability: What portable weights cost; None where the manifest asks for theirs by itself.
        held_to: What the artefact was held to, a search apart; None of single cases.
        company: A quiet example beside loud ones; None where one is not changed by another.
        small_constants: float16 constants too small for it, as `NAME (1e-09, here 5.96e-08)`.
        sweeps: The dims whose sizes were swept.
        unvarying: Outputs that are computed from inputs, and that PyTorch gives alike, bit by bit,
            whatever it is fed with.
    """

    target: str
    provider: str
    cases: tuple[CaseMeasurement, ...]
    notes: tuple[str, ...] = ()
    no_float64: str | None = None
    diagnosis: Diagnosis | None = None
    saturation: SaturationMeasurement | None = None
    portability: PortabilityMeasurement | None = None
    held_to: HeldTo | None = None
    company: CaseMeasurement | None = None
    small_constants: tuple[str, ...] = ()
    sweeps: tuple[SweepMeasurement, ...] = ()
    unvarying: tuple[str, ...] = ()

    def case(self, name: str) -> CaseMeasurement | None:
        """The case of this name, the one in company too; None where none was run."""
        every = self.cases if self.company is None else (*self.cases, self.company)
        return next((case for case in every if case.case == name), None)

    @property
    def declared(self) -> tuple[CaseMeasurement, ...]:
        """The cases that the manifest asks for, but for those that are only told."""
        return tuple(case for case in self.cases if not case.probe and not case.lenient)

    @property
    def max_abs(self) -> float | None:
        """The largest |artefact - PyTorch| over the same cases."""
        found = (output.max_abs for case in self.declared for output in case.outputs)
        return max((value for value in found if value is not None), default=None)

    def worst(self, metric: str) -> float | None:
        """The largest value of a metric over all cases and outputs."""
        values = [
            value
            for case in self.cases
            for output in case.outputs
            if (value := getattr(output, metric)) is not None
        ]
        return max(values, default=None)

    @property
    def sqnr_db(self) -> float | None:
        """The worst signal-to-quantization-noise ratio in dB over declared cases that count."""
        values = (
            output.sqnr_db
            for case in self.declared
            for output in case.outputs
            if "float" in output.expected_dtype
        )
        return min((value for value in values if value is not None), default=None)
