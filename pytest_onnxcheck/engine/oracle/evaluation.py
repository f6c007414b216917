"""What a model scores on labelled samples, and how sure the drop of an artefact is.

The interval is a paired bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 13 and 16): samples are drawn with replacement, both sides are scored on the same draws,
and the interval spans the percentiles of the drop over all of them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import generator
from pytest_onnxcheck.engine.inputs.samples import Samples, joined, load_samples
from pytest_onnxcheck.engine.oracle.metrics import Metric, load_metric, samples_with
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest.sections import Accuracy

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["RESAMPLES", "Evaluation", "Task", "load_evaluation"]

#: draws of the bootstrap: what Efron & Tibshirani ask for where percentiles are wanted
RESAMPLES = 1000

#: share of the draws on which a metric may be undefined (no positive sample was drawn, say)
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True)
class Task:
    """What a model is asked: samples, and the metric of one of its outputs.

    Attributes:
        reference: The model.
        accuracy: What the manifest says.
        samples: The labelled samples.
        metric: The metric.
    """

    reference: Reference
    accuracy: Accuracy
    samples: Samples
    metric: Metric

    @property
    def output(self) -> str:
        """Name of the output that is judged."""
        return self.accuracy.output or next(iter(self.reference.model.outputs))

    @property
    def axis(self) -> int:
        """Axis of the output along which the classes lie."""
        return -1 if self.accuracy.axis is None else self.accuracy.axis

    @property
    def classes_lie(self) -> str:
        """The axis of the classes, in words."""
        return f"axis {self.axis} (accuracy.axis)"

    @property
    def where(self) -> str:
        """Model and key of the manifest, for errors."""
        return self.samples.where

    def answers(self, run: Callable[[dict[str, Array]], Array]) -> Array:
        """What one side says of every sample.

        Args:
            run: Gives the output for the inputs of a batch, by name.

        Returns:
            The predicted classes, in the shape of the labels; for other metrics the output as it
            is.

        Raises:
            InputError: The output has no answer for each sample.
        """
        by_class = self.metric.of_classes
        found = []
        for batch in self.samples.batches:
            output = run(batch.inputs)
            if output.ndim < 1 + by_class or len(output) != len(batch.labels):
                wanted = f"{self.classes_lie} the classes, for " if by_class else "for "
                raise InputError(
                    f"{self.where}: output {self.output!r} {list(output.shape)} for "
                    f"{len(batch.labels)} samples: its first axis must count the samples, "
                    f"{wanted}{self.metric.name}. Choose another with accuracy.output, or a "
                    "metric of your own"
                )
            found.append(self._predicted(output) if by_class else output)
        return joined(found, "outputs", self.where)

    def _predicted(self, output: Array) -> Array:
        """The classes an output predicts, int64; NaN, which predicts none, stays NaN as a float."""
        import numpy as np

        if not -output.ndim < self.axis < output.ndim:
            raise InputError(
                f"{self.where}: output {self.output!r} {list(output.shape)} has no axis "
                f"{self.axis} beside that of the samples: correct accuracy.axis"
            )
        classes: Array = output.argmax(axis=self.axis)
        if output.dtype.kind != "f":
            return classes
        undefined = np.isnan(output).any(axis=self.axis)
        return np.where(undefined, np.nan, classes) if undefined.any() else classes


@dataclass(frozen=True)
class Evaluation:
    """What PyTorch answers and scores, and how an artefact's answers compare.

    Attributes:
        task: What was asked.
        labels: The labels, [samples, ...]; int64 where they are classes.
        expected: PyTorch's answers, see `Task.answers`.
        torch: PyTorch's score.
    """

    task: Task
    labels: Array
    expected: Array
    torch: float

    def problem(self, answers: Array) -> str | None:
        """Why the artefact's answers have no metric; None when they have one."""
        if answers.shape != self.expected.shape:
            return f"shape {list(answers.shape)}, PyTorch's {list(self.expected.shape)}"
        metric = self.task.metric
        undefined = samples_with(metric.undefined(answers))
        return (
            f"{undefined} of {len(answers)} samples give {metric.no_number}" if undefined else None
        )

    def score(self, answers: Array) -> float:
        """The metric of answers.

        Raises:
            InputError: It fails, or is no finite number.
        """
        return self.task.metric.score(self.labels, answers)

    def drop(self, score: float) -> float:
        """How much worse a score is than PyTorch's; negative where it is better."""
        return self.task.metric.sign * (self.torch - score) + 0.0  # no -0.0

    def interval(self, answers: Array) -> tuple[float, float, int]:
        """Percentile interval of the drop, over the same draws of samples on both sides.

        Returns:
            Its lower end, its upper end, and how many draws are left out of it, as the metric of
            the user's own is undefined on them.

        Raises:
            InputError: More than 5% of the draws would be left out.
        """
        import numpy as np

        if np.array_equal(answers, self.expected):
            return 0.0, 0.0, 0
        torch, own = self._torch_resampled, self._resampled(answers)
        drops = self.task.metric.sign * (torch.scores - own.scores)
        defined = drops[~np.isnan(drops)]
        undefined = len(drops) - len(defined)
        if undefined > _MOST_UNDEFINED * len(drops):
            raise InputError(
                f"{own.problem or torch.problem}. So it is on {undefined} of {len(drops)} draws of "
                f"the samples, of which at most {_MOST_UNDEFINED:.0%} may be left out: give more "
                "samples of what is rare, or a metric that copes"
            )
        tail = (1 - self.task.accuracy.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high), undefined

    @cached_property
    def baseline(self) -> float | None:
        """What answering the most frequent class (mse: the mean) every time would score."""
        import numpy as np

        if self.task.metric.of_classes:
            classes, counts = np.unique(self.labels, return_counts=True)
            return self.score(np.full_like(self.labels, classes[counts.argmax()]))
        if self.task.metric.built_in:
            return self.score(np.broadcast_to(self.labels.mean(axis=0), self.labels.shape))
        return None

    @cached_property
    def _torch_resampled(self) -> _Resampled:
        return self._resampled(self.expected)

    def _resampled(self, answers: Array) -> _Resampled:
        """The metric on each draw of samples; every call makes the same draws."""
        import numpy as np

        samples = len(self.labels)
        rng = generator(self.task.reference.model, "accuracy", "resamples")
        score = self.task.metric.of_draw(self.labels, answers)
        scores = np.full(RESAMPLES, math.nan)
        problem = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is undefined is counted
            for draw in range(RESAMPLES):
                try:
                    scores[draw] = score(rng.integers(samples, size=samples))
                except InputError as error:
                    problem = error
        return _Resampled(scores, problem)


