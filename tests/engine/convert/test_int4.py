"""int4-weight: each option has its effect on the blocks of the weights."""


def test_int4_scales_follow_the_block_size_and_zero_points_the_symmetry(make):
    made = make("block", "int4-weight")
    assert len(made.nodes("MatMulNBits")) == 5
    assert {scales.size for scales in made.constants("scales")} == {48 * 2, 96 * 2, 48 * 3}
    assert not made.constants("zero_points")
    small = make("block", "int4-weight", block_size=16, symmetric=False, accuracy_level=4)
    assert {scales.size for scales in small.constants("scales")} == {48 * 3, 96 * 3, 48 * 6}
    assert len(small.constants("zero_points")) == 5
    attributes = {a.name: a.i for a in small.nodes("MatMulNBits")[0].attribute}
    assert (attributes["block_size"], attributes["accuracy_level"]) == (16, 4)
    assert small.loss() < 0.15


def test_int4_takes_linear_layers_that_were_exported_as_gemm(make):
    assert "Gemm" in make("mlp", "fp32").operators
    made = make("mlp", "int4-weight")
    assert len(made.nodes("MatMulNBits")) == 2
    assert "Gemm" not in made.operators
    excluded = make("mlp", "int4-weight", exclude_nodes=("/0/Gemm",))
    assert len(excluded.nodes("MatMulNBits")) == 1
