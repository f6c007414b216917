"""What a tolerance allows, and how much of it an output uses up."""

import pytest

from pytest_onnxcheck.engine.diagnosis.bounds import share_of_bound
from pytest_onnxcheck.manifest.sections import Tolerance
from pytest_onnxcheck.measurement import OutputMeasurement


@pytest.mark.parametrize(("decibels", "above"), [(29.0, True), (31.0, False)])
def test_decibels_use_up_their_bound_as_the_error_does_that_they_stand_for(decibels, above):
    rel_rms = 10 ** (-decibels / 20)
    output = OutputMeasurement("y", "float32", "float32", (1,), (1,), 1, rel_rms=rel_rms)
    found = share_of_bound(
        output, Tolerance.model_validate({"policy": "fixed", "sqnr_db": [40.0, 30.0]})
    )
    assert (found > 1) is above
    assert found == pytest.approx(rel_rms / 10 ** (-30 / 20))
