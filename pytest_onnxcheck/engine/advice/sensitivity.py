"""Which nodes of a static int8 artefact lose most, and what leaving them in float does."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.advice.own_loss import Layer, layers
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import quantization
from pytest_onnxcheck.engine.checks.case import measure_case
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.graph.operators import WEIGHTED
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.writing import quantization_table
from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    Exclusion,
    SensitivityMeasurement,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Build", "measure", "measure_cases"]

#: makes the artefact of a variant
Build = Callable[[Variant], Artefact]

_Attempt = Callable[[Sequence[str]], tuple[Exclusion, bool]]

#: how many of the worst nodes are told
_TOLD = 8

#: a node's own loss, in dB, below which it decides
_BAD = 20.0

#: a node whose quantization makes the loss of the whole this many times larger stays in float
_MATTERS = 2.0


def measure(
    subject: Subject,
    case: Case,
    *,
    build: Build,
    failure: Failure,
    seconds: float,
) -> SensitivityMeasurement:
    """Ranks the nodes by their own loss, and finds a smallest set to leave in float.

    The worst are left in float, more at a time, until it no longer fails; then whatever need not be
    among them is quantized again. An artefact that loses little enough is held to its size and
    coverage too. Where no part of the nodes will do, all of them are tried.

    Args:
        subject: What it is about; its artefact is a static int8 one.
        case: Inputs to measure the loss on; beside the declared ones, also to judge by.
        build: Makes the artefact of a variant.
        failure: Says what fails of a measurement of a variant.
        seconds: How long to try; none is begun that would take longer if it took as long as the
            last.

    Raises:
        StageError: The artefact does not run, or the quantizer refuses it.
    """
    started = time.monotonic()
    variant, float_artefact = subject.variant, subject.float_artefact
    excluded = variant.quantization.exclude_nodes or ()
    libraries = subject.target.libraries
    ranked = layers(float_artefact.path, subject.artefact.path, case.inputs, excluded, libraries)
    cases = {each.name: each for each in (*subject.oracle.declared, case)}
    trials = _Trials(started + seconds)

    def attempt(nodes: Sequence[str]) -> tuple[Exclusion, bool]:
        whole = {*nodes} >= {layer.loss.value for layer in ranked}
        changed = _leaving(variant, (*excluded, *nodes))
        try:
            built = float_artefact if whole else build(changed)
        except StageError as error:
            return Exclusion((*excluded, *nodes), None, 1.0, str(error)), False
        measured = measure_cases(
            dataclasses.replace(subject, artefact=built, variant=changed), cases.values()
        )
        size_ratio = built.size_bytes / float_artefact.size_bytes
        lossy = costly = failure(measured, changed)
        if whole:
            costly = _of_all(lossy, trials.tried)
        elif lossy is None:
            file = quantization.measure(built, float_artefact, subject.reference, changed)
            costly = failure(file, changed)
            costly = costly or ("no smaller than fp32" if size_ratio >= 1 else None)
        named = (*excluded, *nodes)
        return Exclusion(named, measured.worst("rel_rms"), size_ratio, costly), lossy is None

    complete = trials.search(attempt, ranked)
    toml = None
    if trials.tried and trials.tried[-1].problem is None:
        options = {"exclude_nodes": trials.tried[-1].nodes}
        toml = quantization_table(subject.model, variant, options)
    losses = tuple(layer.loss for layer in ranked[:_TOLD])
    return SensitivityMeasurement(losses, tuple(trials.tried), toml, complete)


class _Trials:
    """The sets of nodes left in float so far, until the time is over.

    Attributes:
        tried: What came of them; the last is the smallest that loses little enough, if one does.
    """

    def __init__(self, until: float) -> None:
        self.tried: list[Exclusion] = []
        self._until = until
        self._last = 0.0
        #: sets of nodes that are not enough, and neither is any part of them
        self._too_few: list[set[str]] = []
        self._over = False

    def search(self, attempt: _Attempt, ranked: Sequence[Layer]) -> bool:
        """Looks for a smallest set of nodes.

        Args:
            attempt: What leaving nodes in float gives, and whether that loses little enough.
            ranked: The nodes, the worst first.

        Returns:
            Whether all was tried that there is to try, so that the last of `tried` is the answer.
        """
        for nodes in (*_selections(ranked), tuple(layer.loss.value for layer in ranked)):
            if nodes and self._sufficient(attempt, nodes):
                return self._shrink(attempt, self._widened(attempt, nodes, ranked), ranked)
            if self._over:
                return False
        return True

    def _widened(
        self, attempt: _Attempt, nodes: Sequence[str], ranked: Sequence[Layer]
    ) -> Sequence[str]:
        """Sufficient nodes, with those that lose as much as they where these make it far better."""
        best = self.tried[-1]
        bad = [layer for layer in ranked if layer.loss.sqnr_db < _BAD]
        around = [name for layer in bad for name in (*layer.neighbours, *layer.readers)]
        wider = tuple(dict.fromkeys((*nodes, *around)))
        weighted = {each.loss.value for each in ranked if each.loss.operator in WEIGHTED}
        if len(wider) == len(nodes) or weighted <= set(wider):
            return nodes
        if self._sufficient(attempt, wider, (best.rel_rms or 0.0) / _MATTERS):
            return wider
        self.tried.remove(best)
        self.tried.append(best)
        return nodes

    def _sufficient(self, attempt: _Attempt, nodes: Sequence[str], most: float = math.inf) -> bool:
        """Tries nodes, in the time there is left; `most` is the largest `rel_rms` allowed."""
        begun = time.monotonic()
        self._over = begun + self._last > self._until
        if self._over:
            return False
        found, enough = attempt(nodes)
        self.tried.append(found)
        if not enough:
            self._too_few.append({*nodes})
        self._last = time.monotonic() - begun
        return enough and (found.rel_rms or 0.0) <= most

    def _shrink(self, attempt: _Attempt, nodes: Sequence[str], ranked: Sequence[Layer]) -> bool:
        """Quantizes again what may be, in halves, quarters and so on; what loses least at first."""
        best = self.tried[-1]
        order = {layer.loss.value: place for place, layer in enumerate(ranked)}
        kept = sorted(nodes, key=lambda name: -order.get(name, len(order)))
        size = len(kept) // 2
        while size:
            start = 0
            while start < len(kept) and size < len(kept):
                fewer = kept[:start] + kept[start + size :]
                hopeless = any({*fewer} <= nodes for nodes in self._too_few)
                # all in float there is no loss to compare with
                most = math.inf if best.size_ratio >= 1 else _MATTERS * (best.rel_rms or 0.0)
                if not hopeless and self._sufficient(attempt, fewer[::-1], most):
                    kept, best = fewer, self.tried[-1]
                else:
                    start += size
            size //= 2
        self.tried.remove(best)
        self.tried.append(best)
        return not self._over


def _of_all(lossy: str | None, tried: Sequence[Exclusion]) -> str:
    """What is to be said where all nodes are in float: whether they lose little enough then."""
    if lossy is not None:
        return f"{lossy}; these are all nodes, so that int8 is not what fails"
    some = [each for each in tried if each.rel_rms is not None]
    nearest = min(some, key=lambda each: each.rel_rms or 0.0, default=None)
    fewer = "" if nearest is None else f"; nearest with fewer: {nearest.problem}"
    return f"it takes all nodes, and is fp32 then{fewer}"


def _leaving(variant: Variant, nodes: Sequence[str]) -> Variant:
    """A variant with nodes left in float."""
    options = {"exclude_nodes": tuple(nodes)}
    return dataclasses.replace(
        variant, quantization=variant.quantization.model_copy(update=options)
    )


def measure_cases(subject: Subject, cases: Iterable[Case]) -> EquivalenceMeasurement:
    """Compares an artefact with PyTorch on some cases, and on no other.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
    """
    session = open_session(subject.artefact, subject.target)
    found = (measure_case(session, subject.oracle, subject.variant, case) for case in cases)
    return EquivalenceMeasurement(
        subject.target.name, session.provider, tuple(case for case in found if case is not None)
    )


def _selections(ranked: Sequence[Layer]) -> Iterator[tuple[str, ...]]:
    """Nodes to leave in float: the worst alone, then the 1, 2, 4, ... worst with their neighbours.

    None that would leave no node with weights quantized.
    """
    weighted = {each.loss.value for each in ranked if each.loss.operator in WEIGHTED}
    chosen = [ranked[0].loss.value] if ranked else []
    before: tuple[str, ...] = ()
    number = 0
    while number < 2 * len(ranked):
        for layer in ranked[:number]:
            chosen += layer.neighbours
        for with_readers in (False, True):
            if with_readers:
                chosen += [name for layer in ranked[:number] for name in layer.readers]
            nodes = tuple(dict.fromkeys(chosen))
            if weighted <= set(nodes):
                return
            if nodes != before:
                yield nodes
            before = nodes
        number = 2 * number or 1
