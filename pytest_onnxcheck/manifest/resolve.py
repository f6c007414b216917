"""From the sections of the file to the models and variants the rest of the package works with.

Order of precedence: built-in < `[defaults]` < the model < the variant (tables keyed by a glob
over variant names). In the tables of one level, `"*"` < the precision < other globs. The
command line comes last and is applied by the caller.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.precisions import PRECISIONS, Traits
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CPU, Target, is_library_file
from pytest_onnxcheck.manifest.terms import FRONTIER, WITHOUT_VNNI, Cpu

__all__ = [
    "BUILTIN_DEFAULTS",
    "Model",
    "Variant",
    "drawn_sizes",
    "latency_id",
    "resolve",
]

BUILTIN_DEFAULTS = s.Defaults(
    exporters=("dynamo",),
    opsets=(20,),
    precisions=("fp32",),
    targets=("cpu",),
    required_targets=(),
    cpus=("x86-vnni", "x86-avx2", "arm64"),
    draws=1,
    probe_seconds=2.0,
    trust=False,
    marks=(),
    operator_libraries=(),
)

_V = TypeVar("_V")
_T = TypeVar("_T", s.Tolerance, s.Budget, s.Latency, s.Quantization)


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
    where the manifest gives a range, which is in `spans`. The other fields are documented in
    `sections`.
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
    declared: Mapping[str, Target] = field(default_factory=lambda: BUILTIN_TARGETS)
    spans: Mapping[str, range] = field(default_factory=dict)
    release: s.Release | None = None

    @property
    def sizes(self) -> dict[str, range]:
        """All sizes that a dim may have: those of its range, or from its least to its greatest."""
        return {
            dim: self.spans.get(dim) or range(min(values), max(values) + 1)
            for dim, values in self.dims.items()
        }

    @property
    def exporters(self) -> tuple[str, ...]:
        """The exporters of its variants."""
        return tuple(dict.fromkeys(variant.exporter for variant in self.variants))

    def translations_for(self, exporter: str) -> dict[str, str]:
        """Custom operator -> the path of the function that translates it for an exporter."""
        return {name: by[exporter] for name, by in self.translations.items() if exporter in by}

    def own_quantization(self, variant: Variant) -> s.Quantization:
        """The options that the model's own tables give a variant; those it inherits are None."""
        tables = _matching(None, self.quantization, variant.precision, variant.name)
        return _merge(s.Quantization, tables)

    def variant(self, exporter: str, opset: int | None, precision: str) -> Variant:
        """The variant as the manifest would have it, whether it lists the precision or not."""
        return self.make_variant(exporter, opset, precision, None)

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


def latency_id(target: str, point: str) -> str:
    """The id of a latency check: `cpu-batch8` of `cpu` and point `batch8`, which may be empty."""
    return "-".join(filter(None, (target, point)))


def resolve(
    name: str,
    section: s.ModelSection,
    checkpoint: Path | None,
    defaults: s.Defaults,
    *,
    table: str,
    root: Path,
    line: int,
    seed: int,
    targets: Mapping[str, Target] = BUILTIN_TARGETS,
) -> Model:
    """Fills in what the model inherits and lists its variants; `table` is its name in the file."""
    levels = _Levels(section, defaults, root)
    return Model(
        name=name,
        section=table,
        root=root,
        line=line,
        seed=seed if section.seed is None else section.seed,
        factory=section.factory,
        kwargs=section.kwargs,
        checkpoint=checkpoint,
        pretrained=None if section.pretrained is None else root / section.pretrained,
        state_dict=section.state_dict,
        prefix=levels.prefix(),
        config_key=section.config_key,
        trust=levels.inherited("trust"),
        shapes=section.shapes,
        dims={dim: drawn_sizes(sizes) for dim, sizes in section.dims.items()},
        spans={dim: span.sizes for dim, span in section.dims.items() if isinstance(span, s.Span)},
        inputs={name: entry.named(name) for name, entry in section.inputs.items()},
        outputs=section.outputs,
        arguments=section.arguments,
        containers=section.containers,
        cases=section.cases,
        example=section.example,
        calibration=section.calibration,
        accuracy=section.accuracy,
        release=section.release,
        draws=levels.inherited("draws"),
        probe_seconds=levels.inherited("probe_seconds"),
        latency=_merge(s.Latency, [defaults.latency, section.latency]),
        quantization=section.quantization or {},
        targets=levels.inherited("targets"),
        required_targets=levels.inherited("required_targets"),
        cpus=levels.inherited("cpus"),
        marks=levels.inherited("marks"),
        xfail=section.xfail,
        skip=section.skip,
        skip_probes=section.skip_probes,
        variants=tuple(levels.variant(*recipe) for recipe in levels.recipes()),
        make_variant=levels.variant,
        operator_libraries=tuple(
            str(root / entry) if is_library_file(entry) else entry
            for entry in levels.inherited("operator_libraries")
        ),
        translations={**(defaults.translations or {}), **(section.translations or {})},
        inherited_translations=frozenset(defaults.translations or ())
        - frozenset(section.translations or ()),
        declared=targets,
    )


def drawn_sizes(sizes: tuple[int, ...] | s.Span) -> tuple[int, ...]:
    """The sizes to draw inputs of: as listed; of a range its ends and one between.

    That one lies near the geometric mean, since large sizes are costly, and is odd where the least
    is even, or even where that is odd, if the range holds such a size.
    """
    if not isinstance(sizes, s.Span):
        return sizes
    held = sizes.sizes
    if not held:  # the other way round, which the rules tell
        return (sizes.from_, sizes.to)
    place = round((math.sqrt(max(1, held[0]) * held[-1]) - held[0]) / held.step)
    near = [held[at] for at in (place, place - 1, place + 1) if 0 < at < len(held) - 1]
    other = [size for size in near if size % 2 != held[0] % 2]
    return tuple(sorted({held[0], *(other or near)[:1], held[-1]}))


