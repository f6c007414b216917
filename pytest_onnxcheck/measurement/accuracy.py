"""What an artefact loses at its task."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AccuracyMeasurement"]


@dataclass(frozen=True)
class AccuracyMeasurement:
    """A task metric of PyTorch and of one artefact on the same samples.

    Attributes:
        target: The target.
        provider: The provider that ran.
        metric: The metric's name.
        data: Where the samples came from, for a person.
        sha256: Hash of the samples and labels.
        samples: How many samples.
        torch: PyTorch's metric.
        onnxruntime: The artefact's metric.
        drop: How much worse the artefact is: their difference, with the sign that makes a loss
            positive.
        low: Lower end of the paired bootstrap interval of the drop.
        high: Upper end of it.
        confidence: Confidence of the interval.
        changed: Samples whose prediction differs; None where there are no predicted classes.
        baseline: What the most frequent class (mse: the mean label) would score when it is all
            that is ever answered; None for a metric of the user's own.
        undefined: Draws of the bootstrap that were left out, as the metric of the user's own is
            undefined on them.
    """

    target: str
    provider: str
    metric: str
    data: str
    sha256: str
    samples: int
    torch: float
    onnxruntime: float
    drop: float
    low: float
    high: float
    confidence: float
    changed: int | None = None
    baseline: float | None = None
    undefined: int = 0
