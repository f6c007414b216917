"""A task metric of PyTorch and of an artefact on labelled data, and how sure its drop is.

The interval is a paired bootstrap (Efron & Tibshirani, An Introduction to the Bootstrap, 1993,
chapters 13 and 16): samples are drawn with replacement, both sides are scored on the same draws,
and the interval spans the percentiles of the drop over all of them.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.engine.inputs import (
    Runs,
    arrays_sha256,
    batch_dim,
    copied,
    generator,
    given_arrays,
    load_arrays,
    runs_of,
    seeded,
)
from pytest_onnxcheck.engine.reference import Reference, import_object, user_frames
from pytest_onnxcheck.engine.runtime import open_session
from pytest_onnxcheck.errors import CheckpointError, InputError, RunError
from pytest_onnxcheck.manifest.sections import Accuracy
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import AccuracyMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["RESAMPLES", "Evaluation", "measure"]

#: draws of the bootstrap: what Efron & Tibshirani ask for where percentiles are wanted
RESAMPLES = 1000

#: share of the draws on which a metric may be undefined (no positive sample was drawn, say)
_MOST_UNDEFINED = 0.05

_PAIRS = "an iterable of batches ({input: array}, labels)"
_OF_CLASSES = ("accuracy", "precision", "recall", "f1")
#: the others are callables of the user's own
_METRICS = (*_OF_CLASSES, "mse")


@dataclass(frozen=True)
class _Batch:
    """Inputs of one run by name, and the labels of its samples, which they count on axis 0."""

    inputs: dict[str, Array]
    labels: Array


def measure(artefact: Artefact, evaluation: Evaluation, target: Target) -> AccuracyMeasurement:
    """Scores an artefact, and sets it against PyTorch's score.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there, does not run on the samples, or gives NaN.
    """
    session = open_session(artefact, target)

    def run(inputs: dict[str, Array]) -> Array:
        outputs = dict(zip(session.outputs, session.run(inputs), strict=True))
        if evaluation.output not in outputs:
            raise RunError(
                f"{artefact.path}: gives outputs {', '.join(outputs)}, and none named "
                f"{evaluation.output!r}, which accuracy is measured on"
            )
        return outputs[evaluation.output]

    answers = evaluation.answers(run)
    problem = evaluation.problem(answers)
    if problem is not None:
        raise RunError(
            f"{artefact.path}: output {evaluation.output!r} on {evaluation.where}: {problem}; "
            "test_equivalence tells where it comes from"
        )
    score = evaluation.score(evaluation.labels, answers)
    low, high, undefined = evaluation.interval(answers)
    classes = evaluation.accuracy.metric in _OF_CLASSES
    return AccuracyMeasurement(
        target=target.name,
        provider=session.provider,
        metric=evaluation.accuracy.metric,
        data=evaluation.data,
        sha256=evaluation.sha256,
        samples=len(evaluation.labels),
        torch=evaluation.torch,
        onnxruntime=score,
        drop=evaluation.sign * (evaluation.torch - score) + 0.0,  # no -0.0
        low=low,
        high=high,
        confidence=evaluation.accuracy.confidence,
        changed=_samples(answers != evaluation.expected) if classes else None,
        baseline=evaluation.baseline,
        undefined=undefined,
    )


class Evaluation:
    """The labelled samples of a model, and what PyTorch scores on them.

    Everything is kept in memory while the model is checked, so that each variant meets the same
    samples.

    Attributes:
        reference: The model.
        accuracy: What the manifest says.
        where: Model and key of the manifest, for errors.
        data: Where the samples come from, for a person.
        sha256: Hash of the samples and labels.
        output: Name of the output that is judged.
        labels: The labels, [samples, ...].
        expected: PyTorch's answers: the predicted classes, int64 in the shape of the labels, or,
            for other metrics, the output as it is.
        torch: PyTorch's score.
        sign: 1 where a larger score is better, -1 for `mse`.
    """

    def __init__(self, reference: Reference) -> None:
        """Reads the samples and runs PyTorch on them.

        Raises:
            InputError: The samples are missing or do not fit the model or the metric, or PyTorch
                does not run on them.
        """
        model = reference.model
        assert model.accuracy is not None
        self.reference, self.accuracy = reference, model.accuracy
        self.data = self.accuracy.file or f"{self.accuracy.source}()"
        key = "file" if self.accuracy.file else "source"
        self.where = f"{model.name}: accuracy.{key} {self.data}"
        self.output = self.accuracy.output or next(iter(model.outputs))
        self.sign = -1 if self.accuracy.metric == "mse" else 1
        self._metric = self._load_metric()
        with seeded(model):
            self._batches = list(_batches(reference, self.accuracy, self.where))
        if not self._batches:
            raise InputError(
                f"{self.where}: gives no samples, expected {'arrays' if key == 'file' else _PAIRS}"
            )
        self.sha256 = arrays_sha256(
            arrays for batch in self._batches for arrays in (batch.inputs, {"labels": batch.labels})
        )
        self.labels = self._joined([batch.labels for batch in self._batches], "labels")
        if len(self.labels) < 2:
            raise InputError(
                f"{self.where}: gives {len(self.labels)} samples; there is no interval of fewer "
                "than 2, and hundreds are needed to tell a small drop"
            )
        self.expected = self._expected()
        if self.accuracy.metric in _OF_CLASSES:
            self.labels = self.labels.astype("int64")
        self.torch = self.score(self.labels, self.expected)

    def answers(self, run: Callable[[dict[str, Array]], Array]) -> Array:
        """What one side says of every sample: its predicted classes, or the output as it is."""
        by_class = self.accuracy.metric in _OF_CLASSES
        found = []
        for batch in self._batches:
            output = run(batch.inputs)
            if output.ndim < 1 + by_class or len(output) != len(batch.labels):
                wanted = f"{self._classes_lie} the classes, for " if by_class else "for "
                raise InputError(
                    f"{self.where}: output {self.output!r} {list(output.shape)} for "
                    f"{len(batch.labels)} samples: its first axis must count the samples, "
                    f"{wanted}{self.accuracy.metric}. Choose another with accuracy.output, or a "
                    "metric of your own"
                )
            found.append(self._predicted(output) if by_class else output)
        return self._joined(found, "outputs")

    def problem(self, answers: Array) -> str | None:
        """Why the artefact's answers have no metric; None when they have one."""
        if answers.shape != self.expected.shape:
            return f"shape {list(answers.shape)}, PyTorch's {list(self.expected.shape)}"
        undefined = _samples(self._undefined(answers))
        return (
            f"{undefined} of {len(answers)} samples give {self._no_number}" if undefined else None
        )

    def score(self, labels: Array, answers: Array) -> float:
        """The metric.

        Raises:
            InputError: It fails, or is no finite number.
        """
        import numpy as np

        try:
            value = float(self._metric(labels, answers))
        except Exception as error:
            raise InputError(
                f"{self.where}: metric {self.accuracy.metric!r} failed on labels "
                f"{list(labels.shape)} {labels.dtype} and outputs {list(answers.shape)} "
                f"{answers.dtype}: {type(error).__name__}: {error}"
            ) from error
        if not np.isfinite(value):
            raise InputError(
                f"{self.where}: metric {self.accuracy.metric!r} gives {value} on "
                f"{len(labels)} samples; expected a finite number for any draw of them"
            )
        return value

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
        drops = self.sign * (self._torch_resampled - self._resampled(answers))
        defined = drops[~np.isnan(drops)]
        undefined = len(drops) - len(defined)
        if undefined > _MOST_UNDEFINED * len(drops):
            raise InputError(
                f"{self._problem}. So it is on {undefined} of {len(drops)} draws of the samples, "
                f"of which at most {_MOST_UNDEFINED:.0%} may be left out: give more samples of "
                "what is rare, or a metric that copes"
            )
        tail = (1 - self.accuracy.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high), undefined

    @cached_property
    def baseline(self) -> float | None:
        """What answering the most frequent class (mse: the mean) every time would score."""
        import numpy as np

        if self.accuracy.metric in _OF_CLASSES:
            classes, counts = np.unique(self.labels, return_counts=True)
            return self.score(self.labels, np.full_like(self.labels, classes[counts.argmax()]))
        if self.accuracy.metric == "mse":
            mean = np.broadcast_to(self.labels.mean(axis=0), self.labels.shape)
            return self.score(self.labels, mean)
        return None

    @cached_property
    def _torch_resampled(self) -> Array:
        return self._resampled(self.expected)

    def _resampled(self, answers: Array) -> Array:
        """The metric on each draw of samples, [RESAMPLES]; every call makes the same draws."""
        import numpy as np

        samples = len(self.labels)
        rng = generator(self.reference.model, "accuracy", "resamples")
        on = self._of_draw(answers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is undefined is counted
            return np.array([on(rng.integers(samples, size=samples)) for _ in range(RESAMPLES)])

    def _of_draw(self, answers: Array) -> Callable[[Array], float]:
        """The metric of a draw, from the indices of its samples.

        What can be counted once a sample, or once a pair of label and prediction, is.
        """
        labels, metric = self.labels, self.accuracy.metric
        if metric == "accuracy":
            shares = _by_sample(answers == labels).mean(axis=1)
            return lambda drawn: float(shares[drawn].mean())
        if metric == "mse":
            from sklearn.metrics import mean_squared_error

            sides = _by_sample(labels).T, _by_sample(answers).T
            errors = mean_squared_error(*sides, multioutput="raw_values")
            return lambda drawn: float(errors[drawn].mean())
        if metric in _OF_CLASSES:
            return _of_pairs(self._metric, labels, answers)
        return lambda drawn: self._own(labels[drawn], answers[drawn])

    def _own(self, labels: Array, answers: Array) -> float:
        """A metric of the user's own on a draw; NaN where it is undefined."""
        try:
            return self.score(labels, answers)
        except InputError as error:
            self._problem = error
            return float("nan")

    def _load_metric(self) -> Callable[..., Any]:
        """The metric as a function of labels and answers."""
        name = self.accuracy.metric
        if name not in _METRICS:
            try:
                return import_object(name, self.reference.model.root)
            except CheckpointError as error:
                raise InputError(
                    f"{self.reference.model.name}: accuracy.metric: {error}"
                ) from error
        try:
            from sklearn import metrics
        except ImportError as error:
            raise InputError(
                f"{self.reference.model.name}: accuracy.metric {name!r} needs scikit-learn "
                f"({error}): pip install 'pytest-onnxcheck[metrics]'"
            ) from error
        if name == "accuracy":
            return lambda labels, answers: metrics.accuracy_score(labels.ravel(), answers.ravel())
        if name == "mse":
            return lambda labels, answers: metrics.mean_squared_error(
                _by_sample(labels), _by_sample(answers)
            )
        score = getattr(metrics, f"{name}_score")
        averaged = functools.partial(score, average=self.accuracy.average, zero_division=0)
        return lambda labels, answers, **weights: averaged(
            labels.ravel(), answers.ravel(), **weights
        )

    def _expected(self) -> Array:
        """PyTorch's answers, checked against the labels."""
        import copy

        index = list(self.reference.model.outputs).index(self.output)
        module = copy.deepcopy(self.reference.module)
        shapes: set[tuple[int, ...]] = set()

        def run(inputs: dict[str, Array]) -> Array:
            try:
                output = self.reference.run(inputs, module)[index]
            except InputError as error:
                text = str(error).removeprefix(f"{self.reference.model.name}: ")
                raise InputError(f"{self.where}: {text}") from error
            shapes.add(output.shape)
            return output

        expected = self.answers(run)
        undefined = _samples(self._undefined(expected))
        if undefined:
            raise InputError(
                f"{self.where}: PyTorch itself gives {self._no_number} for {undefined} of "
                f"{len(expected)} samples: there is no {self.accuracy.metric} of it. Leave them "
                "out, or set accuracy.metric to a callable that copes with it"
            )
        if self.accuracy.metric in _METRICS:
            self._check_labels(expected, shapes)
        if self.accuracy.metric in _OF_CLASSES:
            self._check_classes(max(shape[self._axis] for shape in shapes))
        return expected

    def _check_labels(self, expected: Array, shapes: set[tuple[int, ...]]) -> None:
        """Whether the labels fit PyTorch's answers, and on one axis of its outputs only."""
        import numpy as np

        metric, kind = self.accuracy.metric, self.labels.dtype.kind
        fitting = self._fitting_axes(shapes) if metric in _OF_CLASSES else []
        others = "".join(f"; they would fit axis {axis}" for axis in fitting[:1])
        if self.labels.shape != expected.shape:
            wanted = "the output's own shape"
            if metric in _OF_CLASSES:
                wanted = f"one class per prediction, {self._classes_lie} the classes{others}"
            raise InputError(
                f"{self.where}: labels {list(self.labels.shape)}, expected {list(expected.shape)}: "
                f"{metric} of output {self.output!r} takes {wanted}"
            )
        if len(fitting) > 1 and self.accuracy.axis is None:
            raise InputError(
                f"{self.where}: output {self.output!r} {list(min(shapes))} and labels "
                f"{list(self.labels.shape)} do not tell the axis of the classes: set accuracy.axis "
                f"to {' or '.join(map(str, fitting))}"
            )
        if metric in _OF_CLASSES and kind not in "iub":
            raise InputError(
                f"{self.where}: labels are {self.labels.dtype}, expected whole numbers, the "
                f"classes, for {metric}: give them with .astype('int64'), or set "
                'accuracy.metric = "mse" for a regression'
            )
        if kind not in "iubf" or not np.isfinite(self.labels).all():
            raise InputError(
                f"{self.where}: labels ({self.labels.dtype}) hold what is no finite number: leave "
                "out those samples"
            )

    def _check_classes(self, classes: int) -> None:
        """Whether the labels are classes that the output has."""
        metric = self.accuracy.metric
        if classes < 2:
            raise InputError(
                f"{self.where}: axis {self._axis} of output {self.output!r} has {classes} element: "
                f"its largest is always the same, and {metric} says nothing. Set accuracy.metric "
                "to a callable of your own that sets a threshold"
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= classes:
            raise InputError(
                f"{self.where}: labels run from {low} to {high}, but output {self.output!r} has "
                f"the classes 0 to {classes - 1}: count labels from 0, and leave out padding"
            )
        if metric != "accuracy" and self.accuracy.average == "binary" and classes != 2:
            raise InputError(
                f"{self.where}: average = 'binary' is for the classes 0 and 1, and output "
                f"{self.output!r} has {classes}: set accuracy.average = 'macro'"
            )

    @property
    def _axis(self) -> int:
        return -1 if self.accuracy.axis is None else self.accuracy.axis

    @property
    def _classes_lie(self) -> str:
        return f"axis {self._axis} (accuracy.axis)"

    def _fitting_axes(self, shapes: set[tuple[int, ...]]) -> list[int]:
        """Axes of an output, samples left out, without which it has the shape of the labels."""
        shape = min(shapes)
        rest = self.labels.shape[1:]
        return [axis for axis in range(1, len(shape)) if shape[1:axis] + shape[axis + 1 :] == rest]

    def _predicted(self, output: Array) -> Array:
        """The classes an output predicts, int64; NaN, which predicts none, stays NaN as a float."""
        import numpy as np

        if not -output.ndim < self._axis < output.ndim:
            raise InputError(
                f"{self.where}: output {self.output!r} {list(output.shape)} has no axis "
                f"{self._axis} beside that of the samples: correct accuracy.axis"
            )
        classes: Array = output.argmax(axis=self._axis)
        if output.dtype.kind != "f":
            return classes
        undefined = np.isnan(output).any(axis=self._axis)
        return np.where(undefined, np.nan, classes) if undefined.any() else classes

    @property
    def _no_number(self) -> str:
        return "NaN or infinity" if self.accuracy.metric == "mse" else "NaN"

    def _undefined(self, answers: Array) -> Array:
        """Where there is nothing to score; a callable of the user's own copes by itself."""
        import numpy as np

        if answers.dtype.kind != "f" or self.accuracy.metric not in _METRICS:
            return np.zeros(answers.shape, bool)
        return ~np.isfinite(answers) if self.accuracy.metric == "mse" else np.isnan(answers)

    def _joined(self, parts: list[Array], what: str) -> Array:
        import numpy as np

        try:
            joined = np.concatenate(parts)
        except ValueError as error:
            shapes = ", ".join(map(str, sorted({part.shape[1:] for part in parts}, key=str)))
            raise InputError(
                f"{self.where}: {what} of different batches differ in shape beyond the first axis "
                f"({shapes}): pad the samples to one size"
            ) from error
        return joined


def _batches(reference: Reference, accuracy: Accuracy, where: str) -> Iterator[_Batch]:
    """The samples, at most `count` of them, checked against the declared inputs."""
    left = accuracy.count
    for index, given in enumerate(_raw_batches(reference, accuracy, where)):
        if left == 0:
            return
        batch = _checked(reference, f"{where}: batch {index}", given, left)
        left = None if left is None else left - len(batch.labels)
        yield batch


def _raw_batches(reference: Reference, accuracy: Accuracy, where: str) -> Iterator[Any]:
    """Yields `(inputs, labels)`, of a file in batches, of a source as it gives them."""
    model = reference.model
    if accuracy.file is not None:
        yield from _of_file(reference, accuracy, where)
        return
    assert accuracy.source is not None
    try:
        function = import_object(accuracy.source, model.root)
    except CheckpointError as error:
        raise InputError(f"{where}: {error}") from error
    try:
        for given in function():
            yield _owned(given)
    except Exception as error:
        raise InputError(
            f"{where} failed, expected {_PAIRS}: {type(error).__name__}: {error}\n"
            f"{user_frames(error)}"
        ) from error


def _of_file(reference: Reference, accuracy: Accuracy, where: str) -> Iterator[Any]:
    assert accuracy.file is not None
    names = list(reference.model.inputs)
    try:
        arrays = load_arrays(reference.model.root / accuracy.file, [*names, accuracy.labels])
    except InputError as error:
        raise InputError(
            f"{where}: {error}. Expected a .npz with one array per input ({', '.join(names)}) and "
            f"labels as {accuracy.labels!r} (accuracy.labels)"
        ) from error
    labels = arrays.pop(accuracy.labels)
    cut = _runs(reference, accuracy.batch, where, arrays)
    each = next((_in_run(reference, name, cut[name]) for name in _axes(reference)), 1)
    numbers = {*map(len, cut.values()), math.ceil(len(labels) / each) if labels.ndim else -1}
    if len(numbers) > 1:
        raise _uneven(reference, where, arrays, labels)
    for run in range(numbers.pop()):
        inputs = {name: runs[run] for name, runs in cut.items()}
        yield inputs, labels[run * each : (run + 1) * each]


def _runs(
    reference: Reference, batch: int, where: str, arrays: dict[str, Array]
) -> dict[str, Runs]:
    dim = batch_dim(reference)
    together = all(
        reference.shapes[name][:1] == (dim,) and array.ndim == len(reference.shapes[name])
        for name, array in arrays.items()
    )
    found = {}
    for name, array in arrays.items():
        declared = reference.shapes[name]
        runs = runs_of(reference, name, array, batch if together else 1)
        if runs.rows is None and array.ndim != len(declared) + 1:
            raise InputError(
                f"{where}: input {name!r} {list(array.shape)} of shape "
                f"[{', '.join(map(str, declared))}] cannot be cut into samples: its first axis "
                "must count them, as the batch, or count whole inputs, as one axis more"
            )
        found[name] = runs
    return found


def _in_run(reference: Reference, name: str, runs: Runs) -> int:
    """Samples in a run, by an input that counts them."""
    return runs.rows or runs.array.shape[1 + _axes(reference)[name]]


def _owned(given: Any) -> Any:
    """A pair of inputs and labels as new arrays; what is none stays as it is."""
    if not isinstance(given, tuple | list) or len(given) != 2 or not isinstance(given[0], Mapping):
        return given
    return {name: copied(value) for name, value in given[0].items()}, copied(given[1])


def _checked(reference: Reference, where: str, given: Any, most: int | None) -> _Batch:
    """One batch, of at most so many samples."""
    import numpy as np

    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"{where} is a {type(given).__name__}, expected a pair ({{input: array}}, labels)"
        )
    model = reference.model
    inputs = given_arrays(model, where.removeprefix(f"{model.name}: "), given[0])
    labels = np.asarray(given[1])
    axes = _axes(reference)
    counted = {inputs[name].shape[axis : axis + 1] for name, axis in axes.items()}
    if {labels.shape[:1], *counted} != {labels.shape[:1]} or not labels.ndim:
        raise _uneven(reference, where, inputs, labels)
    size = _fixed_size(reference)
    if size is not None and min(len(labels), most or len(labels)) != size:
        raise InputError(
            f"{where} has {min(len(labels), most or len(labels))} samples, but the inputs are "
            f"declared with {size} on their first axis: give whole batches of {size} (count: a "
            "multiple of it), or make the axis a dim"
        )
    taken = {
        name: array[(*[slice(None)] * axes[name], slice(most))] if name in axes else array
        for name, array in inputs.items()
    }
    return _Batch(taken, labels[:most])


def _uneven(
    reference: Reference, where: str, inputs: dict[str, Array], labels: Array
) -> InputError:
    shapes = ", ".join(
        f"{name} {list(array.shape)}" for name, array in {**inputs, "labels": labels}.items()
    )
    first = not any(_axes(reference).values())
    axis = "first axis of each array" if first else f"axis {batch_dim(reference)!r} of each input"
    return InputError(f"{where}: the {axis} must count the samples: {shapes}")


def _axes(reference: Reference) -> dict[str, int]:
    """The axis that counts samples, of the inputs that have one.

    It is the batch, wherever it stands; where there is none, a first axis with a fixed size.
    """
    dim, shapes = batch_dim(reference), reference.shapes
    if dim is not None:
        return {name: shape.index(dim) for name, shape in shapes.items() if dim in shape}
    return {name: 0 for name, shape in shapes.items() if shape and isinstance(shape[0], int)}


def _fixed_size(reference: Reference) -> int | None:
    """Samples in a run, where the inputs are declared with their number."""
    first = (reference.shapes[name][axis] for name, axis in _axes(reference).items())
    return next((size for size in first if isinstance(size, int)), None)


def _of_pairs(
    metric: Callable[..., float], labels: Array, answers: Array
) -> Callable[[Array], float]:
    """A metric of scikit-learn on a draw, with each pair of label and prediction by its weight."""
    import numpy as np

    rows = np.stack([labels.ravel(), answers.ravel()])
    pairs, pair_of_row = np.unique(rows, axis=1, return_inverse=True)
    samples, rows_each = len(labels), labels[0].size

    def on(drawn: Array) -> float:
        times = np.repeat(np.bincount(drawn, minlength=samples), rows_each)
        weights = np.bincount(pair_of_row.ravel(), weights=times, minlength=pairs.shape[1])
        held = weights > 0
        return float(metric(*pairs[:, held], sample_weight=weights[held]))

    return on


def _by_sample(array: Array) -> Array:
    """[samples, ...] as [samples, rest]; floats in double."""
    import numpy as np

    flat: Array = array.reshape(len(array), -1)
    return np.asarray(flat, "float64") if flat.dtype.kind == "f" else flat


def _samples(rows: Array) -> int:
    """How many samples have a true row."""
    return int(_by_sample(rows).any(axis=1).sum())