@dataclass(frozen=True)
class _Resampled:
    """Scores of the draws, [RESAMPLES], NaN where undefined, and why the last of those is."""

    scores: Array
    problem: InputError | None


def load_evaluation(reference: Reference) -> Evaluation:
    """Reads the samples and runs PyTorch on them.

    Raises:
        InputError: The samples are missing or do not fit the model or the metric, or PyTorch does
            not run on them.
    """
    accuracy = reference.model.accuracy
    assert accuracy is not None
    samples = load_samples(reference, accuracy)
    metric = load_metric(reference, accuracy.metric, accuracy.average, samples.where)
    task = Task(reference, accuracy, samples, metric)
    expected = _expected(task)
    labels = samples.labels.astype("int64") if metric.of_classes else samples.labels
    return Evaluation(task, labels, expected, metric.score(labels, expected))


def _expected(task: Task) -> Array:
    """PyTorch's answers, checked against the labels."""
    reference, metric = task.reference, task.metric
    index = list(reference.model.outputs).index(task.output)
    module = reference.copy()
    shapes: set[tuple[int, ...]] = set()

    def run(inputs: dict[str, Array]) -> Array:
        try:
            output = reference.run(inputs, module)[index]
        except InputError as error:
            text = str(error).removeprefix(f"{reference.model.name}: ")
            raise InputError(f"{task.where}: {text}") from error
        shapes.add(output.shape)
        return output

    expected = task.answers(run)
    undefined = samples_with(metric.undefined(expected))
    if undefined:
        raise InputError(
            f"{task.where}: PyTorch itself gives {metric.no_number} for {undefined} of "
            f"{len(expected)} samples: there is no {metric.name} of it. Leave them "
            "out, or set accuracy.metric to a callable that copes with it"
        )
    if metric.built_in:
        _check_labels(task, expected, shapes)
    if metric.of_classes:
        _check_classes(task, max(shape[task.axis] for shape in shapes))
    return expected


def _check_labels(task: Task, expected: Array, shapes: set[tuple[int, ...]]) -> None:
    """Whether the labels fit PyTorch's answers, and on one axis of its outputs only."""
    import numpy as np

    labels, metric = task.samples.labels, task.metric.name
    by_class = task.metric.of_classes
    fitting = _fitting_axes(labels, min(shapes)) if by_class else []
    others = "".join(f"; they would fit axis {axis}" for axis in fitting[:1])
    if labels.shape != expected.shape:
        wanted = "the output's own shape"
        if by_class:
            wanted = f"one class per prediction, {task.classes_lie} the classes{others}"
        raise InputError(
            f"{task.where}: labels {list(labels.shape)}, expected {list(expected.shape)}: "
            f"{metric} of output {task.output!r} takes {wanted}"
        )
    if len(fitting) > 1 and task.accuracy.axis is None:
        raise InputError(
            f"{task.where}: output {task.output!r} {list(min(shapes))} and labels "
            f"{list(labels.shape)} do not tell the axis of the classes: set accuracy.axis "
            f"to {' or '.join(map(str, fitting))}"
        )
    if by_class and labels.dtype.kind not in "iub":
        raise InputError(
            f"{task.where}: labels are {labels.dtype}, expected whole numbers, the "
            f"classes, for {metric}: give them with .astype('int64'), or set "
            'accuracy.metric = "mse" for a regression'
        )
    if labels.dtype.kind not in "iubf" or not np.isfinite(labels).all():
        raise InputError(
            f"{task.where}: labels ({labels.dtype}) hold what is no finite number: leave "
            "out those samples"
        )


def _check_classes(task: Task, classes: int) -> None:
    """Whether the labels are classes that the output has."""
    metric, labels = task.metric.name, task.samples.labels
    if classes < 2:
        raise InputError(
            f"{task.where}: axis {task.axis} of output {task.output!r} has {classes} element: "
            f"its largest is always the same, and {metric} says nothing. Set accuracy.metric "
            "to a callable of your own that sets a threshold"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise InputError(
            f"{task.where}: labels run from {low} to {high}, but output {task.output!r} has "
            f"the classes 0 to {classes - 1}: count labels from 0, and leave out padding"
        )
    if metric != "accuracy" and task.accuracy.average == "binary" and classes != 2:
        raise InputError(
            f"{task.where}: average = 'binary' is for the classes 0 and 1, and output "
            f"{task.output!r} has {classes}: set accuracy.average = 'macro'"
        )


def _fitting_axes(labels: Array, shape: tuple[int, ...]) -> list[int]:
    """Axes of an output, samples left out, without which it has the shape of the labels."""
    rest = labels.shape[1:]
    return [axis for axis in range(1, len(shape)) if shape[1:axis] + shape[axis + 1 :] == rest]
