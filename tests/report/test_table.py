"""The table: a row per model and variant."""

import dataclasses
import math

import pytest
import runs
from entries import (
    EXPORT,
    FILE,
    LATENCY,
    MUTATION,
    QUANTIZATION,
    entry,
    equivalence,
    output,
    ratios,
    read_back,
    whole_variant,
)

from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    CaseMeasurement,
    CoverageMeasurement,
    HeldTo,
    MutationMeasurement,
)
from pytest_onnxcheck.record.rows import rows
from pytest_onnxcheck.report.table import HEADER, cells, made_on, markdown, table_lines
from pytest_onnxcheck.report.warned import warnings
from pytest_onnxcheck.verdict import Grade


def test_a_row_holds_every_check_of_a_variant():
    (row,) = rows(whole_variant())
    assert dict(zip(HEADER, cells(row), strict=True)) == {
        "model": "net",
        "variant": "dynamo-op20-fp32",
        "export": "pass",
        "quant": "pass",
        "struct": "pass",
        "equal": "pass",
        "cases": "-",
        "loss": "2.5e-01",
        "drop": "-",
        "size": "1.23 MB",
        "ratio": "0.25",
        "coverage": "-",
        "mutants": "1/3",
        "speed-up": "0.50-1.23",
        "x fp32": "-",
        "latency": "pass",
        "verdict": "pass",
    }


def test_what_was_not_run_is_a_dash():
    (row,) = rows([entry("export", EXPORT)])
    shown = dict(zip(HEADER, cells(row), strict=True))
    assert [key for key, value in shown.items() if value == "-"] == [
        *("quant", "struct", "equal", "cases", "loss", "drop", "ratio", "coverage", "mutants"),
        *("speed-up", "x fp32", "latency"),
    ]
    assert (shown["size"], shown["verdict"]) == ("1.23 MB", "pass")


STATIC = "dynamo-op20-int8-static"


def shown_of(*entries, variant=STATIC):
    """The one row's cells by column."""
    names = {"variant": variant, "precision": variant.removeprefix("dynamo-op20-")}
    (row,) = rows([dataclasses.replace(found, **names) for found in entries])
    return dict(zip(HEADER, cells(row), strict=True))


def test_a_quantized_variant_shows_the_worst_sqnr_of_what_the_manifest_declares():
    cases = (
        CaseMeasurement("a", (output(rel_rms=0.01), output("z", rel_rms=0.1, max_abs=None))),
        CaseMeasurement("b", (output(rel_rms=9.0),), probe=True),
        CaseMeasurement("c", (output(rel_rms=9.0),), lenient="not made for these"),
        CaseMeasurement("d", (output(rel_rms=9.0, expected_dtype="int64"),)),
    )
    found = entry("equivalence", equivalence(*cases))
    assert shown_of(found)["loss"] == "20.0 dB"
    assert shown_of(found, variant="dynamo-op20-fp32")["loss"] == "2.5e-01"
    same = entry("equivalence", equivalence(CaseMeasurement("a", (output(rel_rms=0.0),))))
    assert shown_of(same)["loss"] == "exact"


def test_declared_cases_and_probes_are_counted_on_the_target_that_saw_least():
    held = [
        entry("equivalence", dataclasses.replace(equivalence(), held_to=found))
        for found in (HeldTo(3, 17), HeldTo(3, 2, unprobed="no range"), None)
    ]
    assert shown_of(*held)["cases"] == "3+2"
    assert shown_of(*read_back(held[:1]))["cases"] == "3+17"
    assert shown_of(held[2])["cases"] == "-"


@pytest.mark.parametrize(
    ("outcome", "shown"), [("passed", "0.0056"), ("failed", "FAIL 0.0056"), ("skipped", "skip")]
)
def test_a_drop_is_told_with_the_state_of_its_check(outcome, shown):
    measured = AccuracyMeasurement(
        *("cpu", "CPU", "accuracy", "digits.npz", "ab", 360, 0.98, 0.9744, 0.0056, 0.0, 0.01, 0.95)
    )
    found = entry("accuracy", None if outcome == "skipped" else measured, outcome=outcome)
    assert shown_of(found)["drop"] == shown


def test_coverage_and_the_smallest_speed_up_over_fp32_are_shown():
    covered = dataclasses.replace(QUANTIZATION, coverage=CoverageMeasurement(0.9, 0.987))
    fast = dataclasses.replace(LATENCY, ratios=ratios(torch=1.0, fp32=2.5))
    slow = dataclasses.replace(LATENCY, ratios=ratios(torch=1.0, fp32=0.8))
    shown = shown_of(entry("quantization", covered), entry("latency", fast), entry("latency", slow))
    assert (shown["coverage"], shown["x fp32"]) == ("0.99", "0.80")
    uncounted = dataclasses.replace(QUANTIZATION, coverage=CoverageMeasurement(0.9, None))
    assert shown_of(entry("quantization", uncounted))["coverage"] == "-"


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(4_321, "4.32 kB"), (99_999, "100 kB"), (100_000, "0.100 MB"), (46_824_049, "46.8 MB")],
)
def test_sizes_have_three_digits(size_bytes, shown):
    file = dataclasses.replace(FILE, size_bytes=size_bytes)
    made = entry("quantization", dataclasses.replace(QUANTIZATION, file=file))
    assert shown_of(made)["size"] == shown


