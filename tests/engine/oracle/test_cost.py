"""What is counted of a run."""

import torch

from pytest_onnxcheck.engine.oracle.cost import counted


def test_memory_that_nothing_was_written_to_counts_as_no_value():
    freed = torch.full((1000,), 1e30)
    del freed  # the next one of this size gets its memory
    with counted() as cost:
        unwritten = torch.empty(1000)
        ones = torch.ones_like(unwritten)
    assert (cost.largest, cost.smallest) == (1.0, 1.0)
    assert cost.seconds > 0
    assert ones.sum() == 1000


def test_the_largest_and_the_least_that_operators_give_are_told():
    x = torch.full((8,), 3.0)
    with counted() as cost:
        (x * 100) / 1000
    assert (cost.largest, round(cost.smallest, 3)) == (300.0, 0.3)
