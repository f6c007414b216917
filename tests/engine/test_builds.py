"""What an artefact is built from decides when it is built again, and where it lies."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.inputs import calibration as calibration_module
from pytest_onnxcheck.errors import QuantizeError
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import numpy as np
import torch
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def batches():
    rng = np.random.default_rng(0)
    for _ in range(3):
        yield {"x": rng.normal(size=(4, 8)).astype("float32")}


def unseeded():
    rng = np.random.default_rng()
    for _ in range(3):
        yield {"x": rng.normal(size=(4, 8)).astype("float32")}
"""

STATIC = "torchscript-op17-int8-static"
FP16 = "torchscript-op17-fp16"


class Workshop:
    """A manifest, and builds as one run of pytest after another makes them."""

    def __init__(self, root):
        self.root = root
        (root / "nets.py").write_text(NETS, encoding="utf-8")
        self.save()

    def save(self, name="data.npz", scale=1.0):
        x = np.random.default_rng(0).normal(size=(10, 8)).astype("float32")
        np.savez(self.root / name, x=x * np.float32(scale))

    def models(self, *models):
        """The manifest's models: pairs of name and more TOML."""
        text = "schema = 1\n"
        for name, more in models:
            text += (
                f'[models.{name}]\nfactory = "nets.py:mlp"\nexporters = ["torchscript"]\n'
                'opsets = [17]\nprecisions = ["fp32", "fp16", "int8-dynamic", "int8-static"]\n'
                f"dims = {{ batch = [2] }}\n{more}\n"
                f'inputs.x.shape = ["batch", 8]\noutputs.y.shape = ["batch", 4]\n'
            )
        (self.root / "models.toml").write_text(text, encoding="utf-8")
        manifest = load_manifest(self.root / "models.toml")
        manifest.check()
        return manifest.models

    def build(self, more="", variant=STATIC, **options):
        """The artefact of one variant, made by builds of its own."""
        model = self.models(("net", more))["net"]
        chosen = next(entry for entry in model.variants if entry.name == variant)
        if options:
            quantization = chosen.quantization.model_copy(update=options)
            chosen = dataclasses.replace(chosen, quantization=quantization)
        builds = Builds(self.root / "artefacts")
        return builds.artefact(builds.reference(model), chosen)

    def folder(self, artefact):
        return artefact.path.relative_to(self.root / "artefacts").parts[:-2]


@pytest.fixture
def workshop(tmp_path):
    return Workshop(tmp_path)


FILE = 'calibration = { file = "data.npz" }'


def test_the_notes_hold_the_options_and_the_calibration_data(workshop):
    first, second = workshop.build(FILE), workshop.build(FILE)
    assert (first.cached, second.cached) == (False, True)
    assert first.notes == second.notes
    assert first.notes.calibration.origin == "10 examples of data.npz"
    assert len(first.notes.calibration.sha256) == 64
    assert first.notes.options["method"] == "minmax"


@pytest.mark.parametrize(("variant", "precision"), [(STATIC, "int8-static"), (FP16, "fp16")])
def test_an_artefact_knows_what_it_was_asked_to_be(workshop, variant, precision):
    model = workshop.models(("net", FILE))["net"]
    chosen = next(entry for entry in model.variants if entry.name == variant)
    builds = Builds(workshop.root / "artefacts")
    reference = builds.reference(model)
    assert builds.artefact(reference, chosen).precision == precision
    assert builds.float_artefact(reference, chosen).precision == "fp32"


def test_changed_data_builds_anew(workshop):
    first = workshop.build(FILE)
    workshop.save(scale=3.0)
    second = workshop.build(FILE)
    assert not second.cached
    assert second.sha256 != first.sha256
    workshop.save()
    assert workshop.build(FILE).cached


@pytest.mark.parametrize("option", ["count = 3", "batch = 5", "seed = 1"])
def test_another_choice_of_the_data_builds_anew(workshop, option):
    workshop.build(FILE)
    assert not workshop.build(f'calibration = {{ file = "data.npz", {option} }}').cached


def test_data_matters_to_static_quantization_only(workshop):
    assert not workshop.build(FILE, FP16).cached
    workshop.save(scale=3.0)
    assert workshop.build(FILE, FP16).cached


def test_a_callable_that_gives_the_same_is_not_built_again(workshop):
    more = 'calibration = { source = "nets.py:batches" }'
    assert [workshop.build(more).cached for _ in range(2)] == [False, True]


def test_a_callable_that_gives_something_else_is_built_again(workshop):
    more = 'calibration = { source = "nets.py:unseeded" }'
    assert [workshop.build(more).cached for _ in range(2)] == [False, False]


def test_random_draws_are_the_same_in_every_run(workshop):
    assert [workshop.build().cached for _ in range(2)] == [False, True]


