"""Histories that shards added to are made one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from judge.test_regression import point

from pytest_onnxcheck.api.histories import join_histories
from pytest_onnxcheck.errors import MergeError
from pytest_onnxcheck.history import History, check_key

ONE, TWO = (check_key("models.toml", name, "dynamo-op20-fp32", "cpu") for name in ("one", "two"))
POINT = dataclasses.replace(point(), created="2026-01-01T00:00:00+00:00")
LATER = dataclasses.replace(POINT, created="2026-02-01T00:00:00+00:00", normalised=0.3)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Two copies of a history of one run and a baseline, each with what a shard added."""
    base = History(tmp_path / "base")
    base.append({ONE: POINT, TWO: POINT})
    base.accept({ONE: POINT, TWO: POINT})
    found = []
    for name, check in (("a", ONE), ("b", TWO)):
        shutil.copytree(base.folder, tmp_path / name)
        shard = History(tmp_path / name)
        shard.append({check: LATER})
        shard.accept({check: LATER})
        found.append(tmp_path / name)
    return found


def test_what_shards_added_is_one_run_and_the_baseline_is_the_last(
    folders: list[Path], tmp_path: Path
):
    join_histories(folders, tmp_path / "joined")
    joined = History(tmp_path / "joined")
    assert joined.runs == [{ONE: POINT, TWO: POINT}, {ONE: LATER, TWO: LATER}]
    assert joined.baseline == {ONE: (LATER,), TWO: (LATER,)}
    assert not joined.problems


def test_points_of_several_processors_are_all_kept(folders: list[Path], tmp_path: Path):
    other = dataclasses.replace(
        LATER, machine=dataclasses.replace(LATER.machine, cpu="Another CPU")
    )
    History(folders[0]).accept({ONE: other})
    join_histories(folders, tmp_path / "joined")
    accepted = History(tmp_path / "joined").baseline[ONE]
    assert sorted(point.cpu for point in accepted) == sorted([LATER.cpu, "Another CPU"])


def test_what_cannot_be_joined_is_told_and_nothing_is_written(folders: list[Path], tmp_path: Path):
    to = tmp_path / "joined"
    with pytest.raises(MergeError, match=r"models.toml::one.* was added twice, also in .*/a"):
        join_histories([folders[0], *folders], to)
    (folders[1] / "0001_x.json").write_text("{")
    with pytest.raises(MergeError, match="not readable"):
        join_histories([*folders, tmp_path / "nowhere"], to)
    assert not to.exists()
    to.mkdir()
    (to / "0001_x.json").write_text("{}")
    with pytest.raises(MergeError, match="is there already: name another folder, --to"):
        join_histories(folders, to)
