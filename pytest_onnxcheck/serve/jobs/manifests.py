"""What a job is made of: a model of the manifest, and what pytest is asked to check of it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.serve.jobs.job import JobError, Options

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest import Model, Variant
    from pytest_onnxcheck.manifest.positions import KeyPath

__all__ = ["find_model", "job_manifest", "node_ids", "write_manifest"]

#: keys of a model and of `[defaults]` whose entries choose variants or targets
_CHOOSING = (
    *("tolerance", "budget", "quantization", "baseline"),
    *("xfail", "skip", "targets", "required_targets"),
)
#: tables and arrays that may not be empty, and mean what is built in when they are left out
_NEVER_EMPTY = (("baseline",), ("targets",), ("accuracy", "max_drop"))


def find_model(manifest: Path, kind: str, name: str, options: Options) -> Model:
    """The model of a job, where there can be such a job of it.

    It is looked for when the job is asked for, and again when it begins: what was there then may be
    gone.

    Args:
        manifest: The manifest.
        kind: The kind of job.
        name: The model's name.
        options: What is asked for beyond the manifest.

    Raises:
        JobError: There is no such model or checkpoint, or the manifest does not allow the job.
        ManifestError: The manifest is wrong.
    """
    from pytest_onnxcheck.files import not_found
    from pytest_onnxcheck.manifest import load_manifest
    from pytest_onnxcheck.manifest.writing import table_name
    from pytest_onnxcheck.wording import meant

    read = load_manifest(manifest)
    if name not in read.models:
        if name in read.lines:
            read.check()
        raise JobError(
            f"{manifest.name} has no model {name!r}{meant(name, read.models)}: it has "
            f"{', '.join(read.models) or 'none that is right'}"
        )
    model = read.models[name]
    if kind == "release" and model.release is None:
        raise JobError(
            f"{name} is not released: write a table [{table_name(model)}.release] into "
            f"{manifest.name}"
        )
    if options.checkpoint is not None:
        path = manifest.parent / options.checkpoint
        if not path.exists():
            raise JobError(f"checkpoint: {not_found(path)}")
    given = [variant.precision for variant in _given(model, options)]
    missing = [precision for precision in options.precisions if precision not in given]
    if kind != "export" and given and missing:
        raise JobError(
            f"precisions: {manifest.name} gives the files of {name} for {', '.join(given)}, and "
            f"none for {', '.join(missing)}: ask for those by themselves, or name an exporter to "
            "have all of them exported"
        )
    return model


def job_manifest(manifest: Path, job: str) -> Path:
    """Where the manifest of a job is while the job runs: beside the other, so that paths hold."""
    return manifest.with_name(f".onnxcheck-{job}.toml")


def node_ids(manifest: Path, model: Model, options: Options) -> list[str] | None:
    """The variants that are asked for, as arguments of pytest; None where it has not all of them.

    Args:
        manifest: The manifest; the ids begin with its name.
        model: The model.
        options: What is asked for; without any, all that the manifest has.
    """
    if options.checkpoint is not None:
        own = model.checkpoint or model.pretrained
        asked = manifest.parent / options.checkpoint
        if own is None or own.resolve() != asked.resolve():
            return None
    if (options.exporter, options.opset, options.precisions) == (None, None, ()):
        return [f"{manifest.name}::{model.name}"]
    found = [
        variant
        for variant in model.variants
        if options.exporter in (None, variant.exporter)
        and options.opset in (None, variant.opset)
        and (not options.precisions or variant.precision in options.precisions)
    ]
    if not found or not {variant.precision for variant in found} >= set(options.precisions):
        return None
    return [f"{manifest.name}::{model.name}::{variant.name}" for variant in found]


def write_manifest(path: Path, manifest: Path, model: Model, options: Options) -> None:
    """Writes a manifest that has what is asked for.

    It has that one model, as the manifest has it and under its name, with other checkpoint and
    variants. Files that the manifest gives stay, unless something is to be exported. What names a
    variant to release or to deploy is left out: nothing is released by it. So are the keys and
    patterns that choose something of the manifest, and nothing of what is asked for.

    Raises:
        OSError: The file cannot be written.
    """
    from pytest_onnxcheck.files import write_atomically
    from pytest_onnxcheck.manifest import load_manifest
    from pytest_onnxcheck.places import relative

    document = tomllib.loads(manifest.read_text(encoding="utf-8"))
    table = document.pop("models")[model.section]
    for name in ("release", "deploy"):
        table.pop(name, None)
    given = {
        variant.precision: relative(variant.file, model.root)
        for variant in _given(model, options)
        if variant.file is not None
    }
    if given:
        table["onnx"] = given
    elif table.pop("onnx", None) is not None:
        table.pop("opsets", None)  # those that the files may be of
    if options.exporter is not None:
        table["exporters"] = [options.exporter]
    if options.opset is not None:
        table["opsets"] = [options.opset]
    if options.precisions and not given:
        table["precisions"] = list(options.precisions)
    checkpoint = model.checkpoint if options.checkpoint is None else Path(options.checkpoint)
    if checkpoint is not None:
        table["checkpoint" if model.pretrained is None else "pretrained"] = str(checkpoint)
    document["models"] = {model.name: table}
    wrong = {problem.path for problem in load_manifest(manifest).problems}
    while any(
        _left_out(document, fault) for fault in _faults(document, path) if fault not in wrong
    ):
        pass  # by one, for the places of others may be different then
    write_atomically(path, _toml(document))


def _given(model: Model, options: Options) -> list[Variant]:
    """The files that the manifest gives of a model, and that are asked for."""
    if options.exporter is not None or options.opset is not None:
        return []
    return [
        variant
        for variant in model.given
        if not options.precisions or variant.precision in options.precisions
    ]


def _faults(document: dict[str, Any], path: Path) -> list[KeyPath]:
    """The keys that the rules of manifests refuse, were the document in a file."""
    from pytest_onnxcheck.manifest.load import parse_manifest

    return [problem.path for problem in parse_manifest(_toml(document), path).problems]


def _left_out(document: dict[str, Any], fault: KeyPath) -> bool:
    """Takes out of a document what chooses nothing; False where the key is no such choice.

    A pattern is taken out of its array; an expected failure or a skip goes with its last one, for
    without any it would be of all.
    """
    head = 1 if fault[:1] == ("defaults",) else 2  # that far it is [defaults], or the model
    where = fault[head:]
    if where[:2] != ("accuracy", "max_drop") and (not where or where[0] not in _CHOOSING):
        return False
    if where[::2] == ("tolerance", "policy"):  # others that it chooses may need it
        return False
    holders: list[Any] = [document]
    depth = 0
    while depth < len(fault) and _has(holders[-1], fault[depth]):
        holders.append(holders[-1][fault[depth]])
        depth += 1
    if depth <= head:  # inherited
        return False
    holder, above = holders[depth - 1], fault[head : depth - 1]
    del holder[fault[depth - 1]]
    if not holder and above[:1] in (("xfail",), ("skip",)) and len(above) == 3:
        return _left_out(document, fault[: head + 2])
    if not holder and above in _NEVER_EMPTY:
        return _left_out(document, fault[: depth - 1])
    return True


def _has(holder: Any, key: str | int) -> bool:
    """Whether a table has a key, or an array a place; a short form, `baseline = FILE`, has none."""
    if isinstance(holder, list):
        return isinstance(key, int) and key < len(holder)
    return isinstance(holder, dict) and key in holder


def _toml(document: dict[str, Any]) -> str:
    """A manifest of one model, every key of it on a line: their order counts, as that of dims."""
    import tomlkit

    written = tomlkit.document()
    for key, value in document.items():
        if key != "models":
            written.append(key, _inline(value))
    models = tomlkit.table(is_super_table=True)
    for name, table in document["models"].items():
        model = tomlkit.table()
        for key, value in table.items():
            model.append(key, _inline(value))
        models.append(name, model)
    written.append("models", models)
    return tomlkit.dumps(written)


def _inline(value: Any) -> Any:
    """A value as TOML has it on one line."""
    import tomlkit

    if isinstance(value, dict):
        table = tomlkit.inline_table()
        for key, entry in value.items():
            table.append(key, _inline(entry))
        return table
    if isinstance(value, list):
        array = tomlkit.array()
        for entry in value:
            array.append(_inline(entry))
        return array
    return tomlkit.item(value)
