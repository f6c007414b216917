"""An artefact that exists, held against PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_onnxcheck.api.checking import Checked, check_artefact
from pytest_onnxcheck.api.recipe import find_recipe

__all__ = ["validate_onnx"]


def validate_onnx(
    onnx: Path | str,
    checkpoint: Path | str | None = None,
    *,
    manifest: Path | str | None = None,
    model: str | None = None,
    factory: str | None = None,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    precision: str | None = None,
    trust: bool = False,
) -> Checked:
    """Compares an `.onnx` with the PyTorch model it was exported from; nothing is exported.

    Args:
        onnx: The artefact.
        checkpoint: The weights, or the whole model; by default what the manifest's model has.
        manifest: A manifest that declares the model, see `export_model`. Without one, inputs and
            outputs are the artefact's.
        model: The model's name there.
        factory: What builds it, where there is no manifest.
        inputs: Shapes by input, likewise.
        precision: What it is to be held to; default: what it looks like.
        trust: Whether the checkpoint may run code when it is read: only for files of your own.

    Raises:
        OnnxCheckError: The artefact or the model is not there or wrong.
    """
    from pytest_onnxcheck.engine.artefacts.contents import contents
    from pytest_onnxcheck.engine.builds import Builds
    from pytest_onnxcheck.engine.guess.files import precision_of

    path = Path(onnx)
    contents(path)  # says what is wrong with a file that is none
    recipe = find_recipe(
        checkpoint,
        manifest=manifest,
        model=model,
        factory=factory,
        inputs=inputs,
        onnx=path,
        trust=trust,
    )
    kind = precision or precision_of(path)
    variant = recipe.model.make_variant("file", None, kind, str(path.absolute()))
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        builds = Builds(Path(folder))
        reference = builds.reference(recipe.model)
        artefact = builds.artefact(reference, variant)
        source = builds.float_artefact(reference, variant)
        return check_artefact(builds, reference, variant, artefact, source)
