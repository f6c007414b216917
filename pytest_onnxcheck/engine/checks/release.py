"""The file that is released: that stripping changed nothing, and what it was made from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact, artefact_files
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.graph.runtimes import oldest_onnxruntime, uses
from pytest_onnxcheck.engine.graph.strip import found_paths, strip
from pytest_onnxcheck.engine.inputs.cases import declared_cases
from pytest_onnxcheck.engine.reference.imports import sources, sources_behind
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import HashedFile, ReleaseMeasurement
from pytest_onnxcheck.places import machine_paths

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["measure"]


def measure(
    stripped: Artefact,
    artefact: Artefact,
    reference: Reference,
    variant: Variant,
    target: Target,
) -> ReleaseMeasurement:
    """Runs the stripped file and the artefact on the declared cases, and compares their bits.

    Args:
        stripped: The file that is released.
        artefact: The artefact that the other checks are about.
        reference: The PyTorch model.
        variant: The variant.
        target: Where both run.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: One of the two does not load or run there.
    """
    import onnx

    model = onnx.load(stripped.path, load_external_data=False)
    removed = strip(onnx.load(artefact.path, load_external_data=False))
    before, after = open_session(artefact, target), open_session(stripped, target)
    cases = declared_cases(reference)
    differing: list[str] = []
    for case in cases:
        outputs = zip(before.outputs, before.run(case.inputs), after.run(case.inputs), strict=True)
        differing += [
            f"{case.name}: output {name!r}: {text}"
            for name, one, other in outputs
            if (text := _difference(one, other))
        ]
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    return ReleaseMeasurement(
        target=target.name,
        provider=after.provider,
        file=check_file(stripped),
        artefact_sha256=artefact.sha256,
        removed=removed,
        leaks=found_paths(stripped.path.read_bytes(), machine_paths(reference.model.root)),
        cases=len(cases),
        differing=tuple(differing),
        ir_version=model.ir_version,
        opsets=opsets,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        oldest_onnxruntime=oldest_onnxruntime(uses(model)),
        architecture=_architecture(reference),
        parameters=sum(parameter.numel() for parameter in reference.module.parameters()),
        sources=tuple(_hashed(_made_from(reference, variant), reference.model.root)),
    )


def _difference(one: Array, other: Array) -> str:
    """How two outputs differ in their bits; empty where they do not."""
    import numpy as np

    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return f"{one.dtype} {list(one.shape)} became {other.dtype} {list(other.shape)}"
    bits = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other)]
    differ = (bits[0] != bits[1]).reshape(-1, one.itemsize).any(axis=1)
    return f"{int(differ.sum())} of {one.size} elements" if differ.any() else ""


def _architecture(reference: Reference) -> str:
    """The class of the module; of a TorchScript module the one that was scripted."""
    module = reference.module
    return str(getattr(module, "original_name", type(module).__name__))


def _made_from(reference: Reference, variant: Variant) -> set[Path]:
    """The user's files that have a part in the artefact: code, checkpoint and data."""
    model = reference.model
    if variant.file is not None:
        return {*_code(reference, ()), *_weights(model), *artefact_files(variant.file)}
    behind = [model.shapes, *model.translations_for(variant.exporter).values()]
    files = [model.example, *(entry.file for entry in model.inputs.values())]
    calibration = model.calibration if variant.traits.calibrated else None
    if calibration is not None:
        behind.append(calibration.source)
        files += [calibration.file, calibration.folder]
    data = {found for file in files if file for found in _inside(model.root / file)}
    data.update(model.depended().values())
    return {*_code(reference, behind), *_weights(model), *data}


def _code(reference: Reference, behind: Iterable[str | None]) -> Iterator[Path]:
    model = reference.model
    yield from sources(reference.module, model.factory)
    for path in (model.factory, *behind):
        if path:
            yield from sources_behind(path, model.root)


def _weights(model: Model) -> Iterator[Path]:
    for path in (model.checkpoint, model.pretrained):
        if path is not None:
            yield from _inside(path)


def _inside(path: Path) -> list[Path]:
    """The file, or the files in the folder."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _hashed(paths: Iterable[Path], root: Path) -> Iterator[HashedFile]:
    # both made real: a link on the way would lead out of the manifest's folder and back
    named = {
        Path(os.path.relpath(path.resolve(), root.resolve())).as_posix(): path for path in paths
    }
    for name, path in sorted(named.items()):
        yield HashedFile(name, path.stat().st_size, file_sha256(path))
