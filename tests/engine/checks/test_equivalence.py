"""What an artefact of a few nodes measures beside PyTorch, on declared cases and on probes."""

import dataclasses

import numpy as np
import pytest
import small_models
import torch
from references import Function
from torch.nn import functional

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.equivalence import measure
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import Input
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.verdict import Grade

MANIFEST = """
schema = 1
[models.net]
factory = "net.py:make"
inputs.x.shape = [3, 4]
outputs.y.shape = [3, 4]
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("equivalence") / "models.toml"
    path.write_text(MANIFEST, encoding="utf-8")
    return load_manifest(path).models["net"]


@pytest.fixture
def judged(model, tmp_path):
    """Judges nodes, which give y of x, against a function."""

    def made(function, nodes, inputs=None, **constants):
        entries = inputs or {"x": Input(shape=(3, 4))}
        declared = dataclasses.replace(model, inputs=entries)
        shapes = {name: entry.shape for name, entry in entries.items()}
        reference = Reference(declared, Function(function).eval(), shapes)
        kinds = {"float32": "float", "bool": "bool"}
        given = ", ".join(
            f"{kinds[entry.dtype]}[{','.join(map(str, entry.shape))}] {name}"
            for name, entry in entries.items()
        )
        path = small_models.save(
            tmp_path / "net.onnx", f"({given}) => (float[3,4] y) {{ {nodes} }}", **constants
        )
        artefact, (variant,) = Artefact.given(path), declared.variants
        subject = Subject(artefact, artefact, Oracle(reference), variant, CPU)
        return judge.equivalence(measure(subject), variant.tolerance)

    return made


def of_grade(verdict, grade):
    return [finding for finding in verdict.findings if finding.grade is grade]


#: function -> nodes that compute it, and overflow where it does not
OVERFLOWING = {
    "log-sigmoid": (functional.logsigmoid, "s = Sigmoid(x) y = Log(s)"),
    "softplus": (functional.softplus, "e = Exp(x) s = Add(e, one) y = Log(s)"),
    "logaddexp": (
        lambda x: torch.logaddexp(x, 2 * x),
        "a = Exp(x) t = Add(x, x) b = Exp(t) s = Add(a, b) y = Log(s)",
    ),
    "log-softmax": (
        lambda x: functional.log_softmax(x, -1),
        "e = Exp(x) s = ReduceSum <keepdims = 1> (e, axis) l = Log(s) y = Sub(x, l)",
    ),
    "cross-entropy": (
        lambda x: functional.binary_cross_entropy_with_logits(x, x * 0, reduction="none"),
        "m = Neg(x) s = Sigmoid(m) l = Log(s) y = Neg(l)",
    ),
    "tanh": (
        torch.tanh,
        "e = Exp(x) m = Neg(x) n = Exp(m) a = Sub(e, n) b = Add(e, n) y = Div(a, b)",
    ),
}


@pytest.mark.parametrize("name", OVERFLOWING)
def test_nan_and_infinity_where_pytorch_gives_numbers_fail_without_a_range(judged, name):
    function, nodes = OVERFLOWING[name]
    constants = {"one": np.float32(1), "axis": np.int64([1])}
    used = {name: value for name, value in constants.items() if name in nodes}
    verdict = judged(function, nodes, **used)
    found = [f for f in of_grade(verdict, Grade.FAIL) if "where PyTorch gives numbers" in f.text]
    assert any(finding.where.startswith("probe:normal x1000") for finding in found)


@pytest.mark.parametrize(
    ("function", "nodes"),
    [
        (functional.softplus, "y = Softplus(x)"),
        (torch.exp, "y = Exp(x)"),  # PyTorch overflows as well
        (lambda x: functional.log_softmax(x, -1), "y = LogSoftmax <axis = -1> (x)"),
        (torch.tanh, "y = Tanh(x)"),
        (lambda x: x / (1 + (-x).exp()), "s = Sigmoid(x) y = Mul(x, s)"),
        # naive on both sides: float32 underflows, and ONNX Runtime's denormals are zero
        (lambda x: torch.sigmoid(x).log(), "s = Sigmoid(x) y = Log(s)"),
    ],
)
def test_what_overflows_nowhere_or_on_both_sides_does_not_fail(judged, function, nodes):
    assert of_grade(judged(function, nodes), Grade.FAIL) == []


def test_other_elements_that_pytorch_overflows_in_excuse_none(judged):
    """erfcx overflows for x < -9; for x > 9 it is a number, and exp(x^2) erfc(x) is NaN."""
    verdict = judged(
        torch.special.erfcx,
        "q = Mul(x, x) e = Exp(q) f = Erf(x) g = Sub(one, f) y = Mul(e, g)",
        one=np.float32(1),
    )
    (found,) = [
        finding
        for finding in of_grade(verdict, Grade.FAIL)
        if finding.where.startswith("probe:normal x1000")
    ]
    assert "elements are NaN or infinite where PyTorch gives numbers" in found.text


def attention(x, mask):
    """Taken apart by PyTorch, since it has no batch."""
    allowed = torch.where(mask, 0.0, -torch.inf)
    return functional.scaled_dot_product_attention(x, x, x, attn_mask=allowed)


MASK = Input(shape=(3, 3), dtype="bool", fill="mask", empty_rows=True)

ATTENTION = """
    t = Transpose <perm = [1, 0]> (x) p = MatMul(x, t) s = Mul(p, half)
    b = Where(mask, zero, lowest) a = Add(s, b) w = Softmax <axis = -1> (a)
