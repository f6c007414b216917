"""Pairs of products saturate to 16 bits, as on x86 without VNNI."""

import numpy as np
import pytest

from pytest_onnxcheck.engine.runtime.products import Products, saturable


def test_pairs_saturate_to_16_bits_and_are_counted():
    left = np.array([[255, 255, 255], [255, 1, 0], [0, 0, 9]], np.uint8)
    right = np.array([[127, -128, 127], [127, -128, -127], [100, 100, 100]], np.int8)
    exact, saturating = Products(saturating=False), Products(saturating=True)
    whole, clipped = exact.multiply(left, right), saturating.multiply(left, right)
    assert whole[0].tolist() == [90270, -39780, 25500]
    assert clipped[0].tolist() == [32767 + 25500, -32768 + 25500, 25500]
    assert clipped[1:].tolist() == whole[1:].tolist()
    for products in (exact, saturating):  # counted, whether they are clipped or not
        assert (products.saturated, products.pairs) == (2, 3 * 2 * 3)
        assert products.share == 2 / 18


def test_unsigned_weights_and_products_that_are_not_paired_do_not_saturate():
    left, right = np.full((1, 4), 255, np.uint8), np.full((4, 1), 255, np.uint8)
    assert Products(saturating=True).multiply(left, right).item() == 4 * 255 * 255
    signed = np.full((4, 1), 127, np.int8)
    assert Products(saturating=True).multiply(left, signed, paired=False).item() == 4 * 255 * 127


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [(64, 64, 0), (-64, -64, 0), (64, 65, 1), (-65, -64, 1), (127, -127, 0), (127, 2, 1)],
)
def test_weights_of_7_bits_cannot_saturate(one, other, count):
    assert saturable(np.array([[one], [other]], np.int8)) == count
