"""Times calls against each other: interleaved rounds on three clocks, and the median of ratios."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from pytest_onnxcheck.engine.runtime.worker import Times, Turns
from pytest_onnxcheck.measurement import Ratio, Timing

__all__ = [
    "Call",
    "Elsewhere",
    "Rounds",
    "interleave",
    "median_interval",
    "quantile_interval",
    "ratio",
    "summarised",
]

Call = Callable[[], Any]

#: a call that has its processors for less than this share of the usual time was interrupted
_UNDISTURBED = 0.9
#: a call that keeps less of a processor busy at best waits for an accelerator
_AT_WORK = 0.5
#: how far the thread's and the process's processor time may be apart where one thread works
_ONE_THREAD = 0.05
#: and how much more a call, since the clocks are not read at the same moment
_SLACK_SECONDS = 3e-6
#: processor clocks that tick no finer than this (Windows) tell nothing about one call
_FINE_CLOCK = 1e-5
_ENOUGH_ROUNDS = 21
#: where calls are so long that these take more than so many seconds, warming up included, fewer
#: will do: the interval of their median is wider for it
_PATIENCE_SECONDS, _FEWEST_ROUNDS = 1.5, 11
#: calls below so many seconds are called so many times just before they are timed: what ran in
#: between, another side or another process, has emptied the caches. Measured beside PyTorch and the
#: kernel against alone: 17 us takes 2.5 times as long without, 1.22 with one, 1.03 with ten; 2 ms
#: take 1.20, 1.06 and, with two, 1.02; 30 ms do not mind
_UNTIMED = ((2e-4, 10), (1e-2, 2))
_CONFIDENCE = 0.99
#: into how many parts the calls are divided by the quantiles that are kept
_STEPS = 20
#: the greatest of some values bounds a quantile when all of them are below it with at most this
#: probability
_BEYOND_ALL = 0.05


class Rounds:
    """Seconds of some calls, one row per round, on three clocks.

    Attributes:
        sides: How many calls.
        wall: Wall time; a list of tuples, one entry per call.
        thread: Processor time of the calling thread.
        process: Processor time of all threads of the process.
        seconds: How long all of it took.
    """

    def __init__(self, sides: int) -> None:
        self.sides = sides
        self.wall: list[tuple[float, ...]] = []
        self.thread: list[tuple[float, ...]] = []
        self.process: list[tuple[float, ...]] = []
        self.seconds = 0.0

    def __len__(self) -> int:
        return len(self.wall)

    def add(self, times: dict[int, Times]) -> None:
        """Adds a round: call -> wall, thread and process time."""
        for index, clock in enumerate((self.wall, self.thread, self.process)):
            clock.append(tuple(times[side][index] for side in range(self.sides)))

    def samples(self, side: int) -> list[float]:
        """The wall times of one call."""
        return [row[side] for row in self.wall]

    def undisturbed(self, *sides: int, waiting: Collection[int] = ()) -> list[int]:
        """Rounds in which the calls had their processors nearly all the time.

        Args:
            sides: The calls.
            waiting: Those that may wait for an accelerator, which is no interruption.
        """
        least = {side: _UNDISTURBED * self._busy(side, side in waiting) for side in sides}
        return [
            index
            for index, (wall, process) in enumerate(zip(self.wall, self.process, strict=True))
            if all(process[side] + _SLACK_SECONDS >= least[side] * wall[side] for side in sides)
        ]

    def _busy(self, side: int, waits: bool) -> float:
        """How many processors a call keeps busy when it gets them: nearly the most it ever had.

        0 of one that mostly waits for an accelerator: what else interrupts it cannot be told.
        """
        if not len(self) or (not waits and self.one_thread(side)):
            return 1.0
        times = zip(self.process, self.wall, strict=True)
        most = _quantile(sorted(process[side] / wall[side] for process, wall in times), 0.9)
        if waits:
            return most if most >= _AT_WORK else 0.0
        return max(most, 1.0)

    def one_thread(self, *sides: int) -> bool:
        """Whether the calling thread did all of the calls' work."""
        for side in sides:
            thread = sum(row[side] for row in self.thread)
            process = sum(row[side] for row in self.process)
            if abs(thread - process) > _ONE_THREAD * process + _SLACK_SECONDS * len(self):
                return False
        return True


class Elsewhere(Protocol):
    """Calls in another process, which take turns there: see `worker.Turns`."""

    def warm_up(self) -> list[float]:
        """Warms the calls up; their median times in seconds."""
        ...

    def round(self, order: Sequence[int], untimed: Sequence[int]) -> list[Times]:
        """Times calls, by their numbers; each is called so many times before."""
        ...


