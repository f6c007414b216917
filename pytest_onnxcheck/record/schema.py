"""The JSON Schema of a record, from its classes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from pytest_onnxcheck.record.entry import MEASUREMENTS
from pytest_onnxcheck.record.record import FORMAT, Record
from pytest_onnxcheck.verdict import Grade

__all__ = ["json_schema", "text"]


class _AsWritten(GenerateJsonSchema):
    """Numbers and grades as `encoding` and `Entry.to_json` write them."""

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        """A number, or its name where JSON has none."""
        return {"anyOf": [super().float_schema(schema), {"enum": ["nan", "inf", "-inf"]}]}

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        """A grade by its name."""
        if schema["cls"] is Grade:
            return {"title": "Grade", "enum": [str(grade) for grade in Grade]}
        return super().enum_schema(schema)


def text() -> str:
    """The schema as text."""
    return json.dumps(json_schema(), indent=2) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `--onnxcheck-json` writes.

    What a project's own checks measure may be anything, and a hook may add keys.
    """
    schema = _of(Record)
    shared: dict[str, Any] = schema.pop("$defs")
    entry = shared["Entry"]
    entry["allOf"] = []
    for check, kind in MEASUREMENTS.items():
        measured = _of(kind)
        shared |= measured.pop("$defs", {})
        shared[kind.__name__] = measured
        entry["allOf"].append(_of_check(check, kind.__name__))
    properties = {"format": {"const": FORMAT}, **schema.pop("properties")}
    required = ["format", *schema.pop("required")]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "properties": properties,
        "required": required,
        "$defs": dict(sorted(shared.items())),
    }


def _of(kind: type[Any]) -> dict[str, Any]:
    return TypeAdapter(kind).json_schema(schema_generator=_AsWritten)


def _of_check(check: str, measurement: str) -> dict[str, object]:
    """That a check of this name has the measurement of its class, or none."""
    either = {"anyOf": [{"$ref": f"#/$defs/{measurement}"}, {"type": "null"}]}
    return {
        "if": {"properties": {"check": {"const": check}}},
        "then": {"properties": {"measurement": either}},
    }
