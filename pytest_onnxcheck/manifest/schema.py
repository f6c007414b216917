"""The JSON Schema of the manifest, and its reference documentation, from the sections."""

from __future__ import annotations

import json

from pydantic import BaseModel

from pytest_onnxcheck.manifest import sections as s

__all__ = ["json_schema", "reference"]

#: table in the manifest -> its section, in the order of the reference
_TABLES: dict[str, type[BaseModel]] = {
    "(top level)": s.ManifestFile,
    "[defaults] and [models.NAME]": s.Defaults,
    "[targets.NAME]": s.TargetOptions,
    "[models.NAME]": s.ModelSection,
    "[models.NAME.dims.DIM], a range": s.Span,
    "[models.NAME.inputs.INPUT]": s.Input,
    "[models.NAME.outputs.OUTPUT]": s.Output,
    "[models.NAME.tolerance.PRECISION]": s.Tolerance,
    "[models.NAME.budget.PRECISION]": s.Budget,
    "[models.NAME.quantization.PRECISION]": s.Quantization,
    "[models.NAME.calibration]": s.Calibration,
    "[models.NAME.accuracy]": s.Accuracy,
    "[models.NAME.latency]": s.Latency,
    "[models.NAME.deploy]": s.Deploy,
    "[models.NAME.release]": s.Release,
    "[models.NAME.cases.CASE]": s.CaseFile,
    "[[models.NAME.xfail]] and [[models.NAME.skip]]": s.Mark,
}


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def json_schema() -> str:
    """The JSON Schema (draft 2020-12) that editors use for completion, as shipped."""
    schema = s.ManifestFile.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2) + "\n"


def reference() -> str:
    """Every key of every table as Markdown; `docs/manifest.md` ends with it."""
    parts = []
    for title, section in _TABLES.items():
        inherited = s.Defaults.model_fields if section is s.ModelSection else {}
        rows = [
            f"| `{field.alias or name}` | {_cell(field.description)} |"
            for name, field in section.model_fields.items()
            if name not in inherited and field.description
        ]
        parts.append("\n".join([f"### `{title}`", "", "| key | meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"
