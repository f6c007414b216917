"""Rows that mask everything: told where all that fails has them, and other cases pass."""

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Tolerance
from pytest_onnxcheck.measurement import CaseMeasurement, EmptyRows, EquivalenceMeasurement
from pytest_onnxcheck.verdict import Grade

MASK = EmptyRows("mask", mask=True, expected=False)
ROWS = EmptyRows("mask", mask=True, expected=True)
KEEP = EmptyRows("keep", mask=False, expected=False)
TYPES = EmptyRows("types", mask=False, expected=False)


def first(*cases):
    """The first finding over cases: whether each fails, and its inputs with such rows."""
    measured = tuple(
        CaseMeasurement(f"case{index}", error="differs" if fails else None, empty_rows=tuple(rows))
        for index, (fails, *rows) in enumerate(cases)
    )
    verdict = judge.equivalence(EquivalenceMeasurement("cpu", "CPU", measured), Tolerance())
    assert verdict.grade is Grade.FAIL
    return str(verdict.findings[0])


def test_what_fails_only_there_says_so_first_with_both_ways_out():
    assert first((False,), (True, MASK), (False,), (False, MASK)) == (
        "input 'mask' [case1]: only cases with rows that mask everything fail (1 of 2; all 2 "
        "others pass), where PyTorch and ONNX may lawfully differ. If they do not occur, take them "
        "out of these cases; if they do, mend the model: masked by a finite score (-1e4 in place "
        "of -inf), such rows give the same in both"
    )


def test_the_way_out_follows_from_the_manifest():
    assert "take out empty_rows = true;" in first((False,), (True, ROWS))
    found = first((False,), (True, KEEP))
    assert found.startswith(
        "input 'keep' [case1]: looks like a mask: only cases with rows of zeros"
    )
    assert 'give it fill = "mask", which draws none;' in found


def test_what_fails_elsewhere_too_has_another_cause():
    assert first((False,), (True, MASK), (True,)) == "run [case1]: differs"


def test_where_every_case_has_such_rows_they_tell_nothing():
    assert first((False, MASK), (True, MASK)) == "run [case1]: differs"
    assert first((True, MASK)) == "run [case0]: differs"


def test_of_several_inputs_a_mask_is_named_or_the_one_that_tells_them_apart():
    assert first((False,), (True, TYPES, MASK)).startswith("input 'mask'")
    assert first((False,), (False, TYPES), (True, TYPES, KEEP)).startswith("input 'keep'")
    assert first((False,), (True, TYPES), (True, KEEP)) == "run [case1]: differs"


def test_a_mask_that_the_model_takes_the_other_way_round_is_asked_about():
    def reason(*cases):
        measured = tuple(
            CaseMeasurement(f"case{index}", error="differs" if fails else None, whole_rows=rows)
            for index, (fails, rows) in enumerate(cases)
        )
        equivalence = EquivalenceMeasurement("cpu", "CPU", measured)
        return judge.equivalence(equivalence, Tolerance()).reason

    assert reason((True, ("m", "n")), (False, ("n",)), (True, ("m",))) == (
        "input 'm' [case0]: all 2 cases in which a row of it masks nothing fail and the others (1) "
        "do not, as if such rows masked everything: say which value masks (masked = true, or false)"
    )
    assert reason((True, ("m",)), (False, ("m",))) == "run [case0]: differs"
    assert reason((True, ("m",)), (True, ()), (False, ())) == "run [case0]: differs"
    assert reason((True, ("m",))) == "run [case0]: differs"
