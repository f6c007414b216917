"""`compare` and `report` on records, `doctor`."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_onnxcheck.cli import main

RECORD = Path(__file__).parent.parent / "data" / "record-0.1.0.json"


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a record that was changed, in the current folder, and gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    whole = json.loads(RECORD.read_text())

    def write(change: Callable[[dict], None] = lambda record: None, name: str = "b.json") -> str:
        record = copy.deepcopy(whole)
        change(record)
        Path(name).write_text(json.dumps(record))
        return name

    write(name="a.json")
    return write


def entry(record: dict, check: str, precision: str = "fp32") -> dict:
    return next(
        each
        for each in record["checks"]
        if each["check"] == check and each["variant"].endswith(precision)
    )


def fail(record: dict) -> None:
    found = entry(record, "structure")
    found |= {"outcome": "failed", "grade": "fail", "reason": "opset: 17, declared 20"}
    record["exitstatus"] = 1


def test_a_record_that_is_the_same_has_no_changes(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    assert main(["compare", "a.json", changed()]) == 0
    assert capsys.readouterr().out == "a.json -> b.json\nnothing changed\n"


def test_what_is_worse_is_marked_and_a_failure(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    def worse(record: dict) -> None:
        fail(record)
        for case in entry(record, "equivalence")["measurement"]["cases"]:
            for output in case["outputs"]:
                output["max_abs"] = 0.5
        entry(record, "export")["measurement"]["file"]["size_bytes"] = 2_000_000
        ratio = entry(record, "latency")["measurement"]["ratios"]["torch"]
        ratio |= {"value": ratio["value"] * 9, "low": ratio["low"] * 9, "high": ratio["high"] * 9}

    assert main(["compare", "a.json", changed(worse)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "net::torchscript-op17-fp32"
    assert any(line.split() == ["!", "structure", "passed", "->", "failed"] for line in lines)
    assert any(line.startswith("  ! error ") and line.endswith("-> 5.0e-01") for line in lines)
    assert any(line.startswith("  ! size ") and line.endswith("-> 2.00 MB") for line in lines)
    assert any(line.startswith("  + speed-up[") for line in lines)
    assert main(["compare", "b.json", "a.json", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {change["what"]: change["worse"] for change in found["changes"]}["structure"] is False


def test_a_variant_that_is_gone_is_a_failure(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    def without(record: dict) -> None:
        record["checks"] = [each for each in record["checks"] if "int8" not in each["variant"]]

    assert main(["compare", "a.json", changed(without)]) == 1
    assert "  ! variant " in capsys.readouterr().out
    assert main(["compare", "b.json", "a.json"]) == 0
    assert "    variant " in capsys.readouterr().out


def test_a_report_says_what_failed(changed: Callable[..., str], capsys: pytest.CaptureFixture[str]):
    name = changed(fail)
    assert main(["report", name]) == 0
    out = capsys.readouterr().out
    assert "1 failed, 3 warned, 8 passed; exit status 1" in out
    assert "  FAIL     torchscript-op17-fp32 " in out
    assert "           structure: opset: 17, declared 20\n" in out
    assert main(["report", "a.json", name, "--format", "markdown", "--output", "r.md"]) == 0
    text = Path("r.md").read_text()
    assert text.startswith("## ❌ onnxcheck: 1 of 12 checks failed\n")
    assert "opset: 17, declared 20" in text
    assert main(["report", "a.json", name, "--format", "html", "--output", "r.html"]) == 0
    text = Path("r.html").read_text()
    assert main(["report", "a.json", name, "--html"]) == 0
    assert capsys.readouterr().out == text
    assert text.startswith("<!DOCTYPE html>")
    assert "opset: 17, declared 20" in text


def test_a_report_fits_the_terminal_and_tells_a_variant_without_a_file(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    def broken(record: dict) -> None:
        found = entry(record, "export")
        found |= {"outcome": "failed", "grade": None, "measurement": None}
        found["reason"] = "net: PyTorch itself does not run\n  nets.py:16 in forward"
        record["checks"] = [found]

    assert main(["report", changed(broken)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "  FAIL     torchscript-op17-fp32" in lines  # nothing behind it
    assert any("does not run nets.py:16 in forward" in line for line in lines)


def test_two_records_are_needed(changed: Callable[..., str], capsys: pytest.CaptureFixture[str]):
    assert main(["compare", "a.json"]) == 2
    assert "give two records or more" in capsys.readouterr().err
    Path("no.json").write_text("[]")
    assert main(["report", "no.json"]) == 1
    assert "no.json: not a record" in capsys.readouterr().err


def test_doctor_says_what_runs_here(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    Path("models.toml").write_text(
        'schema = 1\n[models.a]\nfactory = "x:y"\ntargets = ["cpu", "cuda"]\n'
        "inputs.x.shape = [1]\noutputs.y.shape = [1]\n"
    )
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("versions    pytest-onnxcheck ")
    assert "cpu         runs" in lines
    assert any(line.startswith("cuda        CUDAExecutionProvider is not") for line in lines)
    assert any(line.startswith("would skip  every check on cuda (a): ") for line in lines)
    assert main(["doctor", "--manifest", "no.toml", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["problems"] == [next(iter(found["problems"]))]
    assert "no.toml: there is no such manifest" in found["problems"][0]
    assert [target["target"] for target in found["targets"]][:2] == ["cpu", "cuda"]


def test_json_is_what_the_tables_show(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    name = changed(fail)
    assert main(["table", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    row = next(row for row in found if row["variant"] == "torchscript-op17-fp32")
    assert (row["model"], row["verdict"], row["checks"]["structure"]) == ("net", "FAIL", "FAIL")
    assert row["size_bytes"] > 0
    assert next(iter(row["speed_ups"].values()))["low"] > 0
    assert main(["report", name, "a.json", "--json"]) == 0
    red, green = json.loads(capsys.readouterr().out)
    assert (red["record"], red["exitstatus"], green["exitstatus"]) == (name, 1, 0)
    assert red["variants"] == found
    (failed,) = [entry for entry in red["told"] if entry["state"] == "failed"]
    assert failed["reason"] == "opset: 17, declared 20"


def test_control_characters_do_not_reach_the_terminal(
    changed: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    def red(record: dict) -> None:
        fail(record)
        entry(record, "structure")["reason"] = "output '\x1b[2J\u202egnp': missing"

    assert main(["report", changed(red)]) == 0
    assert "output '\\x1b[2J\\u202egnp': missing" in capsys.readouterr().out
    Path("\x1b[31m.json").write_text("[]")
    assert main(["report", "\x1b[31m.json"]) == 1
    assert capsys.readouterr().err.startswith("\\x1b[31m.json: not a record")
