"""Checkpoint files of every kind, and what is said of those that do not fit."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from pytest_onnxcheck.engine.reference.checkpoint import load_checkpoint
from pytest_onnxcheck.errors import CheckpointError


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 3)
        self.norm = torch.nn.BatchNorm1d(3)
        self.last = torch.nn.Linear(3, 2)

    def forward(self, x):
        return self.last(self.norm(self.first(x)))


class WritesAFile:
    """What a malicious pickle looks like: loading it calls a function of its choice."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (_write, (str(self.path),))


def _write(path):
    with open(path, "w") as file:  # noqa: PTH123
        file.write("executed")
    return {"written": torch.ones(1)}


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def load(path, *, trust=False):
    return load_checkpoint(path, path.parent, trust=trust)


def refused(path, *, trust=False):
    with pytest.raises(CheckpointError) as caught:
        load(path, trust=trust)
    return str(caught.value)


def same(state, other):
    return list(state) == list(other) and all(torch.equal(state[k], other[k]) for k in state)


# what can be read


def test_a_plain_state_dict(tmp_path, net):
    torch.save(net.state_dict(), tmp_path / "net.pt")
    checkpoint = load(tmp_path / "net.pt")
    assert checkpoint.module is None
    assert same(checkpoint.state_dict(None), net.state_dict())


def test_a_state_dict_in_the_old_format_without_zip(tmp_path, net):
    path = tmp_path / "net.pth"
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)
    assert same(load(path).state_dict(None), net.state_dict())


def test_a_state_dict_under_a_dotted_key(tmp_path, net):
    content = {"epoch": 3, "training": {"model": net.state_dict(), "lr": 0.1}}
    torch.save(content, tmp_path / "net.pt")
    checkpoint = load(tmp_path / "net.pt")
    assert same(checkpoint.state_dict("training.model"), net.state_dict())
    assert checkpoint.at("training.lr") == 0.1
    assert checkpoint.at("epoch") == 3


def test_safetensors(tmp_path, net):
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    state = load(tmp_path / "net.safetensors").state_dict(None)
    assert same(dict(sorted(state.items())), dict(sorted(net.state_dict().items())))


def test_safetensors_under_another_suffix_and_the_other_way_round(tmp_path, net):
    save_file(net.state_dict(), tmp_path / "net.pt")
    torch.save(net.state_dict(), tmp_path / "net.safetensors")
    found, other = load(tmp_path / "net.pt"), load(tmp_path / "net.safetensors")
    assert (found.tied, other.tied) == (True, False)
    assert same(other.state_dict(None), net.state_dict())
    assert found.state_dict(None).keys() == net.state_dict().keys()


def test_torchscript_is_a_whole_module(tmp_path, net):
    x = torch.randn(5, 4)
    torch.jit.trace(net, x).save(tmp_path / "net.pt")
    checkpoint = load(tmp_path / "net.pt")
    assert torch.equal(checkpoint.module(x), net(x))


def test_an_exported_program_is_a_whole_module(tmp_path, net):
    x = torch.randn(5, 4)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "net.pt2")
    checkpoint = load(tmp_path / "net.pt2")
    torch.testing.assert_close(checkpoint.module(x), net(x))


def test_tensors_come_to_the_cpu_and_keep_their_dtype(tmp_path):
    torch.save({"a": torch.ones(2, dtype=torch.float16)}, tmp_path / "net.pt")
    tensor = load(tmp_path / "net.pt").state_dict(None)["a"]
    assert (tensor.dtype, tensor.device.type) == (torch.float16, "cpu")


# what cannot be read


def test_a_missing_file_names_the_closest_one(tmp_path):
    (tmp_path / "wakeword.pt").touch()
    text = refused(tmp_path / "wakewrod.pt")
    assert text == (
        f"checkpoint not found: {tmp_path / 'wakewrod.pt'} (did you mean 'wakeword.pt'?)"
    )


def test_a_missing_file_in_a_missing_folder(tmp_path):
    assert refused(tmp_path / "none" / "net.pt").startswith("checkpoint not found: ")


CORRUPT = {"empty": b"", "garbage": b"this is no checkpoint", "html": b"<html>404</html>"}


@pytest.mark.parametrize("content", CORRUPT)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".pt2"])
@pytest.mark.parametrize("trust", [False, True])
def test_a_corrupt_file_is_said_to_be_unreadable_and_no_more(tmp_path, content, suffix, trust):
    path = tmp_path / f"net{suffix}"
    path.write_bytes(CORRUPT[content])
    text = refused(path, trust=trust)
    assert text.startswith(f"{path}: cannot be read: ")
    assert "trust" not in text


