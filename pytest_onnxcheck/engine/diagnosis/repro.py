"""What a failing check leaves: a folder that shows the mismatch without this package.

The folder holds inputs, both outputs, the artefact, the weights, what the manifest says, and a
script that needs numpy, torch and onnxruntime only (`repro_script`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import shlex
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import artefact_files
from pytest_onnxcheck.engine.diagnosis import repro_script
from pytest_onnxcheck.engine.graph.walk import reads
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.reference import names, structures
from pytest_onnxcheck.engine.reference.load import seed_of
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.libraries import opening_of
from pytest_onnxcheck.engine.runtime.remote import packages_of
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.excerpt import write_excerpt
from pytest_onnxcheck.places import relative
from pytest_onnxcheck.versions import installed_versions

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["LIMIT_BYTES", "command", "write_repro"]

#: a larger artefact, or larger weights, are not copied
LIMIT_BYTES = 100_000_000

_PACKAGES = (
    *("numpy", "torch", "safetensors", "pytest-onnxcheck"),
    *("onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
)


def write_repro(
    root: Path,
    subject: Subject,
    case: Case,
    *,
    finding: str,
    manifest: Path,
    allowed: Mapping[str, float],
    node: str | None = None,
) -> Path:
    """Writes the folder of a check; one that is there is replaced as a whole.

    Args:
        root: The artefacts' folder.
        subject: What fails.
        case: A case on which it fails.
        finding: What is wrong, for people.
        manifest: The manifest the model stands in.
        allowed: Output -> largest |difference| that is none; 0 for those left out.
        node: The guilty node, which is cut out of an artefact too large to be copied.

    Returns:
        The folder, `ROOT/repro/MODEL/VARIANT-TARGET`.

    Raises:
        InputError: PyTorch itself does not run on the case.
        OSError: The folder cannot be written, or the manifest cannot be read.
    """
    model, variant = subject.model, subject.variant
    home = root / "repro" / _folder(root, model) / f"{variant.name}-{subject.target.name}"
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".building-") as temporary:
        folder = Path(temporary) / "new"
        folder.mkdir()
        _write_values(folder, subject, case)
        _write_state(folder, subject.reference)
        write_excerpt(folder / "manifest.toml", manifest, model)
        _write_json(folder / "versions.json", _versions())
        failure = {"case": case.name, "finding": finding, "node": node, "allowed": dict(allowed)}
        _write_json(
            folder / "repro.json",
            _rebuilding(subject.reference) | _running(subject) | failure,
        )
        shutil.copyfile(repro_script.__file__, folder / "repro.py")
        shutil.copyfile(structures.__file__, folder / repro_script.STRUCTURES)
        shutil.copyfile(names.__file__, folder / repro_script.NAMES)
        _write_model(folder, subject, case, node)
        _replace(home, folder, Path(temporary))
    return home


def _folder(root: Path, model: Model) -> str:
    """The model's name; with a hash where another project's model of that name has it already."""
    project = str(model.root.resolve())
    for other in (root / "repro" / model.name).glob("*/repro.json"):
        with contextlib.suppress(OSError, ValueError):
            if json.loads(other.read_text(encoding="utf-8"))["project"] != project:
                return f"{model.name}-{hashlib.sha256(project.encode()).hexdigest()[:6]}"
    return model.name


def command(folder: Path) -> str:
    """The command that runs a folder's script, from the working directory."""
    script = (folder / "repro.py").resolve()
    with contextlib.suppress(ValueError):
        script = script.relative_to(Path.cwd())
    return shlex.join(["python", script.as_posix()])


def _replace(home: Path, new: Path, aside: Path) -> None:
    """Puts a folder into a place, and what is there aside; others may do so at the same time."""
    for attempt in range(10):
        with contextlib.suppress(FileNotFoundError):
            home.rename(aside / f"old{attempt}")
        try:
            new.rename(home)
        except OSError:
            if attempt == 9:
                raise
        else:
            return


# values, weights, versions


def _write_values(folder: Path, subject: Subject, case: Case) -> None:
    """Writes the inputs, and what PyTorch and the artefact make of them."""
    _write_arrays(folder / "inputs.npz", case.inputs)
    outputs = subject.oracle.expected(case).outputs
    _write_arrays(folder / "pytorch.npz", dict(zip(subject.model.outputs, outputs, strict=True)))
    with contextlib.suppress(RunError):  # it does not run: there is nothing to write
        session = open_session(subject.artefact, subject.target)
        actual = dict(zip(session.outputs, session.run(case.inputs), strict=True))
        _write_arrays(folder / "onnx.npz", actual)


def _write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """An `.npz`; unlike in `numpy.savez`, an array may have any name, `file` for example."""
    import numpy as np

    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)


def _write_state(folder: Path, reference: Reference) -> None:
    """Writes the weights, unless they are too large."""
    import torch

    state = reference.module.state_dict()
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    if sum(tensor.numel() * tensor.element_size() for tensor in tensors) <= LIMIT_BYTES:
        torch.save(state, folder / "state.pt")


