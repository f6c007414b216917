"""Sizes that PyTorch gives its outputs, beside what manifest and artefact say of them."""

import numpy as np
import onnx
import pytest
import torch
from references import Function

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.structure import measure
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.verdict import Grade

JOINED = """(float[B,P] past, float[B,N] new) => (float[B,S] y) {
    y = Concat <axis = 1> (past, new)
}"""
JOIN = 'inputs.past.shape = ["batch", "past"]\ninputs.new.shape = ["batch", "new"]'


@pytest.fixture
def judged(tmp_path):
    """Judges a graph in ONNX's syntax against a function, under a manifest."""

    def make(function, graph, text, dims):
        path = tmp_path / "models.toml"
        path.write_text(
            f'schema = 1\n[models.net]\nfactory = "net.py:make"\nonnx = "m.onnx"\n'
            f"dims = {{ {dims} }}\n{text}\n"
        )
        manifest = load_manifest(path)
        manifest.check()
        model = manifest.models["net"]
        onnx.save(
            onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net {graph}'),
            tmp_path / "m.onnx",
        )
        shapes = {name: entry.shape for name, entry in model.inputs.items()}
        reference = Reference(model, Function(function), shapes)
        measured = measure(Artefact.given(tmp_path / "m.onnx"), reference, model.variants[0])
        return judge.structure(measured).findings

    return make


def joined(judged, size, dims="batch = [1, 2], past = [0, 3], new = [1, 4]", graph=JOINED):
    outputs = f'outputs.y.shape = ["batch", {size}]'
    return judged(lambda past, new: torch.cat([past, new], 1), graph, f"{JOIN}\n{outputs}", dims)


@pytest.mark.parametrize("size", ['"past + new"', '"new + past"', '"max(past, 0) + new"', '"any"'])
def test_what_pytorch_gives_passes(judged, size):
    assert joined(judged, size) == ()


def test_another_expression_fails_with_the_right_one(judged):
    (finding,) = joined(judged, '"past + new + 1"')
    assert finding.grade is Grade.FAIL
    assert finding.what == "output 'y'"
    assert finding.text == (
        "dim 1 ('past + new + 1') is 1 in PyTorch at batch = 1, past = 0, new = 1, where the "
        'manifest has it at 2. Write "new + past", or "any", a size that nobody chooses, in the '
        "output's shape"
    )


def test_a_dim_that_only_outputs_have_warns_where_its_sizes_are_others(judged):
    dims = "batch = [1, 2], past = [0, 3], new = [1, 4], total = [1]"
    (finding,) = joined(judged, '"total"', dims)
    assert finding.grade is Grade.WARN
    assert "dim 1 ('total') is 4 in PyTorch at batch = 1, past = 0, new = 4" in finding.text
    assert 'no input has this dim, so that nobody chooses them. Write "new + past"' in finding.text
    assert joined(judged, '"total"', dims.replace("[1]", "{ from = 1, to = 99 }")) == ()


def test_a_fixed_size_fails_where_pytorchs_varies(judged):
    baked = JOINED.replace("float[B,S]", "float[B,7]")
    (finding,) = joined(judged, '"any"', graph=baked)
    assert finding.grade is Grade.WARN  # only the file says so
    assert "dim 1 is static: 7 in the artefact, and 1 in PyTorch at batch = 1" in finding.text
    assert "Run at several sizes it gives PyTorch's shapes" in finding.text
    kept = """(float[B,P] past, float[B,N] new) => (float[B,1] y) {
        both = Concat <axis = 1> (past, new)
        one = Constant <value = int64[1] {1}> ()
        y = ReduceSum <keepdims = 1> (both, one)
    }"""
    (finding,) = joined(judged, '"any"', graph=kept)
    assert finding.grade is Grade.FAIL
    assert "dim 1 is static: 1 in the artefact, and 4 in PyTorch" in finding.text
    assert "The model turns the size into a constant" in finding.text


def test_a_shape_that_is_not_declared_is_held_to_pytorchs(judged):
    graph = JOINED.replace("float[B,S]", "float[2,7]")
    text = f'{JOIN}\noutputs.y.shape = "any"'
    dims = "batch = [2], past = [0, 3], new = [1, 4]"

    def join(past, new):
        return torch.cat([past, new], 1)

    assert judged(join, JOINED, text, dims) == ()
    (finding,) = judged(join, graph, text, dims)  # it has no other batch than 2
    assert finding.grade is Grade.WARN  # only the file says so
    assert finding.text.startswith("dim 1 is static: 7 in the artefact, and 1 in PyTorch at")


def test_a_fixed_size_is_right_where_pytorch_gives_no_other(judged):
    graph = "(float[B,4] x) => (float[B,4] y) { y = Neg (x) }"
    text = 'inputs.x.shape = ["batch", 4]\noutputs.y.shape = ["batch", "any"]'
    assert judged(torch.neg, graph, text, "batch = [1, 2]") == ()


def test_the_rank_beside_any_is_held(judged):
    graph = "(float[B,4] x) => (float[B,4] y) { y = Neg (x) }"
    text = 'inputs.x.shape = ["batch", 4]\noutputs.y.shape = ["batch", 4, "any"]'
    (finding,) = judged(torch.neg, graph, text, "batch = [1, 2]")
    assert finding.text.startswith("rank is 2 [B, 4], declared 3")


