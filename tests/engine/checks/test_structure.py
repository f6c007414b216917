"""What structure measures of artefacts, and what PyTorch is asked where they look wrong."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from references import Function

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.structure import measure, measure_model
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.measurement import Axis, MergedDims
from pytest_onnxcheck.verdict import Grade


class Subject:
    """A function of PyTorch under a manifest, and graphs that are held against it."""

    def __init__(self, folder, function, inputs, outputs, **dims):
        lines = ["schema = 1", "[models.net]", 'factory = "net.py:make"', 'onnx = "m.onnx"']
        lines.append(f"dims = {{ {', '.join(f'{dim} = {v}' for dim, v in dims.items())} }}")
        for kind, shapes in {"inputs": inputs, "outputs": outputs}.items():
            lines += [f"{kind}.{name}.shape = {shape}" for name, shape in shapes.items()]
        (folder / "models.toml").write_text("\n".join(lines), encoding="utf-8")
        model = load_manifest(folder / "models.toml").models["net"]
        self.reference = Reference(
            model, Function(function), {n: tuple(s) for n, s in inputs.items()}
        )

    def measure(self, text):
        """What is measured of a graph in ONNX's textual syntax."""
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net {text}')
        (variant,) = self.reference.model.variants
        return measure_model(model, self.reference, variant)

    def judge(self, text):
        return judge.structure(self.measure(text)).findings


@pytest.fixture
def subject(tmp_path):
    def make(function, inputs, outputs, **dims):
        return Subject(tmp_path, function, inputs, outputs, **dims)

    return make


# ------------------------------------------------------------- outputs that depend on no input

#: a graph with a constant of three numbers beside its output
FOLDED = """(float[n,3] x) => (float[n,3] y, float[3] anchors) {
    y = Neg (x)
    anchors = Constant <value_floats = [0.0, 1.0, 2.0]> ()
}"""


def beside(function):
    """A function that gives something beside its own output."""
    return lambda x: (-x, function(x))


@pytest.fixture
def anchored(subject):
    def make(function, shape=(3,)):
        outputs = {"y": ["n", 3], "anchors": list(shape)}
        return subject(beside(function), {"x": ["n", 3]}, outputs, n=[2])

    return make


CONSTANT = {
    "positions": lambda x: torch.arange(3.0),
    "of a static size": lambda x: torch.arange(x.shape[1], dtype=torch.float32),
    "zeros of another's size": lambda x: torch.zeros_like(x[0]),
    "not a number": lambda x: torch.full((3,), torch.nan),
}


@pytest.mark.parametrize("what", CONSTANT)
def test_an_output_that_is_constant_in_pytorch_too_warns(anchored, what):
    (finding,) = anchored(CONSTANT[what]).judge(FOLDED)
    assert finding.grade is Grade.WARN
    assert str(finding) == (
        "output 'anchors': depends on no input: callers get the same values every time, as in "
        "PyTorch"
    )


VARYING = {
    "with values": lambda x: x[0] * 0 + x.sum(),
    "with large values only": lambda x: torch.relu(x[0].abs() - 0.9).ceil(),
    "with a size": lambda x: torch.arange(3.0) * x.shape[0],
    "by itself": lambda x: torch.rand(3),
    "to infinity": lambda x: 1 / x[0],
}


@pytest.mark.parametrize("what", VARYING)
def test_an_output_that_follows_the_inputs_in_pytorch_fails(anchored, what):
    (finding,) = anchored(VARYING[what]).judge(FOLDED)
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'anchors': depends on no input: it was folded into a constant, and PyTorch gives "
        "another one for other values or sizes"
    )


def test_an_output_whose_size_alone_follows_the_inputs_fails(anchored):
    # of one declared size, at which nothing could be seen
    found = anchored(lambda x: torch.zeros(x.shape[0]), ["n"])
    text = FOLDED.replace("float[3] anchors", "float[n] anchors")
    (finding,) = found.judge(text)
    assert (finding.grade, finding.what) == (Grade.FAIL, "output 'anchors'")
    assert "for other values or sizes" in finding.text


def test_pytorch_that_does_not_run_on_other_inputs_proves_nothing(anchored):
    def refuses(x):
        raise RuntimeError("no")

    assert anchored(refuses).measure(FOLDED).constant_outputs == ()


def test_an_output_that_nobody_declared_is_told_once(anchored):
    findings = anchored(CONSTANT["positions"]).judge(FOLDED.replace("anchors", "other"))
    assert sorted(finding.what for finding in findings) == ["output 'anchors'", "output 'other'"]


