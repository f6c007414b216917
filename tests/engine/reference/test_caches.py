"""transformers' caches as inputs and outputs; without transformers there is nothing to test."""

import copy
import inspect
import sys

import numpy as np
import onnxruntime
import pytest
import torch

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.inputs.cases import declared_cases
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.reference.structures import build, is_cache, leaves
from pytest_onnxcheck.errors import CheckpointError, InputError
from pytest_onnxcheck.manifest import load_manifest

transformers = pytest.importorskip("transformers")

from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache  # noqa: E402

#: what this version of transformers calls the parameter
CACHE = next(
    name
    for name in ("cache", "past_key_values")
    if name in inspect.signature(transformers.LlamaForCausalLM.forward).parameters
)

NETS = """
import torch
import transformers


class Renamed(torch.nn.Module):
    # takes the name that its cache had before too, as transformers' models do
    def __init__(self):
        super().__init__()
        self.model = llama()

    def forward(self, input_ids, cache: transformers.Cache | None = None, **kwargs):
        cache = kwargs.pop("old_name", cache)
        return {"logits": cache.layers[1].keys.sum() + self.model.lm_head.weight[input_ids].sum()}


def llama():
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
    )
    return transformers.LlamaForCausalLM(config).eval()


class Silent(torch.nn.Module):
    def forward(self, input_ids, states):
        return input_ids + states.get_seq_length()


def t5():
    config = transformers.T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        decoder_start_token_id=0,
    )
    return transformers.T5ForConditionalGeneration(config).eval()
"""

LLAMA = """
[models.net]
factory = "nets.py:llama"
dims = { batch = [1, 2], past = [0, 3] }
inputs.input_ids = { shape = ["batch", 1], dtype = "int64", range = [0, 49] }
inputs."CACHE.0.key".shape = ["batch", 1, "past", 8]
inputs."CACHE.0.value".shape = ["batch", 1, "past", 8]
inputs.k1 = { path = "CACHE.1.key", shape = ["batch", 1, "past", 8] }
inputs.v1 = { path = "CACHE.1.value", shape = ["batch", 1, "past", 8] }
outputs.logits = { path = "logits", shape = ["batch", 1, 50] }
"""

T5 = """
[models.net]
factory = "nets.py:t5"
dims = { batch = [1, 2], past = [0, 3], source = [4, 7] }
containers.encoder_outputs = "transformers.modeling_outputs:BaseModelOutput"
inputs.decoder_input_ids = { shape = ["batch", 1], dtype = "int64", range = [0, 49] }
inputs.states = { path = "encoder_outputs.last_hidden_state", shape = ["batch", "source", 16] }
inputs."CACHE.0.decoder.key".shape = ["batch", 2, "past", 8]
inputs."CACHE.0.decoder.value".shape = ["batch", 2, "past", 8]
inputs."CACHE.0.encoder.key".shape = ["batch", 2, "source", 8]
inputs."CACHE.0.encoder.value".shape = ["batch", 2, "source", 8]
inputs."CACHE.1.decoder.key".shape = ["batch", 2, "past", 8]
inputs."CACHE.1.decoder.value".shape = ["batch", 2, "past", 8]
inputs."CACHE.1.encoder.key".shape = ["batch", 2, "source", 8]
inputs."CACHE.1.encoder.value".shape = ["batch", 2, "source", 8]
outputs.logits = { path = "logits", shape = ["batch", 1, 50] }
outputs.key = { path = "CACHE.1.encoder.key", shape = ["batch", 2, "source", 8] }
"""


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")

    def load(text):
        path = tmp_path / "models.toml"
        path.write_text("schema = 1\n" + text.replace("CACHE", CACHE), encoding="utf-8")
        manifest = load_manifest(path)
        manifest.check()
        return manifest.models["net"]

    return load


