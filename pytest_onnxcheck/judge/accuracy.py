"""Judges what an artefact loses at its task."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_onnxcheck.measurement import AccuracyMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["accuracy"]

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS

#: Samples that nobody has: a number beyond it is not worth telling.
_MOST = 1e9


def accuracy(measured: AccuracyMeasurement, max_drop: float | None) -> Verdict:
    """Judges the drop of a task metric by its confidence interval.

    It fails when the whole interval is above `max_drop`, and passes when none of it is. Between
    the two, the samples are too few to tell, and it warns.

    The bootstrap knows only the samples it has: where no prediction changed, its interval is
    [0, 0] for two samples as for two thousand. A pass therefore also takes enough samples to have
    shown a drop of `max_drop`: a share d of changed samples shows in none of n with probability
    (1 - d)^n <= exp(-n d), which is at most 1 - confidence from n = -ln(1 - confidence) / d on,
    3 / d for 95% (the rule of three: Hanley & Lippman-Hand, JAMA 249, 1983). Fewer changed
    samples of a rare class can drop an average over classes (precision, recall, f1) by d: there
    the rule is necessary, not sufficient.

    `max_drop = 0` asks for something no number of samples proves, since a drop may always be
    smaller: it passes when nothing was lost on these ones.

    Args:
        measured: The scores and the interval of their drop.
        max_drop: Largest drop allowed, in the metric's units; None only tells it.
    """
    return Verdict.of([_drop(measured, max_drop), *_vacuous(measured)])


def _drop(measured: AccuracyMeasurement, allowed: float | None) -> Finding:
    text = (
        f"{_shown(measured, measured.onnxruntime)} (PyTorch {_shown(measured, measured.torch)}), "
        f"drop {_shown(measured, measured.drop)}, {100 * measured.confidence:g}% interval "
        f"[{_shown(measured, measured.low)}, {_shown(measured, measured.high)}] of "
        f"{measured.samples} samples"
    )
    if measured.changed is not None:
        text += f", {measured.changed} predicted otherwise"
    if measured.undefined:
        text += f", {measured.undefined} draws left out, on which it is undefined"
    if allowed is None:
        return Finding(_PASS, measured.metric, text)
    text += f", allowed {allowed:g} (accuracy.max_drop)"
    if measured.low > allowed:
        return Finding(_FAIL, measured.metric, text)
    doubt = _doubt(measured, allowed)
    if doubt is not None:
        return Finding(_WARN, measured.metric, f"{text}: {doubt}")
    return Finding(_PASS, measured.metric, text)


def _doubt(measured: AccuracyMeasurement, allowed: float) -> str | None:
    """Why the samples cannot tell whether the drop is allowed; None when they can."""
    if allowed == 0:
        if measured.drop <= 0:
            return None
        return (
            "the loss may be chance, and no number of samples proves that nothing at all is lost: "
            "allow a drop"
        )
    least = _least(measured, allowed)
    if least > _MOST:
        return (
            f"a drop of {allowed:g} takes more samples to show than there are; allow a larger one, "
            "or 0 (nothing is lost on these samples)"
        )
    if measured.high > allowed:
        needed = max(_narrow(measured, allowed), least)
        if needed > _MOST:
            return "too few samples to tell, and the drop is just what is allowed"
        return (
            f"too few samples to tell; about {_rounded(needed)} would, if the drop stays as it is"
        )
    if measured.samples < least:
        missed = math.exp(-measured.samples * allowed)
        return (
            f"too few samples to tell: a drop of {allowed:g} would show in none of "
            f"{measured.samples} with probability {missed:.2f}; give at least {math.ceil(least)}"
        )
    return None


def _least(measured: AccuracyMeasurement, allowed: float) -> float:
    """Samples from which on a drop as large as allowed shows in one of them; 0 if it always does.

    A squared error changes with every rounding; what a metric of the user's own does is unknown,
    and it is held to this only where none of the draws moved it.
    """
    by_class = measured.changed is not None
    unmoved = measured.metric != "mse" and measured.low == measured.high
    if not by_class and not unmoved:
        return 0
    return -math.log(1 - measured.confidence) / allowed


def _narrow(measured: AccuracyMeasurement, allowed: float) -> float:
    """Samples whose interval would end at what is allowed; its width goes with 1 / sqrt(n)."""
    drop = measured.drop
    gap = abs(drop - allowed)
    reach = drop - measured.low if drop > allowed else measured.high - drop
    return measured.samples * (reach / gap) * (reach / gap) if gap else math.inf


def _rounded(samples: float) -> str:
    """Two significant digits, upwards."""
    unit = 10 ** max(0, math.floor(math.log10(samples)) - 1)
    return f"{math.ceil(samples / unit) * unit:,}"


def _vacuous(measured: AccuracyMeasurement) -> Iterator[Finding]:
    """PyTorch itself is no better than an answer that is always the same."""
    baseline = measured.baseline
    if baseline is None:
        return
    smaller = measured.metric == "mse"
    if (measured.torch >= baseline) if smaller else (measured.torch <= baseline):
        answer = "the mean label" if smaller else "the most frequent class"
        yield Finding(
            _WARN,
            measured.metric,
            f"PyTorch itself scores {_shown(measured, measured.torch)}, and always answering "
            f"{answer} {_shown(measured, baseline)}: nothing can be lost that is not there. Look "
            "at the checkpoint, and at the order and numbering of the labels",
            inconclusive=True,
        )


def _shown(measured: AccuracyMeasurement, value: float) -> str:
    """Four decimals for shares; four digits for what has units of its own."""
    return f"{value:.4f}" if measured.changed is not None else f"{value:.4g}"