def test_an_output_that_reads_no_more_than_a_size_is_reached(anchored):
    text = """(float[n,3] x) => (float[n,3] y, float[n] anchors) {
        y = Neg (x)
        size = Shape <end = 1> (x)
        anchors = ConstantOfShape (size)
    }"""
    assert anchored(lambda x: torch.zeros(x.shape[0]), ["n"]).judge(text) == ()


# ------------------------------------------------------------- dims that are one in the artefact


def neg(*symbols):
    text = "(float[a,b] x) => (float[c,d] y) { y = Neg (x) }"
    for letter, symbol in zip("abcd", symbols, strict=True):
        text = text.replace(f"[{letter},", f"[{symbol},").replace(f",{letter}]", f",{symbol}]")
    return text


@pytest.fixture
def grid(subject):
    def make(function=torch.neg, batch=(2, 3), sequence=(2, 5)):
        shape = ["batch", "sequence"]
        dims = {"batch": list(batch), "sequence": list(sequence)}
        return subject(function, {"x": shape}, {"y": shape}, **dims)

    return make


APART = (
    "{} 1 ('sequence') is one with dim 0 ('batch') of input 'x': both are {!r} in the artefact, "
    "which promises equal sizes only, and in PyTorch 'batch' can be {} and 'sequence' {}. Export "
    "with sizes that differ (`example`, or the first values of `dims`) and with a name for each, "
    "and look for what ties them together in forward"
)


@pytest.mark.parametrize("symbol", ["batch", "s0"])
def test_two_dims_of_an_input_that_are_one_symbol_fail(grid, symbol):
    (finding,) = grid().judge(neg(symbol, symbol, symbol, symbol))
    assert finding.grade is Grade.FAIL
    assert str(finding) == APART.format("input 'x': dim", symbol, 2, 5)


def test_an_outputs_dim_that_is_another_dim_of_the_input_fails(grid):
    (finding,) = grid().judge(neg("batch", "sequence", "batch", "batch"))
    assert finding.grade is Grade.FAIL
    assert str(finding) == APART.format("output 'y': dim", "batch", 2, 5)


@pytest.mark.parametrize(
    "symbols",
    [
        ("batch", "sequence", "batch", "sequence"),
        ("sequence", "batch", "sequence", "batch"),  # names only
        ("s0", "s77", "s0", "s77"),
        ("s0", "s1", "s2", "s3"),
    ],
)
def test_how_symbols_are_spelled_does_not_matter(grid, symbols):
    assert grid().judge(neg(*symbols)) == ()


def test_dims_of_one_size_each_are_told_apart_by_sizes_that_nobody_declared(grid):
    found = grid(batch=[4], sequence=[4])
    (finding,) = found.judge(neg("n", "n", "n", "n"))
    assert finding.grade is Grade.FAIL
    assert str(finding) == APART.format("input 'x': dim", "n", 5, 4)


def test_dims_that_pytorch_itself_takes_only_equal_warn(grid):
    def square(x):
        return x + x.T

    (finding,) = grid(square, [4], [4]).judge(neg("n", "n", "n", "n"))
    assert finding.grade is Grade.WARN
    assert str(finding) == (
        "input 'x': dim 1 ('sequence') is one with dim 0 ('batch') of input 'x': both are 'n' in "
        "the artefact, which promises equal sizes only; PyTorch runs on no others either. Declare "
        "them as one dim"
    )


def test_dims_of_two_inputs_that_are_one_symbol_fail_once(subject):
    shapes = {"x": ["batch", 4], "y": ["sequence", 4]}
    outputs = {"z": ["batch", "sequence"]}
    found = subject(lambda x, y: x @ y.T, shapes, outputs, batch=[3], sequence=[3])
    text = """(float[batch,4] x, float[batch,4] y) => (float[batch,batch] z) {
        t = Transpose (y)
        z = MatMul (x, t)
    }"""
    measured = found.measure(text)
    place, other = Axis("input", "x", 0), Axis("input", "y", 0)
    assert measured.merged_dims == (
        MergedDims("batch", ("batch", "sequence"), (place, other), (4, 3), False),
    )
    (finding,) = judge.structure(measured).findings
    assert (finding.grade, finding.what) == (Grade.FAIL, "input 'y'")
    unrun = dataclasses.replace(measured.merged_dims[0], sizes=None)
    (finding,) = judge.structure(dataclasses.replace(measured, merged_dims=(unrun,))).findings
    assert finding.grade is Grade.FAIL
    assert "which promises equal sizes only. Export with" in finding.text


