"""Several jobs share a manifest, each with a part of its models; what they leave is made one."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import Project, mlps

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.plugin.settings import parse_shard
from pytest_onnxcheck.record.record import load
from pytest_onnxcheck.record.shard import shared_out

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from records import check, differences

NAMES = ("one", "two", "three", "four", "five")


@given(
    st.dictionaries(st.text(max_size=5), st.floats(0, 1e6), max_size=30),
    st.integers(1, 40),
)
def test_shards_are_complete_and_disjoint_and_balanced(weights: dict[str, float], count: int):
    parts = shared_out(weights, count)
    assert len(parts) == count
    assert sorted(name for part in parts for name in part) == sorted(weights)
    assert shared_out(dict(reversed(weights.items())), count) == parts
    loads = [sum(weights[name] for name in part) for part in parts]
    # no part is ahead of another by more than one model
    heaviest = max(weights.values(), default=0.0)
    assert max(loads) - min(loads) <= heaviest * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/4", "1/4/4"])
def test_what_is_no_shard_is_wrong_usage(project: Project, text: str):
    project.manifest(mlps("one"))
    result = project.run(f"--onnxcheck-shard={text}")
    assert result.ret == 4
    result.stdout.fnmatch_lines([f"*'{text}': write I/N, the I-th of N shards*"])
    assert str(parse_shard("2/4")) == "2/4"


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records and JUnit files of a serial run and of four shards; a model is wrong."""
    project = Project(tmp_path_factory.mktemp("shards"))
    project.on_clock()
    project.manifest(
        mlps(*NAMES).replace('y.shape = ["batch", 4]', 'y.shape = ["batch", 5]', 1),
        "[defaults.latency]\nseconds = 0.1",
    )
    for name, args in (
        ("serial", ()),
        *((f"shard{n}", (f"--onnxcheck-shard={n}/4",)) for n in range(1, 5)),
    ):
        project.pytest(
            "--onnxcheck", f"--onnxcheck-json={name}.json", f"--junitxml={name}.xml", *args
        )
    return project.path


@pytest.fixture
def shards(gated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the four records, in a folder of their own, which is the current one."""
    for path in gated.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return [f"shard{n}.json" for n in range(1, 5)]


def test_a_shard_has_whole_models_and_says_which_it_is(shards: list[str]):
    records = [load(Path(name)) for name in shards]
    models = [{entry.model for entry in record.checks} for record in records]
    assert sorted(name for found in models for name in found) == sorted(NAMES)
    assert [str(record.shard) for record in records] == ["1/4", "2/4", "3/4", "4/4"]


def test_the_merged_record_is_that_of_the_serial_run_but_for_times(
    shards: list[str], capsys: pytest.CaptureFixture[str]
):
    assert main(["merge", *reversed(shards), "--expect=models.toml", "--to=merged"]) == 0
    assert "merged/record.json" in capsys.readouterr().out
    serial, merged = (
        json.loads(Path(p).read_text()) for p in ("serial.json", "merged/record.json")
    )
    assert [entry["nodeid"] for entry in merged["checks"]] == [
        entry["nodeid"] for entry in serial["checks"]
    ]
    pairs = zip(map(check, serial["checks"]), map(check, merged["checks"]), strict=True)
    assert [line for pair in pairs for line in differences(*pair)] == []
    same = ("format", "onnxcheck", "exitstatus", "errors", "manifests", "selected", "source")
    assert {key: merged[key] for key in same} == {key: serial[key] for key in same}
    assert merged["environment"]["packages"] == serial["environment"]["packages"]
    assert [part["shard"]["index"] for part in merged["parts"]] == [1, 2, 3, 4]
    assert len(merged["frontier"]) == len(serial["frontier"])
    # and is read as one
    assert main(["report", "merged/record.json"]) == 0


def edited(name: str, change: Callable[[dict], object]) -> None:
    record = json.loads(Path(name).read_text())
    change(record)
    Path(name).write_text(json.dumps(record))


def refused(args: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What merging says, which makes nothing."""
    assert main(["merge", *args, "--to=merged"]) == 1
    assert not Path("merged").exists()
    return capsys.readouterr().err


def test_what_is_missing_is_red(shards: list[str], capsys: pytest.CaptureFixture[str]):
    told = refused(shards[:3], capsys)
    assert "shard 4/4 is missing" in told
    missing = {entry.model for entry in load(Path(shards[3])).checks}
    for name in missing:
        assert f"models.toml::{name} is in none of the records" in told

    edited(shards[0], lambda record: record["checks"].pop())
    assert re.search(r"::torchscript-op17-fp32 has 4 of 5 checks", refused(shards, capsys))


def test_what_is_double_is_red(shards: list[str], capsys: pytest.CaptureFixture[str]):
    shutil.copy(shards[0], "again.json")
    told = refused([*shards, "again.json"], capsys)
    assert "shard 1/4 is there twice: shard1.json and again.json" in told
    edited("again.json", lambda record: record.update(shard=None))
    told = refused([*shards, "again.json"], capsys)
    assert re.search(r"models.toml::\S+ is in shard1.json and in again.json", told)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r["environment"]["packages"].update(torch="9.9"), "torch 9.9 in shard2.json"),
        (lambda r: r["environment"].update(python="3.9.9"), "Python 3.9.9 in shard2.json"),
        (lambda r: r.update(onnxcheck="9.9"), "onnxcheck 9.9 in shard2.json"),
        (lambda r: r["source"].update(commit="c" * 40), "commit cccccccccccc in shard2.json"),
        (lambda r: r["manifests"][0].update(sha256="d" * 64), "another manifest: shard2.json"),
        (lambda r: r["shard"].update(count=5), "shards of 4 and of 5"),
        (lambda r: r.update(exitstatus=3), "shard2.json: its run did not come to its end"),
        (lambda r: r.update(finished=False), "shard2.json is unfinished"),
        (lambda r: r.pop("manifests"), "shard2.json does not say which manifest"),
    ],
)
def test_what_differs_is_told_with_the_record_that_does(
    shards: list[str], capsys: pytest.CaptureFixture[str], change: Callable, told: str
):
    edited(shards[1], change)
    assert told in refused(shards, capsys)


