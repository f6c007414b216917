"""The exported file: judged red, and judged green."""

from helpers import FILE, file, only

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import ExportMeasurement
from pytest_onnxcheck.verdict import Grade


def export(check=FILE, notes=(), budget=Budget()):  # noqa: B008 - it is immutable
    measured = ExportMeasurement(check, "dynamo", 20, 1.0, False, None, notes)
    return judge.export(measured, budget)


def test_an_fp32_file_larger_than_its_budget_fails():
    finding = only(export(file(size_bytes=1_510_000), budget=Budget(max_size_mb=1.5)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "size: 1.51 MB on disk, allowed 1.5 (budget.max_size_mb)"
    assert export(file(size_bytes=1_490_000), budget=Budget(max_size_mb=1.5)).findings == ()


def test_a_file_that_is_too_large_on_its_way_to_a_page_fails():
    budget = Budget(max_transferred_mb=1.2)
    finding = only(export(file(transferred_bytes=1_210_000), budget=budget))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "size: 1.21 MB to transfer (gzip), allowed 1.2 (budget.max_transferred_mb): another "
        "precision is smaller"
    )
    assert export(file(transferred_bytes=1_200_000), budget=budget).findings == ()


def test_a_valid_file_passes():
    assert export().findings == ()


def test_a_file_the_checker_refuses_fails():
    finding = only(export(file(checker_error="bad node")))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "onnx.checker [net.onnx]: the file is not valid ONNX: bad node"


def test_a_name_that_two_values_have_says_what_mends_it():
    said = "'embedding' has been used as output names multiple times"  # torch 2.13's dynamo
    assert str(only(export(file(checker_error=said)))) == (
        f"onnx.checker [net.onnx]: the file is not valid ONNX: {said}. If that is an output of "
        "yours, the exporter gave a value inside the same name: call the output something else in "
        "the manifest, and in the export"
    )


def test_a_file_whose_shapes_contradict_fails():
    finding = only(export(file(inference_error="4 != 5")))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "shape inference [net.onnx]: shapes or types contradict each other: 4 != 5"
    )


def test_data_that_no_weight_is_read_from_warns():
    finding = only(export(file(unread={"net.data": 68})))
    assert finding.grade is Grade.WARN
    assert str(finding) == (
        "external data [net.onnx]: the last 68 bytes of 'net.data' are read for no weight: the "
        "file may belong to another export. Ship the .onnx with the data it was written with"
    )


def test_a_note_about_the_reference_warns():
    finding = only(export(notes=("in train mode",)))
    assert (finding.grade, str(finding)) == (Grade.WARN, "reference: in train mode")
