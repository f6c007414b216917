"""A run proposes a variant to release, and the command reads it back."""

import json

import pytest
from project import MLP, Project, checks_of

from pytest_onnxcheck.cli import main

TWO = MLP.format(name="net") + 'precisions = ["fp32", "int8-dynamic"]\nlatency.seconds = 0.01\n'


def test_a_run_proposes_a_variant_and_the_command_reads_it_back(
    project: Project, capsys: pytest.CaptureFixture[str]
):
    project.on_clock()
    project.manifest(TWO)
    result = project.run("--onnxcheck-frontier")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "    release  torchscript-op17-* kB*; * ms, *x PyTorch*; * dB*)",
            "frontier  net (latency on cpu batch=1)",
            "variant * SQNR * release*",
            "torchscript-op17-fp32 *",
            "torchscript-op17-int8-dynamic *",
        ]
    )
    rows = project.record["frontier"]
    assert [row["variant"] for row in rows] == [
        *("torchscript-op17-fp32", "torchscript-op17-int8-dynamic")
    ]
    assert [row["release"] for row in rows].count(True) == 1
    assert rows[1]["size_ratio"] == rows[1]["size_bytes"] / rows[0]["size_bytes"]
    assert rows[0]["sqnr_db"] > 100 > rows[1]["sqnr_db"] > 20

    path = str(project.path / "record.json")
    capsys.readouterr()
    assert main(["frontier", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == rows
    assert main(["frontier", path, "n*"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| net | torchscript-op17-") == 2
    assert printed.splitlines()[-1].startswith("onnxcheck ")
    assert main(["frontier", path, "x*"]) == 1
    assert capsys.readouterr().err == f"{path}: no model matches 'x*'; it holds: net\n"


CHECKPOINTS = """
[models.net]
factory = "nets.py:mlp"
checkpoint = "*.pt"
targets = ["cpu", "cuda"]
dims = { batch = [1] }
precisions = ["fp32", "int8-dynamic"]
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
budget.fp32.max_p95_ms = 5
budget.int8-dynamic = { min_speedup = { cpu = 2 }, min_speedup_over_fp32 = { cuda = 2 } }
skip = [{ reason = "only to see what a record has" }]
"""


def test_a_record_tells_what_was_planned_and_keeps_the_models_of_a_glob_apart(project: Project):
    for name in ("b", "a"):
        (project.path / f"{name}.pt").touch()
    project.manifest(CHECKPOINTS)
    result = project.run()
    found = project.record["checks"]
    line = found[0]["position"][0]
    facts = {
        (each["model"], each["variant"]): (each["position"], each["planned"]) for each in found
    }
    fp32, int8 = (
        {"variants": 2, "checks": len(checks_of(precision, ["cpu", "cuda"], ["batch1"]))}
        for precision in ("fp32", "int8-dynamic")
    )
    fp32["speed_budget"], int8["speed_budget"] = ["cpu"], ["cpu", "cuda"]
    assert facts == {
        ("net-a", "torchscript-op17-fp32"): ([line, 0, 0], fp32),
        ("net-a", "torchscript-op17-int8-dynamic"): ([line, 0, 1], int8),
        ("net-b", "torchscript-op17-fp32"): ([line, 1, 0], fp32),
        ("net-b", "torchscript-op17-int8-dynamic"): ([line, 1, 1], int8),
    }
    assert [row["model"] for row in project.record["frontier"]] == [*["net-a"] * 2, *["net-b"] * 2]
    result.stdout.fnmatch_lines(["- net-a *", "*release  none could be judged: * were skipped"])
    # the whole frontier has to be asked for
    assert not [text for text in result.outlines if text.startswith("frontier")]
    result = project.run("-k", "not latency")
    assert not [text for text in result.outlines if text.startswith("    release")]
