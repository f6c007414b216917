"""The JSON Schema of the record, from its typed classes and what their docstrings say."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from pytest_onnxcheck.record.entry import MEASUREMENTS, needed
from pytest_onnxcheck.record.record import FORMAT, Record
from pytest_onnxcheck.verdict import Grade

__all__ = ["json_schema", "text"]

Schema = dict[str, Any]

_REFERENCE = "#/$defs/{model}"

#: a number, or one that JSON cannot hold
_NUMBER = {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}

_NAN = "JSON has no NaN and no infinity: they are texts."

#: `name: text`, and the lines that go on
_ATTRIBUTE = re.compile(r"^(\w+): (.+(?:\n {4,}.+)*)", re.MULTILINE)


class _Generator(GenerateJsonSchema):
    """What the record's encoding makes of numbers and grades."""

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        """NaN and infinity are texts."""
        return dict(_NUMBER)

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        """The only enumeration is `Grade`, written by its name."""
        return {"enum": [str(grade) for grade in Grade]}


def text() -> str:
    """The schema as `record.schema.json` has it."""
    return json.dumps(json_schema(), indent=1) + "\n"


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a record in the format that is written today.

    Keys that a project's hook adds are allowed. A key that has a default may be missing, as it is
    in records of earlier versions.
    """
    schema: Schema = TypeAdapter(Record).json_schema(
        ref_template=_REFERENCE, schema_generator=_Generator
    )
    definitions: Schema = schema.pop("$defs")
    for kind in MEASUREMENTS.values():
        made = TypeAdapter(kind).json_schema(ref_template=_REFERENCE, schema_generator=_Generator)
        definitions |= made.pop("$defs", {})
        definitions[kind.__name__] = made
    classes = {kind.__name__: kind for kind in _classes(Record, *MEASUREMENTS.values())}
    for name, definition in definitions.items():
        if name in classes:
            _describe(definition, classes[name])
    _describe(schema, Record)
    _measure(definitions["Entry"])
    version = {"const": FORMAT, "description": "Version of the record's format."}
    schema["properties"] = {"format": version, **schema["properties"]}
    schema["required"] = ["format", *schema["required"]]
    definitions["Number"] = {"description": _NAN, **_NUMBER}
    found: Schema = _shortened(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:pytest-onnxcheck:record:{FORMAT}",
            **schema,
            "$defs": dict(sorted(definitions.items())),
        }
    )
    return found


def _shortened(value: Any) -> Any:
    """The same with one definition of what a number is."""
    if isinstance(value, list):
        return [_shortened(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    if value.get("anyOf") == _NUMBER["anyOf"] and value.get("description") != _NAN:
        rest = {key: entry for key, entry in value.items() if key != "anyOf"}
        return {"$ref": _REFERENCE.format(model="Number"), **rest}
    return {key: _shortened(entry) for key, entry in value.items()}


def _classes(*found: type[Any]) -> Iterator[type[Any]]:
    """Dataclasses, with those in their fields."""
    for kind in found:
        yield kind
        for hint in get_type_hints(kind).values():
            yield from _classes(*_dataclasses(hint))


def _dataclasses(hint: Any) -> Iterator[type[Any]]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for argument in get_args(hint):
        yield from _dataclasses(argument)


def _describe(definition: Schema, kind: type[Any]) -> None:
    """Puts what the class's docstring says of each field into its schema."""
    doc = inspect.getdoc(kind) or ""
    definition["description"] = _joined(doc.partition("\n")[0])
    told = attributes(kind)
    for name, value in definition["properties"].items():
        value.pop("title", None)
        value.pop("default", None)
        if name in told:
            value["description"] = told[name]
    for name in getattr(kind, "DERIVED", ()):
        value = getattr(kind, name)
        returned = TypeAdapter(get_type_hints(value.fget)["return"])
        definition["properties"][name] = {
            **returned.json_schema(schema_generator=_Generator),
            "description": _joined((value.__doc__ or "").partition("\n\n")[0]),
        }
    definition.pop("title", None)


def attributes(kind: type[Any]) -> dict[str, str]:
    """What a class's docstring, and those of its bases, say of its fields under `Attributes:`."""
    told: dict[str, str] = {}
    for each in reversed(kind.__mro__[:-1]):
        section = inspect.cleandoc(each.__doc__ or "").partition("Attributes:\n")[2]
        found = _ATTRIBUTE.findall(textwrap.dedent(section))
        told |= {name: _joined(text) for name, text in found}
    return told


def _joined(lines: str) -> str:
    return " ".join(lines.split())


def _measure(entry: Schema) -> None:
    """Says which check measures what; a check that a project has changed measures its own.

    The reader tells the two apart likewise: by the fields that the check's own class always has.
    """
    entry["properties"]["measurement"].pop("anyOf", None)
    entry["allOf"] = [
        {
            "if": {"properties": {"check": {"const": check}}},
            "then": {
                "properties": {
                    "measurement": {
                        "anyOf": [
                            {"type": "null"},
                            {"$ref": _REFERENCE.format(model=kind.__name__)},
                            {"type": "object", "not": {"required": sorted(needed(kind))}},
                        ]
                    }
                }
            },
        }
        for check, kind in MEASUREMENTS.items()
    ]
