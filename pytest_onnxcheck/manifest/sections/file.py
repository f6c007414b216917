"""The file as a whole: its top level, `[defaults]` and `[models.NAME]`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from pytest_onnxcheck.manifest.sections.base import (
    Array,
    Positive,
    Section,
    Strings,
    invalid,
    numbers_by,
    unique,
)
from pytest_onnxcheck.manifest.sections.budget import Budget
from pytest_onnxcheck.manifest.sections.data import (
    Accuracy,
    Calibration,
    CaseFile,
    Input,
    Output,
    Sizes,
)
from pytest_onnxcheck.manifest.sections.deploy import Deploy
from pytest_onnxcheck.manifest.sections.quantization import Quantization
from pytest_onnxcheck.manifest.sections.release import Release
from pytest_onnxcheck.manifest.sections.runs import (
    Latency,
    Mark,
    SkippedProbe,
    TargetOptions,
    Targets,
)
from pytest_onnxcheck.manifest.sections.tolerance import Tolerance
from pytest_onnxcheck.manifest.terms import OPSETS, Cpu, Exporter, Precision, StageWord

__all__ = ["Defaults", "ManifestFile", "ModelSection"]

#: a number alone is for every stage
Timeout = Annotated[
    dict[StageWord, Positive],
    Field(min_length=1),
    BeforeValidator(numbers_by("*"), json_schema_input_type=Positive | dict[StageWord, Positive]),
]
Opset = Annotated[int, Field(ge=OPSETS[0], le=OPSETS[-1])]
Exporters = Annotated[tuple[Exporter, ...], Array, Field(min_length=1), AfterValidator(unique)]
Opsets = Annotated[tuple[Opset, ...], Array, Field(min_length=1), AfterValidator(unique)]
Precisions = Annotated[tuple[Precision, ...], Array, Field(min_length=1), AfterValidator(unique)]
Cpus = Annotated[tuple[Cpu, ...], Array, Field(min_length=1), AfterValidator(unique)]
UniqueNames = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], Array, AfterValidator(unique)
]


def _artefacts_of(value: object) -> object:
    return {"fp32": value} if isinstance(value, str) else value


def _for_all(value: object) -> object:
    if not isinstance(value, str | dict):
        raise invalid(
            f"expected 'module:function' or a table by exporter, got {value!r}: "
            '{ dynamo = "ops.py:function", torchscript = "ops.py:symbolic" }'
        )
    return dict.fromkeys(get_args(Exporter), value) if isinstance(value, str) else value


#: exporter -> function; a function alone is for all, of which a model may then have one only
Translation = Annotated[
    dict[Exporter, str],
    Field(min_length=1),
    BeforeValidator(_for_all, json_schema_input_type=str | dict[Exporter, str]),
]


class Defaults(Section):
    """What every model inherits."""

    exporters: Exporters | None = Field(None, description="`dynamo`, `torchscript`.")
    opsets: Opsets | None = Field(
        None,
        description="ONNX opset versions to export. Of a model with `onnx`, where it stands in the "
        "model itself: those of which the given files may be.",
    )
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
    required_targets: UniqueNames | None = Field(
        None, description="Targets whose absence is a failure rather than a skip."
    )
    cpus: Cpus | None = Field(
        None,
        description="CPUs that the artefacts will run on: `x86-vnni`, `x86-avx2` (x86 without "
        "VNNI, where 8-bit weights saturate) and `arm64`. int8 is made for all of them, and judged "
        "as x86 without VNNI computes it wherever the gate runs; default: all three.",
    )
    draws: Annotated[int, Field(ge=0, le=1000)] | None = Field(
        None,
        description="Seeded input draws per combination of dims. 0: none, nor anything else that "
        "is drawn; only your own inputs (`cases`, `example`) are run.",
    )
    probe_seconds: float | None = Field(
        None,
        ge=0,
        le=600,
        description="Time for inputs the plugin thinks of by itself, per model, and as much again "
        "for the sizes of `dims`, per artefact; 0 turns both off.",
    )
    trust: bool | None = Field(
        None,
        description="Unpickle checkpoints without restrictions. It can then run any code: only "
        "for files you made yourself.",
    )
    prefix: str | None = Field(
        None,
        description="What the names of the model's weights begin with in the state_dict, such as "
        '`model.` or `ema_model.`; others are ignored. `""`: no prefix, and entries whose first '
        "name the model does not have are ignored. By default the one prefix that fits. In "
        "`[defaults]`: of all models with a checkpoint.",
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
    translations: dict[str, Translation] | None = Field(
        None,
        description="What exports custom operators: `namespace::name` of a PyTorch operator and "
        "`path.py:function` or `module:function`: for the dynamo exporter a function of "
        "onnxscript's, for TorchScript a symbolic function; with both, a table of both. A model "
        "adds to `[defaults]`.",
    )
    operator_libraries: UniqueNames | None = Field(
        None,
        description="ONNX Runtime's libraries of custom operators: files relative to the manifest "
        "(`build/libmyops.so`), or modules with `get_library_path()` (`onnxruntime_extensions`).",
    )
    depends: UniqueNames | None = Field(
        None,
        description="Files that the model's code reads by itself when it is built, relative to the "
        "manifest, which artefacts are then built anew for: globs, such as `data/*.json`, each of "
        "which matches a file. A model adds to `[defaults]`.",
    )
    isolate: bool | None = Field(
        None,
        description="Whether the model is checked in a process of its own, so that a crash is a "
        "failed check (Linux). Default: where `timeout` or `memory_mb` limits it, or `onnx` gives "
        "a file, and with `--onnxcheck-isolate`.",
    )
    timeout: Timeout | None = Field(
        None,
        description="Seconds that each stage of a check may take; or a table by stage, by the "
        'words of the record (`exporting`, `comparing`, `"opening a session"`), with `"*"` for '
        "every other. A model adds to `[defaults]`. Default: 600 for one with `onnx`, else any.",
    )
    memory_mb: Positive | None = Field(
        None,
        description="MB (10^6 bytes) that the processes of the model may hold; what its libraries "
        "take counts, about 280. Default: half of the machine's for one with `onnx`, else any.",
    )
    marks: Strings | None = Field(
        None, description="pytest markers put on every check of the model."
    )


class ModelSection(Defaults):
    """One model: a PyTorch reference, its inputs and outputs, and what is allowed."""

    factory: str | None = Field(
        None,
        description="`module:callable` or `path.py:callable` returning an `nn.Module`. May be left "
        "out when the checkpoint holds the whole model (TorchScript, `.pt2`), and beside "
        "`pretrained`.",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments of the factory.")
    checkpoint: str | None = Field(
        None,
        description="state_dict (`.pt`, `.pth`, `.safetensors`), folder of `save_pretrained`, "
        "TorchScript archive or `.pt2`, "
        "relative to the manifest. A glob makes one model per match, named by the parts of "
        "the path that it leaves open: NAME-best of `runs/*.pt`, NAME-fold1 of `runs/*/best.pt`.",
    )
    pretrained: str | None = Field(
        None,
        description="Folder that `save_pretrained` wrote, relative to the manifest, in place of a "
        "checkpoint: `from_pretrained` of the factory, then a class, or else of the class of "
        "transformers that its config.json names, is called with `kwargs`, in float32 unless "
        "`kwargs.dtype` says otherwise. Nothing is downloaded.",
    )
    state_dict: str | None = Field(
        None, description="Where in the checkpoint the state_dict is; dots go deeper."
    )
    config_key: str | None = Field(
        None,
        description="Where in the checkpoint the model's config is; the factory and `shapes` "
        "receive it as `config`.",
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
        "sizes from the least to the greatest are run as well, as far as `probe_seconds` go. 0 is "
        "a size too (an empty cache); nothing is exported with it.",
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
    deploy: Deploy | None = Field(None, description="What the artefacts will run on.")
    release: Release | None = Field(
        None, description="What leaves the gate as a bundle once it has passed."
    )
    xfail: Annotated[tuple[Mark, ...], Array] = Field(
        (), description="Checks expected to fail; one that passes is reported (strict)."
    )
    skip: Annotated[tuple[Mark, ...], Array] = Field((), description="Checks that are not run.")
    skip_probes: Annotated[tuple[SkippedProbe, ...], Array] = Field(
        (),
        description="Inputs and sizes that the plugin thinks of by itself and that the model is "
        "not held to, by name, each with a reason.",
    )


class ManifestFile(Section):
    """The whole file."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    seed: int = Field(0, description="Seed of every random draw.")
    defaults: Defaults = Field(default_factory=Defaults, description="What every model inherits.")
    targets: dict[str, TargetOptions] = Field(
        default_factory=dict, description="Targets of your own, and options of built-in ones."
    )
    models: dict[str, ModelSection] = Field(description="The models, by name.")
