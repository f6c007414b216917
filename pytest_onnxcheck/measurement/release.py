"""The file that is released: an artefact without what only says where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_onnxcheck.measurement.export import FileCheck, HashedFile

__all__ = ["ReleaseMeasurement"]


@dataclass(frozen=True)
class ReleaseMeasurement:
    """The stripped file beside the artefact that the other checks are about.

    Attributes:
        target: Where both ran.
        provider: The provider that ran.
        file: The stripped file as read back.
        artefact_sha256: Hash of the artefact it was made from.
        removed: What was taken out, and how often: `doc_string`, `metadata_props`.
        leaks: What is left of the machine's paths in it, one text each.
        cases: How many cases both ran on.
        differing: Outputs whose bits differ, one text each.
        ir_version: The file's version of ONNX's format.
        opsets: Domain -> version of its operator set; `ai.onnx` is the default one.
        producer: What wrote it, with its version.
        oldest_onnxruntime: The oldest ONNX Runtime that loads it, by its IR version, opsets,
            operators and types; None where that is not known.
        architecture: Class of the PyTorch module.
        parameters: Elements of its parameters, shared ones once.
        sources: The user's files that the artefact was made from, by their path from the manifest's
            folder: code, checkpoint, data.
    """

    target: str
    provider: str
    file: FileCheck
    artefact_sha256: str
    removed: dict[str, int]
    leaks: tuple[str, ...]
    cases: int
    differing: tuple[str, ...]
    ir_version: int
    opsets: dict[str, int]
    producer: str
    architecture: str
    parameters: int
    oldest_onnxruntime: str | None = None
    sources: tuple[HashedFile, ...] = ()
