"""Task metrics: the share of what is right, scikit-learn's, and callables of the user's own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import CheckpointError, InputError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Metric", "load_metric", "samples_with"]

_OF_CLASSES = ("accuracy", "precision", "recall", "f1")


@dataclass(frozen=True)
class Metric:
    """A metric of labels and answers.

    Attributes:
        name: The manifest's word for it.
        where: Where the samples come from, for errors.
        function: Takes labels and answers of one shape; scikit-learn's `sample_weight` too where
            answers are classes, the share of correct ones apart.
    """

    name: str
    where: str
    function: Callable[..., Any]

    @property
    def of_classes(self) -> bool:
        """Whether answers are predicted classes; else they are outputs as they are."""
        return self.name in _OF_CLASSES

    @property
    def built_in(self) -> bool:
        """Whether it is the plugin's or scikit-learn's; the others are the user's own callables."""
        return self.of_classes or self.name == "mse"

    @property
    def sign(self) -> int:
        """1 where a larger score is better, -1 for `mse`."""
        return -1 if self.name == "mse" else 1

    @property
    def no_number(self) -> str:
        """What an answer must not be, in words."""
        return "NaN or infinity" if self.name == "mse" else "NaN"

    def undefined(self, answers: Array) -> Array:
        """Where there is nothing to score, in the answers' shape.

        A callable of the user's own copes by itself.
        """
        import numpy as np

        if answers.dtype.kind != "f" or not self.built_in:
            return np.zeros(answers.shape, bool)
        return ~np.isfinite(answers) if self.name == "mse" else np.isnan(answers)

    def score(self, labels: Array, answers: Array) -> float:
        """The metric.

        Raises:
            InputError: It fails, or is no finite number.
        """
        import numpy as np

        try:
            value = float(self.function(labels, answers))
        except Exception as error:
            raise InputError(
                f"{self.where}: metric {self.name!r} failed on labels "
                f"{list(labels.shape)} {labels.dtype} and outputs {list(answers.shape)} "
                f"{answers.dtype}: {type(error).__name__}: {error}"
            ) from error
        if not np.isfinite(value):
            raise InputError(
                f"{self.where}: metric {self.name!r} gives {value} on "
                f"{len(labels)} samples; expected a finite number for any draw of them"
            )
        return value

    def of_draw(self, labels: Array, answers: Array) -> Callable[[Array], float]:
        """The metric of a draw, from the indices of its samples.

        What can be counted once a sample, or once a pair of label and prediction, is.

        Returns:
            A function that raises `InputError` where a metric of the user's own is undefined.
        """
        if self.name == "accuracy":
            shares = _by_sample(answers == labels).mean(axis=1)
            return lambda drawn: float(shares[drawn].mean())
        if self.name == "mse":
            from sklearn.metrics import mean_squared_error

            sides = _by_sample(labels).T, _by_sample(answers).T
            errors = mean_squared_error(*sides, multioutput="raw_values")
            return lambda drawn: float(errors[drawn].mean())
        if self.of_classes:
            return _of_pairs(self.function, labels, answers)
        return lambda drawn: self.score(labels[drawn], answers[drawn])


def load_metric(reference: Reference, name: str, average: str, where: str) -> Metric:
    """The metric that the manifest names.

    A share of correct answers needs no scikit-learn, whose import takes a second.

    Args:
        reference: The model.
        name: `accuracy`, `precision`, `recall`, `f1`, `mse` or `module:callable`.
        average: How scikit-learn averages over classes.
        where: See `Metric`.

    Raises:
        InputError: It cannot be imported.
    """
    model = reference.model
    if name not in (*_OF_CLASSES, "mse"):
        try:
            return Metric(name, where, import_object(name, model.root))
        except CheckpointError as error:
            raise InputError(f"{model.name}: accuracy.metric: {error}") from error
    if name == "accuracy":
        return Metric(name, where, lambda labels, answers: (labels == answers).mean())
    try:
        from sklearn import metrics
    except ImportError as error:
        raise InputError(
            f"{model.name}: accuracy.metric {name!r} needs scikit-learn "
            f"({error}): pip install 'pytest-onnxcheck[metrics]'"
        ) from error
    if name == "mse":
        return Metric(
            name,
            where,
            lambda labels, answers: metrics.mean_squared_error(
                _by_sample(labels), _by_sample(answers)
            ),
        )
    score = functools.partial(getattr(metrics, f"{name}_score"), average=average, zero_division=0)
    return Metric(
        name,
        where,
        lambda labels, answers, **weights: score(labels.ravel(), answers.ravel(), **weights),
    )


def samples_with(rows: Array) -> int:
    """How many samples have a true element, of [samples, ...]."""
    return int(_by_sample(rows).any(axis=1).sum())


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