def states(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def plan(kind, layers):
    entries = {
        str(index): {"container": "dict", "entries": {name: {"input": at} for name, at in layer}}
        for index, layer in enumerate(layers)
    }
    return {"container": kind, "entries": entries}


@pytest.mark.parametrize("names", [("key", "value"), ("0", "1")])
def test_a_cache_is_built_and_taken_apart(names):
    tensors = {at: states(1, 2, 3, 4) + at for at in range(4)}
    layers = [list(zip(names, pair, strict=True)) for pair in ((0, 1), (2, 3))]
    made = build(plan("", layers), tensors, lambda _: Cache)
    assert type(made) is DynamicCache
    found = dict(leaves({"past": made}))
    assert list(found) == ["past.0.key", "past.0.value", "past.1.key", "past.1.value"]
    assert all(torch.equal(a, b) for a, b in zip(found.values(), tensors.values(), strict=True))
    again = dict(leaves({"past": copy.deepcopy(made)}))
    assert all(torch.equal(a, b) for a, b in zip(again.values(), tensors.values(), strict=True))


def test_the_caches_of_an_encoder_and_a_decoder():
    tensors = {at: states(1, 2, 3, 4) + at for at in range(4)}
    entries = {
        part: plan("", [list(zip(("key", "value"), pair, strict=True))])["entries"]["0"]
        for part, pair in (("decoder", (0, 1)), ("encoder", (2, 3)))
    }
    layer = {"container": "dict", "entries": entries}
    made = build({"container": "", "entries": {"0": layer}}, tensors, lambda _: Cache)
    assert type(made) is EncoderDecoderCache
    assert [path for path, _ in leaves(made)] == [
        *("0.decoder.key", "0.decoder.value"),
        *("0.encoder.key", "0.encoder.value"),
    ]
    assert made.is_updated == {0: True}


def test_what_is_a_cache():
    assert is_cache(EncoderDecoderCache)
    assert not is_cache(dict)


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("text", [LLAMA, T5], ids=["llama", "t5"])
def test_models_with_a_cache_export_and_agree(model, tmp_path, text, exporter):
    found = model(text)
    builds = Builds(tmp_path / "artefacts")
    reference = builds.reference(found)
    artefact = builds.artefact(reference, found.variant(exporter, 18, "fp32"))
    assert artefact.notes.traced == () or "cache_utils" in artefact.notes.traced[0]
    session = onnxruntime.InferenceSession(
        artefact.path.read_bytes(), providers=["CPUExecutionProvider"]
    )
    names = [value.name for value in session.get_inputs()]
    assert set(names) <= set(found.inputs)
    assert [value.name for value in session.get_outputs()] == list(found.outputs)
    for case in declared_cases(reference):
        outputs = session.run(None, {name: case.inputs[name] for name in names})
        for one, other in zip(outputs, reference.run(case.inputs), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)


def test_an_old_name_of_a_cache_that_goes_to_the_keyword_arguments_is_one_too(model):
    text = LLAMA.replace("nets.py:llama", "nets.py:Renamed").replace("CACHE", "old_name")
    reference = load_reference(model(text.replace('["batch", 1, 50]', "[]")))
    inputs = declared_cases(reference)[0].inputs
    (found,) = reference.run(inputs)
    weight = reference.module.model.lm_head.weight[inputs["input_ids"]].sum()
    np.testing.assert_allclose(found, inputs["k1"].sum() + weight.item(), rtol=1e-4)


def test_a_cache_that_forward_does_not_say_is_told_how_to_be_named(model):
    text = LLAMA.replace("nets.py:llama", "nets.py:Silent").replace("CACHE", "states")
    reference = load_reference(model(text))
    with pytest.raises(InputError) as caught:
        reference.run(declared_cases(reference)[0].inputs)
    assert (
        "'list' object has no attribute 'get_seq_length' (what lies below 'states' is held by a "
        "list or a dict, and transformers' caches by a class: write containers.states = "
        '"transformers.cache_utils:DynamicCache")'
    ) in str(caught.value)


def test_a_cache_bears_float64_and_perturbed_runs(model):
    oracle = Oracle(load_reference(model(LLAMA)))
    case = oracle.declared[0]
    own = oracle.expected(case).outputs[0]
    assert abs(oracle.widened_run(case)[0] - own).max() < 1e-5
    for wide in (True, False):
        moved = oracle.perturbed_run(case, "fp32", 0, 1.0, "operators", wide=wide)[0]
        assert 0 < abs(moved - own).max() < 1e-4


def test_a_layer_that_lacks_its_value_is_refused(model):
    text = "".join(line for line in LLAMA.splitlines(True) if ".0.value" not in line)
    with pytest.raises(
        CheckpointError, match=rf"'{CACHE}.0': a layer of a cache has .key and .value .*not key"
    ):
        load_reference(model(text))


def test_a_cache_that_needs_more_than_its_states_is_told(model):
    text = LLAMA.replace("dims =", 'containers.CACHE = "transformers:StaticCache"\ndims =')
    reference = load_reference(model(text))
    with pytest.raises(InputError, match=r"StaticCache.* missing 2 required positional arguments"):
        reference.run(declared_cases(reference)[0].inputs)
