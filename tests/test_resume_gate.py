"""A run that is killed leaves what it finished, and another goes on from there."""

from __future__ import annotations

import itertools
import json
import re
import signal
from types import SimpleNamespace
from typing import cast
from xml.etree import ElementTree

import pytest
from cut_off import FP32, counting, killed, run_checks
from project import Project, drifting, mlps

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.plugin.afar import Afar
from pytest_onnxcheck.plugin.journaling import Journaling
from pytest_onnxcheck.plugin.results import Results
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.record.record import load


@pytest.fixture
def counted(project: Project) -> Project:
    """A project of two models, in which it is counted which checks are really run."""
    return counting(project)


def steady(record: dict) -> list[dict]:
    """The checks of a record without what is of a run, or measured by a clock."""
    kept = ("nodeid", "outcome", "reason", "findings", "expected_failure")
    return [{key: check.get(key) for key in kept} for check in record["checks"]]


def junit(project: Project) -> list[tuple[str, list[str]]]:
    """Name, and what is said besides, of each test in JUnit's file."""
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    return [
        (str(case.get("name")), sorted(f"{e.tag} {e.get('message')}" for e in case))
        for case in cases
    ]


@pytest.mark.parametrize("order", [*itertools.permutations(["afar", "journal", "results"])])
def test_a_report_is_written_down_before_what_it_found_is_let_go_of(order: tuple[str, ...]):
    """Whoever is registered first: in pytest's own process, and with workers and isolation."""
    config = cast("pytest.Config", SimpleNamespace(stash={SETTINGS: None}))
    journaling = Journaling(config)
    plugins = {"results": Results(config, journaling), "journal": journaling, "afar": Afar(config)}
    manager = pytest.PytestPluginManager()
    for name in order:
        manager.register(plugins[name], name)
    last_first = manager.hook.pytest_runtest_logreport.get_hookimpls()
    assert [one.plugin_name for one in reversed(last_first)] == ["afar", "journal", "results"]


def test_a_killed_run_leaves_what_it_finished_and_another_makes_the_rest(counted: Project):
    made = killed(counted, "test_equivalence[cpu]")
    record = load(counted.path / "record.json")
    assert [entry.nodeid.partition("::")[2] for entry in record.checks] == made != []
    assert (record.finished, record.selected) == (False, 10)
    result = counted.run("--onnxcheck-resume")
    assert result.ret == 0
    rest = run_checks(counted)
    assert not set(made) & set(rest)
    assert [*made, *rest] == list(counted.outcomes())
    result.stdout.fnmatch_lines([f"resumed: {len(made)} of 10 checks are those of the run before"])
    found = load(counted.path / "record.json")
    assert [entry.resumed for entry in found.checks] == [True] * len(made) + [False] * len(rest)
    assert found.finished
    # a run that came to its end is none to go on with
    result = counted.run("--onnxcheck-resume")
    assert run_checks(counted) == [*made, *rest]
    result.stdout.fnmatch_lines(["--onnxcheck-resume: no unfinished record at *: all is made"])


#: a model for each way in which checks end: failed export and skips, failures, expected ones
MIXED = (
    mlps("good")
    + mlps("bad").replace("nets.py:mlp", "nets.py:unexportable").replace("8]", "3, 3]", 1)
    + drifting("wrong")
    + drifting("known")
    + '[[models.known.xfail]]\nchecks = ["equivalence"]\nreason = "it is"\n'
    + '[[models.good.skip]]\nchecks = ["latency"]\nreason = "not now"\n'
)


def test_a_resumed_run_is_told_as_one_that_was_never_cut_off(counted: Project):
    counted.manifest(MIXED, "[defaults.latency]\nseconds = 0.1")
    report = "--junitxml=junit.xml"
    whole = counted.run(report)
    expected, cases = steady(counted.record), junit(counted)
    every = run_checks(counted)
    outcomes = {check["outcome"] for check in expected}
    assert outcomes == {"passed", "failed", "skipped", "xfailed"}
    summary = next(line for line in reversed(whole.outlines) if re.search(r" in \d", line))
    counted.environ |= {"KILL_AFTER": str(len(every) - 2), "KILL_BY": "9"}
    assert counted.run(report).ret == -9
    counted.environ.clear()
    assert run_checks(counted) == every[:-2]
    again = counted.run("--onnxcheck-resume", report)
    assert (again.ret, run_checks(counted)) == (1, every[-2:])
    assert steady(counted.record) == expected
    assert junit(counted) == cases
    last = next(line for line in reversed(again.outlines) if re.search(r" in \d", line))
    assert last.partition(" in ")[0] == summary.partition(" in ")[0]


def test_what_changed_since_is_made_anew(counted: Project):
    made = killed(counted, "test_latency[cpu-batch3]")
    assert {"one"} == {nodeid.partition("::")[0] for nodeid in made}
    nets = counted.path / "nets.py"
    nets.write_text(nets.read_text().replace("hidden=16", "hidden=17"))
    assert counted.run("--onnxcheck-resume").ret == 0
    assert len(run_checks(counted)) == 10
    assert not any(check["resumed"] for check in counted.record["checks"])


