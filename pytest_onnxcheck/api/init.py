"""A manifest for what lies in a folder, which passes: drafted, tried, and written."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.api.draft import Draft, Explored, explore
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.progress import stage
from pytest_onnxcheck.wording import listed, one_line, several

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.builds import Builds

__all__ = ["Initialised", "init"]

_CHECKPOINTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".pt2")


@dataclasses.dataclass(frozen=True)
class Initialised:
    """A manifest that was drafted.

    Attributes:
        path: Where it was, or would be, written.
        model: The model's name in it.
        text: The TOML.
        notes: What was guessed.
        failure: Why an artefact of it does not pass; None where one does, or none was tried.
    """

    path: Path
    model: str
    text: str
    notes: tuple[str, ...]
    failure: str | None

    @property
    def ok(self) -> bool:
        """Whether nothing is known to fail."""
        return self.failure is None

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**dataclasses.asdict(self), "path": str(self.path), "ok": self.ok}


def init(
    source: Path | str | None = None,
    *,
    checkpoint: Path | str | None = None,
    factory: str | None = None,
    inputs: Mapping[str, tuple[int | str, ...]] | None = None,
    output: Path | str = "models.toml",
    force: bool = False,
    tried: bool = True,
    trust: bool = False,
) -> Initialised:
    """Drafts a manifest of one model, and writes it.

    What exports and passes is tried: with dynamo and dynamic dims, with TorchScript, then with
    dims fixed, the batch last. The first that passes is written.

    Args:
        source: A checkpoint, `module:factory`, an `.onnx`, or a folder; by default the one
            checkpoint in the folder of `output`.
        checkpoint: The weights, where `source` is a factory or an `.onnx`.
        factory: What builds the model, where `source` is a checkpoint or an `.onnx`.
        inputs: Shapes that are known, by input.
        output: The manifest to write.
        force: Whether to overwrite one that is there.
        tried: Whether to export and compare before it is written.
        trust: Whether the checkpoint may run code when it is read: only for files of your own.

    Raises:
        OnnxCheckError: There is one already, or nothing can be told; the text says what to give.
    """
    from pytest_onnxcheck.files import write_atomically

    path = Path(output)
    if path.exists() and not force:
        raise OnnxCheckError(
            f"{path}: is there already: --force overwrites it, --output names another"
        )
    root = path.absolute().parent
    named = _named(source, root)
    given = {
        "checkpoint": named.checkpoint or (Path(checkpoint) if checkpoint is not None else None),
        "factory": named.factory or factory,
        "onnx": named.onnx,
        "pretrained": named.pretrained,
    }
    if not any((given["checkpoint"], given["factory"], given["pretrained"])):
        given["checkpoint"] = _only_checkpoint(root, because=named.onnx)
    with stage("looking for the model and its inputs"):
        found = explore(**given, inputs=inputs or {}, trust=trust, root=root)  # type: ignore[arg-type]
    draft, failure = _proved(found, root) if tried else (found.draft(), None)
    write_atomically(path, draft.text)
    return Initialised(path, draft.model, draft.text, draft.notes, failure)


@dataclasses.dataclass(frozen=True)
class _Named:
    checkpoint: Path | None = None
    factory: str | None = None
    onnx: Path | None = None
    pretrained: Path | None = None


def _named(source: Path | str | None, root: Path) -> _Named:
    """What the user named, by its kind."""
    from pytest_onnxcheck.engine.guess.pretrained import is_pretrained
    from pytest_onnxcheck.engine.reference.folders import weight_files

    if source is None:
        return _Named()
    path = Path(source)
    if path.is_dir() and is_pretrained(path):
        return _Named(pretrained=path)
    if path.is_dir():
        whole = bool(weight_files(path))
        return _Named(checkpoint=path if whole else _only_checkpoint(path))
    if path.suffix == ".onnx":
        return _Named(onnx=path)
    if ":" in str(source) and not path.exists():
        return _Named(factory=str(source))
    return _Named(checkpoint=path)


def _only_checkpoint(folder: Path, because: Path | None = None) -> Path:
    """The one checkpoint in a folder, or, where there is none, in the folders in it."""
    for pattern in ("*", "*/*"):
        found = sorted(
            path
            for path in folder.glob(pattern)
            if path.suffix in _CHECKPOINTS and path.is_file() and not path.name.startswith(".")
        )
        if len(found) == 1:
            return found[0]
        if found:
            names = several([path.relative_to(folder).as_posix() for path in found])
            way = "onnxcheck init PATH" if because is None else "--checkpoint PATH"
            raise OnnxCheckError(f"{folder}: several checkpoints ({names}): name one: {way}")
    if because is not None:
        raise OnnxCheckError(
            f"{because}: an .onnx is held against PyTorch, and there is no checkpoint beside it: "
            "name one (--checkpoint PATH), or what builds the model (--factory MODULE:NAME)"
        )
    raise OnnxCheckError(
        f"{folder}: no checkpoint ({', '.join(_CHECKPOINTS)}): name one, or what builds the "
        "model: onnxcheck init PATH, or onnxcheck init MODULE:FACTORY"
    )


def _proved(found: Explored, root: Path) -> tuple[Draft, str | None]:
    """The first draft whose artefact passes, else the first of all, and why it does not."""
    from pytest_onnxcheck.engine.builds import Builds

    first: tuple[Draft, str] | None = None
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        builds = Builds(Path(folder))
        for draft, what in _drafts(found):
            with stage("trying", what):
                failure = _failure(draft, root, builds)
            if failure is None:
                return draft, None
            first = first or (draft, failure)
    assert first is not None
    draft, failure = first
    text = f"# It does not pass yet: {one_line(failure, 300)}\n"
    return dataclasses.replace(draft, text=text + draft.text), failure


def _drafts(found: Explored) -> Iterator[tuple[Draft, str]]:
    if found.given:
        yield found.draft(), "the artefact"
        return
    dims = list(found.interface.dims)  # the batch first, which is fixed last
    for count in range(len(dims) + 1):
        fixed = dims[len(dims) - count :]
        for exporter in ("dynamo", "torchscript"):
            what = f"{exporter}{f' with fixed {listed(fixed)}' if fixed else ''}"
            yield found.draft(exporter, fixed=fixed), what


def _failure(draft: Draft, root: Path, builds: Builds) -> str | None:
    """Why the artefact of a draft does not pass; None where it does."""
    from pytest_onnxcheck.api.checking import check_artefact
    from pytest_onnxcheck.manifest.load import parse_manifest

    read = parse_manifest(draft.text, root / "models.toml", shown="the draft")
    read.check()
    (model,) = read.models.values()
    (variant,) = model.variants
    try:
        reference = builds.reference(model)
        artefact = builds.artefact(reference, variant)
        source = builds.float_artefact(reference, variant)
    except OnnxCheckError as error:
        return str(error)
    checked = check_artefact(builds, reference, variant, artefact, source)
    return checked.failures[0] if checked.failures else None
