"""Builds references and artefacts, each once a session; a failure is raised again, not repeated."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.engine.artefacts.artefact import Artefact, Notes
from pytest_onnxcheck.engine.artefacts.external import data_faults
from pytest_onnxcheck.engine.artefacts.reading import read_model
from pytest_onnxcheck.engine.artefacts.store import ArtefactStore
from pytest_onnxcheck.engine.artefacts.stripped import write_stripped
from pytest_onnxcheck.engine.convert.export import export
from pytest_onnxcheck.engine.convert.ir_version import lower_ir_version
from pytest_onnxcheck.engine.convert.key import artefact_key, folder_name, own_code
from pytest_onnxcheck.engine.convert.quantize import quantize
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData, load_calibration
from pytest_onnxcheck.engine.oracle.evaluation import Evaluation, load_evaluation
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime import sandbox
from pytest_onnxcheck.errors import ExportError, StageError
from pytest_onnxcheck.files import not_found
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.progress import stage

__all__ = ["Builds"]

_T = TypeVar("_T")


class Builds:
    """Everything built in one session.

    References are large, and checks come model by model: only the last one is kept. A failed
    build is remembered with its error, so that every check that needs it meets the same object,
    and only the first reports it (`StageError.reported_by`). What is built is a stage
    (`progress.stage`): the terminal shows it, the record has its seconds.

    Args:
        root: The artefacts' folder.
        cache: Where artefacts are kept; default: in that folder.

    Attributes:
        root: The artefacts' folder.
    """

    def __init__(self, root: Path, cache: BuildCache | None = None, *, opened: bool = True) -> None:
        """Builds nothing yet.

        Args:
            root: The artefacts' folder; it need not be there.
            cache: Where builds are kept; in `root` where none is given.
            opened: Whether sessions will be opened here too: the sandbox's child starts at once.
        """
        self.root = root
        self._cache = BuildCache(root) if cache is None else cache
        self._store = ArtefactStore(self._cache)
        self._last: Reference | None = None
        self._oracle: Oracle | None = None
        self._evaluation: Evaluation | None = None
        self._calibration: tuple[Reference, CalibrationData] | None = None
        self._artefacts: dict[str, Artefact] = {}
        self._failures: dict[str, StageError] = {}
        # torch.export writes hundreds of empty debug records, which pytest shows with a failure
        logging.getLogger("torch.__trace").addFilter(_nothing)
        if opened:
            sandbox.start()

    @property
    def told(self) -> list[str]:
        """What the user should know of the cache, each once."""
        return self._cache.told

    def reference(self, model: Model) -> Reference:
        """The PyTorch reference of a model.

        Raises:
            CheckpointError: Factory or checkpoint are wrong.
        """
        if self._last is None or self._last.model != model:
            self._oracle = None  # it holds copies of the last one's weights
            self._evaluation = None
            self._calibration = None
            with stage("loading the checkpoint", model.name):
                self._last = self._once(f"reference {model!r}", lambda: load_reference(model))
        return self._last

    def oracle(self, reference: Reference) -> Oracle:
        """What the model's artefacts should give.

        Raises:
            InputError: PyTorch itself does not run on the first case.
            BehaviourError: The reference cannot be compared with.
        """
        if self._oracle is None or self._oracle.reference is not reference:
            with stage("running PyTorch", reference.model.name):
                self._oracle = self._once(f"oracle {reference.model!r}", lambda: Oracle(reference))
        return self._oracle

    def evaluation(self, reference: Reference) -> Evaluation:
        """The labelled samples of the model, and what PyTorch scores on them.

        Raises:
            InputError: They are missing or do not fit, or PyTorch does not run on them.
        """
        if self._evaluation is None or self._evaluation.task.reference is not reference:
            with stage("scoring PyTorch", reference.model.name):
                self._evaluation = self._once(
                    f"evaluation {reference.model!r}", lambda: load_evaluation(reference)
                )
        return self._evaluation

    def calibration(self, reference: Reference) -> CalibrationData:
        """The model's calibration data.

        Raises:
            QuantizeError: It is missing, unreadable or too little, or does not fit the inputs.
            InputError: There is none, and the declared inputs cannot be drawn.
        """
        if self._calibration is None or self._calibration[0] is not reference:
            with stage("reading calibration data", reference.model.name):
                loaded = self._once(
                    f"calibration {reference.model!r}", lambda: load_calibration(reference)
                )
            self._calibration = (reference, loaded)
        return self._calibration[1]

    def float_artefact(self, reference: Reference, variant: Variant) -> Artefact:
        """The fp32 artefact of the variant's exporter and opset, or the file that was given.

        Raises:
            ExportError: It cannot be exported, or the file is missing.
        """
        model = reference.model
        if variant.file is not None:
            files = {entry.precision: entry.file for entry in model.variants}
            precision = "fp32" if "fp32" in files else variant.precision
            return self._given(files.get("fp32") or variant.file, precision)
        folder = f"{model.name}/{variant.exporter}-op{variant.opset}-fp32"
        return self._built(
            folder,
            artefact_key(reference, variant, "fp32"),
            "fp32",
            lambda path: _lowered(export(reference, variant, path), path, model),
        )

    def artefact(self, reference: Reference, variant: Variant) -> Artefact:
        """The artefact of a variant: one of the manifest's, or one with other options.

        Raises:
            ExportError: The fp32 artefact it is made from cannot be exported.
            QuantizeError: It cannot be converted, or its calibration data is no good.
            InputError: There is no calibration data, and the inputs cannot be drawn.
        """
        if variant.file is not None:
            return self._given(variant.file, variant.precision)
        source = self.float_artefact(reference, variant)
        if variant.precision == "fp32":
            return source
        calibration = self.calibration(reference) if variant.traits.calibrated else None
        return self._built(
            f"{reference.model.name}/{folder_name(reference, variant)}",
            artefact_key(reference, variant, variant.precision, calibration),
            variant.precision,
            lambda path: _lowered(
                quantize(reference, variant, source.path, path, calibration),
                path,
                reference.model,
                source.notes.lowered_from,
            ),
        )

    def stripped(self, reference: Reference, variant: Variant) -> Artefact:
        """The file of a variant that is released: its artefact, stripped.

        Raises:
            StageError: The artefact cannot be built; see `artefact`.
        """
        source = self.artefact(reference, variant)

        def build(path: Path) -> Notes:
            write_stripped(source.path, path)
            return source.notes  # sessions cast at the boundary as the artefact's do

        named = f"{own_code()} {source.sha256} {source.notes.narrowed}"
        key = hashlib.sha256(named.encode()).hexdigest()
        folder = f"{reference.model.name}/{variant.name}-release"
        return self._built(folder, key, variant.precision, build, "stripping")

    def baseline(self, variant: Variant) -> Artefact | None:
        """The previous release's artefact, where the manifest names one.

        Raises:
            ExportError: The file or its external data is missing or no ONNX.
        """
        if variant.baseline is None:
            return None
        missing = (
            "key `baseline` of the model: put the previous release's .onnx there, or take the key "
            "away and compare with the history (--onnxcheck-accept)"
        )
        return self._given(variant.baseline, variant.precision, missing)

    def _given(
        self, path: Path, precision: str, missing: str = "key `onnx` of the model"
    ) -> Artefact:
        def load() -> Artefact:
            if not path.is_file():
                raise ExportError(f"artefact {not_found(path)} ({missing})")
            read_model(path)  # says what is wrong with a file that is none
            faults = data_faults(path)
            if faults:
                raise ExportError(
                    f"{path}: external data: {'; '.join(faults)}. Ship the .onnx with the data "
                    "that was written with it, all of it, in one folder"
                )
            return Artefact.given(path)

        if str(path) not in self._artefacts:
            with stage("reading the file", path.name):
                self._artefacts[str(path)] = self._once(str(path), load)
        return dataclasses.replace(self._artefacts[str(path)], precision=precision)

    def _built(
        self,
        folder: str,
        key: str,
        precision: str,
        build: Callable[[Path], Notes],
        doing: str | None = None,
    ) -> Artefact:
        def staged(path: Path) -> Notes:
            usual = "exporting" if precision == "fp32" else "quantizing"
            with stage(doing or usual, *folder.split("/", 1)):
                return build(path)

        if key not in self._artefacts:
            built = self._once(key, lambda: self._store.get(folder, key, staged))
            self._artefacts[key] = dataclasses.replace(built, precision=precision)
        return self._artefacts[key]

    def _once(self, what: str, make: Callable[[], _T]) -> _T:
        # `what` holds the whole model: two manifests of one folder may name theirs alike
        if what in self._failures:
            raise self._failures[what]
        try:
            return make()
        except StageError as error:
            self._failures[what] = error
            raise


def _lowered(notes: Notes, path: Path, model: Model, source: int | None = None) -> Notes:
    """Lowers a file's IR version where `deploy` asks for it, and notes that.

    Args:
        notes: The notes of the file.
        path: The file.
        model: Its model.
        source: What the file that it was made from was lowered from.
    """
    if model.deploy is None:
        return notes
    before = lower_ir_version(path, model.deploy.oldest_onnxruntime)
    return dataclasses.replace(notes, lowered_from=before or source)


def _nothing(record: logging.LogRecord) -> bool:
    """Lets no record through: torch sets `propagate` back by itself."""
    return False