@pytest.mark.parametrize(
    "option", ["--onnxcheck-mutants=1", "--onnxcheck-strict", "--onnxcheck-timeout=600"]
)
def test_other_settings_make_everything_anew(counted: Project, option: str):
    counted.manifest(mlps("one"), "isolate = false\n[defaults.latency]\nseconds = 0.1")
    made = killed(counted, "test_equivalence[cpu]", "--onnxcheck-model=one")
    counted.run("--onnxcheck-resume", "--onnxcheck-model=one", option)
    assert set(made) <= set(run_checks(counted))


def test_a_change_of_one_model_leaves_the_other_alone(counted: Project):
    exports = [f"{model}::{FP32}::test_export" for model in ("one", "two")]
    assert killed(counted, "test_structure", "-k", "export or (two and structure)") == exports
    text = (counted.path / "models.toml").read_text()
    head, two, rest = text.partition("[models.two]")
    (counted.path / "models.toml").write_text(f"{head}{two}\nkwargs.hidden = 8{rest}")
    assert counted.run("--onnxcheck-resume", "-k", "export").ret == 0
    assert run_checks(counted) == exports[1:]


def test_an_interrupted_run_is_gone_on_with_too(counted: Project):
    made = killed(counted, "test_equivalence[cpu]", by=signal.SIGINT)
    assert not load(counted.path / "record.json").finished
    assert counted.run("--onnxcheck-resume").ret == 0
    assert not set(made) & set(run_checks(counted))


def test_a_torn_last_line_is_left_out_and_a_damaged_one_is_refused(counted: Project):
    made = killed(counted, "test_equivalence[cpu]")
    path = counted.path / "record.json"
    lines = path.read_text()
    path.write_text(lines[:-40])
    assert len(load(path).checks) == len(made) - 1
    assert counted.run("--onnxcheck-resume").ret == 0
    assert run_checks(counted)[0] == made[-1]
    assert counted.record["finished"]

    first, second, rest = lines.split("\n", 2)
    path.write_text("\n".join([first, second[:-9], rest]))
    result = counted.run("--onnxcheck-resume")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*--onnxcheck-resume: *record.json:2: a damaged record*"])


def test_what_somebody_changed_in_an_unfinished_record_is_made_anew(counted: Project):
    made = killed(counted, "test_latency[cpu-batch1]")
    path = counted.path / "record.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    of_checks = [line for line in lines if "report" in line]
    of_checks[0]["report"]["when"] = {"no": "phase"}
    of_checks[1]["checks"][0].pop("outcome")
    of_checks[2]["basis"] = {}
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert counted.run("--onnxcheck-resume").ret == 0
    assert len(made) == 3
    assert len(run_checks(counted)) == 10
    path.write_text(json.dumps(lines[0]) + '\n{"checks": [3]}\n')
    assert counted.run("--onnxcheck-resume").ret == 4


def test_a_kill_of_a_resumed_run_loses_nothing_of_the_one_before(counted: Project):
    made = killed(counted, "test_equivalence[cpu]")
    made += killed(counted, "test_latency[cpu-batch3]", "--onnxcheck-resume")
    record = load(counted.path / "record.json")
    assert {entry.nodeid.partition("::")[2] for entry in record.checks} == set(made)
    assert counted.run("--onnxcheck-resume").ret == 0
    assert not set(made) & set(run_checks(counted))
    assert len(counted.record["checks"]) == 10


def test_a_check_whose_teardown_failed_is_made_again(counted: Project):
    conftest = counted.path / "conftest.py"
    conftest.write_text(
        conftest.read_text() + "\n\n@pytest.fixture(autouse=True)\ndef torn(request):\n    yield\n"
        "    assert 'structure' not in request.node.name or 'HEALED' in os.environ\n"
    )
    made = killed(counted, "test_equivalence[cpu]")
    counted.environ["HEALED"] = "1"
    assert counted.run("--onnxcheck-resume").ret == 0
    again = run_checks(counted)
    assert [name for name in made if name in again] == [f"one::{FP32}::test_structure"]


def test_resuming_needs_the_name_of_a_record(counted: Project):
    result = counted.pytest("--onnxcheck", "--onnxcheck-resume")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*name it, --onnxcheck-json=PATH*"])


def test_an_unfinished_record_is_read_and_told_and_not_released(
    counted: Project, capsys: pytest.CaptureFixture[str]
):
    hook = (
        "\n\ndef pytest_onnxcheck_update_record(record):\n"
        "    record['environment'].pop('command')\n"
    )
    conftest = counted.path / "conftest.py"
    conftest.write_text(conftest.read_text() + hook)
    manifest = counted.path / "models.toml"
    manifest.write_text(manifest.read_text() + '[models.two.release]\nversion = "1"\n')
    killed(counted, "test_equivalence[cpu]")
    path = counted.path / "record.json"
    assert "command" not in json.loads(path.read_text().splitlines()[0])["environment"]
    told = "unfinished: 2 of 11 checks were made"
    commands = (["report"], ["report", "--format=markdown"], ["report", "--html"], ["table"])
    for command in (*commands, ["frontier"]):
        assert main([*command, str(path)]) == 0
        assert told in capsys.readouterr().out
    main(["compare", str(path), str(path)])
    assert f"{path}: {told}" in capsys.readouterr().err
    assert main(["release", str(path), f"--manifest={manifest}"]) == 1
    assert "the record is unfinished: 2 of 11 checks were made" in capsys.readouterr().err
