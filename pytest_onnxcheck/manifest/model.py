"""Models and their variants, as the rest of the package works with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.depends import files_behind
from pytest_onnxcheck.manifest.inheritance import matching, merged
from pytest_onnxcheck.manifest.precisions import PRECISIONS, Traits
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CPU, Target
from pytest_onnxcheck.manifest.terms import FRONTIER, WITHOUT_VNNI, Cpu

__all__ = ["Model", "Variant", "latency_id"]


def latency_id(target: str, point: str) -> str:
    """The id of a latency check: `cpu-batch8` of `cpu` and point `batch8`, which may be empty."""
    return "-".join(filter(None, (target, point)))


@dataclass(frozen=True)
class Variant:
    """One ONNX artefact recipe of a model.

    Attributes:
        name: `EXPORTER-opN-PRECISION`, or `file-PRECISION` for an artefact that already exists.
        exporter: `dynamo`, `torchscript`, or `file`.
        opset: The opset to export; None when the artefact already exists.
        precision: See `terms.Precision`.
        tolerance: What its outputs may differ from PyTorch's.
        budget: What it may cost.
        quantization: How the precision is made; every option it has is filled in.
        cpus: What it is made for; see `terms.Cpu`.
        max_drop: How much worse than PyTorch's the task metric may be; None when it is only told.
        file: The existing artefact; None when it is exported.
        baseline: The previous release's artefact, which it may not be much slower than.
        allowed_opsets: Those that an existing artefact may have; empty where any will do.
    """

    name: str
    exporter: str
    opset: int | None
    precision: str
    tolerance: s.Tolerance
    budget: s.Budget
    quantization: s.Quantization
    cpus: tuple[Cpu, ...]
    max_drop: float | None = None
    file: Path | None = None
    baseline: Path | None = None
    allowed_opsets: tuple[int, ...] = ()

    @property
    def traits(self) -> Traits:
        """What follows from its precision."""
        return PRECISIONS[self.precision]

    @property
    def reduces_range(self) -> bool:
        """Whether weights are quantized to 7 bits, so that they do not saturate without VNNI."""
        if self.quantization.reduce_range is not None:
            return self.quantization.reduce_range
        # unsigned weights are added up in 32 bits everywhere
        return WITHOUT_VNNI in self.cpus and self.quantization.weight_type != "uint8"

    @property
    def eight_bits(self) -> Variant | None:
        """The same with weights of 8 bits, where it has 7 only because of `cpus`."""
        auto = self.quantization.reduce_range is None and self.file is None
        if not (auto and self.reduces_range and self.traits.bits == 8):
            return None
        options = self.quantization.model_copy(update={"reduce_range": False})
        return replace(self, quantization=options)

    def io_dtype(self, dtype: str) -> str:
        """The dtype of an input or output that the manifest declares as `dtype`."""
        if dtype != "float32" or self.file is not None:
            return dtype
        narrow = self.traits.casts_module or self.quantization.keep_io_types is False
        return self.traits.floats if narrow else dtype


@dataclass(frozen=True)
class Model:
    """One model of the manifest with everything inherited filled in.

    `root` is the manifest's folder: files and import paths are relative to it. `line` is where
    the model stands in the manifest, `section` its table there: its name, without what tells the
    models of one glob of checkpoints apart. `dims` holds the sizes to draw inputs of, also
    where the manifest gives a range, which is in `spans`. `deploy_target` is the target that
    `deploy` asks for beside `targets`; None where it asks for none, or for one of them. The other
    fields are documented in `sections`.
    """

    name: str
    section: str
    root: Path
    line: int
    seed: int
    factory: str | None
    kwargs: Mapping[str, Any]
    checkpoint: Path | None
    pretrained: Path | None
    state_dict: str | None
    prefix: str | None
    config_key: str | None
    trust: bool
    shapes: str | None
    dims: Mapping[str, tuple[int, ...]]
    inputs: Mapping[str, s.Input]
    outputs: Mapping[str, s.Output]
    arguments: Mapping[str, Any]
    containers: Mapping[str, str]
    cases: Mapping[str, s.CaseFile]
    example: str | None
    calibration: s.Calibration | None
    accuracy: s.Accuracy | None
    draws: int
    probe_seconds: float
    latency: s.Latency
    quantization: Mapping[str, s.Quantization]
    targets: tuple[str, ...]
    required_targets: tuple[str, ...]
    cpus: tuple[Cpu, ...]
    marks: tuple[str, ...]
    xfail: tuple[s.Mark, ...]
    skip: tuple[s.Mark, ...]
    skip_probes: tuple[s.SkippedProbe, ...]
    variants: tuple[Variant, ...]
    make_variant: Callable[[str, int | None, str, str | None], Variant] = field(
        repr=False, compare=False
    )
    translations: Mapping[str, Mapping[Any, str]] = field(default_factory=dict)
    inherited_translations: frozenset[str] = frozenset()
    operator_libraries: tuple[str, ...] = ()
    depends: tuple[str, ...] = ()
    declared: Mapping[str, Target] = field(default_factory=lambda: BUILTIN_TARGETS)
    spans: Mapping[str, range] = field(default_factory=dict)
    release: s.Release | None = None
    deploy: s.Deploy | None = None
    deploy_target: str | None = None
    isolate: bool | None = None
    timeout: Mapping[str, float] = field(default_factory=dict)
    memory_mb: float | None = None

    @property
    def sizes(self) -> dict[str, range]:
        """All sizes that a dim may have: those of its range, or from its least to its greatest."""
        return {
            dim: self.spans.get(dim) or range(min(values), max(values) + 1)
            for dim, values in self.dims.items()
        }

    @property
    def given(self) -> tuple[Variant, ...]:
        """Those of its variants whose files the manifest gives; none where it is exported."""
        return tuple(variant for variant in self.variants if variant.file is not None)

    @property
    def exporters(self) -> tuple[str, ...]:
        """The exporters of its variants."""
        return tuple(dict.fromkeys(variant.exporter for variant in self.variants))

    def depended(self) -> dict[str, Path]:
        """The files of `depends` as they are now, by their path from the manifest's folder."""
        return files_behind(self.depends, self.root)

    def translations_for(self, exporter: str) -> dict[str, str]:
        """Custom operator -> the path of the function that translates it for an exporter."""
        return {name: by[exporter] for name, by in self.translations.items() if exporter in by}

    def own_quantization(self, variant: Variant) -> s.Quantization:
        """The options that the model's own tables give a variant; those it inherits are None."""
        tables = matching(None, self.quantization, variant.precision, variant.name)
        return merged(s.Quantization, tables)

    def variant(self, exporter: str, opset: int | None, precision: str) -> Variant:
        """The variant as the manifest would have it, whether it lists the precision or not."""
        return self.make_variant(exporter, opset, precision, None)

    @property
    def compared_on(self) -> tuple[str, ...]:
        """The targets on which it is compared with PyTorch."""
        return (*self.targets, *filter(None, [self.deploy_target]))

    def target(self, name: str) -> Target:
        """What runs the artefacts under a name; `declared` holds all there are."""
        return replace(self.declared[name], libraries=self.operator_libraries)

    @property
    def cpu(self) -> Target:
        """ONNX Runtime's CPU as it comes, whatever the manifest says of its target `cpu`."""
        return replace(CPU, libraries=self.operator_libraries)

    def may_release(self, variant: Variant) -> bool:
        """Whether a variant is the one that the manifest releases, or may turn out to be."""
        return self.release is not None and self.release.variant in (FRONTIER, variant.name)

    def latency_points(self) -> dict[str, dict[str, int]]:
        """Where speed is measured, by id: `batch8` -> `{"batch": 8}`; one empty point without dims.

        Dims a point leaves out stand at their first value. Where nothing is drawn, a point names
        the dims that it asks for alone: the sizes are those of the user's own inputs.
        """
        first = {dim: values[0] for dim, values in self.dims.items()}
        written = self.latency.dims
        if written is None and not self.draws:
            return {"": {}}
        if written is None:
            swept = next(iter(self.dims), None)
            # nothing to time where there are no examples, unless that is all there is
            values = [value for value in self.dims[swept] if value] or [0] if swept else []
            written = tuple({swept: value} for value in values) if swept else ({},)
        if not self.draws:
            first = {}
        return {
            "-".join(f"{dim}{value}" for dim, value in point.items()): {**first, **point}
            for point in written
        }
