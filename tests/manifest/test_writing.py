"""TOML that can be put into a manifest: what is loaded again is what was meant."""

import dataclasses

import pytest

from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.writing import (
    needed_options,
    quantization_table,
    table_name,
    variant_toml,
)

PLAIN = """
schema = 1
[defaults]
opsets = [17]
precisions = ["fp32", "int8-static"]
exporters = ["dynamo", "torchscript"]
[models.{name}]
factory = "nets.py:net"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
{more}
"""


@pytest.mark.parametrize(
    ("name", "more", "model"),
    [
        ("net", "", "net"),
        ('"net.1"', "", "net.1"),
        ("net", "checkpoint = 'c_*.pt'", "net-c_a"),
        ("net", "[models.net.quantization.'*-static']\nexclude_nodes = ['/a']", "net"),
    ],
)
def test_the_toml_can_be_pasted_at_the_end_of_the_manifest(tmp_path, name, more, model):
    (tmp_path / "c_a.pt").touch()
    path = tmp_path / "models.toml"

    def variants(pasted):
        path.write_text(PLAIN.format(name=name, more=more) + pasted)
        manifest = load_manifest(path)
        manifest.check()
        return manifest.models[model], manifest.models[model].variants

    loaded, (_, variant, _, before) = variants("")
    toml = quantization_table(loaded, variant, {"exclude_nodes": ("/b", "/c")})
    again, (_, changed, _, other) = variants(toml)
    assert changed.quantization.exclude_nodes == ("/b", "/c")
    assert other == before  # its nodes have other names
    # the table is there now, and a second one would be an error
    second = quantization_table(again, variant, {"symmetric": True})
    assert second.startswith(f"# in [models.{name}.quant")


def model(folder, more="", name="net"):
    path = folder / "models.toml"
    path.write_text(PLAIN.format(name=name, more=more))
    manifest = load_manifest(path)
    manifest.check()
    return next(iter(manifest.models.values()))


def changed(variant, **options):
    quantization = variant.quantization.model_copy(update=options)
    return dataclasses.replace(variant, quantization=quantization)


@pytest.mark.parametrize(
    ("name", "table"),
    [("net", "models.net"), ("net-2_a", "models.net-2_a"), ('"net.1"', 'models."net.1"')],
)
def test_the_name_of_a_table_is_quoted_where_toml_asks_for_it(tmp_path, name, table):
    assert table_name(model(tmp_path, name=name)) == table


def test_only_options_that_are_not_built_in_are_needed(tmp_path):
    built_in = model(tmp_path).variant("dynamo", 17, "int8-static")
    assert needed_options(built_in) == {}
    percentile = changed(built_in, method="percentile", percentile=99.9, per_channel=True)
    assert needed_options(percentile) == {"method": "percentile", "percentile": 99.9}
    # which no other method reads
    assert needed_options(changed(percentile, method="entropy")) == {"method": "entropy"}


def test_a_variant_needs_its_precision_and_what_the_model_does_not_give_it(tmp_path):
    more = "quantization.int4-weight = { block_size = 64 }"
    loaded = model(tmp_path, more)
    tried = changed(loaded.variant("dynamo", 17, "int4-weight"), accuracy_level=4)
    assert needed_options(tried) == {"accuracy_level": 4, "block_size": 64}
    comment, *table = variant_toml(loaded, tried).split("\n")
    assert comment == '# in [models.net] set precisions = ["fp32", "int4-weight"]'
    pasted = "\n".join(['precisions = ["fp32", "int4-weight"]', more, *table])
    again = {variant.name: variant for variant in model(tmp_path, pasted).variants}
    assert again["dynamo-op17-int4-weight"] == tried


def test_a_variant_that_the_manifest_has_needs_nothing(tmp_path):
    loaded = model(tmp_path)
    assert variant_toml(loaded, loaded.variants[1]) == "# already in the manifest: int8-static"
