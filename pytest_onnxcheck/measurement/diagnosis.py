"""What was found out about a failure of equivalence."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Diagnosis", "Divergence", "Exclusion", "LayerLoss", "SensitivityMeasurement", "Step"]


@dataclass(frozen=True)
class Step:
    """One way to compute the failing case, between PyTorch and the artefact as it ships.

    Attributes:
        stage: What this step adds: `capture`, `conversion`, `provider`, `quantization` or
            `runtime optimisation`.
        name: What ran, e.g. `exported program`.
        ratio: Its error in units of `unit`; None if not run.
        unit: `floors`, or `of the bound` where a metric is set against its bound.
        agrees: Whether it agrees with PyTorch; None if it was not run.
        note: Why it was not run, or how it failed.
    """

    stage: str
    name: str
    ratio: float | None = None
    agrees: bool | None = None
    note: str = ""
    unit: str = "floors"


@dataclass(frozen=True)
class Divergence:
    """The first place inside the artefact whose value is not PyTorch's.

    Attributes:
        node: Name of the ONNX node.
        operator: Its operator type.
        value: The value it computes.
        module: Path of the PyTorch module, e.g. `layer1.0.conv1`.
        torch_operator: PyTorch's operator there, e.g. `aten.convolution`.
        source: `file:line` in the user's code that called it.
        ratio: Its error in noise floors; None where no value of PyTorch's can be set beside it.
        inputs_inside: Whether all that the node reads was compared with PyTorch's, constants too,
            and is inside its noise floor.
        note: How sure it is, or what else to know.
    """

    node: str
    operator: str
    value: str
    module: str = ""
    torch_operator: str = ""
    source: str = ""
    ratio: float | None = None
    inputs_inside: bool = False
    note: str = ""


@dataclass(frozen=True)
class LayerLoss:
    """How much of a layer's signal a quantized artefact keeps.

    Attributes:
        value: The value's name.
        operator: The operator that computes it.
        sqnr_db: 20 log10(||float|| / ||float - quantized||).
    """

    value: str
    operator: str
    sqnr_db: float

    @property
    def noise(self) -> float:
        """||float - quantized|| / ||float||."""
        return float(10 ** (-self.sqnr_db / 20))


@dataclass(frozen=True)
class Exclusion:
    """A static int8 artefact made anew with some nodes left in float.

    Attributes:
        nodes: The nodes.
        rel_rms: Its worst `rel_rms` over the cases' outputs.
        size_ratio: Its bytes as a share of the fp32 artefact's.
        problem: The tolerance or budget it does not meet, or that it is no smaller than fp32; None
            when it will do.
    """

    nodes: tuple[str, ...]
    rel_rms: float | None
    size_ratio: float
    problem: str | None


@dataclass(frozen=True)
class SensitivityMeasurement:
    """Which layers lose most in a static int8 artefact.

    Attributes:
        layers: The nodes' own loss: what quantizing their inputs and weights alone does to them;
            the worst first.
        tried: Artefacts made with layers left in float, in the order they were tried; the last is
            the smallest set that loses little enough, where one does.
        toml: What to put into the manifest for the last of them; None when it will not do.
        complete: Whether everything was tried, all nodes in float if need be; False where the time
            was over before.
    """

    layers: tuple[LayerLoss, ...]
    tried: tuple[Exclusion, ...] = ()
    toml: str | None = None
    complete: bool = True


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about a failing case.

    Attributes:
        case: The case.
        stage: The guilty stage; None when it could not be told.
        steps: What was run to find it.
        divergence: Where the values part; None when it could not be told.
        losses: Layers of a quantized artefact, the worst first.
        sensitivity: What leaving layers of an int8-static artefact in float does for it.
        repro: Command that runs the folder which reproduces the failure.
        notes: What could not be found out, and why.
    """

    case: str
    stage: str | None = None
    steps: tuple[Step, ...] = ()
    divergence: Divergence | None = None
    losses: tuple[LayerLoss, ...] = ()
    sensitivity: SensitivityMeasurement | None = None
    repro: str | None = None
    notes: tuple[str, ...] = ()
