"""What a tolerance allows, and how much of it an output uses up."""

import pytest

from pytest_onnxcheck.engine.diagnosis.bounds import largest_difference, share_of_bound
from pytest_onnxcheck.manifest.sections import Tolerance
from pytest_onnxcheck.measurement import FloorMeasurement, OutputMeasurement


@pytest.mark.parametrize(("decibels", "above"), [(29.0, True), (31.0, False)])
def test_decibels_use_up_their_bound_as_the_error_does_that_they_stand_for(decibels, above):
    rel_rms = 10 ** (-decibels / 20)
    output = OutputMeasurement("y", "float32", "float32", (1,), (1,), 1, rel_rms=rel_rms)
    found = share_of_bound(
        output, Tolerance.model_validate({"policy": "fixed", "sqnr_db": [40.0, 30.0]})
    )
    assert (found > 1) is above
    assert found == pytest.approx(rel_rms / 10 ** (-30 / 20))


@pytest.mark.parametrize(
    ("tolerance", "allowed"),
    [
        ({"policy": "noise-floor", "safety": 20.0}, 0.2),
        ({"policy": "noise-floor", "max_abs": 0.04}, 0.04),
        # only a probe has a floor then, and passes by either
        ({"policy": "fixed", "max_abs": 0.04}, 0.08),
        ({"policy": "fixed", "max_abs": 0.1}, 0.1),
    ],
)
def test_as_much_may_differ_as_floors_and_thresholds_let_pass(tolerance, allowed):
    floor = FloorMeasurement("float64", 100.0, 1.0, 1.0, 0.01, 0.01, 0.0, 1.0, 0, 0)
    output = OutputMeasurement(
        "y", "float32", "float32", (1,), (1,), 1, max_abs=1.0, differing=1, floor=floor
    )
    found = largest_difference(output, Tolerance.model_validate(tolerance))
    assert found == pytest.approx(allowed)
