"""Whether an accelerator runs an artefact's nodes, or leaves them to the CPU."""

from __future__ import annotations

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.assignment import assigned
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import TargetMeasurement

__all__ = ["measure"]


def measure(artefact: Artefact, reference: Reference, target: Target) -> TargetMeasurement:
    """Opens an artefact on an accelerator, runs the example, and asks who runs what.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there, does not run, or falls back as a whole.
    """
    session = open_session(artefact, target)
    before = session.handle.get_providers()
    inputs = example(reference)
    session.run(inputs)
    return assigned(session, artefact, inputs, before)
