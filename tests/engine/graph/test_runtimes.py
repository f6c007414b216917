"""Which releases of ONNX Runtime load a model, by the table; what the installed one says to it."""

import itertools

import onnx
import onnxruntime
import pytest

from pytest_onnxcheck.engine.graph.runtimes import (
    lowest_release,
    obstacles,
    oldest_onnxruntime,
    release,
    runtimes,
    uses,
)

INSTALLED = ".".join(onnxruntime.__version__.split(".")[:2])


def model(nodes, *, opset=17, ir_version=8, takes="float[2,4] x", gives="float[2,4] y", more=""):
    header = f'<ir_version: {ir_version}, opset_import: ["" : {opset}{more}]>'
    return onnx.parser.parse_model(f"{header} net ({takes}) => ({gives}) {{ {nodes} }}")


def keeps(version, *arguments, **options):
    """What keeps a release from loading a model."""
    return obstacles(uses(model(*arguments, **options)), release(version))


def test_an_ordinary_model_loads_in_old_releases():
    net = model("y = Relu (x)")
    assert obstacles(uses(net), release("1.17")) == []
    assert oldest_onnxruntime(uses(net)) == "1.12"


def test_a_newer_ir_version_is_refused():
    assert keeps("1.17", "y = Relu (x)", ir_version=11) == [
        "IR version 11, and it reads 9 and older"
    ]


def test_a_newer_opset_is_refused():
    assert keeps("1.17", "y = Relu (x)", opset=24) == ["opset 24 of ai.onnx, and it has 20"]


def test_an_operator_that_a_release_lacks_is_named():
    nodes = "y = com.microsoft.GatherBlockQuantized <block_size = 16> (w, i, s)"
    takes = "uint4[32,16] w, int64[2] i, float[32,1] s"
    options = {"takes": takes, "gives": "float[2,16] y", "ir_version": 10}
    options["more"] = ', "com.microsoft" : 1'
    assert keeps("1.18", nodes, **options) == [
        "com.microsoft::GatherBlockQuantized (node ''): it does not have this operator in the "
        "version of opset 1"
    ]
    assert keeps("1.24", nodes, **options) == []


def test_types_that_a_release_does_not_take_are_named():
    nodes, bf16 = "y = Sigmoid (x)", "bfloat16[2,4]"
    (found,) = keeps("1.24", nodes, takes=f"{bf16} x", gives=f"{bf16} y")
    assert found.startswith("Sigmoid (node ''): not on bfloat16; it has it on ")
    assert "float" in found


def test_types_are_known_behind_operators_that_onnx_does_not_know():
    nodes = "a = com.microsoft.Gelu (x)  b = Cast <to = 16> (a)  y = Sigmoid (b)"
    found = keeps("1.24", nodes, gives="bfloat16[2,4] y", more=', "com.microsoft" : 1')
    assert [text.partition(":")[0] for text in found] == ["Sigmoid (node '')"]


def test_nothing_is_said_of_custom_operators():
    net = model("y = mine.Own (x)", more=', "mine" : 1')
    assert uses(net).unknown == ("mine::Own",)
    assert obstacles(uses(net), release("1.17")) == []


def test_graphs_inside_are_looked_into():
    nodes = """y = If (c) <
        then_branch = a () => (bfloat16[2,4] t) { t = Sigmoid (x) },
        else_branch = b () => (bfloat16[2,4] e) { e = Identity (x) }
    >"""
    takes, gives = "bool c, bfloat16[2,4] x", "bfloat16[2,4] y"
    (found,) = keeps("1.24", nodes, takes=takes, gives=gives)
    assert found.startswith("Sigmoid (node '')")


def test_what_the_newest_does_not_load_has_no_oldest():
    assert oldest_onnxruntime(uses(model("y = Relu (x)", ir_version=99))) is None


@pytest.mark.parametrize(
    ("opset", "ir_version", "version"),
    [(11, 6, "1.0"), (17, 8, "1.12"), (17, 10, "1.18"), (19, 9, "1.16"), (20, 9, "1.17")],
)
def test_the_oldest_follows_from_versions(opset, ir_version, version):
    net = model("y = Relu (x)", opset=opset, ir_version=ir_version)
    assert oldest_onnxruntime(uses(net)) == version


def test_a_patch_is_of_its_minor_version_and_what_is_newer_than_the_table_is_its_last():
    assert release("1.17.3").version == "1.17"
    assert release("99.0") == runtimes()[-1]
    assert release("0.1") == runtimes()[0]


def test_newer_releases_read_what_older_ones_do():
    rows = runtimes()
    for older, newer in itertools.pairwise(rows):
        assert newer.number > older.number
        assert newer.ir_version >= older.ir_version
        for domain, version in older.opsets.items():
            assert newer.opsets[domain] >= version, (newer.version, domain)


@pytest.mark.parametrize(
    ("nodes", "options"),
    [
        ("y = Relu (x)", {}),
        ("y = Gelu (x)", {"opset": 20}),
        ("y = Sigmoid (x)", {"takes": "bfloat16[2,4] x", "gives": "bfloat16[2,4] y"}),
        ("y = com.microsoft.Gelu (x)", {"more": ', "com.microsoft" : 1'}),
        ("y = Relu (x)", {"ir_version": 99}),
        ("y = Relu (x)", {"opset": 99}),
    ],
)
def test_the_installed_release_does_what_the_table_says(nodes, options):
    if INSTALLED not in {row.version for row in runtimes()}:
        pytest.skip(f"the table has no ONNX Runtime {INSTALLED}")
    net = model(nodes, **options)
    found = obstacles(uses(net), release(INSTALLED))
    loads = True
    try:
        onnxruntime.InferenceSession(net.SerializeToString(), providers=["CPUExecutionProvider"])
    except Exception:  # of ONNX Runtime, of several types
        loads = False
    assert loads is (found == []), found


@pytest.mark.parametrize(
    ("version", "python", "lowest"),
    [
        ("1.17", (3, 11), "1.17.0"),
        ("1.17", (3, 12), "1.17.0"),
        ("1.17", (3, 13), "1.20.0"),  # none older has a wheel for it
        ("1.17.3", (3, 11), "1.17.3"),
        ("1.17.3", (3, 13), "1.20.0"),
        ("1.12", (3, 11), "1.15.0"),
        ("1.24", (3, 14), "1.24.1"),
        ("1.17", (3, 99), runtimes()[-1].tried),  # newer than what the table knows
        ("1.99", (3, 11), "1.99.0"),
    ],
)
def test_the_lowest_release_that_can_be_had_for_a_python(version, python, lowest):
    assert lowest_release(version, python) == lowest