def interleave(
    calls: Sequence[Call],
    decision_times: Sequence[float],
    decided: Callable[[Rounds], bool] = lambda rounds: False,
    elsewhere: Elsewhere | None = None,
) -> Rounds:
    """Times calls in turn: two in alternating order (AB BA AB ...), more in random order.

    Calls shorter than 0.2 ms are called eleven times each time, those shorter than 10 ms three
    times, and the last is timed; a call up to twice as long as another is called as often.

    Args:
        calls: The calls.
        decision_times: Seconds after which `decided` is asked whether that will do; the last ends
            it. At least 21 rounds are taken, or 11 where these and the warm-up take more than
            1.5 s.
        decided: Whether what was measured is enough.
        elsewhere: Calls in another process, whose sides come behind these. They are all made
            before the calls here or all after them, at random; one process works at a time.
    """
    began = time.perf_counter()
    parties: list[Elsewhere] = [Turns(calls), *([] if elsewhere is None else [elsewhere])]
    warm = [party.warm_up() for party in parties]
    before = _untimed([seconds for each in warm for seconds in each])
    owner = [number for number, each in enumerate(warm) for _ in each]
    rounds = Rounds(len(owner))
    warmed_up = time.perf_counter() - began
    order = list(range(len(owner)))
    shuffle = random.Random(0).shuffle
    with _no_collection():
        for seconds in decision_times:
            started = time.perf_counter() - rounds.seconds  # a decision's time does not count
            while rounds.seconds < seconds or len(rounds) < _fewest(rounds.seconds + warmed_up):
                times: dict[int, Times] = {}
                for number in dict.fromkeys(owner[side] for side in order):
                    sides = [side for side in order if owner[side] == number]
                    own = [side - owner.index(number) for side in sides]
                    found = parties[number].round(own, [before[side] for side in sides])
                    times.update(zip(sides, found, strict=True))
                rounds.add(times)
                rounds.seconds = time.perf_counter() - started
                if len(order) > 2:
                    shuffle(order)
                else:
                    order.reverse()
            if decided(rounds):
                break
    return rounds


def _fewest(seconds: float) -> int:
    """How many rounds it takes to decide after so many seconds."""
    return _ENOUGH_ROUNDS if seconds < _PATIENCE_SECONDS else _FEWEST_ROUNDS


def ratio(
    rounds: Rounds,
    other: int,
    own: int,
    *,
    processor: bool = True,
    waiting: Collection[int] = (),
) -> Ratio:
    """How many times as long one call takes as another: median over the rounds, with interval.

    On the thread's processor time where one thread does the work, which other processes do not
    change; otherwise on the wall time of the rounds that were not interrupted, or of all where
    hardly any was not.

    Args:
        rounds: The rounds.
        other: The call in the numerator.
        own: The call in the denominator.
        processor: Whether processor time can be the measure: not where an accelerator works, nor
            for more than one thread.
        waiting: Calls that may wait for an accelerator.
    """
    quiet = rounds.undisturbed(other, own, waiting=waiting)
    enough = len(quiet) >= _FEWEST_ROUNDS
    chosen = quiet if enough else range(len(rounds))
    by_wall = [rounds.wall[index][other] / rounds.wall[index][own] for index in chosen]
    fine = time.get_clock_info("thread_time").resolution <= _FINE_CLOCK
    processor = processor and fine and rounds.one_thread(other, own)
    values = [row[other] / row[own] for row in rounds.thread] if processor else by_wall
    low, high = median_interval(values)
    return Ratio(
        value=statistics.median(values),
        low=low,
        high=high,
        clock="processor" if processor else "wall",
        wall=statistics.median(by_wall),
        rounds=len(values),
        interrupted=1 - len(quiet) / len(rounds),
        sure=processor or enough,
    )


def summarised(backend: str, samples: Sequence[float], interrupted: float = 0.0) -> Timing:
    """What is kept of samples in seconds.

    Args:
        backend: Whose they are, for a person.
        samples: At least one.
        interrupted: Share of the calls that were interrupted.
    """
    ordered = sorted(samples)
    return Timing(
        backend=backend,
        count=len(ordered),
        median=statistics.median(ordered),
        p90=_quantile(ordered, 0.9),
        p95=_quantile(ordered, 0.95),
        p99=_quantile(ordered, 0.99),
        iqr=_quantile(ordered, 0.75) - _quantile(ordered, 0.25),
        median_interval=median_interval(ordered),
        p95_interval=quantile_interval(ordered, 0.95),
        interrupted=interrupted,
        quantiles=tuple(_quantile(ordered, step / _STEPS) for step in range(_STEPS + 1)),
    )


def median_interval(
    values: Sequence[float], confidence: float = _CONFIDENCE
) -> tuple[float, float]:
    """Interval of the median, see `quantile_interval`."""
    return quantile_interval(values, 0.5, confidence)


def quantile_interval(
    values: Sequence[float], quantile: float, confidence: float = _CONFIDENCE
) -> tuple[float, float]:
    """Interval of a quantile from order statistics, whatever the distribution of the values.

    Their ranks are q n -+ z sqrt(n q (1 - q)), the normal approximation of the binomial (Conover,
    Practical Nonparametric Statistics, section 3.2). Where there are too few values for a rank
    (127 for the upper end of p95), that end is the greatest of them, if one of them is beyond the
    quantile with 95% probability (59 for p95), else infinite; or 0, times being positive. It
    under-covers where values depend on each other, as times do.

    Args:
        values: The values.
        quantile: E.g. 0.95.
        confidence: E.g. 0.99.
    """
    ordered, n = sorted(values), len(values)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    reach = z * math.sqrt(n * quantile * (1 - quantile))
    low = math.floor(n * quantile - reach)
    high = math.ceil(n * quantile + reach) - 1
    most = ordered[-1] if quantile**n <= _BEYOND_ALL else math.inf
    return ordered[low] if low >= 0 else 0.0, ordered[high] if high < n else most


def _quantile(ordered: Sequence[float], quantile: float) -> float:
    """The smallest value that this share of them does not exceed."""
    return ordered[max(math.ceil(quantile * len(ordered)) - 1, 0)]


def _untimed(seconds: Sequence[float]) -> list[int]:
    """How often calls of so many seconds are called before they are timed.

    As often as one that is up to twice as fast: what is compared closely is treated alike.
    """
    fastest = (min(other for other in seconds if 2 * other >= own) for own in seconds)
    return [next((times for bound, times in _UNTIMED if own < bound), 0) for own in fastest]


@contextmanager
def _no_collection() -> Iterator[None]:
    """No garbage collection, which would hit some calls and not others."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
