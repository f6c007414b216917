"""Custom operators of PyTorch: what the exporters are told, and what is said where they are not."""

import pytest
import torch

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.convert.key import artefact_key
from pytest_onnxcheck.engine.convert.translations import translated
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import ExportError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU

#: one operator with two overloads; no process may register one twice
OPERATORS = """
import torch

library = torch.library.Library("check_translations", "FRAGMENT")
if not hasattr(torch.ops.check_translations, "softclip"):
    library.define("softclip(Tensor x, float limit) -> Tensor")
    library.define("softclip.wide(Tensor x, Tensor limit) -> Tensor")

    def softclip(x, limit):
        return limit * torch.tanh(x / limit)

    for name in ("softclip", "softclip.wide"):
        library.impl(name, softclip, "CompositeExplicitAutograd")
        torch.library.register_fake(f"check_translations::{name}", lambda x, limit: x.clone())


class Net(torch.nn.Module):
    def forward(self, x):
        return torch.ops.check_translations.softclip(x, 2.0)


class Singular(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.svdvals(x)


def net():
    return Net().eval()


def singular():
    return Singular().eval()
"""
TRANSLATIONS = """
import torch
from onnxscript import opset18 as op
from torch.onnx.symbolic_helper import parse_args


def softclip(x, limit: float):
    return op.Mul(limit, op.Tanh(op.Div(x, limit)))


@parse_args("v", "f")
def symbolic(g, x, limit):
    limit = g.op("Constant", value_t=torch.tensor(limit))
    return g.op("Mul", limit, g.op("Tanh", g.op("Div", x, limit)))
"""
NAME = "check_translations::softclip"
BOTH = (
    f"translations.'{NAME}' = {{ dynamo = 'to_onnx.py:softclip', "
    "torchscript = 'to_onnx.py:symbolic' }"
)


@pytest.fixture
def models(tmp_path):
    """Makes the model of a manifest: lines of `[defaults]`, and of the model."""

    def make(keys="", defaults="", factory="net"):
        (tmp_path / "operators.py").write_text(OPERATORS)
        (tmp_path / "to_onnx.py").write_text(TRANSLATIONS)
        (tmp_path / "models.toml").write_text(
            f"schema = 1\n[defaults]\nopsets = [18]\n{defaults}\n[models.net]\n"
            f'factory = "operators.py:{factory}"\n{keys}\n'
            "inputs.x.shape = [2, 3]\noutputs.y.shape = [2, 3]\n"
        )
        manifest = load_manifest(tmp_path / "models.toml")
        manifest.check()
        return manifest.models["net"]

    return make


def built(model, folder):
    builds = Builds(folder)
    reference = builds.reference(model)
    return reference, builds.artefact(reference, model.variants[0])


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_an_exporter_takes_the_translation_for_it_and_forgets_it(models, tmp_path, exporter):
    model = models(f"{BOTH}\nexporters = ['{exporter}']")
    reference, artefact = built(model, tmp_path / "artefacts")
    inputs = example(reference)
    (given,) = open_session(artefact, CPU).run(inputs)
    (expected,) = reference.run(inputs)
    assert abs(given - expected).max() < 1e-6
    with pytest.raises(ExportError) as error:
        built(models(f"exporters = ['{exporter}']"), tmp_path / "artefacts")
    assert {
        "dynamo": "DispatchError: No ONNX function found for <OpOverload(op='check_translations."
        "softclip', overload='default')>",
        "torchscript": f"unrecognized namespace {NAME}",
    }[exporter] in str(error.value)
    kind = {
        "dynamo": "a function of onnxscript's operators",
        "torchscript": "a symbolic function, symbolic(g, ...)",
    }[exporter]
    assert (
        f"\nThe exporter has no translation of {NAME}. Write one, {kind}, and name it in the "
        f'manifest: translations."{NAME}" = "FILE.py:FUNCTION" (docs/custom-operators.md)\n'
    ) in str(error.value)