"""


@pytest.fixture
def attending(judged):
    """Judges attention whose softmax is followed by some nodes."""
    inputs = {"x": Input(shape=(3, 4)), "mask": MASK}
    constants = {
        "half": np.float32(0.5),
        "zero": np.float32(0),
        "lowest": np.float32(-np.inf),
    }
    return lambda nodes: judged(attention, ATTENTION + nodes, inputs, **constants)


def test_a_row_that_is_masked_throughout_is_not_excused_by_rounding(attending):
    verdict = attending("y = MatMul(w, x)")
    (found,) = [
        finding
        for finding in of_grade(verdict, Grade.FAIL)
        if finding.where == "probe:mask one row false"
    ]
    assert found.text.startswith("4 of 12 elements are NaN or infinite where PyTorch gives numbers")
    assert not [finding for finding in verdict.findings if "rounding alone" in finding.text]


def test_attention_that_gives_zeros_in_such_a_row_passes(attending):
    assert attending("n = IsNaN(w) v = Where(n, zero, w) y = MatMul(v, x)").grade is Grade.PASS


ALMOST_ALIKE = """
schema = 1
[models.net]
factory = "net.py:make"
inputs.x.shape = [3, 4]
outputs.y.shape = [3, 4]
outputs.z.shape = [3, 4]
"""


@pytest.mark.parametrize("tolerance", ["", "tolerance.fp32.max_abs = 1e-3"])
def test_outputs_that_are_the_same_but_for_rounding_are_not_mixed_up(tmp_path, tolerance):
    """A log-softmax beside the logarithm of a softmax, say."""
    (tmp_path / "models.toml").write_text(ALMOST_ALIKE + tolerance)
    model = load_manifest(tmp_path / "models.toml").models["net"]
    function = Function(lambda x: (x * 3 / 3, x))
    reference = Reference(model, function.eval(), {"x": (3, 4)})
    path = small_models.save(
        tmp_path / "net.onnx",
        "(float[3,4] x) => (float[3,4] y, float[3,4] z) { y = Identity(x) z = Identity(x) }",
    )
    artefact, (variant,) = Artefact.given(path), model.variants
    measured = measure(Subject(artefact, artefact, Oracle(reference), variant, CPU))
    assert any(case.outputs[0].max_abs for case in measured.cases)
    assert judge.equivalence(measured, variant.tolerance).grade is Grade.PASS