class TestADimThatOnlyOutputsHave:
    """Its size is PyTorch's."""

    def framed(self, subject, function):
        shapes = {"x": ["batch", "time"]}
        outputs = {"y": ["batch", "frames"]}
        return subject(function, shapes, outputs, batch=[2], time=[8], frames=[8])

    def test_it_may_be_equal_to_an_inputs(self, subject):
        found = self.framed(subject, torch.neg)
        assert found.judge(neg("batch", "time", "batch", "time")) == ()

    def test_it_fails_where_the_artefact_says_equal_and_pytorch_gives_another(self, subject):
        found = self.framed(subject, lambda x: x[:, : x.shape[1] // 2 * 2])
        (finding,) = found.judge(neg("batch", "time", "batch", "time"))
        assert finding.grade is Grade.FAIL
        assert str(finding).startswith(
            "output 'y': dim 1 ('frames') is one with dim 1 ('time') of input 'x': both are 'time' "
            "in the artefact, which promises equal sizes only, and in PyTorch 'time' can be 9 and "
            "'frames' 8."
        )

    def test_pytorch_that_gives_another_rank_is_no_crash(self, subject):
        found = self.framed(subject, lambda x: x[0])
        assert found.measure(neg("batch", "time", "batch", "time")).merged_dims == ()


def test_an_inner_dim_of_a_later_output_that_is_static_fails(subject):
    shapes, outputs = {"x": ["n", 3]}, {"y": ["n", 3], "z": [3, "n"]}
    found = subject(lambda x: (-x, x.T), shapes, outputs, n=[2, 5])
    text = """(float[n,3] x) => (float[n,3] y, float[3,2] z) { y = Neg (x) z = Transpose (x) }"""
    (finding,) = found.judge(text)
    assert finding.grade is Grade.FAIL
    assert str(finding).startswith("output 'z': dim 1 ('n') is static: 2 in [3, 2], declared dyn")


def test_dims_from_a_file_of_one_size_cannot_be_told_apart_and_fail(grid, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 4, 4), "float32"))
    found = grid(batch=[4], sequence=[4])
    entry = found.reference.model.inputs["x"].model_copy(update={"file": "x.npz"})
    model = dataclasses.replace(found.reference.model, inputs={"x": entry})
    found.reference = dataclasses.replace(found.reference, model=model)
    (finding,) = found.judge(neg("n", "n", "n", "n"))
    assert finding.grade is Grade.FAIL
    assert "in PyTorch" not in finding.text


# ------------------------------------------------------------- sizes that only the file says


@pytest.mark.parametrize(
    ("nodes", "grade"),
    [
        ("y = Neg (x)", Grade.WARN),
        ("s = Constant <value_ints = [2, 3]> () n = Neg (x) y = Reshape (n, s)", Grade.FAIL),
    ],
)
def test_a_static_size_of_an_output_is_only_warned_about_where_the_artefact_gives_others(
    subject, tmp_path, nodes, grade
):
    """What follows an LSTM has a static length in dynamo's file, and any when it is run."""
    found = subject(torch.neg, {"x": ["n", 3]}, {"y": ["n", 3]}, n=[2, 5])
    text = f"(float[n,3] x) => (float[2,3] y) {{ {nodes} }}"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net {text}')
    onnx.save(model, tmp_path / "m.onnx")
    (variant,) = found.reference.model.variants
    measured = measure(Artefact.given(tmp_path / "m.onnx"), found.reference, variant)
    (finding,) = judge.structure(measured).findings
    assert finding.grade is grade
    assert str(finding).startswith("output 'y': dim 0 ('n') is static: 2 in [2, 3], declared dyn")
    assert ("it gives PyTorch's shapes" in finding.text) == (grade is Grade.WARN)


def test_a_given_file_must_be_of_an_opset_that_the_model_asks_for(tmp_path):
    text = (
        'schema = 1\n[defaults]\nopsets = [17]\n[models.net]\nfactory = "net.py:make"\n'
        'onnx = "m.onnx"\ninputs.x.shape = [2]\noutputs.y.shape = [2]\n'
    )
    graph = (
        '<ir_version: 10, opset_import: ["" : 20]> net (float[2] x) => (float[2] y) {y = Abs(x)}'
    )
    for keys, failed in (("", False), ("opsets = [20, 21]", False), ("opsets = [17, 18]", True)):
        (tmp_path / "models.toml").write_text(text.replace("inputs", f"{keys}\ninputs", 1))
        model = load_manifest(tmp_path / "models.toml").models["net"]
        reference = Reference(model, Function(torch.abs), {"x": (2,)})
        found = judge.structure(
            measure_model(onnx.parser.parse_model(graph), reference, model.variants[0])
        )
        assert [str(finding) for finding in found.findings] == [
            "opset: the file declares 20, and the manifest allows 17, 18. Export it at one of "
            "them, or write opsets = [17, 18, 20] if what loads it can"
        ] * failed
