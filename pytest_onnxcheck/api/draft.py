"""The manifest of a model that nobody has described: guessed, and said in comments."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.wording import listed

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.guess.factories import Built
    from pytest_onnxcheck.engine.guess.interface import Interface
    from pytest_onnxcheck.engine.guess.layers import Spec
    from pytest_onnxcheck.engine.reference.checkpoint import Checkpoint
    from pytest_onnxcheck.manifest import Model

__all__ = ["Draft", "Explored", "explore"]

_WIDTH = 100


@dataclass(frozen=True)
class Draft:
    """A drafted manifest.

    Attributes:
        text: The TOML.
        model: The model's name in it.
        origin: Where it comes from, for people.
        notes: What was guessed, for people; it stands in the text too.
    """

    text: str
    model: str
    origin: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Explored:
    """What was found out about a model.

    Attributes:
        name: The model's name.
        keys: Keys of its table, by name, in their order.
        interface: Inputs, outputs and dims.
        notes: What was guessed.
        given: Whether the artefact exists, and nothing is exported.
    """

    name: str
    keys: Mapping[str, object]
    interface: Interface
    notes: tuple[str, ...] = ()
    given: bool = False

    def draft(self, exporter: str = "dynamo", *, fixed: Collection[str] = ()) -> Draft:
        """The manifest.

        Args:
            exporter: The exporter.
            fixed: The dims that are to be fixed though they need not be.
        """
        interface = _static(self.interface, fixed)
        notes = (*self.notes, *interface.notes)
        origin = "what was found by looking and trying (see onnxcheck init)"
        return Draft(_written(self, interface, notes, exporter), self.name, origin, notes)


def explore(
    *,
    checkpoint: Path | None = None,
    factory: str | None = None,
    onnx: Path | None = None,
    pretrained: Path | None = None,
    inputs: Mapping[str, tuple[int | str, ...]] | None = None,
    trust: bool = False,
    root: Path,
) -> Explored:
    """Finds out what a manifest must say of one model.

    Args:
        checkpoint: Its weights, or the whole model.
        factory: What builds it; by default what in `root` fits the weights.
        onnx: An artefact that exists: its inputs are the model's.
        pretrained: A folder of `save_pretrained`, which is model and weights.
        inputs: Shapes that are known.
        trust: Whether the checkpoint may run code when it is read.
        root: The manifest's folder.

    Raises:
        OnnxCheckError: Nothing can be told; the text says what to give.
    """
    from pytest_onnxcheck.engine.guess.pretrained import is_pretrained
    from pytest_onnxcheck.engine.reference.checkpoint import load_checkpoint

    if pretrained is not None:
        return _of_folder(pretrained, onnx, root)
    if checkpoint is not None and factory is None and is_pretrained(checkpoint):
        return _of_folder(checkpoint, onnx, root)
    loaded = load_checkpoint(checkpoint, root, trust=trust) if checkpoint is not None else None
    built, notes = _built(loaded, factory, root)
    interface = _interface(built, loaded, onnx, inputs or {})
    return Explored(
        name=_name(checkpoint, factory or built.factory, onnx),
        keys=_keys(built, checkpoint, onnx, root) | ({"trust": True} if trust else {}),
        interface=interface,
        notes=notes,
        given=onnx is not None,
    )


def _of_folder(folder: Path, onnx: Path | None, root: Path) -> Explored:
    from pytest_onnxcheck.engine.guess.pretrained import interface_of_folder, load_folder

    keys = {"pretrained": _relative(folder, root)}
    built = load_folder(_bare(keys, root))
    return Explored(
        name=_name(folder.absolute(), None, onnx),
        keys=keys | _keys(built, None, onnx, root),
        interface=interface_of_folder(built.module, onnx),
        notes=(f"the config in {folder.name} names its class",),
        given=onnx is not None,
    )


def _bare(keys: Mapping[str, object], root: Path) -> Model:
    """A model of which no more is known than where it comes from."""
    from pytest_onnxcheck.manifest.load import parse_manifest

    lines = [f"{key} = {toml(value)}" for key, value in keys.items()]
    text = "\n".join(["schema = 1", "[models.bare]", *lines, "inputs.x.shape = [1]"])
    read = parse_manifest(f"{text}\noutputs.y.shape = [1]\n", root / "models.toml", shown="draft")
    read.check()
    return read.models["bare"]


def _built(
    loaded: Checkpoint | None, factory: str | None, root: Path
) -> tuple[Built, tuple[str, ...]]:
    from pytest_onnxcheck.engine.guess.factories import Built, build_with, find_built

    if loaded is not None and loaded.module is not None:
        if factory is not None:
            raise OnnxCheckError(f"{loaded.path}: holds a whole model; leave out the factory")
        return Built(loaded.module, None), ("the checkpoint holds the whole model",)
    if factory is not None:
        return build_with(factory, root, loaded), ()
    assert loaded is not None
    built = find_built(root, loaded)
    notes = [f"{built.factory} builds a model that takes all the weights of {loaded.path.name}"]
    if built.others:
        notes.append(f"so do {', '.join(built.others)}")
    return built, tuple(notes)


def _interface(
    built: Built,
    loaded: Checkpoint | None,
    onnx: Path | None,
    inputs: Mapping[str, tuple[int | str, ...]],
) -> Interface:
    from pytest_onnxcheck.engine.guess.files import of_onnx, of_program
    from pytest_onnxcheck.engine.guess.interface import guess_interface

    if onnx is not None:
        return of_onnx(onnx, built.module)
    if loaded is not None and loaded.path.suffix == ".pt2":
        return of_program(loaded.path)
    return guess_interface(built.module, inputs)


def _static(interface: Interface, dims: Collection[str]) -> Interface:
    """The interface with some dims at their first sizes."""
    sizes = {dim: values[0] for dim, values in interface.dims.items() if dim in dims}
    if not sizes:
        return interface

    def fixed(specs: Mapping[str, Spec]) -> dict[str, Spec]:
        shapes = {
            name: tuple(sizes.get(str(size), size) for size in spec.shape)
            for name, spec in specs.items()
        }
        return {name: replace(spec, shape=shapes[name]) for name, spec in specs.items()}

    note = f"fixed: {listed(list(sizes))}; with more dynamic dims no exporter gave one that passes"
    return replace(
        interface,
        inputs=fixed(interface.inputs),
        outputs=fixed(interface.outputs),
        dims={dim: values for dim, values in interface.dims.items() if dim not in sizes},
        notes=(*interface.notes, note),
    )


def _keys(
    built: Built, checkpoint: Path | None, onnx: Path | None, root: Path
) -> dict[str, object]:
    from pytest_onnxcheck.engine.guess.files import precision_of

    keys: dict[str, object] = {}
    if built.factory is not None:
        keys["factory"] = built.factory
    if built.kwargs:
        keys["kwargs"] = dict(built.kwargs)
    if checkpoint is not None:
        keys["checkpoint"] = _relative(checkpoint, root)
    if built.state_dict is not None:
        keys["state_dict"] = built.state_dict
    if built.prefix is not None:
        keys["prefix"] = built.prefix
    if built.config_key is not None:
        keys["config_key"] = built.config_key
    if onnx is not None:
        precision, file = precision_of(onnx), _relative(onnx, root)
        keys["onnx"] = file if precision == "fp32" else {precision: file}
    return keys


def _relative(path: Path, root: Path) -> str:
    return Path(os.path.relpath(path.absolute(), root)).as_posix()


def _name(checkpoint: Path | None, factory: str | None, onnx: Path | None) -> str:
    named = onnx or checkpoint
    text = named.stem if named is not None else str(factory).rpartition(":")[2]
    return re.sub(r"^[^A-Za-z0-9_]+", "", re.sub(r"[^A-Za-z0-9_-]+", "-", text)) or "model"


def _written(found: Explored, interface: Interface, notes: Sequence[str], exporter: str) -> str:
    """The manifest as TOML, with comments."""
    lines = [
        "# Drafted by `onnxcheck init`: check what it guessed; docs/manifest.md has every key.",
        "schema = 1",
        "",
        *(f"# {line}" for note in notes for line in _wrapped(note)),
        f"[models.{found.name}]",
    ]
    lines += [f"{key} = {toml(value)}" for key, value in found.keys.items()]
    if not found.given:
        if exporter != "dynamo":
            lines.append(f'exporters = ["{exporter}"]  # dynamo gave none that passes')
        lines.append(
            '# precisions = ["fp32", "fp16", "int8-dynamic"]  # and int8-static, with calibration'
        )
    if interface.arguments:
        lines.append(f"arguments = {toml(interface.arguments)}")
    if interface.dims:
        sizes = ", ".join(f"{dim} = {list(values)}" for dim, values in interface.dims.items())
        lines.append(f"dims = {{ {sizes} }}  # run at these sizes; any size in the artefact")
    for kind, specs in (("inputs", interface.inputs), ("outputs", interface.outputs)):
        for name, spec in specs.items():
            lines += ["", *_table(f"models.{found.name}.{kind}.{_quoted(name)}", spec)]
    return "\n".join(lines) + "\n"


def _table(header: str, spec: Spec) -> Iterator[str]:
    if spec.why:
        yield from (f"# guessed: {line}" for line in _wrapped(spec.why))
    yield f"[{header}]"
    if spec.path is not None:
        yield f"path = {toml(spec.path)}  # what else forward returns is left out"
    yield f"shape = {toml(spec.shape)}"
    if spec.dtype != "float32":
        yield f'dtype = "{spec.dtype}"'
    if spec.range is not None:
        yield f"range = {toml(spec.range)}"
    if spec.padding is not None:
        yield f'padding = {toml(spec.padding)}  # "any" where rows are padded elsewhere too'


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH - 12) or [""]


def toml(value: Any) -> str:
    """A value of a manifest in TOML: strings, numbers and booleans are written as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_quoted(str(k))} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)
