"""What a check is about: an artefact, and what it is held against."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.manifest.targets import Target

__all__ = ["Subject"]


@dataclass(frozen=True)
class Subject:
    """An artefact on a target, with what it was made from and what it should give.

    Attributes:
        artefact: The variant's artefact.
        float_artefact: The fp32 artefact it was made from; the same one where there is none.
        oracle: Gives what is right.
        variant: The variant.
        target: Where it runs.
    """

    artefact: Artefact
    float_artefact: Artefact
    oracle: Oracle
    variant: Variant
    target: Target

    @property
    def reference(self) -> Reference:
        """The PyTorch model."""
        return self.oracle.reference

    @property
    def model(self) -> Model:
        """What the manifest says of the model."""
        return self.oracle.reference.model

    @property
    def names(self) -> tuple[str, str]:
        """The model's name and the variant's."""
        return self.model.name, self.variant.name

    @property
    def converted(self) -> bool:
        """Whether the artefact was made from an fp32 one that is there too."""
        return self.artefact.path != self.float_artefact.path