def test_what_is_written_for_the_other_exporter_is_kept_in_the_line_to_write(models, tmp_path):
    keys = f"translations.'{NAME}'.dynamo = 'to_onnx.py:softclip'\nexporters = ['torchscript']"
    with pytest.raises(ExportError) as error:
        built(models(keys), tmp_path / "artefacts")
    line = '{ dynamo = "to_onnx.py:softclip", torchscript = "FILE.py:FUNCTION" }'
    assert f'translations."{NAME}" = {line} (docs' in str(error.value)


def test_an_operator_of_pytorch_that_an_exporter_lacks_can_be_translated_too(models, tmp_path):
    keys = "exporters = ['torchscript']"
    with pytest.raises(ExportError) as error:
        built(models(keys, factory="singular"), tmp_path / "artefacts")
    assert 'translations."aten::linalg_svdvals" = "FILE.py:FUNCTION"' in str(error.value)


def test_an_overload_is_named_behind_the_operator(models):
    model = models(f"translations.'{NAME}.wide' = 'to_onnx.py:softclip'")
    load_reference(model)
    assert list(translated(model, "dynamo")) == [torch.ops.check_translations.softclip.wide]


@pytest.mark.parametrize(
    ("operator", "path", "problem"),
    [
        (
            "check_translations::softclp",
            "to_onnx.py:softclip",
            f"is no operator of PyTorch; did you mean '{NAME}'? It has to be registered "
            "(torch.library) when the factory's or the translation's module is imported",
        ),
        (
            "xq7::zzzz",
            "to_onnx.py:softclip",
            "is no operator of PyTorch. It has to be registered (torch.library) when the "
            "factory's or the translation's module is imported",
        ),
        (
            f"{NAME}.narrow",
            "to_onnx.py:softclip",
            f"has no such overload; write one of {NAME}, {NAME}.wide",
        ),
    ],
)
def test_an_operator_that_there_is_not_is_an_error(models, operator, path, problem):
    model = models(f"translations.'{operator}' = '{path}'")
    load_reference(model)
    with pytest.raises(ExportError) as error:
        translated(model, "dynamo")
    assert str(error.value) == f"net: translations: {operator!r} {problem}"


def test_a_function_that_there_is_not_is_an_error(models, tmp_path):
    model = models(f"translations.'{NAME}' = 'to_onnx.py:sofclip'")
    with pytest.raises(ExportError, match=f"net: translations: '{NAME}': .* has no 'sofclip'"):
        built(model, tmp_path / "artefacts")


def test_what_defaults_translate_need_not_be_an_operator_of_every_model(models):
    inherited = f"translations.'{NAME}' = 'to_onnx.py:softclip'\n"
    model = models(defaults=f"{inherited}translations.'xq7::zzzz' = 'to_onnx.py:softclip'")
    load_reference(model)
    assert list(translated(model, "dynamo")) == [torch.ops.check_translations.softclip.default]


def test_the_files_of_translations_are_in_the_key_of_those_who_use_them(models, tmp_path):
    keys = f"translations.'{NAME}' = {{ dynamo = 'to_onnx.py:softclip' }}"
    model = models(f"exporters = ['dynamo', 'torchscript']\n{keys}")
    reference = load_reference(model)
    by_dynamo, by_torchscript = model.variants
    before = [artefact_key(reference, variant, "fp32") for variant in model.variants]
    file = tmp_path / "to_onnx.py"
    file.write_text(file.read_text() + "\n# changed\n")
    assert artefact_key(reference, by_dynamo, "fp32") != before[0]
    assert artefact_key(reference, by_torchscript, "fp32") == before[1]


def test_the_libraries_are_in_the_key_of_what_is_converted(models, tmp_path):
    """Calibration runs their operators; an export does not."""
    (tmp_path / "ops.so").write_text("one")
    model = models("operator_libraries = ['./ops.so']\nprecisions = ['fp32', 'int8-dynamic']")
    reference = load_reference(model)

    def keys():
        return [artefact_key(reference, each, each.precision) for each in model.variants]

    exported, converted = keys()
    (tmp_path / "ops.so").write_text("another")
    assert keys()[0] == exported
    assert keys()[1] != converted
