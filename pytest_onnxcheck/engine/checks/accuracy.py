"""Accuracy: an artefact's task metric on labelled samples, against PyTorch's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.oracle.evaluation import Evaluation
from pytest_onnxcheck.engine.oracle.metrics import samples_with
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import AccuracyMeasurement
from pytest_onnxcheck.progress import staged

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["measure"]


@staged("scoring", lambda artefact, evaluation, *_: (evaluation.task.reference.model.name,))
def measure(artefact: Artefact, evaluation: Evaluation, target: Target) -> AccuracyMeasurement:
    """Scores an artefact, and sets it against PyTorch's score.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there, does not run on the samples, or gives NaN.
    """
    session = open_session(artefact, target)
    task = evaluation.task

    def run(inputs: dict[str, Array]) -> Array:
        outputs = dict(zip(session.outputs, session.run(inputs), strict=True))
        if task.output not in outputs:
            raise RunError(
                f"{artefact.path}: gives outputs {', '.join(outputs)}, and none named "
                f"{task.output!r}, which accuracy is measured on"
            )
        return outputs[task.output]

    answers = task.answers(run)
    problem = evaluation.problem(answers)
    if problem is not None:
        raise RunError(
            f"{artefact.path}: output {task.output!r} on {task.where}: {problem}; "
            "test_equivalence tells where it comes from"
        )
    score = evaluation.score(answers)
    low, high, undefined = evaluation.interval(answers)
    by_class = task.metric.of_classes
    return AccuracyMeasurement(
        target=target.name,
        provider=session.provider,
        metric=task.metric.name,
        data=task.samples.data,
        sha256=task.samples.sha256,
        samples=len(evaluation.labels),
        torch=evaluation.torch,
        onnxruntime=score,
        drop=evaluation.drop(score),
        low=low,
        high=high,
        confidence=task.accuracy.confidence,
        changed=samples_with(answers != evaluation.expected) if by_class else None,
        baseline=evaluation.baseline,
        undefined=undefined,
    )
