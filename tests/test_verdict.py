"""Of findings, a verdict."""

from pytest_onnxcheck.verdict import Finding, Grade, Verdict


def test_the_worst_finding_comes_first_and_gives_grade_and_reason():
    remark, doubt = Finding(Grade.PASS, "a", "1"), Finding(Grade.WARN, "b", "2")
    first, second = Finding(Grade.FAIL, "c", "3", "case 1"), Finding(Grade.FAIL, "d", "4")
    verdict = Verdict.of([remark, doubt, first, second])
    assert verdict.findings == (first, second, doubt, remark)
    assert verdict.grade is Grade.FAIL
    assert verdict.reason == "c [case 1]: 3"
    assert verdict.graded(Grade.WARN) == (doubt,)


def test_no_findings_are_a_pass_without_a_reason():
    assert Verdict().grade is Grade.PASS
    assert Verdict().reason == ""
