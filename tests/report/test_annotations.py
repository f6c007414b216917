"""What failed or warned, at its line of the manifest."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import runs
from snapshots import same

from pytest_onnxcheck.record.record import NotCollected
from pytest_onnxcheck.report.annotations import code_quality, github

ROOT = Path("/work")


def test_githubs_annotations():
    same("github.txt", "\n".join(github(runs.failing(), ROOT)) + "\n")


def test_gitlabs_code_quality():
    same("codequality.json", code_quality(runs.failing(), ROOT))


def test_a_run_that_passes_has_nothing_to_say():
    passed = runs.record(*(entry for entry in runs.model() if entry.state == "passed"))
    assert list(github(passed, ROOT)) == []
    assert json.loads(code_quality(passed, ROOT)) == []


def test_a_command_is_one_line_whatever_a_reason_holds():
    lines = list(github(runs.evil(), ROOT))
    assert len(lines) == 3
    for line in lines:
        assert re.match("::(error|warning) file=models.toml,line=", line)
        assert not any(char in line for char in "\n\r\x1b\u202e")


def test_many_checks_of_a_model_are_one_annotation():
    bad = runs.model("bad", fails=True)[6]
    many = [dataclasses.replace(bad, variant=f"v{number}") for number in range(20)]
    (line,) = github(runs.record(*many), ROOT)
    assert line.count("%0A") == 8
    assert line.endswith("%0A… and 12 more")


def test_a_manifest_elsewhere_keeps_its_path():
    (first, *_) = json.loads(code_quality(runs.failing(), Path("/elsewhere")))[1:]
    assert first["location"]["path"] == "/work/models.toml"


def test_every_mistake_of_a_manifest_has_its_line():
    text = "models.toml:3: [models.a] one\nmodels.toml:9: [models.b] two"
    found = runs.record(errors=(NotCollected("models.toml", text),))
    lines = [issue["location"]["lines"]["begin"] for issue in json.loads(code_quality(found, ROOT))]
    assert lines == [3, 9]


def test_another_error_stands_at_the_first_line_of_the_file():
    found = runs.record(errors=(NotCollected("models.toml::a", "Traceback\nE  ImportError: no"),))
    assert list(github(found, ROOT)) == [
        "::error file=models.toml,line=1,title=onnxcheck manifest::"
        "models.toml::a: E ImportError: no"
    ]


def test_a_fingerprint_does_not_follow_what_was_measured():
    def prints(reason: str) -> list[str]:
        bad = dataclasses.replace(runs.model("bad", fails=True)[6], reason=reason)
        issues = json.loads(code_quality(runs.record(bad), ROOT))
        return [issue["fingerprint"] for issue in issues]

    assert prints("0.5") == prints("0.6")
    every = [issue["fingerprint"] for issue in json.loads(code_quality(runs.failing(), ROOT))]
    assert len(set(every)) == len(every) == 4
