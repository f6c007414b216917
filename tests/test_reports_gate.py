"""Reports of a real run."""

from __future__ import annotations

import json

import jsonschema
import pytest
from project import Project, Result, mlps

from pytest_onnxcheck.record import schema

QUICK = 'precisions = ["fp32", "int8-dynamic"]\n[defaults.latency]\nseconds = 0.1'


@pytest.fixture
def gated(project: Project) -> Project:
    """A model that passes, and one whose tolerance nothing keeps."""
    project.on_clock()
    strict = "tolerance.int8-dynamic.rel_rms = 1e-9\n"
    project.manifest(mlps("good", "bad") + strict, QUICK)
    return project


def test_the_record_of_a_run_is_valid_and_tells_where_its_time_went(gated: Project):
    assert gated.run().ret == 1
    record = gated.record
    jsonschema.Draft202012Validator(schema.json_schema()).validate(record)
    checks = {check["nodeid"].partition("::")[2]: check for check in record["checks"]}
    export = checks["good::torchscript-op17-fp32::test_export"]
    assert {"loading the checkpoint", "exporting", "setup", "check"} <= export["stages"].keys()
    assert export["stages"]["exporting"] > 0
    converted = checks["good::torchscript-op17-int8-dynamic::test_quantization"]
    assert "quantizing" in converted["stages"]
    failed = checks["bad::torchscript-op17-int8-dynamic::test_equivalence[cpu]"]
    assert failed["outcome"] == "failed"
    assert [limit["key"] for limit in failed["limits"]] == ["tolerance.rel_rms"]
    latency = checks["good::torchscript-op17-fp32::test_latency[cpu-batch1]"]
    assert len(latency["measurement"]["torch"]["quantiles"]) == 21


def test_github_gets_a_summary_and_annotations_at_the_line_of_the_model(gated: Project):
    summary = gated.path / "summary.md"
    summary.write_text("of another step\n")
    gated.environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    result = gated.pytest("--onnxcheck", "-k", "bad and int8", "-m", "equivalence")
    assert result.ret == 1
    line = 1 + (gated.path / "models.toml").read_text().splitlines().index("[models.bad]")
    result.stdout.fnmatch_lines(
        f"::error file=models.toml,line={line},title=onnxcheck bad::bad::*test_equivalence*rel_rms*"
    )
    text = summary.read_text()
    assert text.startswith("of another step\n## ❌ onnxcheck: 1 of 1 checks failed\n")
    assert "pytest 'models.toml::bad::torchscript-op17-int8-dynamic::test_equivalence[cpu]'" in text
    assert not (gated.path / "record.json").exists()


@pytest.mark.parametrize(
    "args", [("--onnxcheck", "--onnxcheck-no-github", "-m", "export"), ("test_other.py",)]
)
def test_github_gets_nothing_unless_the_run_is_ours(gated: Project, args: tuple[str, ...]):
    (gated.path / "test_other.py").write_text("def test_other():\n    assert False\n")
    summary = gated.path / "summary.md"
    gated.environ = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    result = gated.pytest(*args)
    assert not any(line.startswith("::") for line in result.outlines)
    assert not summary.exists()


def test_a_summary_that_cannot_be_written_is_told(gated: Project):
    gated.environ = {"GITHUB_STEP_SUMMARY": str(gated.path / "missing" / "summary.md")}
    result = gated.pytest("--onnxcheck", "-m", "export")
    assert result.ret == 0
    result.stdout.fnmatch_lines("GITHUB_STEP_SUMMARY: *No such file*")


def test_gitlab_gets_code_quality(gated: Project):
    result = gated.pytest("--onnxcheck", "--onnxcheck-codequality=out/quality.json", "-k", "int8")
    assert result.ret == 1
    issues = json.loads((gated.path / "out" / "quality.json").read_text())
    assert {issue["severity"] for issue in issues} == {"critical", "minor"}
    assert {issue["location"]["path"] for issue in issues} == {"models.toml"}
    result.stdout.fnmatch_lines("code quality: *quality.json")


