"""What the API takes and gives, as OpenAPI describes it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from pytest_onnxcheck.manifest.terms import OPSETS, Exporter, Precision
from pytest_onnxcheck.serve.jobs.job import BATCHES, Kind, State

__all__ = [
    *("ArtefactInfo", "CheckpointInfo", "ExportOptions", "FileInfo", "JobFile", "JobFiles"),
    *("JobInfo", "JobList", "LogLine", "LogLines", "ModelInfo", "ModelList", "ModelSummary"),
    *("ReleaseOptions", "RunOptions", "UploadInfo"),
]

_EXAMPLE_JOB: dict[str, Any] = {
    "id": "7-3f9a1c55",
    "kind": "export",
    "model": "wakeword-resnet18",
    "state": "running",
    "options": {"precisions": ["fp32", "int8-static"]},
    "created": "2026-12-01T10:15:00+00:00",
    "started": "2026-12-01T10:15:01+00:00",
    "ended": None,
    "worker": "build-1:4711",
    "progress": 0.5,
    "stage": "exporting",
    "result": None,
    "error": None,
}


def _whole(value: object) -> object:
    """A number without a fraction as an integer: JSON has but one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Opset = Annotated[int, Field(ge=OPSETS[0], le=OPSETS[-1]), BeforeValidator(_whole)]
Batch = Annotated[int, Field(ge=BATCHES[0], le=BATCHES[-1]), BeforeValidator(_whole)]


def _example(**fields: Any) -> ConfigDict:
    """A model's configuration with an example of it, for OpenAPI."""
    return ConfigDict(json_schema_extra={"example": fields})