def _rebuilding(reference: Reference) -> dict[str, Any]:
    """What the script must know to build and call the reference."""
    model = reference.model
    factory = model.factory
    if model.pretrained is not None and factory is None:
        factory = f"transformers:{type(reference.module).__name__}"
    return {
        "model": model.name,
        "project": str(model.root.resolve()),
        "factory": factory,
        "kwargs": dict(model.kwargs),
        "pretrained": _below(model.pretrained, model.root),
        "checkpoint": _below(model.checkpoint, model.root),
        "state_dict": model.state_dict,
        "prefix": reference.prefix,
        "config_key": model.config_key,
        "trust": model.trust,
        "seed": seed_of(model),
        "call": {"args": reference.signature.args, "kwargs": dict(reference.signature.kwargs)},
        "inputs": list(model.inputs),
        "outputs": list(model.outputs),
        "paths": reference.paths,
    }


def _below(path: Path | None, root: Path) -> str | None:
    """A path relative to the project, where it is in it: the script may be given another root."""
    return None if path is None else relative(path, root)


def _running(subject: Subject) -> dict[str, Any]:
    """What the script must know to run the artefact."""
    artefact = subject.artefact
    return {
        "variant": subject.variant.name,
        "target": subject.target.name,
        **opening_of(subject.target),
        "artefact": str(artefact.path.resolve()),
        "elsewhere": packages_of(subject.target),
        "artefact_sha256": artefact.sha256,
        "narrowed": list(artefact.notes.narrowed),
    }


def _versions() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": installed_versions(_PACKAGES),
    }


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    # TOML has dates, JSON has none
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    path.write_text(text + "\n", encoding="utf-8")


# the artefact


def _write_model(folder: Path, subject: Subject, case: Case, node: str | None) -> None:
    """The artefact with its external data, or, where that is too large, its guilty node."""
    artefact, link = subject.artefact, subject.variant.file is None
    if artefact.size_bytes <= LIMIT_BYTES:
        _copy(artefact.path, folder / "model.onnx", link)
        for file in artefact_files(artefact.path)[1:]:
            with contextlib.suppress(ValueError):  # outside its folder: no runtime reads it there
                _copy(file, folder / file.relative_to(artefact.path.parent), link)
        return
    told = f"{artefact.path.resolve()}\n\n{artefact.size_bytes / 1e6:.0f} MB: not copied.\n"
    if node is not None:
        with contextlib.suppress(RunError, _CannotCut):
            opened = OpenedGraph(artefact.path, libraries=subject.target.libraries)
            _write_node(folder, opened, case, node)
            told += f"Node {node} alone is in node.onnx, its inputs are in node_inputs.npz.\n"
    (folder / "model.txt").write_text(told, encoding="utf-8")


def _copy(source: Path, target: Path, link: bool) -> None:
    """Copies a file; one of the cache's, which nobody edits, may be linked."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copyfile(source, target)


class _CannotCut(Exception):  # noqa: N818 - then there is no node.onnx
    """A node cannot be cut out."""


def _write_node(folder: Path, opened: OpenedGraph, case: Case, name: str) -> None:
    """Writes one node as a model of its own, and the values it reads.

    Raises:
        RunError: ONNX Runtime does not give the values.
        _CannotCut: There is no such node, it is too large, or reads what is no tensor.
    """
    import onnx

    node = next((node for node in opened.nodes if node.name == name), None)
    if node is None:
        raise _CannotCut
    constants = {tensor.name: tensor for tensor in opened.graph.initializer}
    known = {*constants, *opened.producers, *opened.inputs}
    read = [value for value in reads(node) if value in known]
    weights = [constants[value] for value in read if value in constants]
    inputs = [value for value in read if value not in constants]
    outputs = [value for value in node.output if value]
    values = case.inputs | dict(opened.values(case.inputs, [*inputs, *outputs]))
    if not values.keys() >= {*inputs, *outputs}:
        raise _CannotCut
    if sum(_bytes(tensor) for tensor in weights) > LIMIT_BYTES:
        raise _CannotCut
    model = onnx.ModelProto(ir_version=opened.model.ir_version)
    model.opset_import.extend(opened.model.opset_import)
    model.functions.extend(opened.model.functions)
    model.graph.name = "node"
    model.graph.node.append(node)
    model.graph.initializer.extend(_loaded(tensor, opened.path.parent) for tensor in weights)
    model.graph.input.extend(_declared(value, values[value]) for value in inputs)
    model.graph.output.extend(_declared(value, values[value]) for value in outputs)
    onnx.save(model, folder / "node.onnx")
    _write_arrays(folder / "node_inputs.npz", {value: values[value] for value in inputs})


def _declared(name: str, value: Array) -> onnx.ValueInfoProto:
    import onnx

    dtype = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
    return onnx.helper.make_tensor_value_info(name, dtype, value.shape)


def _bytes(tensor: onnx.TensorProto) -> int:
    import onnx

    itemsize: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return itemsize * math.prod(int(size) for size in tensor.dims)


def _loaded(tensor: onnx.TensorProto, folder: Path) -> onnx.TensorProto:
    """A tensor that holds its data itself."""
    import onnx

    loaded = onnx.TensorProto()
    loaded.CopyFrom(tensor)
    if loaded.data_location == onnx.TensorProto.EXTERNAL:
        onnx.external_data_helper.load_external_data_for_tensor(loaded, str(folder))
        loaded.data_location = onnx.TensorProto.DEFAULT
        del loaded.external_data[:]
    return loaded
