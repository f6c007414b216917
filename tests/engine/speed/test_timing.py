"""Rounds, ratios and their intervals, on recorded and made-up times."""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics

import pytest
from clock import Clock, installed

from pytest_onnxcheck.engine.runtime.worker import Turns
from pytest_onnxcheck.engine.speed import timing
from pytest_onnxcheck.engine.speed.timing import (
    Rounds,
    interleave,
    median_interval,
    quantile_interval,
    ratio,
    summarised,
)


def rounds_of(*rows) -> Rounds:
    """Rounds of (wall, thread, process) of each side; a single number is all three."""
    sides = len(rows[0])
    rounds = Rounds(sides)
    for row in rows:
        rounds.add(
            {
                side: times if isinstance(times, tuple) else (times, times, times)
                for side, times in enumerate(row)
            }
        )
    return rounds


def test_a_ratio_is_on_the_processor_clock_where_one_thread_works():
    # the wall clock is 3 times as slow for the second side: it waited
    rounds = rounds_of(*[((2.0, 2.0, 2.02), (3.0, 1.0, 1.01))] * 30)
    found = ratio(rounds, 0, 1)
    assert (found.value, found.low, found.high, found.clock) == (2.0, 2.0, 2.0, "processor")
    assert (found.interrupted, found.sure) == (1.0, True)
    assert found.wall == pytest.approx(2 / 3)


def test_a_ratio_is_on_the_wall_clock_where_several_threads_work():
    rounds = rounds_of(*[((2.0, 1.0, 2.0), (1.0, 1.0, 1.0))] * 30)
    assert (ratio(rounds, 0, 1).value, ratio(rounds, 0, 1).clock) == (2.0, "wall")


def test_a_ratio_is_on_the_wall_clock_where_it_is_asked_for():
    rounds = rounds_of(*[((3.0, 2.0, 2.0), (1.0, 1.0, 1.0))] * 30)
    found = ratio(rounds, 0, 1, processor=False)
    assert (found.value, found.clock) == (3.0, "wall")


def test_a_ratio_is_on_the_wall_clock_where_the_processor_clock_is_coarse(monkeypatch):
    class Coarse:
        resolution = 0.0156

    monkeypatch.setattr(timing.time, "get_clock_info", lambda name: Coarse)
    assert ratio(rounds_of(*[(2.0, 1.0)] * 30), 0, 1).clock == "wall"


def test_interrupted_rounds_do_not_count_on_the_wall_clock():
    quiet, waited = (2.0, 1.0), ((2.0, 2.0, 2.0), (4.0, 1.0, 1.0))
    rounds = rounds_of(*[quiet] * 25, *[waited] * 26)
    found = ratio(rounds, 0, 1, processor=False)
    assert (found.value, found.rounds, found.sure) == (2.0, 25, True)
    assert found.interrupted == pytest.approx(26 / 51)


def test_two_threads_of_which_one_waited_were_interrupted():
    both, one = ((1.0, 0.5, 1.8), (1.0, 0.5, 1.9)), ((1.8, 0.5, 1.8), (1.0, 0.5, 1.9))
    found = ratio(rounds_of(*[both] * 25, *[one] * 26), 0, 1, processor=False)
    assert (found.value, found.rounds, found.sure) == (1.0, 25, True)
    assert found.interrupted == pytest.approx(26 / 51)


def test_all_rounds_count_where_too_few_were_quiet():
    quiet, waited = (2.0, 1.0), ((2.0, 2.0, 2.0), (4.0, 1.0, 1.0))
    found = ratio(rounds_of(*[quiet] * 10, *[waited] * 41), 0, 1, processor=False)
    assert (found.value, found.rounds, found.sure) == (0.5, 51, False)


def test_waiting_for_an_accelerator_is_no_interruption():
    rounds = rounds_of(*[((2.0, 2.0, 2.0), (4.0, 1.0, 1.0))] * 30)
    found = ratio(rounds, 0, 1, processor=False, waiting={1})
    assert (found.value, found.interrupted, found.sure) == (0.5, 0.0, True)
    assert not ratio(rounds, 0, 1, processor=False).sure


