"""Which files are manifests, and what is kept of them; mistakes are in `test_manifest_errors`."""

import pytest
from manifests import IO, load

from pytest_onnxcheck.manifest import carries_schema


def test_the_manifest_keeps_the_files_seed(tmp_path):
    text = f'schema = 1\nseed = 7\n[models.net]\nfactory = "zoo:net"\nseed = 3\n{IO}'
    assert load(tmp_path, text).seed == 7


def test_inputs_outputs_and_models_keep_the_order_of_the_file(tmp_path):
    def model(name):
        return (
            f'[models.{name}]\nfactory = "zoo:net"\n'
            + "".join(f"[models.{name}.inputs.{key}]\nshape = [1]\n" for key in "cab")
            + "".join(f"[models.{name}.outputs.{key}]\nshape = [1]\n" for key in "zyx")
        )

    models = load(tmp_path, "schema = 1\n" + model("second") + model("first")).models
    assert list(models) == ["second", "first"]
    assert list(models["first"].inputs) == ["c", "a", "b"]
    assert list(models["first"].outputs) == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("schema = 1\n[models.a]\n", True),
        ("#:schema ./x.json\n\n  schema=1\nmodels = {}\n", True),
        ("[models.a]\n", False),
        ("schema = 1\n", False),
        ("# schema = 1\n[models.a]\n", False),
        ("[tool]\nschema = 1\n[models.a]\n", False),
        ("schema = 1\n[models.a\n", False),
        ("", False),
    ],
)
def test_a_file_is_ours_when_it_has_our_key_and_models(tmp_path, text, ours):
    path = tmp_path / "models.toml"
    path.write_text(text, encoding="utf-8")
    assert carries_schema(path) is ours


def test_a_missing_or_binary_file_is_not_ours(tmp_path):
    (tmp_path / "models.toml").write_bytes(b"schema = 1\n\xff\n")
    assert not carries_schema(tmp_path / "models.toml")
    assert not carries_schema(tmp_path / "none.toml")
