"""Copies of a module, and what Python or PyTorch refuses to copy."""

import math
import threading
import warnings

import pytest
import torch
from torch import nn

from pytest_onnxcheck.engine.reference.copying import copied
from pytest_onnxcheck.errors import InputError

X = torch.randn(3, 4)


def weight_normed(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


def test_the_old_weight_norm_is_copied_and_goes_on_computing_its_weight():
    module = nn.Sequential(weight_normed(nn.Linear(4, 2)))
    copy = copied(module, "net")
    with torch.no_grad():
        assert torch.equal(copy(X), module(X))
        copy[0].weight_g.mul_(2)
        assert torch.allclose(copy(X) - copy[0].bias, 2 * (module(X) - module[0].bias))
        assert copied(copy, "net").double()(X.double()).dtype is torch.float64


class Holding(nn.Module):
    """Holds what cannot be copied: as attributes, in a dict, and in a hook."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.scaled = [self.layer.weight * 3]
        self.lock = threading.Lock()
        self.functions = {"math": math}
        self.layer.register_forward_hook(Hook())
        self.layer.register_forward_hook(self.remember)
        self.last = None

    def remember(self, module, args, output):
        self.last = output

    def forward(self, x):
        with self.lock:
            return self.layer(x) @ self.scaled[0]


class Hook:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self, module, args, output):
        return output * 2


def test_what_cannot_be_copied_is_shared_and_all_else_is_not():
    module = Holding()
    copy = copied(module, "net")
    assert copy.lock is module.lock
    assert copy.functions["math"] is math
    assert copy.layer.weight is not module.layer.weight
    assert copy.scaled[0].data_ptr() != module.scaled[0].data_ptr()
    with torch.no_grad():
        assert torch.equal(copy(X), module(X))
        module.last = None
        copy(X)
    assert module.last is None  # the copy's hook writes into the copy


class Stubborn(nn.Module):
    def __deepcopy__(self, memo):
        raise RuntimeError("one of a kind")


def test_a_module_that_cannot_be_copied_is_told_in_one_sentence():
    module = nn.Sequential(Stubborn())
    module.lock = threading.Lock()
    with pytest.raises(InputError) as caught:
        copied(module, "net")
    assert str(caught.value) == (
        "net: the module cannot be copied, and every run needs a copy of its own, since calls may "
        "change a module: RuntimeError: one of a kind. Make what cannot be copied in forward, or "
        "give its class a __deepcopy__"
    )


def large_net():
    """A net with parameters large enough to be shared, one of them under two names."""
    net = nn.Sequential(nn.Linear(1024, 1024), nn.Linear(1024, 1024), nn.Linear(1024, 1024))
    net[2].weight = net[0].weight
    return net.eval()


def test_a_copy_of_large_parameters_takes_no_memory_and_computes_the_same():
    net = large_net()
    x = torch.ones(1, 1024)
    expected = net(x)
    copy = copied(net, "net")
    assert copy[0].weight is not net[0].weight
    assert copy[2].weight is copy[0].weight
    assert [parameter.requires_grad for parameter in copy.parameters()] == [True] * 5
    assert torch.equal(copy(x), expected)
    assert torch._C._is_cow_tensor(copy[1].weight)  # it still shares its memory
    copy.double()
    assert torch.equal(net(x), expected)


@pytest.mark.parametrize("written", ["copy", "original"])
def test_what_is_written_to_one_is_not_seen_in_the_other(written):
    net = large_net()
    copy = copied(net, "net")
    other = copied(net, "net")
    before = net[1].weight.detach().clone()
    one, *others = (copy, net, other) if written == "copy" else (net, copy, other)
    with torch.no_grad():
        one[1].weight.mul_(2)
    one[1].weight.data.add_(1)
    assert torch.equal(one[1].weight, 2 * before + 1)
    assert all(torch.equal(module[1].weight, before) for module in others)