def test_an_accelerator_that_works_on_the_processor_is_interrupted_like_it():
    alone, disturbed = ((2.0, 2.0, 2.0), (1.0, 0.1, 1.0)), ((2.0, 2.0, 2.0), (3.0, 0.1, 1.0))
    rounds = rounds_of(*[alone] * 25, *[disturbed] * 26)
    found = ratio(rounds, 0, 1, processor=False, waiting={1})
    assert (found.value, found.rounds) == (2.0, 25)
    assert found.interrupted == pytest.approx(26 / 51)


@pytest.mark.parametrize(
    ("rounds", "quiet", "sure"), [(15, 11, True), (15, 10, False), (99, 11, True)]
)
def test_a_few_rounds_that_were_not_interrupted_are_enough(rounds: int, quiet: int, sure: bool):
    both, one = ((1.0, 0.5, 1.8), (1.0, 0.5, 1.9)), ((1.8, 0.5, 1.8), (1.0, 0.5, 1.9))
    found = ratio(rounds_of(*[both] * quiet, *[one] * (rounds - quiet)), 0, 1, processor=False)
    assert found.sure is sure


def test_the_clocks_own_jitter_interrupts_nothing():
    rounds = rounds_of(*[(20e-6, (20e-6, 17.5e-6, 17.5e-6))] * 30)
    assert ratio(rounds, 0, 1).interrupted == 0.0
    assert ratio(rounds_of(*[(0.02, (0.02, 0.0175, 0.0175))] * 30), 0, 1).interrupted == 1.0


def test_a_third_side_that_waits_does_not_matter_to_the_others():
    rounds = rounds_of(*[(2.0, 1.0, (9.0, 1.0, 1.0))] * 30)
    assert ratio(rounds, 0, 1).interrupted == 0.0
    assert ratio(rounds, 2, 1).interrupted == 1.0


def test_a_ratio_sees_through_drift_that_hits_both_sides():
    """A machine that gets three times slower meanwhile, recorded as its factors."""
    draw = random.Random(0)
    rows = [
        (0.011 * slow * draw.uniform(0.98, 1.02), 0.010 * slow * draw.uniform(0.98, 1.02))
        for slow in [1 + 2 * n / 200 for n in range(200)]
    ]
    found = ratio(rounds_of(*rows), 0, 1)
    assert found.low < 1.1 < found.high
    assert found.high - found.low < 0.02


@pytest.fixture
def clock(monkeypatch) -> Clock:
    """The clock that `interleave` reads, which only its calls move."""
    return installed(monkeypatch)


def test_calls_alternate_in_pairs_of_changing_order(clock: Clock):
    calls: list[str] = []
    rounds = interleave([clock.call(1e-5, lambda c=c: calls.append(c)) for c in "ab"], [0.0])
    assert len(rounds) == 21
    made = calls[-22 * len(rounds) :]  # such short ones are called ten times more before
    timed = made[::11]
    assert made == [name for name in timed for _ in range(11)]
    assert timed[:8] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert all(time > 0 for row in rounds.wall + rounds.thread + rounds.process for time in row)


def test_the_longer_a_call_the_fewer_are_made_before_it_is_timed(clock: Clock):
    calls: list[str] = []
    rounds = interleave(
        [clock.call(took, lambda took=took: calls.append(str(took))) for took in (0.011, 0.001)],
        [0.0],
    )
    made = calls[-4 * len(rounds) :]
    assert (made.count("0.011"), made.count("0.001")) == (len(rounds), 3 * len(rounds))


def test_calls_that_are_compared_closely_are_treated_alike():
    assert timing._untimed([1e-4, 1e-3, 0.03]) == [10, 2, 0]
    assert timing._untimed([0.0099, 0.0101, 0.012, 0.03]) == [2, 2, 2, 0]


def test_long_calls_are_not_waited_for_until_there_are_21_rounds(clock: Clock):
    rounds = interleave([clock.call(0.06)] * 2, [0.0])
    assert 11 <= len(rounds) < 21


def test_calls_that_are_longer_still_make_11_rounds(clock: Clock):
    rounds = interleave([clock.call(0.2)], [0.0])
    assert len(rounds) == 11


def test_rounds_keep_their_sides():
    # a thread of pytest-xdist's may work in between: of several tries it does not in one
    tries = (
        interleave([lambda: sum(range(20_000)), lambda: None, lambda: None], [0.0])
        for _ in range(10)
    )
    rounds = next(found for found in tries if found.one_thread(0))
    for clock in (rounds.wall, rounds.thread, rounds.process):
        first, *others = (statistics.median(side) for side in zip(*clock, strict=True))
        assert first > 10 * max(others)