OPTIONS = {
    STATIC: ("method", '"percentile"', "percentile"),
    FP16: ("op_block_list", '["Relu"]', ["Relu"]),
    "torchscript-op17-int8-dynamic": ("per_channel", "false", False),
}


@pytest.mark.parametrize("variant", OPTIONS)
def test_changed_options_build_anew(workshop, variant):
    option, written, value = OPTIONS[variant]
    first = workshop.build(FILE, variant)
    precision = variant.removeprefix("torchscript-op17-")
    second = workshop.build(f"{FILE}\nquantization.{precision}.{option} = {written}", variant)
    assert not second.cached
    assert second.notes.options[option] == value
    assert second.sha256 != first.sha256
    assert workshop.folder(second) == workshop.folder(first) == ("net", variant)


def test_the_float_artefact_does_not_depend_on_options(workshop):
    fp32 = "torchscript-op17-fp32"
    assert not workshop.build(FILE, fp32).cached
    assert workshop.build("quantization.int8-static.symmetric = true", fp32).cached


def test_a_variant_with_other_options_has_a_folder_of_its_own(workshop):
    own = workshop.build(FILE)
    other = workshop.build(FILE, symmetric=True)
    third = workshop.build(FILE, symmetric=True, per_channel=False)
    assert workshop.folder(own) == ("net", STATIC)
    names = [workshop.folder(artefact)[1] for artefact in (other, third)]
    assert all(name.startswith(f"{STATIC}-") for name in names)
    assert len({STATIC, *names}) == 3
    assert len({own.sha256, other.sha256, third.sha256}) == 3
    assert workshop.build(FILE).cached
    assert workshop.build(FILE, symmetric=True).cached


def test_a_variant_the_manifest_does_not_list_has_a_folder_of_its_own(workshop):
    model = workshop.models(("net", FILE))["net"]
    builds = Builds(workshop.root / "artefacts")
    model = dataclasses.replace(model, variants=model.variants[:1])
    variant = model.variant("torchscript", 17, "int8-dynamic")
    folder = workshop.folder(builds.artefact(builds.reference(model), variant))
    assert folder[1].startswith("torchscript-op17-int8-dynamic-")


def scale_of(artefact, name):
    tensors = {tensor.name: tensor for tensor in onnx.load(artefact.path).graph.initializer}
    return float(numpy_helper.to_array(tensors[name]))


def test_models_with_tensors_of_one_name_get_ranges_of_their_own(workshop):
    workshop.save("large.npz", scale=100.0)
    models = workshop.models(("small", FILE), ("large", FILE.replace("data", "large")))
    builds = Builds(workshop.root / "artefacts")
    scales = {}
    for _ in range(2):  # the second time they come from memory
        for name, model in models.items():
            variant = next(entry for entry in model.variants if entry.name == STATIC)
            artefact = builds.artefact(builds.reference(model), variant)
            scales.setdefault(name, scale_of(artefact, "x_scale"))
            assert scales[name] == scale_of(artefact, "x_scale")
    assert scales["large"] == pytest.approx(100 * scales["small"], rel=1e-3)


def test_the_data_is_read_once_for_all_variants(workshop, monkeypatch):
    read = []
    monkeypatch.setattr(
        "pytest_onnxcheck.engine.builds.load_calibration",
        lambda reference: read.append(reference) or calibration_module.load_calibration(reference),
    )
    model = workshop.models(("net", FILE))["net"]
    builds = Builds(workshop.root / "artefacts")
    reference = builds.reference(model)
    variant = next(entry for entry in model.variants if entry.name == STATIC)
    other = variant.quantization.model_copy(update={"symmetric": True})
    for entry in (variant, variant, dataclasses.replace(variant, quantization=other)):
        builds.artefact(reference, entry)
    assert read == [reference]


def test_bad_data_is_one_error_for_all_who_need_it(workshop):
    model = workshop.models(("net", 'calibration = { file = "none.npz" }'))["net"]
    builds = Builds(workshop.root / "artefacts")
    reference = builds.reference(model)
    variants = {entry.name: entry for entry in model.variants}
    met = []
    for _ in range(2):
        with pytest.raises(QuantizeError, match=r"none\.npz not found") as caught:
            builds.artefact(reference, variants[STATIC])
        met.append(caught.value)
    assert met[0] is met[1]
    assert builds.artefact(reference, variants[FP16]).path.is_file()


def test_another_manifest_of_the_same_folder_does_not_inherit_a_failure(workshop):
    bad = workshop.models(("net", 'calibration = { file = "none.npz" }'))["net"]
    good = workshop.models(("net", FILE))["net"]
    builds = Builds(workshop.root / "artefacts")
    variant = next(entry for entry in bad.variants if entry.name == STATIC)
    with pytest.raises(QuantizeError, match=r"none\.npz not found"):
        builds.artefact(builds.reference(bad), variant)
    assert builds.artefact(builds.reference(good), variant).path.is_file()
