"""What an artefact is made of, as a hash: the same key means that it need not be built again."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from pytest_onnxcheck import places
from pytest_onnxcheck.engine.convert.quantize import resolved_options
from pytest_onnxcheck.engine.inputs.arrays import arrays_sha256
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.reference.imports import sources_behind
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.libraries import library_hashes
from pytest_onnxcheck.files import contents_sha256, file_sha256, files_sha256
from pytest_onnxcheck.manifest import Variant, precisions, sizes
from pytest_onnxcheck.versions import installed_versions

__all__ = ["SHAPING", "artefact_key", "folder_name", "own_code", "shaping_files"]

#: rooms and modules of engine whose code has a part in what is built
SHAPING = (
    "graph",
    "reference",
    "quiet.py",
    "environments.py",
    "inputs",
    "artefacts",
    "runtime",
    "convert",
    "builds.py",
)

#: packages whose version decides what is built
_PACKAGES = (
    "torch",
    "onnx",
    "onnxscript",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
)

_ENGINE = places.PACKAGE / "engine"


def artefact_key(
    reference: Reference,
    variant: Variant,
    precision: str,
    calibration: CalibrationData | None = None,
) -> str:
    """Hash of everything an artefact is made of.

    Args:
        reference: The PyTorch model.
        variant: Exporter, opset and options.
        precision: The variant's, or fp32 for the artefact that it is made from.
        calibration: What static quantization takes its ranges from.
    """
    model = reference.model
    parts: list[object] = [own_code(), reference.fingerprint, precision]
    parts += [variant.exporter, variant.opset]
    parts += [model.name, model.seed, reference.shapes, dict(model.dims)]
    parts += [sorted(model.inputs.items()), sorted(model.outputs.items())]
    parts.append(installed_versions(_PACKAGES))
    files = [model.root / entry.file for entry in model.inputs.values() if entry.file]
    files += [model.root / model.example] if model.example else []
    translations = model.translations_for(variant.exporter)
    parts.append(sorted(translations.items()))
    for path in sorted(set(translations.values())):
        parts.append(contents_sha256(sources_behind(path, model.root)))
    if precision != "fp32":
        parts.append(resolved_options(variant))
        parts.append(library_hashes(model.operator_libraries))
    if calibration is not None:
        parts.append(calibration.measured)  # with the hash of the data
    if not model.draws:
        parts.append(arrays_sha256([example(reference)]))
    parts += [file_sha256(path) if path.is_file() else None for path in files]
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def folder_name(reference: Reference, variant: Variant) -> str:
    """The variant's name; with a hash of its options where they are not the manifest's."""
    options = resolved_options(variant)
    written = {own.name: own for own in reference.model.variants}
    if variant.name in written and resolved_options(written[variant.name]) == options:
        return variant.name
    return f"{variant.name}-{hashlib.sha256(repr(options).encode()).hexdigest()[:8]}"


@functools.cache
def own_code(engine: Path = _ENGINE) -> str:
    """Hash of our own code that has a part in an artefact.

    `places` is part of it, which says how files are named in an artefact, `precisions`, which says
    how they are made, and `sizes`, which says what sizes they are exported with.
    """
    others = [Path(str(module.__file__)) for module in (places, precisions, sizes)]
    return files_sha256([*shaping_files(engine), *others])


def shaping_files(engine: Path = _ENGINE) -> list[Path]:
    """The files of that code, those in folders of a room included."""
    found: list[Path] = []
    for part in SHAPING:
        path = engine / part
        found += [path] if path.suffix == ".py" else path.rglob("*.py")
    return sorted(found)
