"""The errors a user may meet, as one tree.

::

    OnnxCheckError
    ├── ManifestError         models.toml is wrong (every problem at once)
    ├── HistoryError          the history of latencies cannot be read or written
    ├── RecordError           the record of a run cannot be read
    ├── ReasonsError          something was not done (every reason)
    │   ├── ReleaseError      nothing is released, or a bundle is not what it was
    │   └── MergeError        records are not the parts of one run
    ├── StorageError          an object storage or a folder of releases cannot be read or written
    │   └── ChangedError      an object is not what was stored
    └── StageError            one stage of one model could not be carried out
        ├── CheckpointError   factory, checkpoint or reference module
        ├── InputError        a case could not be made, or the model does not take it
        ├── BehaviourError    the model's outputs are random, or depend on earlier calls
        ├── ExportError       PyTorch -> ONNX
        ├── QuantizeError     fp32 artefact -> another precision
        ├── CacheError        an artefact cannot be kept: the disk is full, the folder read-only
        └── RunError          ONNX Runtime refused, crashed or fell back
            ├── TargetAbsent  this machine has no such target (a skip, not a failure)
            └── Unsupported   the target has no kernels for the precision asked for (a skip)

Every message says where, what, what was measured against what is allowed, and how to fix it.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "BehaviourError",
    "CacheError",
    "ChangedError",
    "CheckpointError",
    "ExportError",
    "HistoryError",
    "InputError",
    "ManifestError",
    "MergeError",
    "OnnxCheckError",
    "QuantizeError",
    "ReasonsError",
    "RecordError",
    "ReleaseError",
    "RunError",
    "StageError",
    "StorageError",
    "TargetAbsent",
    "Unsupported",
]


class OnnxCheckError(Exception):
    """Base of every error this package raises on purpose."""


class ManifestError(OnnxCheckError):
    """The manifest is wrong; the text lists every problem, one `file:line: ...` per line."""


class HistoryError(OnnxCheckError):
    """A file of `--onnxcheck-history` cannot be read or written; what is there is left alone."""


class RecordError(OnnxCheckError):
    """A file of `--onnxcheck-json` cannot be read."""


class ReasonsError(OnnxCheckError):
    """Why something was not done; every reason, one a line.

    Attributes:
        what: What is not as it should be.
        reasons: The reasons.
    """

    def __init__(self, what: str, reasons: Iterable[str]) -> None:
        self.what, self.reasons = what, tuple(reasons)
        super().__init__("\n".join([f"{what}:", *(f"  - {reason}" for reason in self.reasons)]))


class ReleaseError(ReasonsError):
    """Why nothing is released, or why a bundle is not what it was."""


class MergeError(ReasonsError):
    """Why records, or what else runs left, are not the parts of one run."""


class StorageError(OnnxCheckError):
    """An object could not be stored, found or read; the text says where, why, and what to do."""


class ChangedError(StorageError):
    """An object has another hash than it was stored with, or was asked for."""


class StageError(OnnxCheckError):
    """One stage of one model could not be carried out.

    Attributes:
        reported_by: The check that reported it; the others that need the same thing skip.
        transient: Whether it may go well another time, though nothing of the model has changed.
    """

    reported_by: str | None = None
    transient = False


class CheckpointError(StageError):
    """The PyTorch reference could not be built from its factory and checkpoint."""


class InputError(StageError):
    """A case could not be made, or the reference does not take it."""


class BehaviourError(StageError):
    """The reference cannot be compared with: its outputs are random, or depend on earlier calls."""


class ExportError(StageError):
    """The exporter failed, or what it wrote is not a valid ONNX file."""


class QuantizeError(StageError):
    """The fp32 artefact could not be turned into the precision asked for."""


class CacheError(StageError):
    """What was built cannot be kept: the folder cannot be written to, or there is no room left."""


class RunError(StageError):
    """ONNX Runtime refused the artefact, crashed on it, or fell back to another provider."""


class TargetAbsent(RunError):  # noqa: N818 - it is a state of the machine, not a fault
    """This machine cannot provide the target: a reason to skip, unless it is required."""

    transient = True


class Unsupported(RunError):  # noqa: N818 - it is a state of the runtime, not a fault
    """The target has no kernels for the precision the manifest asks for: a reason to skip."""

    transient = True
