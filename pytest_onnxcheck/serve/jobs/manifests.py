"""What pytest is asked to check for a job: variants of the manifest, or of one made for the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_onnxcheck.serve.jobs.job import Options

__all__ = ["job_manifest", "node_ids", "write_manifest"]


def job_manifest(manifest: Path, job: str) -> Path:
    """Where the manifest of a job is while the job runs: beside the other, so that paths hold."""
    return manifest.with_name(f".onnxcheck-{job}.toml")


def node_ids(manifest: Path, model: str, options: Options) -> list[str] | None:
    """The variants that are asked for, as arguments of pytest; None where it has not all of them.

    Args:
        manifest: The manifest; the ids begin with its name.
        model: The model.
        options: What is asked for; without any, all that the manifest has.

    Raises:
        ManifestError: The manifest is wrong.
    """
    from pytest_onnxcheck.manifest import load_manifest

    known = load_manifest(manifest).models[model]
    if options.checkpoint is not None:
        own = known.checkpoint or known.pretrained
        asked = manifest.parent / options.checkpoint
        if own is None or own.resolve() != asked.resolve():
            return None
    if (options.exporter, options.opset, options.precisions) == (None, None, ()):
        return [f"{manifest.name}::{model}"]
    wanted = {known.variant(*each).name for each in _recipes(known, options)}
    if not wanted <= {variant.name for variant in known.variants}:
        return None
    return [
        f"{manifest.name}::{model}::{variant.name}"
        for variant in known.variants
        if variant.name in wanted
    ]


def write_manifest(path: Path, manifest: Path, model: str, options: Options) -> str:
    """Writes a manifest that has what is asked for.

    It has that one model, as the manifest has it, with other checkpoint and variants. What names a
    variant to release or to deploy is left out: nothing is released by it.

    Returns:
        The model's name there.

    Raises:
        ManifestError: The manifest is wrong.
        OSError: The file cannot be written.
    """
    import tomlkit

    from pytest_onnxcheck.files import write_atomically
    from pytest_onnxcheck.manifest import load_manifest

    known = load_manifest(manifest).models[model]
    document = tomlkit.parse(manifest.read_text(encoding="utf-8"))
    models: Any = document["models"]
    for name in [name for name in models if name != known.section]:
        del models[name]
    table = models[known.section]
    recipes = _recipes(known, options)
    table["exporters"], table["opsets"], table["precisions"] = (
        list(dict.fromkeys(recipe[place] for recipe in recipes)) for place in range(3)
    )
    for name in ("release", "deploy", "onnx"):
        table.pop(name, None)
    checkpoint = known.checkpoint if options.checkpoint is None else Path(options.checkpoint)
    if checkpoint is not None:
        table["checkpoint" if known.pretrained is None else "pretrained"] = str(checkpoint)
    write_atomically(path, tomlkit.dumps(document))
    return known.section


def _recipes(known: Any, options: Options) -> list[tuple[str, int | None, str]]:
    """Exporter, opset and precision of each variant; what nobody asks for is the manifest's."""
    exported = [variant for variant in known.variants if variant.file is None]
    exporters = [options.exporter] if options.exporter else _each(exported, "exporter", "dynamo")
    opsets = [options.opset] if options.opset else _each(exported, "opset", 20)
    precisions = options.precisions or _each(exported, "precision", "fp32")
    return [
        (exporter, opset, precision)
        for exporter in exporters
        for opset in opsets
        for precision in precisions
    ]


def _each(variants: list[Any], name: str, otherwise: Any) -> list[Any]:
    return list(dict.fromkeys(getattr(variant, name) for variant in variants)) or [otherwise]
