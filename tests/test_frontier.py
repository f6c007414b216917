"""What each variant costs and loses, which are dominated, and which one is to be released."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from entries import ratios
from project import MLP, Project, checks_of

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    CaseMeasurement,
    CoverageMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    FileCheck,
    LatencyMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
)
from pytest_onnxcheck.record.encoding import as_json
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.frontier import data, markdown, proposal
from pytest_onnxcheck.report.terminal import summary

FP32, FP16, STATIC = (f"dynamo-op20-{precision}" for precision in ("fp32", "fp16", "int8-static"))
MB = 1_000_000


def read(entries):
    """The entries of checks that are written here as a record has them."""
    return [Entry.from_json(found) for found in entries]


def entry(check, measurement=None, *, outcome="passed", target=None, **changes):
    made = {"manifest": "models.toml", "check": check, "target": target, "outcome": outcome}
    made["nodeid"] = f"test_{check}[{target}]"
    if measurement is not None:
        made["measurement"] = dataclasses.asdict(measurement)
    return made | {"grade": "pass", "reason": ""} | changes


def file(size):
    return FileCheck("net.onnx", "ab", size, None, None)


def outputs(rel_rms, top1=None, name="y", dtype="float32"):
    return OutputMeasurement(name, dtype, dtype, (1,), (1,), 1, rel_rms=rel_rms, top1=top1)


def equal(*cases, outcome="passed", target="cpu"):
    return entry(
        "equivalence",
        EquivalenceMeasurement(target, "CPU", cases),
        outcome=outcome,
        target=target,
    )


def timed(milliseconds, speedup=None, target="cpu", over_fp32=None, **changes):
    """Beside a PyTorch that takes 8 ms, unless a speed-up is given."""
    others = {} if over_fp32 is None else {"fp32": over_fp32}
    seconds = (milliseconds / 1e3,)
    measured = LatencyMeasurement(
        target=target,
        provider="CPU",
        dims={"batch": 1},
        threads=1,
        boundary="host to host",
        torch=summarised("torch", seconds),
        onnxruntime=summarised("onnxruntime", seconds),
        load_seconds=0.1,
        ratios=ratios(torch=speedup or 8 / milliseconds, **others),
    )
    return entry("latency", dataclasses.replace(measured, **changes), target=target)


def checks(variant, size=4 * MB, latency=4.0, loss=1e-7, more=(), without=(), model="net"):
    """The entries of a variant that passes; `more` come first, `without` names checks left out."""
    fp32 = variant.endswith("fp32")
    export = ExportMeasurement(file(size if fp32 else 4 * MB), "dynamo", 20, 1.0, False, None, ())
    made = [entry("export", export), entry("structure")]
    if not fp32:
        precision = variant.rpartition("op20-")[2]
        measured = QuantizationMeasurement(
            file(size), precision, 4 * MB, 1, {"QLinearConv": 1}, {}, None, 1.0
        )
        made.append(entry("quantization", measured))
    made.append(equal(CaseMeasurement("a", (outputs(loss),))))
    if latency is not None:
        made.append(timed(latency))
    names = {"model": model, "variant": variant, "position": [3, 0]}
    kept = [found for found in made if found["check"] not in without]
    return [names | found for found in [*more, *kept]]


def only(*variants):
    """The one frontier of a model, its candidates by name."""
    entries = [
        {**found, "position": [3, index]} for index, made in enumerate(variants) for found in made
    ]
    (found,) = frontiers(read(entries))
    return found, {candidate.variant: candidate for candidate in found.candidates}


def released(*variants):
    found = only(*variants)[0].released
    return found and found.variant


# the numbers


def test_a_candidate_has_every_number():
    covered = QuantizationMeasurement(
        *(file(1 * MB), "int8-static", 4 * MB, 1, {}, {}, None, 1.0),
        coverage=CoverageMeasurement(weights=0.9, compute=0.97),
    )
    accuracy = AccuracyMeasurement(
        *("cpu", "CPU", "accuracy", "digits.npz", "ab", 360, 0.98, 0.975, 0.005, 0.0, 0.01, 0.95)
    )
    cases = (
        CaseMeasurement("a", (outputs(0.01, 1.0), outputs(0.1, 0.75, "z"))),
        CaseMeasurement("probe", (outputs(5.0, 0.0),), probe=True),
        CaseMeasurement("lenient", (outputs(5.0, 0.0),), lenient="not made for these"),
        CaseMeasurement("index", (outputs(5.0, None, "i", "int64"),)),
    )
    made = [
        entry("quantization", covered),
        entry("accuracy", accuracy),
        entry("latency", outcome="skipped", target="cuda"),
        timed(2.0, 3.0, onnxruntime=summarised("o", (0.001, 0.002, 0.009)), over_fp32=1.5),
        timed(16.0, 5.0, dims={"batch": 8}),
        equal(*cases),
    ]
    found, by_name = only(
        checks(FP32), checks(STATIC, more=made, without=("export",), latency=None)
    )
    assert (found.target, found.dims, found.point) == ("cpu", {"batch": 1}, "cpu batch=1")
    one = by_name[STATIC]
    assert (one.size_bytes, one.size_ratio) == (1 * MB, 0.25)
    assert one.latency_ms == pytest.approx(2.0)
    assert (one.speedup, one.speedup_over_fp32) == (3.0, 1.5)
    assert (one.rel_rms, one.top1) == (0.1, 0.75)
    assert (one.accuracy_drop, one.coverage) == (0.005, 0.97)
    fp32 = by_name[FP32]
    assert (fp32.size_bytes, fp32.size_ratio) == (4 * MB, 1.0)
    assert (fp32.top1, fp32.accuracy_drop, fp32.coverage) == (None, None, None)


def test_latencies_are_compared_at_one_point():
    later = checks(STATIC, latency=None, more=[timed(0.1, dims={"batch": 8}), timed(3.0)])
    _, by_name = only(checks(FP32), later)
    assert by_name[STATIC].latency_ms == pytest.approx(3.0)
    _, by_name = only(checks(FP32), checks(STATIC, latency=None, more=[timed(1.0, target="cuda")]))
    assert by_name[STATIC].latency_ms is None


def test_a_record_of_an_earlier_version_has_fewer_numbers():
    made = checks(STATIC, 1 * MB, 2.0, 0.01)
    for found in made:
        measured = found.get("measurement", {})
        measured.pop("coverage", None)
        for case in measured.get("cases", ()):
            case["outputs"] = [
                {key: value for key, value in each.items() if key != "top1"}
                for each in case["outputs"]
            ]
    found, by_name = only(checks(FP32), made)
    one = by_name[STATIC]
    assert (one.coverage, one.speedup_over_fp32, one.top1) == (None, None, None)
    assert one.release
    assert "fp32;" in proposal(found)


# dominance


@pytest.mark.parametrize(
    ("other", "dominated"),
    [
        ((5 * MB, 5.0, 1e-6), True),  # worse in all
        ((4 * MB, 4.0, 1e-6), True),  # worse in one, equal in the others
        ((4 * MB, 4.0, 1e-7), False),  # equal
        ((3 * MB, 5.0, 1e-6), False),  # better in one
        ((5 * MB, None, 1e-6), False),  # not known
    ],
)
def test_dominated_is_worse_in_one_and_better_in_none(other, dominated):
    _, by_name = only(checks(FP32), checks("torchscript-op20-fp32", *other))
    assert by_name["torchscript-op20-fp32"].dominated_by == (FP32 if dominated else None)
    assert by_name[FP32].dominated_by is None


def test_what_fails_dominates_nothing_and_may_be_dominated():
    better = checks(FP16, 1 * MB, 1.0, 1e-8, more=[entry("own", outcome="failed")])
    _, by_name = only(checks(FP32), better)
    assert (by_name[FP32].dominated_by, by_name[FP16].state) == (None, "FAIL")
    worse = checks(FP16, 5 * MB, 5.0, 1e-3, more=[entry("own", outcome="failed")])
    _, by_name = only(checks(FP32), worse)
    assert by_name[FP16].dominated_by == FP32


def test_the_dominating_variant_named_is_not_dominated_itself():
    _, by_name = only(
        checks("dynamo-op18-fp32", 6 * MB, 6.0), checks(FP16, 5 * MB, 5.0), checks(FP32)
    )
    assert {one.dominated_by for one in by_name.values()} == {FP32, None}


def test_other_models_do_not_dominate():
    entries = read([*checks(FP32), *checks(FP32, 1 * MB, 1.0, 0.0, model="other")])
    found = frontiers(entries)
    assert [one.model for one in found] == ["net", "other"]
    assert found[0].candidates[0].dominated_by is None
    assert [one.model for one in frontiers(entries, "oth*")] == ["other"]


# what to release


def test_the_fastest_is_released():
    assert released(checks(FP32), checks(FP16, 2 * MB, 5.0), checks(STATIC, 1 * MB, 3.0)) == STATIC
    assert released(checks(FP32), checks(STATIC, 1 * MB, 5.0)) == FP32


def test_speed_is_told_from_the_pytorch_calls_between_and_not_from_a_busy_machine():
    # timed while the machine was quiet
    slow = checks(STATIC, 1 * MB, None, more=[timed(3.0, 1.5)])
    _, by_name = only(checks(FP32, latency=4.0), slow)
    assert by_name[STATIC].latency_ms < by_name[FP32].latency_ms
    assert by_name[FP32].release


def test_speed_is_told_from_the_fp32_artefact_timed_beside_and_not_from_a_slower_pytorch():
    # PyTorch is slower where one more takes turns: 2.5 times against 2.0 times says nothing
    half = checks(FP16, 4 * MB, None, 1e-7, more=[timed(4.2, 2.5, over_fp32=0.9)])
    found, by_name = only(checks(FP32, latency=4.0), half)
    assert (by_name[FP16].speed, by_name[FP16].speedup) == (pytest.approx(1.8), 2.5)
    assert (found.released.variant, by_name[FP16].dominated_by) == (FP32, FP32)
    other = checks("torchscript-op20-fp32", latency=1.0)
    assert only(other, half)[1][FP16].speed == 2.5


def test_of_those_about_as_fast_the_smallest_is_released():
    assert released(checks(FP32, latency=4.0), checks(FP16, 2 * MB, 4.19, 1e-3)) == FP16
    assert released(checks(FP32, latency=4.0), checks(FP16, 2 * MB, 4.21, 1e-3)) == FP32


def test_without_a_latency_the_smallest_is_released_and_it_says_so():
    skipped = entry("latency", outcome="skipped", target="cpu")
    variants = [
        checks(FP32, latency=None, more=[skipped]),
        checks(STATIC, 1 * MB, None, 0.01, more=[skipped]),
    ]
    found, by_name = only(*variants)
    assert by_name[STATIC].state == "partial"
    assert proposal(found) == (
        f"net: {STATIC} (1.00 MB, 0.25 of fp32; the smallest, no latency was measured; 40.0 dB)"
    )


def test_a_variant_without_a_latency_is_not_released_where_others_have_one():
    # slower than PyTorch, and yet the only one of which anything is known
    slow = checks(FP32, latency=None, more=[timed(16.0)])
    assert released(slow, checks(STATIC, 1 * MB, None)) == FP32


@pytest.mark.parametrize("outcome", ["failed", "xfailed", "xpassed"])
@pytest.mark.parametrize("check", ["export", "equivalence", "latency", "their_own"])
def test_what_fails_or_is_expected_to_is_not_released(check, outcome):
    # also where a warning would show first
    warned = entry("export", grade="warn")
    best = checks(STATIC, 1 * MB, 1.0, more=[entry(check, outcome=outcome), warned])
    assert released(checks(FP32), best) == FP32


@pytest.mark.parametrize("outcome", ["failed", "xfailed"])
@pytest.mark.parametrize("check", ["export", "structure", "equivalence"])
def test_what_was_made_from_an_fp32_artefact_that_fails_is_not_released(check, outcome):
    wrong = checks(FP32, more=[entry(check, outcome=outcome)])
    other = checks("torchscript-op20-fp32")
    found, by_name = only(wrong, checks(STATIC, 1 * MB, 1.0), other)
    assert found.released.variant == "torchscript-op20-fp32"
    assert by_name[STATIC].failed == (f"{check} of {FP32}",)
    slow = checks(FP32, more=[entry("latency", outcome=outcome)])
    assert released(slow, checks(STATIC, 1 * MB, 1.0)) == STATIC


@pytest.mark.parametrize("check", ["structure", "quantization", "equivalence", "accuracy"])
def test_what_was_skipped_on_every_target_is_not_released(check):
    skipped = entry(check, outcome="skipped", target="cuda")
    best = checks(STATIC, 1 * MB, 1.0, more=[skipped], without=(check,))
    assert released(checks(FP32), best) == FP32


def test_a_target_that_is_absent_does_not_stand_in_the_way():
    skipped = [
        entry(check, outcome="skipped", target="cuda") for check in ("equivalence", "latency")
    ]
    best = checks(STATIC, 1 * MB, 1.0, more=skipped)
    assert released(checks(FP32), best) == STATIC


def test_a_warning_is_told_and_does_not_stand_in_the_way():
    warned = checks(STATIC, 1 * MB, 1.0, more=[entry("export", grade="warn")])
    found, _ = only(checks(FP32), warned)
    assert found.released.variant == STATIC
    assert proposal(found).endswith("; with warnings)")


def test_the_line_has_what_was_measured():
    accuracy = AccuracyMeasurement(
        *("cpu", "CPU", "accuracy", "digits.npz", "ab", 360, 0.98, 0.975, 0.0028, 0.0, 0.01, 0.95)
    )
    fast = timed(9.08, 5.21, over_fp32=3.44)
    best = checks(STATIC, 1 * MB, None, 0.01, more=[fast, entry("accuracy", accuracy)])
    found, _ = only(checks(FP32, latency=30.0), best)
    assert proposal(found) == (
        f"net: {STATIC} (1.00 MB, 0.25 of fp32; 9.08 ms, 5.2x PyTorch, 3.44x fp32; 40.0 dB; "
        "accuracy drop 0.0028)"
    )


def test_a_model_that_cannot_be_released_says_so():
    failing = [checks(variant, more=[entry("own", outcome="failed")]) for variant in (FP32, STATIC)]
    assert proposal(only(*failing)[0]) == "net: none passes its checks"


def test_nothing_that_failed_and_nothing_that_was_judged_says_so():
    skipped = entry("equivalence", outcome="skipped", target="cuda")
    absent = [
        checks(variant, latency=None, more=[skipped], without=("equivalence",))
        for variant in (FP32, STATIC)
    ]
    assert proposal(only(*absent)[0]) == "net: none could be judged: equivalence was skipped"


def untimed(variant, *targets, more=(), **changes):
    """A variant with a speed budget, where timing was off (pytest-xdist)."""
    skipped = entry("latency", outcome="skipped", target="cpu")
    made = checks(variant, latency=None, more=[skipped, *more], **changes)
    return planned(made, speed_budget=targets)


def planned(entries, **changes):
    return [found | {"planned": {"variants": 2, "checks": 1} | changes} for found in entries]


def test_a_variant_whose_speed_budget_was_not_measured_is_not_released():
    small = untimed(STATIC, "cpu", size=1 * MB)
    found, by_name = only(untimed(FP32), small)
    assert proposal(found) == (
        f"net: {FP32} (4.00 MB; the smallest, no latency was measured; 140.0 dB); "
        f"{STATIC} not proposed: its speed budget was not measured"
    )
    assert by_name[STATIC].unjudged == ("latency",)
    assert proposal(only(untimed(FP32, "cpu"), small)[0]) == (
        f"net: {FP32}, {STATIC} not proposed: their speed budget was not measured"
    )
    failing = untimed(FP32, "cpu", more=[entry("own", outcome="failed")])
    assert proposal(only(failing, small)[0]) == (
        f"net: {STATIC} not proposed: its speed budget was not measured"
    )


def test_a_speed_budget_that_was_measured_or_is_for_a_target_that_is_absent_is_no_obstacle():
    absent = [entry("equivalence", outcome="skipped", target="cuda")]
    fast = planned(checks(STATIC, 1 * MB, 1.0, more=absent), speed_budget=["cpu", "cuda"])
    assert released(checks(FP32), fast) == STATIC


def test_of_a_run_that_left_out_checks_or_variants_nothing_is_proposed():
    made = [checks(variant) for variant in (FP32, STATIC)]
    whole = [planned(found, checks=len(found)) for found in made]
    assert proposal(only(*whole)[0]) is not None
    # pytest -m "not accuracy", which one of them has
    partial = [whole[0], planned(whole[1], checks=len(made[1]) + 1)]
    assert (proposal(only(*partial)[0]), released(*partial)) == (None, None)
    # pytest -k "not fp16"
    partial = [planned(found, checks=len(found), variants=3) for found in whole]
    assert (proposal(only(*partial)[0]), released(*partial)) == (None, None)
    # a check made again (pytest-rerunfailures) is no other check
    again = [whole[0], planned([*whole[1], whole[1][0]], checks=len(made[1]) + 1)]
    assert proposal(only(*again)[0]) is None


def test_nothing_is_proposed_where_there_is_nothing_to_choose_from():
    assert proposal(only(checks(FP32))[0]) is None
    # pytest -m equivalence
    partial = [
        checks(variant, latency=None, without=("export", "structure", "quantization"))
        for variant in (FP32, STATIC)
    ]
    assert proposal(only(*partial)[0]) is None
    assert released(*partial) is None


# what people and programs read


def test_markdown_has_a_row_for_every_variant():
    found, _ = only(
        checks(FP32), checks("torchscript-op20-fp32", 5 * MB, 5.0), checks(STATIC, 1 * MB, 0.5, 0.1)
    )
    assert markdown([found]).splitlines() == [
        "| model | variant | size | of fp32 | latency | at | x PyTorch | x fp32 | SQNR | top-1 "
        "| drop | coverage | state | release | dominated by |",
        "|" + " --- |" * 15,
        f"| net | {FP32} | 4.00 MB | 1.00 | 4.00 ms | cpu batch=1 | 2.00 | - | 140.0 dB | - | - "
        "| - | pass | - | - |",
        "| net | torchscript-op20-fp32 | 5.00 MB | 1.00 | 5.00 ms | cpu batch=1 | 1.60 | - "
        f"| 140.0 dB | - | - | - | pass | - | {FP32} |",
        f"| net | {STATIC} | 1.00 MB | 0.25 | 0.500 ms | cpu batch=1 | 16.00 | - | 20.0 dB | - | - "
        "| - | pass | yes | - |",
    ]


def test_an_exact_variant_and_one_that_lost_all_can_be_written_as_json():
    found, _ = only(checks(FP32, loss=0.0), checks(STATIC, loss=math.inf))
    exact, lost = json.loads(as_json(data([found])), parse_constant=pytest.fail)
    assert (exact["model"], exact["variant"], exact["release"]) == ("net", FP32, True)
    assert (exact["rel_rms"], exact["sqnr_db"]) == (0.0, "inf")
    assert (lost["rel_rms"], lost["sqnr_db"], lost["dominated_by"]) == ("inf", "-inf", FP32)
    assert "| exact |" in markdown([found])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0.01234, "0.0123 ms"), (0.00712, "0.00712 ms"), (9.999, "10.0 ms")),
        *((123.4, "123 ms"), (999.7, "1000 ms"), (2e3, "2000 ms")),
    ],
)
def test_latencies_have_three_digits(value, shown):
    assert f" | {shown} | " in markdown([only(checks(FP32, latency=value))[0]])


def test_the_summary_ends_with_what_to_release():
    entries = [*checks(FP32), *checks(STATIC, 1 * MB, 2.0, 0.01)]
    lines = dict(summary(read(entries)))
    line = f"release  net: {STATIC} (1.00 MB, 0.25 of fp32; 2.00 ms, 4.0x PyTorch; 40.0 dB)"
    assert lines[line] == {"green": True}
    assert not any(text.startswith("frontier") for text in lines)
    failing = [{**found, "outcome": "failed"} for found in entries]
    assert dict(summary(read(failing)))["release  net: none passes its checks"] == {"yellow": True}


def test_the_whole_frontier_is_shown_when_asked_for():
    entries = [*checks(FP32), *checks(STATIC, 1 * MB, 2.0, 0.01)]
    lines = [text for text, _ in summary(read(entries), whole_frontier=True)]
    start = lines.index("frontier  net (latency on cpu batch=1)")
    assert lines[start + 1 : start + 5] == [
        "variant                  size     of fp32  latency  x PyTorch  SQNR      state  release",
        "dynamo-op20-fp32         4.00 MB  1.00     4.00 ms  2.00       140.0 dB  pass   -",
        "dynamo-op20-int8-static  1.00 MB  0.25     2.00 ms  4.00       40.0 dB   pass   yes",
        "",
    ]


# the whole way


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
            "frontier  net (latency on cpu batch=1)",
            "variant * SQNR * release*",
            "torchscript-op17-fp32 *",
            "torchscript-op17-int8-dynamic *",
            "release  net: torchscript-op17-* kB*; * ms, *x PyTorch*; * dB*)",
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
    result.stdout.fnmatch_lines(["release  net-a: none could be judged: * were skipped"])
    # the whole frontier has to be asked for
    assert not [text for text in result.outlines if text.startswith("frontier")]
    result = project.run("-k", "not latency")
    assert not [text for text in result.outlines if text.startswith("release")]


@pytest.mark.parametrize("text", ["[]", "{}", "schema = 1"])
def test_what_is_no_record_is_an_error(tmp_path, capsys: pytest.CaptureFixture[str], text):
    path = tmp_path / "models.toml"
    path.write_text(text)
    for command in ("frontier", "table"):
        assert main([command, str(path)]) == 1
        message = f"{path}: not a record: write one with --onnxcheck-json=PATH\n"
        assert capsys.readouterr().err == message
