"""From the sections of the file to the models and variants the rest of the package works with.

Order of precedence: built-in < `[defaults]` < the model < the variant (tables keyed by a glob
over variant names). In the tables of one level, `"*"` < the precision < other globs. The
command line comes last and is applied by the caller.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.inheritance import matching, merged, tolerance_of
from pytest_onnxcheck.manifest.model import Model, Variant
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, Target, is_library_file
from pytest_onnxcheck.manifest.terms import variant_name

__all__ = [
    "BUILTIN_DEFAULTS",
    "drawn_sizes",
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
        deploy=section.deploy,
        deploy_target=levels.deploy_target(),
        draws=levels.inherited("draws"),
        probe_seconds=levels.inherited("probe_seconds"),
        latency=merged(s.Latency, [defaults.latency, section.latency]),
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
        operator_libraries=levels.operator_libraries(),
        depends=tuple(dict.fromkeys([*(defaults.depends or ()), *(section.depends or ())])),
        translations={**(defaults.translations or {}), **(section.translations or {})},
        inherited_translations=frozenset(
            (defaults.translations or {}).keys() - (section.translations or {}).keys()
        ),
        declared=targets,
        isolate=levels.optional("isolate"),
        timeout=dict([*(defaults.timeout or {}).items(), *(section.timeout or {}).items()]),
        memory_mb=levels.optional("memory_mb"),
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
        value = self.optional(field)
        assert value is not None, f"no built-in default for {field}"
        return value

    def optional(self, field: str) -> Any:
        """The same; None where no level has it."""
        levels = (self.section, self.defaults, BUILTIN_DEFAULTS)
        values = (getattr(level, field) for level in levels)
        return next((value for value in values if value is not None), None)

    def prefix(self) -> str | None:
        """What names begin with in the checkpoint; that of `[defaults]` only where there is one."""
        inherited = self.defaults.prefix if self.section.checkpoint is not None else None
        return inherited if self.section.prefix is None else self.section.prefix

    def operator_libraries(self) -> tuple[str, ...]:
        """Files from the manifest's folder on, and names of modules as they are."""
        written: tuple[str, ...] = self.inherited("operator_libraries")
        return tuple(str(self.root / it) if is_library_file(it) else it for it in written)

    def deploy_target(self) -> str | None:
        """The target that `deploy` asks for, unless it is among `targets` anyhow."""
        deploy = self.section.deploy
        if deploy is None or not deploy.run or deploy.target in self.inherited("targets"):
            return None
        return deploy.target

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
        name = variant_name(exporter, opset, precision)
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
        tables = matching(self.defaults.tolerance, self.section.tolerance, precision, variant)
        return tolerance_of(precision, tables)

    def _budget(self, precision: str, variant: str) -> s.Budget:
        tables = matching(self.defaults.budget, self.section.budget, precision, variant)
        return merged(s.Budget, tables)

    def _quantization(self, precision: str, variant: str) -> s.Quantization:
        builtin = s.BUILTIN_QUANTIZATION[precision]
        written = self.section.quantization
        tables = matching(self.defaults.quantization, written, precision, variant)
        found = merged(s.Quantization, [builtin, *tables]).written()
        # a glob may give options that only some of its variants have
        own = {option: found[option] for option in builtin.written()}
        return s.Quantization.model_construct(set(own), **own)

    def _max_drop(self, precision: str, variant: str) -> float | None:
        allowed = None if self.section.accuracy is None else self.section.accuracy.max_drop
        return next(reversed(matching(None, allowed, precision, variant)), None)

    def _baseline(self, precision: str, variant: str) -> Path | None:
        file = next(reversed(matching(None, self.section.baseline, precision, variant)), None)
        return None if file is None else self.root / file
