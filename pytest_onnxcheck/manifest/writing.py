"""TOML to be put into a manifest, so that a variant is as it was tried."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pytest_onnxcheck.manifest.model import Model, Variant
from pytest_onnxcheck.manifest.sections import BUILTIN_QUANTIZATION

__all__ = ["needed_options", "quantization_table", "table_name", "variant_toml"]


def variant_toml(model: Model, variant: Variant) -> str:
    """What the manifest must say for a variant to be one of the model's.

    The model's own table is named in a comment, since it is there already; what is left can be put
    at the manifest's end.
    """
    if variant.precision in (each.precision for each in model.variants):
        lines = [f"# already in the manifest: {variant.precision}"]
    else:
        precisions = json.dumps(["fp32", variant.precision])
        lines = [f"# in [{table_name(model)}] set precisions = {precisions}"]
    own = model.variant(variant.exporter, variant.opset, variant.precision).quantization
    needed = needed_options(variant).items()
    options = {name: value for name, value in needed if value != getattr(own, name)}
    if options:
        lines.append(quantization_table(model, variant, options))
    return "\n".join(lines)


def needed_options(variant: Variant) -> dict[str, object]:
    """The options a manifest must name for a variant: those that are not built in."""
    builtin = BUILTIN_QUANTIZATION[variant.precision]
    values = {
        name: getattr(variant.quantization, name)
        for name in sorted(builtin.model_fields_set)
        if getattr(variant.quantization, name) != getattr(builtin, name)
    }
    if variant.quantization.method != "percentile":
        values.pop("percentile", None)
    return values


def quantization_table(model: Model, variant: Variant, options: Mapping[str, object]) -> str:
    """The table that gives a variant these options, to be put at the end of the manifest.

    It is the variant's own: names of nodes are those of one exporter and opset, and it outranks
    the tables before it. Where it is there it is named in a comment: a second one is an error.
    """
    header = f"[{table_name(model)}.quantization.{variant.name}]"
    there = variant.name in model.quantization
    # strings, booleans, numbers and arrays of strings are written alike in JSON
    lines = (f"{name} = {json.dumps(value)}" for name, value in options.items())
    return "\n".join([f"# in {header}:" if there else header, *lines])


def table_name(model: Model) -> str:
    """The model's table in the manifest, quoted where TOML asks for it."""
    bare = re.fullmatch(r"[A-Za-z0-9_-]+", model.section)
    return f"models.{model.section if bare else json.dumps(model.section)}"