def test_a_page_to_look_at(gated: Project):
    result = gated.pytest("--onnxcheck", "--onnxcheck-html=out/report.html", "-k", "int8")
    assert result.ret == 1
    text = (gated.path / "out" / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html>")
    command = "pytest &#39;models.toml::bad::torchscript-op17-int8-dynamic::test_equivalence[cpu]"
    assert command in text
    assert "tolerance.rel_rms" in text
    result.stdout.fnmatch_lines("report: *report.html")


def test_a_page_needs_no_record_and_the_ini_may_ask_for_it(gated: Project):
    (gated.path / "pytest.ini").write_text("[pytest]\nonnxcheck_html = report.html\n")
    (gated.path / "test_other.py").write_text("def test_other():\n    pass\n")
    assert gated.pytest("test_other.py").ret == 0
    assert not (gated.path / "report.html").exists()
    gated.pytest("--onnxcheck", "-m", "export")
    assert (gated.path / "report.html").exists()


def test_a_wrong_manifest_is_told_at_its_line(project: Project):
    project.manifest(mlps("net") + 'shpae = "x"\n')
    project.environ = {"GITHUB_ACTIONS": "true"}
    result = project.pytest("--onnxcheck")
    result.stdout.fnmatch_lines("::error file=models.toml,line=*::*unknown key 'shpae'*")


def test_the_reports_are_of_the_record_that_the_project_leaves(gated: Project):
    hook = "\n\ndef pytest_onnxcheck_update_record(config, record):\n    record['checks'] = []\n"
    with (gated.path / "conftest.py").open("a") as file:
        file.write(hook)
    gated.pytest("--onnxcheck", "--onnxcheck-codequality=quality.json", "-k", "int8")
    assert json.loads((gated.path / "quality.json").read_text()) == []


def test_a_record_that_the_project_breaks_makes_no_other_report(gated: Project):
    hook = "\n\ndef pytest_onnxcheck_update_record(config, record):\n    del record['checks']\n"
    with (gated.path / "conftest.py").open("a") as file:
        file.write(hook)
    result = gated.pytest("--onnxcheck", "--onnxcheck-codequality=quality.json", "-m", "export")
    result.stdout.fnmatch_lines("no other report is written: pytest_onnxcheck_update_record: *")
    assert not (gated.path / "quality.json").exists()


def test_a_terminal_gets_no_control_characters_of_a_manifest_or_a_file(project: Project):
    evil = r"\u001b[31mred\n::error::stolen"
    skip = f'\n[[models.net.skip]]\nchecks = ["structure"]\nreason = "{evil}"\n'
    wrong = f'"{evil}" = 1\n'
    project.manifest(mlps("net") + skip + mlps("other") + wrong)
    project.environ = {"GITHUB_ACTIONS": "true"}
    result = project.pytest("--onnxcheck", "-rs", "-m", "structure")
    assert_harmless(result)


def test_a_summary_gets_none_either_where_it_wraps_lines(project: Project):
    project.columns = 80
    reason = r"\u001b[31mred " + "::error::stolen " * 20
    left_out = f'\nskip_probes = [{{ name = "zeros*", reason = "{reason}" }}]\n'
    project.manifest(mlps("net") + left_out)
    project.environ = {"GITHUB_ACTIONS": "true"}
    result = project.pytest("--onnxcheck", "-m", "equivalence")
    assert result.ret == 0
    result.stdout.fnmatch_lines("left out  net: probe 'zeros[*]': *")
    assert_harmless(result)


def assert_harmless(result: Result) -> None:
    shown = "\n".join(result.outlines)
    assert r"\x1b[31mred" in shown
    assert "\x1b[31mred" not in shown
    assert not any(line.lstrip().startswith("::error::stolen") for line in result.outlines)
