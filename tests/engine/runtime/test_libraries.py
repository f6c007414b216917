"""ONNX Runtime's libraries of custom operators: found, loaded, and missed."""

import shutil
from dataclasses import replace

import numpy as np
import onnx
import pytest

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.runtime.libraries import library_hashes, opening_of, unregistered
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU

HEAD = '<ir_version: 10, opset_import: ["" : 17, "{domain}" : 1]>'
NEG_POS = "net (float[N,2] x) => (float[N,2] y) {{ n, p = {domain}.{operator}(x) y = Sub(p, n) }}"


def written(path, domain="ai.onnx.contrib", operator="NegPos"):
    """A file whose operator splits x by its sign, for |x|."""
    text = (HEAD + NEG_POS).format(domain=domain, operator=operator)
    onnx.save(onnx.parser.parse_model(text), path)
    return Artefact.given(path)


def with_libraries(*entries):
    return replace(CPU, libraries=entries)


def refusal(artefact, target):
    with pytest.raises(RunError) as error:
        open_session(artefact, target)
    return str(error.value)


@pytest.fixture
def extensions():
    return pytest.importorskip("onnxruntime_extensions")


def test_a_session_has_the_operators_of_a_module_or_a_file(tmp_path, extensions):
    artefact = written(tmp_path / "net.onnx")
    shutil.copy(extensions.get_library_path(), tmp_path / "operators.so")
    x = np.float32([[1, -2], [-3, 4]])
    for entry in ("onnxruntime_extensions", str(tmp_path / "operators.so")):
        (found,) = open_session(artefact, with_libraries(entry)).run({"x": x})
        assert found.tolist() == [[1, 2], [3, 4]]
        inner = dict(OpenedGraph(artefact.path, libraries=(entry,)).values({"x": x}))
        assert inner["n"].tolist() == [[0, -2], [-3, 0]]


def test_an_operator_that_the_library_has_not_is_told(tmp_path, extensions):
    artefact = written(tmp_path / "net.onnx", operator="PosNeg")
    text = refusal(artefact, with_libraries("onnxruntime_extensions"))
    assert text.endswith(
        "ai.onnx.contrib:PosNeg(-1) is not a registered function/op. None of operator_libraries "
        "(onnxruntime_extensions) has PosNeg of ai.onnx.contrib: see how it is spelled there, or "
        "add the library that has it"
    )


def test_a_file_that_needs_a_library_says_what_to_write(tmp_path):
    text = refusal(written(tmp_path / "contrib.onnx"), CPU)
    assert text.endswith(
        "ai.onnx.contrib:NegPos(-1) is not a registered function/op. NegPos is one of "
        "onnxruntime-extensions: pip install onnxruntime-extensions, and write "
        'operator_libraries = ["onnxruntime_extensions"] (docs/custom-operators.md)'
    )
    text = refusal(written(tmp_path / "own.onnx", "my.domain", "Split2"), CPU)
    assert text.endswith(
        "my.domain:Split2(-1) is not a registered function/op. Split2 of my.domain is a custom "
        'operator: name the library that has it, operator_libraries = ["PATH/TO/LIBRARY.so"] '
        "(docs/custom-operators.md)"
    )


def test_what_else_is_wrong_with_a_file_asks_for_no_library(tmp_path):
    assert unregistered("com.microsoft:Nothing(-1) is not a registered function/op", ()) == ""
    assert unregistered("does not load in ONNX Runtime: Type Error", ()) == ""
    text = unregistered("ai.onnx.contrib:NegPos(-1) is not a registered function/op", ("a.so",))
    assert '["a.so", "onnxruntime_extensions"]' in text


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            "{folder}/missing.so",
            "operator_libraries: {folder}/missing.so: no such file. Build it, or mend the path, "
            "which is relative to the manifest",
        ),
        (
            "no_such_module",
            "operator_libraries: 'no_such_module' cannot be imported (No module named "
            "'no_such_module'): install what has it; a file is written with a / in its path, "
            "./library.so",
        ),
        (
            "onnxruntime_extension",
            "operator_libraries: 'onnxruntime_extension' cannot be imported (No module named "
            "'onnxruntime_extension'): write 'onnxruntime_extensions', and pip install "
            "onnxruntime-extensions; a file is written with a / in its path, ./library.so",
        ),
        (
            "json",
            "operator_libraries: 'json' is no module of custom operators: it has no "
            "get_library_path(). Name the library's file",
        ),
    ],
)
def test_a_library_that_there_is_not_is_an_error(tmp_path, entry, problem):
    entry, problem = (text.format(folder=tmp_path) for text in (entry, problem))
    artefact = written(tmp_path / "net.onnx")
    for _ in range(2):  # the second time it is the error that is known
        assert refusal(artefact, with_libraries(entry)) == problem
    with pytest.raises(RunError, match="operator_libraries"):
        opening_of(with_libraries(entry))
    assert library_hashes([entry]) == ()


def test_a_file_that_is_no_library_is_told_as_the_loader_tells_it(tmp_path):
    (tmp_path / "text.so").write_text("no library")
    text = refusal(written(tmp_path / "net.onnx"), with_libraries(f"{tmp_path}/text.so"))
    assert f"operator_libraries: {tmp_path}/text.so: Failed to load library" in text
    assert "does not load in ONNX Runtime" not in text


def test_the_manifests_libraries_are_those_of_every_target(tmp_path):
    model = 'factory = "nets.py:net"\ninputs.x.shape = [2]\noutputs.y.shape = [2]\n'
    (tmp_path / "models.toml").write_text(
        'schema = 1\n[defaults]\noperator_libraries = ["build/ops.so", "somebodys_operators"]\n'
        f'targets = ["cpu", "cuda"]\n[models.inherits]\n{model}'
        f"[models.own]\noperator_libraries = []\n{model}"
    )
    models = load_manifest(tmp_path / "models.toml").models
    expected = (str(tmp_path / "build/ops.so"), "somebodys_operators")
    inherits = models["inherits"]
    for target in (inherits.target("cpu"), inherits.target("cuda"), inherits.cpu):
        assert target.libraries == expected
    assert models["own"].target("cpu").libraries == ()
    assert inherits.target("cpu").key != models["own"].target("cpu").key
