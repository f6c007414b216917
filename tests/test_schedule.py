"""Who runs what: pieces of a run, how long they may take, and the threads of each process."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest
from entries import entry
from xdist.scheduler import LoadScheduling

from pytest_onnxcheck.plugin import hooks
from pytest_onnxcheck.plugin.schedule import (
    divide_threads,
    earlier_seconds,
    keep_seconds,
    pieces,
    seconds_of,
)
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.plugin.workers import ModelScheduling

VARIANTS = ("dynamo-op20-fp32", "dynamo-op20-fp16", "torchscript-op20-fp32")


def checks(*models: str, variants: tuple[str, ...] = VARIANTS) -> list[str]:
    return [
        f"models.toml::{model}::{variant}::test_{check}"
        for model in models
        for variant in variants
        for check in ("export", "equivalence[cpu]")
    ]


def cut(seconds: dict[str, float], workers: int = 2) -> set[str]:
    return {piece.removeprefix("models.toml::") for piece in pieces(seconds, workers).values()}


def test_a_model_is_one_piece_where_the_others_keep_the_workers_busy():
    assert cut(dict.fromkeys(checks("a", "b", "c", "d"), 1.0)) == {"a", "b", "c", "d"}
    assert cut(dict.fromkeys(checks("a"), 1.0), workers=1) == {"a"}


def test_a_model_that_outlasts_the_others_is_cut_by_its_exports():
    seconds = dict.fromkeys(checks("large", "small"), 1.0)
    seconds |= dict.fromkeys(checks("large", variants=VARIANTS[:2]), 10.0)
    seconds |= dict.fromkeys(checks("large", variants=VARIANTS[2:]), 20.0)
    assert cut(seconds) == {"large::dynamo-op20", "large::torchscript-op20", "small"}


def test_a_single_export_is_cut_into_its_variants():
    seconds = dict.fromkeys(checks("net", variants=VARIANTS[:2]), 1.0)
    assert cut(seconds) == {"net::dynamo-op20-fp32", "net::dynamo-op20-fp16"}
    assert cut(dict.fromkeys(checks("net", variants=VARIANTS[:1]), 1.0)) == {"net"}


def test_the_third_of_three_equal_models_is_shared():
    found = cut(dict.fromkeys(checks("a", "b", "c"), 1.0))
    assert len({piece.partition("::")[0] for piece in found}) == 3
    assert sum("::" in piece for piece in found) == 2


def test_every_check_is_in_the_piece_that_its_name_begins_with():
    seconds = dict.fromkeys(checks("a", "b"), 1.0)
    assert all(name.startswith(piece) for name, piece in pieces(seconds, 7).items())
    assert list(pieces(seconds, 7)) == list(seconds)


def test_what_was_never_run_is_guessed_by_what_it_is():
    names = checks("a", variants=("dynamo-op20-fp32", "torchscript-op20-fp32"))
    seconds = seconds_of(names, {names[1]: 70.0})
    assert seconds[names[0]] > seconds[names[2]] > 0  # dynamo takes longer
    assert seconds[names[1]] == 70.0


class Cache(dict):
    """pytest's, in memory; what it holds went through JSON."""

    def set(self, key: str, value: object) -> None:
        self[key] = json.loads(json.dumps(value))


def test_seconds_of_a_run_are_kept_beside_those_of_others():
    config = SimpleNamespace(cache=Cache())
    keep_seconds(config, [entry("export", stages={"exporting": 2.0, "setup": 0.5})])
    keep_seconds(config, [entry("structure", stages={"check": 0.25})])
    assert sorted(earlier_seconds(config).values()) == [0.25, 2.5]
    keep_seconds(SimpleNamespace(), [entry("structure")])  # -p no:cacheprovider
    assert earlier_seconds(SimpleNamespace()) == {}


@pytest.mark.parametrize("held", [None, [], {"a": "long", "b": -1, "c": float("inf"), "d": None}])
def test_a_cache_that_was_spoilt_is_as_none(held: object):
    assert earlier_seconds(SimpleNamespace(cache=Cache({"onnxcheck/seconds": held}))) == {}


def test_processors_are_divided_among_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for processes, threads in [(2, "4"), (3, "2"), (16, "1")]:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        divide_threads(processes)
        assert os.environ["OMP_NUM_THREADS"] == threads


def test_threads_that_the_user_chose_are_left_and_one_process_has_all(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    divide_threads(2)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    monkeypatch.delenv("OMP_NUM_THREADS")
    divide_threads(1)
    assert "OMP_NUM_THREADS" not in os.environ


def config(*args: str, dist: str = "load", wanted: bool = True) -> SimpleNamespace:
    option = SimpleNamespace(dist=dist, tx=["popen"] * 2, maxschedchunk=None)
    return SimpleNamespace(
        args=list(args),
        option=option,
        stash={SETTINGS: SimpleNamespace(wanted=wanted)},
        getvalue=lambda name: getattr(option, name),
        getini=lambda name: [],
    )


def test_models_are_handed_out_only_where_nothing_else_is_run_and_dist_leaves_it_open():
    def made(config: object) -> object:
        return hooks.pytest_xdist_make_scheduler(config, None)

    assert isinstance(made(config("models.toml")), ModelScheduling)
    assert isinstance(made(config("a.toml::net", "/b.toml")), ModelScheduling)
    assert made(config("models.toml", "tests")) is None
    assert made(config("tests", wanted=False)) is None
    assert made(config("models.toml", dist="worksteal")) is None


class Worker:
    """Notes what it is given."""

    shutting_down = False

    def __init__(self) -> None:
        self.given: list[list[int]] = []
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given.append(list(indices))

    def shutdown(self) -> None:
        self.shutting_down = True


def test_the_longest_model_comes_first_and_a_dead_workers_rest_is_taken_over():
    names = checks("short", "long", "middle", "also")
    seconds = {"short": 1.0, "long": 5.0, "middle": 4.0, "also": 1.0}
    held = {name: seconds[name.split("::")[1]] for name in names}
    found = config("models.toml")
    found.cache = Cache({"onnxcheck/seconds": held})
    found.option.loadscopereorder = True
    scheduler = ModelScheduling(found)
    first, second = Worker(), Worker()
    for worker in (first, second):
        scheduler.add_node(worker)
        scheduler.add_node_collection(worker, names)
    scheduler.schedule()

    def models(worker: Worker) -> list[str]:
        return [names[indices[0]].split("::")[1] for indices in worker.given]

    assert (models(first), models(second)) == (["long"], ["middle"])
    for index in second.given[0]:
        scheduler.mark_test_complete(second, index)
    assert models(second)[1:] in (["short"], ["also"], ["short", "also"], ["also", "short"])
    scheduler.mark_test_complete(first, first.given[0][0])
    assert scheduler.remove_node(first) == names[first.given[0][1]]
    for worker_names in second.given[1:]:
        for index in worker_names:
            scheduler.mark_test_complete(second, index)
    assert "long" in models(second)
    assert len(second.given[models(second).index("long")]) == len(first.given[0]) - 1
    assert not issubclass(ModelScheduling, LoadScheduling)