def test_without_a_file_of_its_own_a_quantized_variant_shows_no_size():
    assert shown_of(entry("export", EXPORT))["size"] == "-"


def test_one_speed_up_is_shown_alone():
    (row,) = rows([entry("latency", LATENCY), entry("latency", LATENCY)])
    assert cells(row)[HEADER.index("speed-up")] == "1.23"


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ([("passed", MUTATION), ("passed", MUTATION)], "2/6"),
        ([("failed", MUTATION)], "1/3"),
        ([("passed", MutationMeasurement("cpu", "CPU", MUTATION.mutants[2:3]))], "0/0"),
        ([("skipped", None)], "-"),
    ],
)
def test_mutants_are_those_noticed_of_those_that_change_an_output(entries, shown):
    (row,) = rows([entry("mutation", measured, outcome=state) for state, measured in entries])
    assert cells(row)[HEADER.index("mutants")] == shown


def test_a_mutation_check_that_fails_or_was_skipped_makes_the_verdict():
    (row,) = rows([entry("export"), entry("mutation", MUTATION, outcome="failed")])
    assert cells(row)[-1] == "FAIL"
    (row,) = rows([entry("export"), entry("mutation", outcome="skipped")])
    assert cells(row)[-1] == "partial"


def test_a_variant_whose_quantization_failed_shows_no_size_of_another_file():
    failed = entry("quantization", outcome="failed", reason="no calibration data")
    assert shown_of(entry("export", EXPORT), failed)["size"] == "-"


def test_markdown_is_a_table():
    assert markdown([entry("export", EXPORT)]) == (
        "| model | variant | export | quant | struct | equal | cases | loss | drop "
        "| size | ratio | coverage | mutants | speed-up | x fp32 | latency | verdict |\n"
        f"|{' --- |' * 17}\n"
        "| net | dynamo-op20-fp32 | pass | - | - | - | - | - | - "
        "| 1.23 MB | - | - | - | - | - | - | pass |\n"
    )


def test_checks_that_a_project_adds_have_a_column_each():
    own = entry("footprint", outcome="failed")
    header, first, second = table_lines(
        [entry("export"), own, entry("export", variant="other"), entry("fits", variant="other")]
    )
    assert header == (*HEADER[:-1], "footprint", "fits", "verdict")
    assert first[-3:] == ("FAIL", "-", "FAIL")
    assert second[-3:] == ("-", "pass", "pass")


def test_a_record_read_back_gives_the_same_table():
    strange = equivalence(CaseMeasurement("a", (output(), output("z", max_abs=math.inf))))
    slow = dataclasses.replace(LATENCY, ratios=ratios(torch=math.inf))
    entries = [*whole_variant(), entry("equivalence", strange), entry("latency", slow)]
    assert "inf" in markdown(entries)
    assert markdown(read_back(entries)) == markdown(entries)


def test_a_kind_of_check_that_was_only_skipped_makes_the_verdict_partial():
    skipped = entry("latency", outcome="skipped")
    (row,) = rows([entry("export"), skipped])
    assert cells(row)[-1] == "partial"
    (row,) = rows([entry("export"), skipped, entry("latency")])
    assert cells(row)[-1] == "pass"
    (row,) = rows([entry("export"), entry("target", outcome="skipped")])
    assert cells(row)[-1] == "pass"


def test_a_warning_is_told_once_with_the_number_of_checks():
    warned = {"outcome": "passed", "grade": Grade.WARN, "reason": "output 'y': vacuous"}
    entries = [
        entry("equivalence", **warned, variant="a"),
        entry("equivalence", **warned, variant="b"),
        entry("equivalence", **warned, model="other", variant="a"),
        entry("export"),
        entry("structure", outcome="failed", grade=Grade.WARN, reason="not a warning"),
    ]
    assert list(warnings(entries)) == [
        "warn  models.toml::net::a::test_equivalence (and 1 more checks): output 'y': vacuous",
        "warn  models.toml::other::a::test_equivalence: output 'y': vacuous",
    ]


def test_a_name_of_a_record_stays_in_its_cell():
    found = [dataclasses.replace(each, model="a|b\x1b[31m<i>") for each in whole_variant()]
    row = markdown(found).splitlines()[2]
    assert row.startswith(r"| a\|b\\x1b\[31m\<i\> | dynamo-op20-fp32 | ")


def test_a_processor_of_a_record_says_nothing_to_a_terminal():
    environment = dataclasses.replace(runs.ENVIRONMENT, cpu="A\x1b[2J\nCPU")
    assert r"A\x1b[2J CPU, 2 CPUs" in made_on(runs.record(environment=environment))
