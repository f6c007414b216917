"""How artefacts are run: targets, how speed is measured, what is skipped or expected to fail."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pytest_onnxcheck.manifest.sections.base import (
    Array,
    DimSize,
    Section,
    Strings,
    invalid,
    unique,
)
from pytest_onnxcheck.manifest.terms import Check

__all__ = ["SESSION_SETTINGS", "Latency", "Mark", "SkippedProbe", "TargetOptions", "Targets"]

# names of targets are checked in `rules`: the manifest and a hook may declare more
Targets = Annotated[tuple[str, ...], Array, Field(min_length=1), AfterValidator(unique)]

#: settings of `onnxruntime.SessionOptions` that are no config entries -> what they may be
SESSION_SETTINGS: dict[str, tuple[object, ...] | type] = {
    "graph_optimization_level": ("disable", "basic", "extended", "layout", "all"),
    "intra_op_num_threads": int,
    "inter_op_num_threads": int,
    "enable_cpu_mem_arena": bool,
    "enable_mem_pattern": bool,
}


def _option_of(value: object) -> object:
    if not isinstance(value, str | int | float):
        raise invalid(
            f"expected a string, a number, true or false, got {value!r}: put option names that "
            'hold dots into quotes, e.g. "session.intra_op.allow_spinning" = "0"'
        )
    return value


def _requirement(value: object) -> object:
    if not isinstance(value, str) or not value[:1].isalnum():
        raise invalid(
            f"expected a package as pip takes it, e.g. onnxruntime==1.20.1, got {value!r}"
        )
    return value


Requirements = Annotated[
    tuple[Annotated[str, BeforeValidator(_requirement)], ...],
    Array,
    Field(min_length=1),
    AfterValidator(unique),
]

Options = dict[str, Annotated[str | bool | int | float, BeforeValidator(_option_of)]]


class Latency(Section):
    """How speed is measured."""

    dims: Annotated[tuple[dict[str, DimSize], ...], Array] | None = Field(
        None,
        description="The points to measure, e.g. `[{ batch = 1 }, { batch = 8 }]`. Default: each "
        "value of the first symbolic dim but 0, the others at their first value; with `draws = "
        "0` one point, the first of your own inputs.",
    )
    seconds: float = Field(
        2.0,
        gt=0,
        le=600,
        description="Usual time for one point; a quarter or half of it where that decides it.",
    )
    longest: float = Field(
        6.0,
        gt=0,
        le=600,
        description="Time for one point that is too close to tell after the usual time.",
    )
    threads: int = Field(
        1,
        ge=1,
        description="Threads of PyTorch and of ONNX Runtime alike. More than one measure less "
        "exactly.",
    )
    boundary: Literal["host", "device"] = Field(
        "host",
        description="What is inside a timed call on a GPU: the way from the host's memory and "
        "back, or nothing but the run (`device`).",
    )
    cuda_graph: bool = Field(
        False,
        description="Whether ONNX Runtime captures the run as a CUDA graph and replays it; for "
        'targets with CUDA or TensorRT, with `boundary = "device"`.',
    )


class Mark(Section):
    """An expected failure or a skip, with its reason."""

    reason: Annotated[str, Field(min_length=1)] = Field(description="Why; shown in the report.")
    checks: Annotated[tuple[Check, ...], Array] | None = Field(
        None, description="Which checks; default: all."
    )
    variants: Strings | None = Field(
        None, description="Globs over variant names, e.g. `*-int8-static`; default: all."
    )
    targets: Targets | None = Field(None, description="Only on these targets; default: all.")


class SkippedProbe(Section):
    """Probes that are left out, with the reason."""

    name: Annotated[str, Field(min_length=1)] = Field(
        description="Glob over the names of probes and swept sizes, as a failure prints them or "
        "without `probe:` and `sweep:`, e.g. `normal x1000*` or `sweep:length=17*`."
    )
    reason: Annotated[str, Field(min_length=1)] = Field(description="Why; shown in the report.")


class TargetOptions(Section):
    """What runs artefacts: a new target, or options of a built-in one."""

    provider: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="ONNX Runtime's execution provider, e.g. `QNNExecutionProvider`, or "
        "`ReferenceEvaluator`; default: by the name of a built-in target.",
    )
    provider_options: Options | None = Field(
        None, description='Options of the provider, e.g. `{ device_type = "GPU" }` for OpenVINO.'
    )
    session_options: Options | None = Field(
        None,
        description='Session config entries by their full name, e.g. `"session.'
        'disable_prepacking" = "1"`, and `graph_optimization_level` (`disable`, `basic`, '
        "`extended`, `layout`, `all`), `intra_op_num_threads`, `inter_op_num_threads` (not where "
        "speed is measured: `latency.threads` sets them there), `enable_cpu_mem_arena`, "
        "`enable_mem_pattern`.",
    )
    python: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="The interpreter of another environment, whose onnxruntime runs it, e.g. "
        "`.venv-old/bin/python`, relative to the manifest; with `environment` the one that makes "
        "it.",
    )
    environment: Requirements | None = Field(
        None,
        description="Packages of an environment that is made for it and kept, e.g. "
        '`["onnxruntime==1.20.1"]`.',
    )
    runtime: Literal["onnxruntime-node", "onnxruntime-web"] | None = Field(
        None,
        description="ONNX Runtime in JavaScript, in place of Python's: `onnxruntime-node`, or "
        "`onnxruntime-web` (WebAssembly) in node.",
    )
    browser: Literal["chromium"] | None = Field(
        None,
        description="The browser in which onnxruntime-web runs, on a page of its own; with "
        '`provider = "WebGpuExecutionProvider"` on WebGPU.',
    )
    torch_device: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Where PyTorch is timed beside it, e.g. `cuda`; default: `cuda` for CUDA and "
        "TensorRT, else `cpu`.",
    )

    @property
    def elsewhere(self) -> bool:
        """Whether it names another environment."""
        named = (self.python, self.environment, self.runtime, self.browser)
        return any(each is not None for each in named)
