"""What is shown of the frontier, and of what to release."""

import json
import math

import pytest
from candidates import (
    FP32,
    MB,
    STATIC,
    checks,
    entry,
    only,
    planned,
    read,
    released,
    timed,
    untimed,
)

from pytest_onnxcheck.measurement import AccuracyMeasurement
from pytest_onnxcheck.record.encoding import as_json
from pytest_onnxcheck.report.frontier import data, markdown, proposal
from pytest_onnxcheck.report.terminal import Shown, summary


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


def test_the_summary_says_what_to_release():
    entries = [*checks(FP32), *checks(STATIC, 1 * MB, 2.0, 0.01)]
    lines = dict(summary(read(entries), Shown(100)))
    line = f"    release  {STATIC} (1.00 MB, 0.25 of fp32; 2.00 ms, 4.0x PyTorch; 40.0 dB)"
    assert lines[line] == {"green": True}
    assert not any(text.startswith("frontier") for text in lines)
    failing = [{**found, "outcome": "failed"} for found in entries]
    lines = dict(summary(read(failing), Shown()))
    assert lines["    release  none passes its checks"] == {"yellow": True}


def test_the_whole_frontier_is_shown_when_asked_for():
    entries = [*checks(FP32), *checks(STATIC, 1 * MB, 2.0, 0.01)]
    lines = [text for text, _ in summary(read(entries), Shown(100, whole_frontier=True))]
    start = lines.index("frontier  net (latency on cpu batch=1)")
    assert lines[start + 1 : start + 5] == [
        "variant                     size  of fp32  latency  x PyTorch      SQNR  state  release",
        "dynamo-op20-fp32         4.00 MB     1.00  4.00 ms       2.00  140.0 dB   pass        -",
        "dynamo-op20-int8-static  1.00 MB     0.25  2.00 ms       4.00   40.0 dB   pass      yes",
        "",
    ]