def test_another_manifest_than_expected_is_red(
    shards: list[str], capsys: pytest.CaptureFixture[str]
):
    with Path("models.toml").open("a") as file:
        file.write(mlps("late"))
    told = refused([*shards, "--expect=models.toml"], capsys)
    assert "models.toml is not the manifest of the records" in told
    assert "models.toml::late is in none of the records" in told


def test_junit_files_are_joined(shards: list[str], capsys: pytest.CaptureFixture[str]):
    from xml.etree import ElementTree

    files = [name.replace(".json", ".xml") for name in shards]
    assert main(["merge", *shards, *files, "--to=merged"]) == 0
    one, joined = (ElementTree.parse(p).getroot() for p in ("serial.xml", "merged/junit.xml"))
    names = [
        sorted(f"{case.get('classname')} {case.get('name')}" for case in tree.iter("testcase"))
        for tree in (one, joined)
    ]
    assert names[0] == names[1]
    counts = [
        [
            sum(int(suite.get(key)) for suite in tree.iter("testsuite"))
            for key in ("tests", "failures")
        ]
        for tree in (one, joined)
    ]
    assert counts[0] == counts[1]
    shutil.rmtree("merged")
    told = refused([*shards, *files, files[0]], capsys)
    assert "shard1.xml" in told
    assert "twice" in told
    Path(files[0]).write_text("<testsuites><testsuite>")
    assert "shard1.xml: not a JUnit file" in refused([*shards, *files], capsys)


def test_a_shard_without_models_is_green_and_says_so(project: Project):
    project.manifest(mlps("one"), "[defaults.latency]\ndims = []")
    result = project.run("--onnxcheck-shard=2/2")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["shard 2/2: there is no model for it"])
    assert (project.record["checks"], project.record["shard"]) == ([], {"index": 2, "count": 2})


def test_shards_are_balanced_by_an_earlier_record(project: Project):
    project.on_clock()
    project.manifest(mlps(*NAMES), "[defaults.latency]\ndims = []")
    collect = ("--onnxcheck", "--collect-only", "-q", "--onnxcheck-durations=before.json")

    def models(shard: str) -> set[str]:
        result = project.pytest(*collect, f"--onnxcheck-shard={shard}")
        return {line.split("::")[1] for line in result.outlines if line.count("::") == 3}

    # without the file, by the number of checks, which is the same of all
    assert [len(models(f"{n}/2")) for n in (1, 2)] == [3, 2]
    assert project.run().ret == 0
    record = project.record
    for entry in record["checks"]:
        entry["stages"] = {"check": 100.0 if entry["model"] == "three" else 1.0}
    assert record["checks"][3]["target"] is None  # of no point to be timed at
    (project.path / "before.json").write_text(json.dumps(record))
    assert models("1/2") == {"three"}
    assert models("2/2") == set(NAMES) - {"three"}
    (project.path / "before.json").write_text("{}")
    result = project.pytest(*collect, "--onnxcheck-shard=1/2")
    result.stdout.fnmatch_lines(["*--onnxcheck-durations: *before.json: not a record*"])
