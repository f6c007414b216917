"""The file that is released: that stripping changed nothing, and what it was made from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.convert.made_from import made_from
from pytest_onnxcheck.engine.graph.runtimes import oldest_onnxruntime, uses
from pytest_onnxcheck.engine.graph.strip import found_paths, strip
from pytest_onnxcheck.engine.inputs.cases import declared_cases
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest import Variant
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
    cases = declared_cases(reference)
    session = open_session(artefact, target)
    before = [session.run(case.inputs) for case in cases]
    del session  # it holds the weights
    session = open_session(stripped, target)
    differing: list[str] = []
    for case, outputs in zip(cases, before, strict=True):
        compared = zip(session.outputs, outputs, session.run(case.inputs), strict=True)
        differing += [
            f"{case.name}: output {name!r}: {text}"
            for name, one, other in compared
            if (text := _difference(one, other))
        ]
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    return ReleaseMeasurement(
        target=target.name,
        provider=session.provider,
        file=check_file(stripped),
        artefact_sha256=artefact.sha256,
        removed=removed,
        leaks=found_paths(
            stripped.path.read_bytes(), machine_paths(reference.model.root, Path.cwd())
        ),
        cases=len(cases),
        differing=tuple(differing),
        ir_version=model.ir_version,
        opsets=opsets,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        oldest_onnxruntime=oldest_onnxruntime(uses(model)),
        architecture=_architecture(reference),
        parameters=sum(parameter.numel() for parameter in reference.module.parameters()),
        sources=tuple(_hashed(made_from(reference, variant), reference.model.root)),
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


def _hashed(paths: Iterable[Path], root: Path) -> Iterator[HashedFile]:
    # both made real: a link on the way would lead out of the manifest's folder and back
    named = {
        Path(os.path.relpath(path.resolve(), root.resolve())).as_posix(): path for path in paths
    }
    for name, path in sorted(named.items()):
        yield HashedFile(name, path.stat().st_size, file_sha256(path))
