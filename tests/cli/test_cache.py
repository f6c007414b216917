"""`onnxcheck cache`: what is in a cache, what is damaged, and what is removed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from caches import PLACE, Maker, home, key

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.cache.environments import Environments
from pytest_onnxcheck.cli import main
from pytest_onnxcheck.storage import parse

NAMES = {name: f"{PLACE}/{key(name)[:16]}" for name in ("one", "two")}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `.onnxcheck` with two builds and a remote of the same."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / ".onnxcheck"
    cache = BuildCache(root, remote=parse("file://" + str(tmp_path / "store")))
    for number, name in enumerate(NAMES):
        Maker(name).get(cache)
        when = 1_700_000_000 + number
        os.utime(home(root, name) / "build.json", (when, when))
    return root


def test_ls_lists_the_longest_unused_first(root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [f" 1.49 kB  2023-11-14 22:13  {name}" for name in NAMES.values()]
    assert lines[2] == "2 builds, 2.99 kB, in .onnxcheck"


def test_ls_says_what_is_in_use_and_damaged(root: Path, capsys: pytest.CaptureFixture[str]):
    cache = BuildCache(root)
    Maker("two").get(cache)
    (home(root) / "build.json").write_text("{}")
    assert main(["cache", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines[:2]] == ["in use", "damaged"]


def test_ls_as_json(root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "ls", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["where"] == ".onnxcheck"
    assert found["size_bytes"] == sum(build["size_bytes"] for build in found["builds"])
    assert {**found["builds"][0], "size_bytes": 0} == {
        "name": NAMES["one"],
        "size_bytes": 0,
        "used": "2023-11-14T22:13:20+00:00",
        "seconds": 1.5,
        "in_use": False,
    }


def test_verify_is_red_where_something_is_damaged(root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "verify"]) == 0
    assert capsys.readouterr().out == "2 builds in .onnxcheck: as built\n"
    (home(root) / "model.onnx").write_bytes(b"x")
    assert main(["cache", "verify"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{NAMES['one']}: model.onnx has 1 bytes, not 999",
        "2 builds in .onnxcheck: 1 damaged (onnxcheck cache prune removes them)",
    ]
    assert main(["cache", "verify", "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["damaged"]) == [NAMES["one"]]


def test_prune_removes_down_to_a_size(root: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["cache", "prune", "--size", "2kB"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"removed  1.49 kB  {NAMES['one']}",
        "1 build removed, 1 build left, 1.49 kB, in .onnxcheck",
    ]


def test_clear_leaves_what_is_in_use(root: Path, capsys: pytest.CaptureFixture[str]):
    cache = BuildCache(root)
    Maker("two").get(cache)
    assert main(["cache", "clear", "--json"]) == 0
    removed = json.loads(capsys.readouterr().out)
    assert [build["name"] for build in removed["builds"]] == [NAMES["one"]]
    assert (removed["left"], removed["in_use"]) == (1, 1)
    del cache
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.endswith(
        "1 build removed, 0 builds left, 0.00 kB, in .onnxcheck\n"
    )


def test_a_remote_is_looked_at_alike(root: Path, capsys: pytest.CaptureFixture[str]):
    uri = (root.parent / "store").as_uri()
    assert main(["cache", "ls", uri]) == 0
    assert capsys.readouterr().out.endswith(f"2 builds, 2.02 kB, in {uri}\n")
    assert main(["cache", "verify", uri]) == 0
    assert main(["cache", "prune", uri, "--size=1.5kB"]) == 0
    assert main(["cache", "clear", uri]) == 0
    assert capsys.readouterr().out.endswith(f"1 build removed, 0 builds left, 0.00 kB, in {uri}\n")


@pytest.mark.parametrize("command", [["ls"], ["verify"], ["prune", "--size=0"], ["clear"]])
def test_what_is_no_cache_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]
):
    precious = tmp_path / "a" / "b" / ("0" * 16)
    precious.mkdir(parents=True)
    assert main(["cache", command[0], str(tmp_path), *command[1:]]) == 1
    assert f"{tmp_path}: no cache of builds: name the folder" in capsys.readouterr().err
    assert precious.is_dir()


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        (["prune", "--size=much"], 2, "'much' is no size: write 500MB, 20GB or 1TB"),
        (["prune"], 2, "Missing option '--size'"),
        (["ls", "ftp://host/x"], 1, "ftp://… is no store that is known here"),
    ],
)
def test_wrong_usage(
    capsys: pytest.CaptureFixture[str], command: list[str], status: int, told: str
):
    assert main(["cache", *command]) == status
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("command", ["ls", "verify", "prune", "clear"])
def test_help_of_each_fits(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["cache", command, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_environments_are_listed_pruned_and_cleared_with_builds(
    root: Path, capsys: pytest.CaptureFixture[str]
):
    kept = root / ".environments"
    old, new = (environment(kept, number) for number in (1, 2))
    os.utime(old / "environment.json", (1_700_000_000, 1_700_000_000))  # as old as build one
    assert main(["cache", "ls"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == f" 1.03 kB  2023-11-14 22:13  .environments/{old.name}  onnxruntime==1.17.0"
    assert lines[3].endswith(f"  .environments/{new.name}  onnxruntime==1.17.0")
    assert lines[4] == "2 builds, 2 environments, 5.06 kB, in .onnxcheck"
    assert main(["cache", "prune", "--size=2.6kB"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        f"removed  1.03 kB  .environments/{old.name}  onnxruntime==1.17.0",
        "1 build, 1 environment removed, 1 build, 1 environment left, 2.53 kB, in .onnxcheck",
    ]
    assert (old.exists(), new.exists()) == (False, True)
    using = Environments(kept)
    with using.held(new.name):
        pass
    assert main(["cache", "clear"]) == 0
    out = capsys.readouterr().out
    assert "1 build removed, 0 builds, 1 environment left, 1.03 kB, 1 of them in use" in out
    del using
    assert main(["cache", "clear", "--json"]) == 0
    removed = json.loads(capsys.readouterr().out)
    assert [each["packages"] for each in removed["environments"]] == ["onnxruntime==1.17.0"]
    assert (removed["environments_left"], removed["left_bytes"]) == (0, 0)
    assert not new.exists()


def test_a_folder_that_has_environments_alone_is_a_cache(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    environment(tmp_path / ".onnxcheck" / ".environments", 1)
    assert main(["cache", "ls"]) == 0
    assert "0 builds, 1 environment, 1.03 kB" in capsys.readouterr().out
    assert main(["cache", "ls", "file://" + str(tmp_path)]) == 0  # a remote has none
    assert "environment" not in capsys.readouterr().out


def environment(kept: Path, number: int) -> Path:
    """An environment of a process that is gone."""
    environments = Environments(kept)
    with (
        environments.held(str(number) * 16) as home,
        environments.making(home, "onnxruntime==1.17.0") as work,
    ):
        work.mkdir()
        (work / "python").write_bytes(bytes(1000))
    return home
