"""The file as a whole: its top level, `[defaults]` and `[models.NAME]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from pytest_onnxcheck.manifest.sections.base import Array, Section, Strings, unique
from pytest_onnxcheck.manifest.sections.budget import Budget
from pytest_onnxcheck.manifest.sections.data import (
    Accuracy,
    Calibration,
    CaseFile,
    Input,
    Output,
    Sizes,
)
from pytest_onnxcheck.manifest.sections.quantization import Quantization
from pytest_onnxcheck.manifest.sections.runs import Latency, Mark, TargetOptions, Targets
from pytest_onnxcheck.manifest.sections.tolerance import Tolerance
from pytest_onnxcheck.manifest.terms import Cpu, Exporter, Precision

__all__ = ["Defaults", "ManifestFile", "ModelSection"]

Opset = Annotated[int, Field(ge=9, le=30)]
Exporters = Annotated[tuple[Exporter, ...], Array, Field(min_length=1), AfterValidator(unique)]
Opsets = Annotated[tuple[Opset, ...], Array, Field(min_length=1), AfterValidator(unique)]
Precisions = Annotated[tuple[Precision, ...], Array, Field(min_length=1), AfterValidator(unique)]
Cpus = Annotated[tuple[Cpu, ...], Array, Field(min_length=1), AfterValidator(unique)]
AnyTargets = Annotated[tuple[str, ...], Array, AfterValidator(unique)]


def _artefacts_of(value: object) -> object:
    return {"fp32": value} if isinstance(value, str) else value


class Defaults(Section):
    """What every model inherits."""

    exporters: Exporters | None = Field(None, description="`dynamo`, `torchscript`.")
    opsets: Opsets | None = Field(None, description="ONNX opset versions to export.")
    precisions: Precisions | None = Field(
        None,
        description="`fp32`, `fp16`, `bf16`, `half` (the module itself cast to float16), "
        "`int8-dynamic`, `int8-static`, `int4-weight`.",
    )
    targets: Targets | None = Field(
        None,
        description="What runs the artefacts: `cpu`, `cuda`, `tensorrt`, `openvino`, `reference` "
        "(onnx's own evaluator, for tiny models), or a table `[targets.NAME]`.",
    )
    required_targets: AnyTargets | None = Field(
        None, description="Targets whose absence is a failure rather than a skip."
    )
    cpus: Cpus | None = Field(
        None,
        description="CPUs that the artefacts will run on: `x86-vnni`, `x86-avx2` (x86 without "
        "VNNI, where 8-bit weights saturate) and `arm64`. int8 is made for all of them, and judged "
        "as x86 without VNNI computes it wherever the gate runs; default: all three.",
    )
    draws: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Seeded input draws per combination of dims."
    )
    probe_seconds: float | None = Field(
        None,
        ge=0,
        le=600,
        description="Time for inputs the plugin thinks of by itself, per model, and as much again "
        "for the sizes of `dims`, per artefact; 0 turns both off.",
    )
    tolerance: dict[str, Tolerance] | None = Field(
        None, description="Tolerances by precision, or by a glob over variant names."
    )
    budget: dict[str, Budget] | None = Field(
        None, description="Budgets by precision, or by a glob over variant names."
    )
    quantization: dict[str, Quantization] | None = Field(
        None, description="Options by precision, or by a glob over variant names."
    )
    latency: Latency | None = Field(None, description="How speed is measured.")
    marks: Strings | None = Field(
        None, description="pytest markers put on every check of the model."
    )


class ModelSection(Defaults):
    """One model: a PyTorch reference, its inputs and outputs, and what is allowed."""

    factory: str | None = Field(
        None,
        description="`module:callable` or `path.py:callable` returning an `nn.Module`. May be left "
        "out when the checkpoint holds the whole model (TorchScript, `.pt2`).",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments of the factory.")
    checkpoint: str | None = Field(
        None,
        description="state_dict (`.pt`, `.pth`, `.safetensors`), TorchScript archive or `.pt2`, "
        "relative to the manifest. A glob makes one model per match, named NAME-STEM.",
    )
    state_dict: str | None = Field(
        None, description="Where in the checkpoint the state_dict is; dots go deeper."
    )
    prefix: str | None = Field(
        None,
        description="What the names of the model's weights begin with in the state_dict, such as "
        '`model.` or `ema_model.`; others are ignored. `""`: no prefix, and entries whose first '
        "name the model does not have are ignored. By default the one prefix that fits.",
    )
    config_key: str | None = Field(
        None,
        description="Where in the checkpoint the model's config is; the factory and `shapes` "
        "receive it as `config`.",
    )
    trust: bool = Field(
        False,
        description="Unpickle the checkpoint without restrictions. It can then run any code: only "
        "for files you made yourself.",
    )
    shapes: str | None = Field(
        None,
        description="`module:callable` that takes `config` and returns the inputs' shapes by name.",
    )
    onnx: (
        Annotated[
            dict[Precision, str],
            Field(min_length=1),
            BeforeValidator(_artefacts_of, json_schema_input_type=str | dict[Precision, str]),
        ]
        | None
    ) = Field(
        None,
        description="Validation only: an existing artefact, or one per precision; nothing is "
        "exported.",
    )
    dims: dict[str, Sizes] = Field(
        default_factory=dict,
        description="Symbolic dims, exported as dynamic: the sizes to draw inputs of, `[1, 2, 8]`, "
        "or a range, `{ from = 16, to = 512 }`, of which the ends and one between are drawn. All "
        "sizes from the least to the greatest are run as well, as far as `probe_seconds` go.",
    )
    example: str | None = Field(
        None,
        description="`.npz` with the inputs to export with, one array per input in full shape; "
        "compared as a case too. Default: a seeded draw.",
    )
    seed: int | None = Field(None, description="Seed of weights and inputs; default: the file's.")
    inputs: dict[str, Input] = Field(description="Inputs by name.", min_length=1)
    outputs: dict[str, Output] = Field(description="Outputs by name.", min_length=1)
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Constant arguments of `forward`, by parameter or path: "
        "`{ use_cache = false, offset = 2 }`. What should be `None` is left out.",
    )
    containers: dict[str, str] = Field(
        default_factory=dict,
        description="What holds the inputs whose paths begin so: `list`, `tuple`, `dict`, or "
        "`module:class`, which takes its fields by name; also transformers' caches. Default: as "
        "forward's annotations say, else a list of numbers and a dict of names.",
    )
    cases: dict[str, CaseFile] = Field(
        default_factory=dict, description="Inputs of your own, by case name."
    )
    calibration: Calibration | None = Field(None, description="Calibration data of int8-static.")
    accuracy: Accuracy | None = Field(None, description="A task metric on labelled data.")
    baseline: (
        Annotated[
            dict[str, str],
            Field(min_length=1),
            BeforeValidator(_artefacts_of, json_schema_input_type=str | dict[str, str]),
        ]
        | None
    ) = Field(
        None,
        description="The previous release's `.onnx`, timed beside this one's for "
        "`max_regression`: one (of `fp32`), or one per precision or glob over variant names.",
    )
    xfail: Annotated[tuple[Mark, ...], Array] = Field(
        (), description="Checks expected to fail; one that passes is reported (strict)."
    )
    skip: Annotated[tuple[Mark, ...], Array] = Field((), description="Checks that are not run.")


class ManifestFile(Section):
    """The whole file."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    seed: int = Field(0, description="Seed of every random draw.")
    defaults: Defaults = Field(default_factory=Defaults, description="What every model inherits.")
    targets: dict[str, TargetOptions] = Field(
        default_factory=dict, description="Targets of your own, and options of built-in ones."
    )
    models: dict[str, ModelSection] = Field(description="The models, by name.")
