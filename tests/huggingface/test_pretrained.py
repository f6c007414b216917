"""Folders that transformers' `save_pretrained` wrote. Skipped where it is not installed."""

import json
import sys

import pytest
import torch

from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import load_manifest

transformers = pytest.importorskip("transformers")

MANIFEST = """
schema = 1
[models.net]
pretrained = "saved"
exporters = ["torchscript"]
probe_seconds = 0
{more}
dims.batch = [2]
[models.net.inputs.input_ids]
shape = ["batch", 6]
dtype = "int64"
range = [0, 39]
[models.net.inputs.attention_mask]
shape = ["batch", 6]
dtype = "int64"
fill = "mask"
padding = "right"
[models.net.outputs.logits]
shape = ["batch", 3]
"""

OWN = """
import torch
from transformers import BertConfig, BertPreTrainedModel


class Wide(BertConfig):
    model_type = "wide"


class Own(BertPreTrainedModel):
    config_class = Wide

    def __init__(self, config):
        super().__init__(config)
        self.head = torch.nn.Linear(config.hidden_size, 3)
        self.post_init()

    def forward(self, x):
        return self.head(x)
"""


def bert(**more):
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        num_labels=3,
        **more,
    )
    return transformers.BertForSequenceClassification(config).eval()


@pytest.fixture
def saved(tmp_path):
    bert().save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.fixture
def saved_in():
    def run(folder):
        bert().save_pretrained(folder / "saved")

    return run


