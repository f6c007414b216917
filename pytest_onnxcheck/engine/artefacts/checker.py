"""onnx's checker and shape inference, run on the file as it lies on disk."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.external import unread_bytes
from pytest_onnxcheck.engine.artefacts.transfer import transferred_bytes
from pytest_onnxcheck.measurement import FileCheck
from pytest_onnxcheck.wording import one_line

__all__ = ["check_file"]

#: how much of a complaint is repeated
_MOST_CHARACTERS = 600


def check_file(artefact: Artefact, *, transferred: bool = False) -> FileCheck:
    """Runs onnx's full checker and strict shape inference on the file, read from disk.

    Args:
        artefact: The file, with its external data.
        transferred: Whether to find out how large it is as gzip makes it.
    """
    checker_error, inference_error = _checked(artefact.path)
    unsorted = checker_error is not None and "topologically sorted" in checker_error
    if unsorted:
        with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
            copied = _sorted(artefact.path, Path(folder))
            if copied is not None:
                checker_error, inference_error = _checked(copied)
    return FileCheck(
        path=str(artefact.path),
        sha256=artefact.sha256,
        size_bytes=artefact.size_bytes,
        checker_error=checker_error,
        inference_error=inference_error,
        unsorted=unsorted,
        files=artefact.files,
        unread=unread_bytes(artefact.path),
        source=artefact.source,
        transferred_bytes=transferred_bytes(artefact.path) if transferred else None,
    )


def _checked(path: Path) -> tuple[str | None, str | None]:
    """What the checker and strict shape inference complain of."""
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=False)
    except Exception as error:
        return one_line(error, _MOST_CHARACTERS), None
    try:
        # strict shape inference is the second half of the full check
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:
        return None, one_line(error, _MOST_CHARACTERS)
    return None, None


def _sorted(path: Path, folder: Path) -> Path | None:
    """A copy of the file whose nodes stand in topological order; None where more is wrong."""
    import onnx_ir
    from onnx_ir.passes.common import TopologicalSortPass

    copied = folder / path.name
    try:
        onnx_ir.save(TopologicalSortPass()(onnx_ir.load(path)).model, copied)
    except Exception:  # of several types; the checker has said what it does not like
        return None
    return copied
