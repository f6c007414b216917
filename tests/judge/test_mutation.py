"""Noticed and unnoticed faults: judged red, and judged green."""

import pytest
from helpers import only

from pytest_onnxcheck import judge
from pytest_onnxcheck.measurement import MutantOutcome, MutationMeasurement
from pytest_onnxcheck.verdict import Grade


def mutation(*results, minimum=None):
    mutants = tuple(MutantOutcome("operator", "what", result) for result in results)
    return judge.mutation(MutationMeasurement("cpu", "CPU", mutants), minimum)


def test_noticed_faults_are_told_without_a_minimum():
    finding = only(mutation("killed", "survived", "killed", "equivalent"))
    assert finding.grade is Grade.PASS
    assert str(finding) == (
        "mutants: 2 of 3 injected faults were noticed (score 0.67; 1 more changed no output)"
    )


def test_the_score_asked_for_passes_and_less_fails():
    results = ("killed", "survived", "killed", "survived", "equivalent")
    assert mutation(*results, minimum=0.5).grade is Grade.PASS
    finding = only(mutation(*results, minimum=0.51))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "mutants: 2 of 4 injected faults were noticed (score 0.50; 1 more changed no output), "
        "asked for at least 0.51 (tolerance.min_mutation_score)"
    )


@pytest.mark.parametrize("results", [(), ("equivalent", "equivalent")])
@pytest.mark.parametrize("minimum", [None, 0.0, 1.0])
def test_mutants_that_prove_nothing_are_no_pass(results, minimum):
    finding = only(mutation(*results, minimum=minimum))
    assert finding.grade is Grade.WARN
    assert str(finding) == "mutants: none of them changes an output"


def test_a_score_of_nothing_noticed_is_no_missing_score():
    assert mutation("survived", minimum=0.1).grade is Grade.FAIL
    assert mutation("survived", minimum=0.0).grade is Grade.PASS