def test_more_than_two_calls_take_turns_at_random(clock: Clock):
    calls: list[str] = []
    rounds = interleave([clock.call(1e-5, lambda c=c: calls.append(c)) for c in "abc"], [0.0])
    timed = "".join(calls[-33 * len(rounds) :][::11])
    orders = [timed[i : i + 3] for i in range(0, len(timed), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 3


def test_it_stops_at_the_look_that_decides(clock: Clock):
    seen: list[int] = []

    def decided(rounds: Rounds) -> bool:
        seen.append(len(rounds))
        return len(seen) == 2

    rounds = interleave([clock.call(1e-3)] * 2, [0.01, 1.0, 60.0], decided)
    assert len(seen) == 2
    assert seen[0] < seen[1] == len(rounds)
    assert 1.0 <= rounds.seconds < 60


def test_nothing_is_collected_while_it_is_timed():
    seen: list[bool] = []
    interleave([lambda: seen.append(gc.isenabled())], [0.0])
    assert not any(seen[-21:])
    assert gc.isenabled()


def test_the_warm_up_ends_once_times_are_stable(clock: Clock):
    Turns([clock.taking(itertools.repeat(0.001))]).warm_up()
    assert 0.2 <= clock.now < 0.21


def test_the_warm_up_goes_on_while_times_fall(clock: Clock):
    falling = itertools.chain((0.02 * 0.9**n for n in range(40)), itertools.repeat(0.001))
    Turns([clock.taking(itertools.repeat(0.001)), clock.taking(falling)]).warm_up()
    assert 0.25 < clock.now < 1.0


@pytest.mark.parametrize("seconds", [0.01, 0.5, 5.0])
def test_the_warm_up_is_bounded(clock: Clock, seconds):
    Turns([clock.taking(seconds * 1.1**n for n in itertools.count())]).warm_up()
    assert clock.now <= max(1.5, 1.1 * seconds)


def test_the_interval_of_a_median_is_between_order_statistics():
    # n = 100, z = 2.576: ranks 50 -+ 12.9
    assert median_interval(range(100), 0.99) == (37, 62)
    assert median_interval([3.0, 1.0, 2.0], 0.99) == (0.0, math.inf)  # too few


def test_the_interval_of_a_tail_has_no_end_where_values_are_too_few():
    # n = 1000: ranks 950 -+ 17.8
    assert quantile_interval(range(1000), 0.95, 0.99) == (932, 967)
    assert quantile_interval(range(50), 0.95, 0.99) == (43, math.inf)
    assert quantile_interval(range(127), 0.95, 0.99)[1] == 126


def test_the_greatest_of_fewer_values_bounds_a_tail():
    # 0.95^59 = 0.048: hardly ever are all of 59 below p95
    assert quantile_interval(range(126), 0.95, 0.99)[1] == 125
    assert quantile_interval(range(59), 0.95, 0.99)[1] == 58
    assert quantile_interval(range(58), 0.95, 0.99)[1] == math.inf


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_the_interval_covers_the_quantile_of_independent_values(quantile):
    draw = random.Random(1)
    missed = 0
    for _ in range(400):
        low, high = quantile_interval([draw.random() for _ in range(300)], quantile)
        missed += not low <= quantile <= high
    assert missed <= 12  # 4 are expected


@pytest.mark.parametrize(
    ("samples", "median"), [((3.0,), 3.0), ((3.0, 1.0), 2.0), ((9.0, 1.0, 2.0), 2.0)]
)
def test_median_of_the_samples(samples, median):
    assert summarised("torch", samples).median == median


def test_samples_are_summarised():
    found = summarised("torch", [n / 100 for n in range(100, 0, -1)])
    assert (found.count, found.p90, found.p95, found.p99) == (100, 0.9, 0.95, 0.99)
    assert found.iqr == pytest.approx(0.5)
    assert found.median_interval == (0.38, 0.63)
    assert found.p95_interval == (0.9, 1.0)
    assert (len(found.quantiles), found.quantiles[:3]) == (21, (0.01, 0.05, 0.1))
    assert (found.quantiles[10], found.quantiles[-1]) == (0.5, 1.0)


def test_one_sample_is_every_quantile():
    assert summarised("torch", [3.0]).quantiles == (3.0,) * 21