def test_a_truncated_file_is_said_to_be_unreadable(tmp_path, net):
    path = tmp_path / "net.pt"
    torch.save(net.state_dict(), path)
    path.write_bytes(path.read_bytes()[:-300])
    assert refused(path).startswith(f"{path}: cannot be read: it is cut short (an archive without")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_wants_to_run_code_is_refused_and_not_run(tmp_path, zipped):
    path, payload = tmp_path / "net.pt", tmp_path / "payload"
    content = {"model": WritesAFile(payload)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    text = refused(path)
    assert not payload.exists()
    assert text.startswith(f"{path}: refused: ")
    assert "trust = true" in text
    assert "_write" in text  # what it wanted to call


def test_a_bare_pickle_that_wants_to_run_code_is_refused_and_not_run(tmp_path):
    path, payload = tmp_path / "net.pt", tmp_path / "payload"
    path.write_bytes(pickle.dumps(WritesAFile(payload)))
    assert "refused" in refused(path)
    assert not payload.exists()


def test_a_pickle_that_wants_to_run_code_is_loaded_when_trusted(tmp_path):
    path, payload = tmp_path / "net.pt", tmp_path / "payload"
    torch.save({"model": WritesAFile(payload)}, path)
    checkpoint = load(path, trust=True)
    assert payload.read_text() == "executed"
    assert list(checkpoint.state_dict("model")) == ["written"]


def test_a_pickled_module_is_loaded_only_when_trusted(tmp_path, net):
    path = tmp_path / "net.pt"
    torch.save(net, path)
    assert "trust = true" in refused(path)
    assert isinstance(load(path, trust=True).module, Net)


# what is not where it should be


@pytest.fixture
def nested(tmp_path, net):
    content = {"model_state": net.state_dict(), "optimizer": {"lr": 0.1}, "epoch": 1}
    torch.save(content, tmp_path / "net.pt")
    return load(tmp_path / "net.pt")


def test_a_wrong_key_names_what_is_there(nested):
    with pytest.raises(CheckpointError) as caught:
        nested.state_dict("model_stat")
    assert str(caught.value) == (
        f"{nested.path}: no entry 'model_stat': the top level has 'model_state', 'optimizer', "
        "'epoch' (did you mean 'model_state'?)"
    )


def test_a_wrong_key_below_the_top_names_the_level(nested):
    with pytest.raises(CheckpointError, match=r"'optimizer\.rate': optimizer has 'lr'"):
        nested.at("optimizer.rate")
    with pytest.raises(CheckpointError, match=r"'epoch\.count': epoch has a int"):
        nested.at("epoch.count")


def test_a_file_that_holds_more_than_a_state_dict_says_where_it_is(nested):
    with pytest.raises(CheckpointError) as caught:
        nested.state_dict(None)
    assert str(caught.value) == (
        f"{nested.path}: the file is not a state_dict: set state_dict = 'model_state'"
    )


def test_an_entry_that_is_no_state_dict_says_what_it_holds(nested):
    with pytest.raises(CheckpointError, match=r"the entry 'optimizer' is not a state_dict.*'lr'"):
        nested.state_dict("optimizer")


@pytest.mark.parametrize(("content", "kind"), [([1, 2], "list"), (torch.ones(2), "Tensor")])
def test_a_file_without_names_says_what_it_is(tmp_path, content, kind):
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "net.pt").state_dict(None)
    assert str(caught.value).endswith(
        f"the file is not a state_dict: it is a {kind}, and not names with tensors"
    )


def test_a_long_list_is_shortened(tmp_path):
    torch.save({f"key{i}": i for i in range(30)}, tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"'key7', … \(30 in all\)$"):
        load(tmp_path / "net.pt").state_dict("none")


def test_a_key_that_leads_into_a_state_dict_goes_on_as_a_prefix(tmp_path, net):
    weights = {f"model.{name}": value for name, value in net.state_dict().items()}
    torch.save({"state_dict": weights | {"loss.weight": torch.ones(3)}}, tmp_path / "net.ckpt")
    checkpoint = load(tmp_path / "net.ckpt")
    assert same(checkpoint.state_dict("state_dict.model"), net.state_dict())
    with pytest.raises(CheckpointError, match=r"no entry 'state_dict\.modl': state_dict has"):
        checkpoint.state_dict("state_dict.modl")