def configure(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(more=""):
        (tmp_path / "models.toml").write_text(MANIFEST.format(more=more), encoding="utf-8")
        return load_reference(load_manifest(tmp_path / "models.toml").models["net"])

    return run


@pytest.fixture
def refused(load):
    def run(more=""):
        with pytest.raises(CheckpointError) as caught:
            load(more)
        return str(caught.value)

    return run


def same(module, other):
    state, wanted = module.state_dict(), other.state_dict()
    return state.keys() == wanted.keys() and all(torch.equal(state[k], wanted[k]) for k in state)


def test_the_class_that_the_config_names_is_loaded_and_nothing_is_printed(load, saved, capfd):
    reference = load()
    assert type(reference.module).__name__ == "BertForSequenceClassification"
    assert same(reference.module, bert())
    assert not reference.module.training
    assert reference.notes == ()
    assert capfd.readouterr() == ("", "")


def test_shards_are_loaded_and_hashed(load, tmp_path):
    bert().save_pretrained(tmp_path / "saved", max_shard_size="2KB")
    shards = sorted((tmp_path / "saved").glob("model-*.safetensors"))
    assert len(shards) > 1
    reference = load()
    assert same(reference.module, bert())
    assert reference.checkpoint_bytes > sum(shard.stat().st_size for shard in shards)


def test_a_factory_names_another_class(load, saved):
    for factory in ("transformers:BertModel", "transformers:AutoModel"):
        reference = load(f'factory = "{factory}"')
        assert type(reference.module).__name__ == "BertModel"
        (note,) = reference.notes
        name = factory.rpartition(":")[2]
        assert note == (
            f"{saved}: {name} does not use classifier.bias, classifier.weight; it was saved from "
            "BertForSequenceClassification"
        )


def test_weights_that_are_missing_are_an_error(refused, saved):
    transformers.BertModel(bert().config).save_pretrained(saved)
    assert refused('factory = "transformers:BertForSequenceClassification"') == (
        f"{saved}: does not fit BertForSequenceClassification: missing classifier.bias, "
        "classifier.weight. from_pretrained would fill them with random numbers: the folder was "
        "saved from BertModel: leave out factory, or save the BertForSequenceClassification that "
        "was trained"
    )


def test_a_part_of_what_was_saved_is_told_how_it_can_be_loaded(refused, tmp_path):
    config = transformers.WhisperConfig(
        vocab_size=40,
        d_model=8,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_mel_bins=4,
        pad_token_id=0,
    )
    whisper = transformers.WhisperForConditionalGeneration(config)
    whisper.save_pretrained(tmp_path / "saved")
    part = "transformers.models.whisper.modeling_whisper:WhisperEncoder"
    assert refused(f'factory = "{part}"').endswith(
        "from_pretrained would fill them with random numbers: the folder has these under "
        "'model.encoder.', as a part of WhisperForConditionalGeneration: in place of pretrained, "
        "write a factory of your own that makes the part of its config, checkpoint = "
        '"saved" (the folder) and prefix = "model.encoder."'
    )
    (tmp_path / "parts.py").write_text(
        "from pathlib import Path\n\nfrom transformers import WhisperConfig\n"
        "from transformers.models.whisper.modeling_whisper import WhisperEncoder\n\n\n"
        "def encoder():\n"
        "    folder = Path(__file__).parent / 'saved'\n"
        "    return WhisperEncoder(WhisperConfig.from_pretrained(folder)).eval()\n",
        encoding="utf-8",
    )
    (tmp_path / "models.toml").write_text(
        'schema = 1\n[models.net]\nfactory = "parts.py:encoder"\ncheckpoint = "saved"\n'
        'prefix = "model.encoder."\ninputs.input_features.shape = [1, 4, 3000]\n'
        "outputs.last_hidden_state.shape = [1, 1500, 8]\n",
        encoding="utf-8",
    )
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    assert same(reference.module, whisper.model.encoder)


def test_a_part_that_the_weights_lack_may_be_left_out(refused, load, saved):
    masked = transformers.BertForMaskedLM(bert().config)
    masked.save_pretrained(saved)
    configure(saved, architectures=["BertModel"])
    assert "missing pooler.dense.bias, pooler.dense.weight. from_pretrained" in refused()
    assert "(such as kwargs.add_pooling_layer = false)" in refused()
    assert load("kwargs.add_pooling_layer = false").module.pooler is None


def test_weights_of_another_shape_are_an_error(refused, saved):
    assert refused("kwargs.num_labels = 5") == (
        f"{saved}: does not fit BertForSequenceClassification: of another shape: classifier.bias "
        "is [3], the model has [5], classifier.weight is [3, 8], the model has [5, 8]. "
        "from_pretrained would fill them with random numbers: give the class the arguments it was "
        "saved with, by kwargs in [models.NAME]"
    )


def test_an_argument_that_the_class_lacks_is_told(refused, saved):
    said = refused("kwargs.nonsense = 1")
    assert said.startswith(
        f"BertForSequenceClassification.from_pretrained({saved}, nonsense=1) failed: TypeError: "
    )


def test_arguments_reach_the_class(load, saved):
    module = load('kwargs.attn_implementation = "eager"').module
    assert module.config._attn_implementation == "eager"


def test_weights_of_another_dtype_are_told(load, saved):
    bert().half().save_pretrained(saved)
    reference = load()
    assert reference.module.dtype == torch.float32
    assert reference.notes == (
        f"{saved}: its weights are kept in float16, the model was loaded in float32; in "
        '[models.NAME], kwargs.dtype = "float16" loads it as they are',
    )
    half = load('kwargs.dtype = "float16"')
    assert half.module.dtype == torch.float16
    assert half.notes == ()


def test_of_several_classes_the_first_is_taken_and_told(load, saved):
    configure(saved, architectures=["BertForSequenceClassification", "BertModel"])
    (note,) = load().notes
    assert note == (
        f"{saved / 'config.json'}: names several classes, of which the first was taken: "
        "BertForSequenceClassification, BertModel; write factory = "
        '"transformers:BertForSequenceClassification" if that is meant'
    )


def test_code_that_came_with_the_weights_is_refused_and_not_run(refused, saved, tmp_path):
    (saved / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", encoding="utf-8")
    configure(saved, architectures=["Own"], auto_map={"AutoModel": "own.Own"}, model_type="own")
    assert refused().startswith(
        f"{saved}: Own is no class of transformers: its code came with the weights (auto_map, "
        "trust_remote_code), and running that is refused"
    )
    assert "failed: ValueError" in refused('factory = "transformers:AutoModel"')
    assert not (tmp_path / "ran").exists()


def test_a_class_that_transformers_lacks(refused, saved):
    configure(saved, architectures=["BertForSequenceClasification"])
    said = refused()
    assert f"has no BertForSequenceClasification (did you mean '{type(bert()).__name__}'?)" in said
    assert f"that the folder was saved with ({transformers.__version__})" in said


def test_a_class_of_ones_own_derived_from_theirs(load, refused, saved, tmp_path):
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")
    assert "does not fit Own: missing head.bias, head.weight" in refused('factory = "own.py:Own"')


def test_a_folder_is_a_checkpoint_of_ones_own_factory(tmp_path, saved, load):
    (tmp_path / "nets.py").write_text(
        "from transformers import BertConfig, BertForSequenceClassification as Bert\n\n\n"
        "def make():\n    return Bert(BertConfig.from_pretrained('saved')).eval()\n",
        encoding="utf-8",
    )
    text = MANIFEST.replace("pretrained =", "checkpoint =").format(more='factory = "nets.py:make"')
    text = text.replace("'saved'", repr(str(saved)))
    source = (tmp_path / "nets.py").read_text(encoding="utf-8").replace("'saved'", repr(str(saved)))
    (tmp_path / "nets.py").write_text(source, encoding="utf-8")
    (tmp_path / "models.toml").write_text(text, encoding="utf-8")
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    assert same(reference.module, bert())


def test_a_gate_on_a_folder_passes(project, saved_in):
    """The whole way: exported from the folder, equal, and the other dtype is told."""
    saved_in(project.path)
    (project.path / "models.toml").write_text(MANIFEST.format(more=""), encoding="utf-8")
    result = project.run("-k", "not latency", fresh=True)
    assert result.ret == 0, result.outlines
    assert not any("Loading weights" in line for line in result.outlines)