class _Given(BaseModel):
    """What a client sends: no unknown key, and no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ReleaseOptions(_Given):
    """Nothing: a release takes the model as the manifest has it."""

    model_config = _example()


class RunOptions(_Given):
    """What of a model is looked at; by default all that the manifest has."""

    model_config = _example(precisions=["fp32", "int8-static"])

    checkpoint: str | None = Field(
        None,
        description="Weights in place of the manifest's: a name of the model's `checkpoints`.",
        min_length=1,
        max_length=1024,
    )
    exporter: Exporter | None = Field(None, description="Default: the manifest's.")
    opset: Opset | None = Field(None, description="Default: the manifest's.")
    precisions: list[Precision] = Field(
        default=[],
        max_length=16,
        description="Default: the manifest's.",
        examples=[["fp32", "fp16", "int8-static"]],
    )


class ExportOptions(RunOptions):
    """How a model is exported; by default as the manifest says."""

    model_config = _example(exporter="torchscript", precisions=["fp32", "fp16"], opset=20)

    dynamic: bool = Field(True, description="Whether symbolic dims stay so, or have one size.")
    batch_size: Batch | None = Field(
        None, description="The batch to export with; the only one where not `dynamic`."
    )


class FileInfo(BaseModel):
    """A file of an artefact."""

    name: str
    size_bytes: int
    sha256: str = Field(description="SHA-256 in hex; the ETag of its download.")
    url: str = Field(description="Where it is downloaded.")


class ArtefactInfo(BaseModel):
    """An ONNX file that was exported, and passed its checks."""

    model_config = _example(
        variant="dynamo-op20-fp16",
        precision="fp16",
        checkpoint="checkpoints/wakeword.pt",
        dynamic=True,
        batch_size=None,
        size_bytes=360342,
        size_ratio=0.506,
        grade="pass",
        job="7-3f9a1c55",
        created="2026-12-01T10:15:09+00:00",
        url="/api/models/wakeword-resnet18/artefact/dynamo-op20-fp16?checkpoint=checkpoints%2F"
        "wakeword.pt",
        files=[],
    )

    variant: str = Field(examples=["dynamo-op20-int8-static"])
    precision: str
    checkpoint: str | None = Field(
        description="The name of the checkpoint that it is of; null where the model has none."
    )
    dynamic: bool = Field(description="Whether its sizes are open, or it takes one of each dim.")
    batch_size: int | None = Field(
        description="The batch that was asked for, where not `dynamic`; null: the manifest's first."
    )
    size_bytes: int = Field(description="External data included.")
    size_ratio: float | None = Field(description="As a share of the fp32 artefact's.")
    grade: str | None = Field(description="`pass` or `warn`; null where it was not checked.")
    job: str = Field(description="The job that exported it.")
    created: str
    url: str = Field(description="Its download: the .onnx, or with external data a .zip.")
    files: list[FileInfo]


class CheckpointInfo(BaseModel):
    """A file that weights can come from."""

    name: str
    size_bytes: int
    modified: str
    uploaded: bool


class VariantInfo(BaseModel):
    """What the last run found of a variant."""

    variant: str
    verdict: str = Field(description="pass, warn, FAIL, partial, skip, xfail or XPASS.")


class ModelSummary(BaseModel):
    """A model, and where it stands."""

    model_config = _example(
        name="wakeword-resnet18",
        has_onnx=True,
        onnx_size_bytes=712645,
        precisions=["fp32", "fp16", "int8-static"],
        exported=["fp32", "fp16"],
        verdict="pass",
        when="2026-12-01T10:17:00+00:00",
    )

    name: str = Field(examples=["wakeword-resnet18"])
    has_onnx: bool = Field(description="Whether anything of it was exported here.")
    onnx_size_bytes: int | None = Field(description="Of the fp32 artefact, or the first.")
    precisions: list[str] = Field(description="Those of the manifest.")
    exported: list[str] = Field(description="Precisions that were exported here.")
    verdict: str | None = Field(description="The worst of the last run; null without one.")
    when: str | None = Field(description="When that run was.")


class ModelInfo(ModelSummary):
    """All that is known of a model."""

    model_config = ConfigDict(json_schema_extra={})

    section: str = Field(description="Its table in the manifest.")
    checkpoints: list[CheckpointInfo] = Field(description="The newest first.")
    variants: list[str] = Field(description="Those of the manifest.")
    verdicts: list[VariantInfo]
    job: str | None = Field(description="The job that found the verdicts.")
    artefacts: list[ArtefactInfo]


class ModelList(BaseModel):
    """The models of the manifest."""

    models: list[ModelSummary]
    problems: list[str] = Field(description="What is wrong with models that are left out.")


class JobInfo(BaseModel):
    """A job."""

    model_config = _example(**_EXAMPLE_JOB)

    id: str
    kind: Kind
    model: str
    options: dict[str, Any]
    state: State = Field(
        description="done: it was carried out, and may be red, as `result.verdict` says; "
        "cut_off: its worker ended while it ran."
    )
    created: str
    started: str | None
    ended: str | None
    worker: str | None = Field(description="Who runs or ran it.")
    progress: float | None = Field(description="From 0 to 1; null where it is not known.")
    stage: str | None = Field(description="What it does now.")
    result: dict[str, Any] | None = Field(
        description="Of an export what `onnxcheck export --json` prints, its checkpoint by the "
        "path from the manifest's folder; else verdict, counts and failures. Other paths in it are "
        "names of the job's files."
    )
    error: str | None = Field(description="Why it failed, and what to do.")


class JobList(BaseModel):
    """Jobs, the newest first."""

    jobs: list[JobInfo]


class LogLine(BaseModel):
    """A line of a job's log."""

    model_config = _example(
        number=3, time="2026-12-01T10:15:02.467+00:00", text="exporting mlp::dynamo-op20-fp32"
    )

    number: int
    time: str = Field(description="UTC, ISO 8601.")
    text: str


class LogLines(BaseModel):
    """Lines of a job's log."""

    lines: list[LogLine]


class JobFile(BaseModel):
    """A file that a job left."""

    name: str = Field(examples=["report.html"])
    size_bytes: int
    url: str


class JobFiles(BaseModel):
    """The files that a job left."""

    files: list[JobFile]


class UploadInfo(BaseModel):
    """A checkpoint that was sent."""

    model_config = _example(
        name="wakeword-resnet18-8bdd47ec0efa",
        size_bytes=747787,
        sha256="8bdd47ec0efa258428d37fbf38347d5e2b11a2738abb87d890062efbd8230366",
        format="torch",
        state_dicts=["model_state_dict"],
    )

    name: str = Field(description="What an export names it by, as `checkpoint`.")
    size_bytes: int
    sha256: str
    format: Literal["safetensors", "torch"]
    state_dicts: list[str] = Field(description="Keys of state_dicts; an empty one: the file.")
