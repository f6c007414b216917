"""The JSON Schema of `metadata.json`, from the class."""

from __future__ import annotations

import json

from pydantic import TypeAdapter

from pytest_onnxcheck.release.metadata import Metadata

__all__ = ["metadata_schema"]


def metadata_schema() -> str:
    """The JSON Schema (draft 2020-12) of `metadata.json`, as shipped beside this module."""
    schema = TypeAdapter(Metadata).json_schema(mode="serialization")
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
    return json.dumps(schema, indent=2) + "\n"