@pytest.mark.parametrize(
    ("function", "formula"),
    [
        (lambda x: x[:, ::2], "ceil(time / 2)"),
        (lambda x: x[:, 1::2], "time // 2"),
        (lambda x: torch.cat([x, x, x], 1), "3 * time"),
        (lambda x: x[:, 3:], "time - 3"),
        (lambda x: torch.nn.functional.pad(x, (0, 5)), "time + 5"),
        (lambda x: x.reshape(1, -1), "batch * time"),
        (lambda x: x[:, x[0] > 0], None),
    ],
)
def test_the_expression_that_fits_all_runs_is_proposed(judged, function, formula):
    text = 'inputs.x.shape = ["batch", "time"]\noutputs.y.shape = ["any", "wrong"]'
    graph = "(float[B,T] x) => (float[B,S] y) { y = Neg (x) }"
    (finding,) = judged(function, graph, text, "batch = [2, 3], time = [8, 11], wrong = [999]")
    proposal = f'Write "{formula}", or' if formula else "Write what it follows from, or"
    assert proposal in finding.text


@pytest.mark.parametrize(
    ("sizes", "at", "grade"),
    [
        ("[8, 16, 41]", "height = 41", Grade.FAIL),  # declared, as the last of several
        ("[8, 16]", "height = 9", Grade.WARN),  # between those declared
        ("{ from = 8, to = 9 }", "height = 9", Grade.FAIL),
        ("{ from = 24, to = 32, step = 2 }", "height = 28", Grade.FAIL),
    ],
)
def test_an_expression_that_rounds_otherwise_is_noticed(judged, sizes, at, grade):
    def halved(x):
        return x[:, ::4][:, : -(-x.shape[1] // 4) // 2]

    graph = "(float[B,H] x) => (float[B,S] y) { y = Neg (x) }"
    dims = f"height = {sizes}, batch = [2, 3, 4, 5]"
    text = 'inputs.x.shape = ["batch", "height"]\noutputs.y.shape = ["batch", "%s"]'
    assert judged(halved, graph, text % "ceil(height / 4) // 2", dims) == ()
    (finding,) = judged(halved, graph, text % "ceil(height / 8)", dims)
    assert finding.grade is grade
    assert "dim 1 ('ceil(height / 8)') is " in finding.text
    assert at in finding.text
    assert ("between those that dims lists" in finding.text) is (grade is Grade.WARN)


def test_own_cases_are_all_looked_at_where_nothing_is_drawn(judged, tmp_path):
    for size in (8, 12, 16, 20, 21):
        np.savez(tmp_path / f"{size}.npz", x=np.ones((2, size), np.float32))
    cases = "".join(f'\ncases.c{n}.file = "{n}.npz"' for n in (8, 12, 16, 20, 21))
    text = 'draws = 0\ninputs.x.shape = [2, "time"]\noutputs.y.shape = [2, "time // 4"]' + cases
    graph = "(float[2,T] x) => (float[2,S] y) { y = Neg (x) }"
    (finding,) = judged(lambda x: x[:, ::4], graph, text, "time = [8, 12, 16, 20, 21]")
    assert "dim 1 ('time // 4') is 6 in PyTorch at time = 21" in finding.text


# dims that are one symbol


def test_an_expression_that_is_one_with_its_own_dim_fails(judged):
    graph = "(float[B,N] new, float[B,N] mask) => (float[B,N] y) { y = Add (new, mask) }"
    text = (
        'inputs.new.shape = ["batch", "new"]\ninputs.mask.shape = ["batch", "past + new"]\n'
        'outputs.y.shape = ["batch", "any"]'
    )

    def add(new, mask):
        return mask + torch.zeros(len(new), 1)

    (finding,) = judged(add, graph, text, "batch = [1, 2], new = [1, 4], past = [0, 3]")
    assert finding.grade is Grade.FAIL
    assert (
        "dim 1 ('past + new') is one with dim 1 ('new') of input 'new': both are 'N' in the "
        "artefact, which promises equal sizes only, and in PyTorch 'new' can be 1 and "
        "'past + new' 4"
    ) in finding.text


def test_two_spellings_of_one_size_are_one(judged):
    graph = "(float[B,S] x, float[B,S] mask) => (float[B,S] y) { y = Add (x, mask) }"
    text = (
        'inputs.x.shape = ["batch", "new + past"]\ninputs.mask.shape = ["batch", "past + new"]\n'
        'outputs.y.shape = ["batch", "past + new"]'
    )
    dims = "batch = [1, 2], new = [1, 4], past = [0, 3]"
    assert judged(torch.add, graph, text, dims) == ()


def test_a_static_expression_fails(judged):
    (finding,) = joined(
        judged,
        '"past + new"',
        graph="""(float[B,P] past, float[B,N] new) => (float[B,7] y) {
            both = Concat <axis = 1> (past, new)
            shape = Constant <value = int64[2] {-1, 7}> ()
            y = Reshape (both, shape)
        }""",
    )
    assert finding.grade is Grade.FAIL
    assert finding.text.startswith("dim 1 ('past + new') is static: 7 in [B, 7], declared dynamic")


def test_with_draws_0_own_cases_say(judged, tmp_path):
    np.savez(tmp_path / "own.npz", past=np.zeros((1, 3), "f"), new=np.zeros((1, 2), "f"))
    text = f'{JOIN}\noutputs.y.shape = ["batch", "2 * new"]\ndraws = 0\ncases.own.file = "own.npz"'
    (finding,) = judged(
        lambda past, new: torch.cat([past, new], 1),
        JOINED,
        text,
        "batch = [1], past = [3], new = [2]",
    )
    assert "dim 1 ('2 * new') is 5 in PyTorch at batch = 1, past = 3, new = 2" in finding.text
