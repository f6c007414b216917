"""Faults in inputs and outputs: each changes what it says, and the rest stays."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_models import faults, run, two, weight


def test_two_outputs_change_places_and_keep_their_names(tmp_path):
    path = two(tmp_path / "m.onnx")
    x = weight(2, 3)
    a, b, c, d = run(onnx.load(path), x=x)
    (mutant,) = faults(path, "swapped-outputs")
    assert mutant.description == "outputs 'a' and 'b' swapped"
    assert [output.name for output in mutant.model.graph.output] == ["a", "b", "c", "d"]
    declared = [output.type for output in onnx.load(path).graph.output]
    assert [output.type for output in mutant.model.graph.output] == [
        declared[index] for index in (1, 0, 2, 3)
    ]
    for expected, actual in zip((b, a, c, d), run(mutant.model, x=x), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_an_output_gets_another_dtype(tmp_path):
    path = two(tmp_path / "m.onnx")
    x = weight(2, 3)
    before = run(onnx.load(path), x=x)
    found = faults(path, "dtype-changed")
    assert {mutant.description for mutant in found} == {
        *(f"output {n!r} cast: float32 -> float{w}" for n in "abd" for w in (16, 64)),
        "output 'c' cast: int64 -> int32",
    }
    for mutant in found:
        after = run(mutant.model, x=x)
        dtype = mutant.description.split()[-1]
        index = "abcd".index(mutant.where)
        assert [str(y.dtype) for y in after] == [
            dtype if i == index else str(y.dtype) for i, y in enumerate(before)
        ]
        np.testing.assert_allclose(after[index], before[index], rtol=1e-2)


def test_a_dim_becomes_static_in_inputs_and_outputs(tmp_path):
    path = two(tmp_path / "m.onnx")
    (mutant,) = faults(path, "static-dim")
    assert mutant.where == "N"
    for value in (*mutant.model.graph.input, *mutant.model.graph.output):
        assert not any(dim.dim_param for dim in value.type.tensor_type.shape.dim)
    run(mutant.model, x=weight(3, 3))
    with pytest.raises(Exception, match="invalid dimensions"):
        run(mutant.model, x=weight(2, 3))
