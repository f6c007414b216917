"""What is released of a model, and under which name."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pytest_onnxcheck.manifest.sections.base import Section, invalid
from pytest_onnxcheck.manifest.terms import FRONTIER, NAME

__all__ = ["Release"]


def _file_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise invalid(
            "may hold letters, digits and . _ + - only, and starts with a letter, a digit or _: "
            "it becomes part of a folder's name"
        )
    return value


_Name = Annotated[str, AfterValidator(_file_name)]


class Release(Section):
    """What `onnxcheck release` makes a bundle of."""

    variant: str = Field(
        FRONTIER,
        description="The variant, e.g. `dynamo-op20-fp16`; `frontier`: the one that the budgets "
        "choose (`--onnxcheck-frontier`). Variants that may be chosen have the check `release`.",
    )
    name: _Name | None = Field(
        None, description="What the bundle is called; default: the model's name."
    )
    version: _Name | None = Field(
        None,
        description="Its version, e.g. `1.4.0`. Default: the first twelve digits of the artefact's "
        "SHA-256.",
    )
    registered_model: str | None = Field(
        None,
        min_length=1,
        description="The model in MLflow's registry that a version is made of, where the bundle is "
        "published by `--onnxcheck-release=URI`.",
    )
    alias: str | None = Field(
        None, min_length=1, description="The alias that is moved to that version."
    )