@dataclass(frozen=True)
class _Levels:
    """What a model and its variants inherit, and from where.

    Attributes:
        section: The model's table.
        defaults: `[defaults]`.
        root: The manifest's folder.
    """

    section: s.ModelSection
    defaults: s.Defaults
    root: Path

    def inherited(self, field: str) -> Any:
        """A key of the strongest level that has it."""
        for level in (self.section, self.defaults, BUILTIN_DEFAULTS):
            value = getattr(level, field)
            if value is not None:
                return value
        raise AssertionError(f"no built-in default for {field}")

    def prefix(self) -> str | None:
        """What names begin with in the checkpoint; that of `[defaults]` only where there is one."""
        inherited = self.defaults.prefix if self.section.checkpoint is not None else None
        return inherited if self.section.prefix is None else self.section.prefix

    def recipes(self) -> Iterator[tuple[str, int | None, str, str | None]]:
        """Yields exporter, opset, precision and existing file of each variant."""
        if self.section.onnx is not None:
            for precision, file in self.section.onnx.items():
                yield "file", None, precision, file
            return
        for exporter in self.inherited("exporters"):
            for opset in self.inherited("opsets"):
                for precision in self.inherited("precisions"):
                    yield exporter, opset, precision, None

    def variant(
        self, exporter: str, opset: int | None, precision: str, file: str | None
    ) -> Variant:
        """The variant of a recipe, with everything it inherits."""
        parts = [exporter, precision] if opset is None else [exporter, f"op{opset}", precision]
        name = "-".join(parts)
        return Variant(
            name=name,
            exporter=exporter,
            opset=opset,
            precision=precision,
            tolerance=self._tolerance(precision, name),
            budget=self._budget(precision, name),
            quantization=self._quantization(precision, name),
            cpus=self.inherited("cpus"),
            max_drop=self._max_drop(precision, name),
            file=None if file is None else self.root / file,
            baseline=self._baseline(precision, name),
            allowed_opsets=() if file is None else self.section.opsets or (),
        )

    def _tolerance(self, precision: str, variant: str) -> s.Tolerance:
        tables = _matching(self.defaults.tolerance, self.section.tolerance, precision, variant)
        return _tolerance(precision, tables)

    def _budget(self, precision: str, variant: str) -> s.Budget:
        tables = _matching(self.defaults.budget, self.section.budget, precision, variant)
        return _merge(s.Budget, tables)

    def _quantization(self, precision: str, variant: str) -> s.Quantization:
        builtin = s.BUILTIN_QUANTIZATION[precision]
        written = self.section.quantization
        tables = _matching(self.defaults.quantization, written, precision, variant)
        merged = _merge(s.Quantization, [builtin, *tables]).written()
        # a glob may give options that only some of its variants have
        own = {option: merged[option] for option in builtin.written()}
        return s.Quantization.model_construct(set(own), **own)

    def _max_drop(self, precision: str, variant: str) -> float | None:
        allowed = None if self.section.accuracy is None else self.section.accuracy.max_drop
        return next(reversed(_matching(None, allowed, precision, variant)), None)

    def _baseline(self, precision: str, variant: str) -> Path | None:
        file = next(reversed(_matching(None, self.section.baseline, precision, variant)), None)
        return None if file is None else self.root / file


def _matching(
    defaults: Mapping[str, _V] | None, model: Mapping[str, _V] | None, precision: str, variant: str
) -> list[_V]:
    """The tables that apply to a variant, the weakest first."""
    found: list[_V] = []
    for tables in (defaults or {}, model or {}):
        found += [tables[key] for key in ("*", precision) if key in tables]
        found += [
            table
            for key, table in tables.items()
            if key not in ("*", precision) and fnmatch.fnmatchcase(variant, key)
        ]
    return found


def _tolerance(precision: str, levels: list[s.Tolerance]) -> s.Tolerance:
    """What is written; built-in thresholds where it has none of its own.

    See `sections.Tolerance.fixed` for the policy, and `replaces` for the thresholds.
    """
    policy = s.BUILTIN_TOLERANCE[precision].policy
    for level in levels:
        policy = level.policy or ("fixed" if level.fixed else policy)
    written = _merge(s.Tolerance, list(map(_replacing, levels)))
    own = {key: value for key, value in written.written().items() if value is not None}
    builtin: dict[str, Any] = {}
    if policy == "noise-floor":
        builtin = s.NOISE_FLOOR.written()
    elif not written.replaces:
        builtin = s.FIXED_TOLERANCE[precision].written()
    merged = {**builtin, **own, "policy": policy}
    return s.Tolerance.model_construct(set(merged), **merged)


def _replacing(level: s.Tolerance) -> s.Tolerance:
    """The level with what it takes off: `rel_rms` and `sqnr_db` bound the same quantity."""
    for metric, other in (("rel_rms", "sqnr_db"), ("sqnr_db", "rel_rms")):
        if isinstance(getattr(level, metric), s.Bounds) and getattr(level, other) is None:
            return level.model_copy(update={other: None})
    return level


def _merge(kind: type[_T], levels: Sequence[_T | None]) -> _T:
    merged: dict[str, Any] = {}  # of each field what its own type says
    for level in levels:
        merged.update(level.written() if level is not None else {})
    return kind.model_construct(set(merged), **merged)
