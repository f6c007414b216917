"""Where an error comes from that a node may only hand on, and what else the node reads.

Values that are equal to PyTorch's up to a margin may be off by many noise floors all the same: the
margin is for what exporters fold. So a wrong value is followed back through those that are about
as far off as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.diagnosis.matching import Matching
from pytest_onnxcheck.engine.graph.walk import constants
from pytest_onnxcheck.engine.runtime.values import OpenedGraph

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["odd_constants", "off_inputs", "origin"]

#: a value this share as far off as what is made of it has the error already
_SHARE = 0.5


def origin(
    matching: Matching, node: onnx.NodeProto, ratio: float, safety: float
) -> tuple[onnx.NodeProto, int | None]:
    """Follows an error back to the node that it begins at.

    Args:
        matching: Both sides.
        node: A node whose value is off.
        ratio: By how many noise floors.
        safety: How many are allowed.

    Returns:
        The node, and index of the record that its value is meant to be where that is another node.
    """
    index = None
    while True:
        before = _compared_before(matching, node)
        name = max(before, key=lambda each: matching.meant[each][1], default=None)
        producer = matching.opened.producers.get(name or "")
        if name is None or producer is None:
            return node, index
        off = matching.meant[name][1]
        if off < max(_SHARE * safety, _SHARE * ratio):
            return node, index
        node, (index, ratio) = producer, matching.meant[name]


def off_inputs(matching: Matching, node: onnx.NodeProto, safety: float) -> Iterator[str]:
    """What keeps the values a node reads from being right for certain, in words."""
    for name in matching.reads(node):
        if name not in matching.meant:
            yield f"{name!r}, which it reads, could not be compared"
        elif matching.meant[name][1] > safety:
            yield f"{name!r}, which it reads, is {matching.meant[name][1]:.3g} floors off itself"


def odd_constants(
    opened: OpenedGraph, node: onnx.NodeProto, module: torch.nn.Module, path: str
) -> str:
    """Which floating constants of a node are not the model's, in words; empty where all are.

    An exporter copies parameters, and may turn, cut, join and permute them. So every element of a
    constant must be an element of a parameter or buffer; where it goes by the name of one, the
    very same.

    Args:
        opened: The artefact.
        node: The node.
        module: The model.
        path: The module that the node belongs to.
    """
    import numpy as np
    import onnx

    held = dict(_held(module))
    own = [array for name, array in held.items() if not path or name.startswith(f"{path}.")]
    elements = [array.reshape(-1) for array in own or held.values()]
    known = np.concatenate(elements) if elements else np.empty(0, np.float32)
    odd, worst = [], 0.0
    for name, tensor in constants(opened.graph):
        if name not in node.input:
            continue
        array = onnx.numpy_helper.to_array(tensor, str(opened.path.parent))
        same = held.get(name)
        if array.dtype.kind != "f" or (same is None and (array.size < 2 or not array.any())):
            continue  # sizes, powers and an absent bias are no parameters
        if same is not None and same.shape == array.shape:
            if (off := float(np.abs(same - array).max(initial=0.0))) > 0:
                odd.append(repr(name))
                worst = max(worst, off)
        elif not np.isin(array, known).all():
            odd.append(repr(name))
    if not odd:
        return ""
    are = "its constant {} is" if len(odd) == 1 else "its constants {} are"
    by = f" (up to {worst:.3g} off)" if worst else ""
    return f"{are.format(', '.join(odd))} not the model's{by}: folded by the exporter, or wrong"


def _compared_before(matching: Matching, node: onnx.NodeProto) -> list[str]:
    """The nearest values before a node that were compared."""
    found: list[str] = []
    pending, seen = list(matching.reads(node)), set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in matching.meant:
            found.append(name)
        elif name in matching.opened.producers:
            pending += matching.reads(matching.opened.producers[name])
    return found


def _held(module: torch.nn.Module) -> Iterable[tuple[str, Array]]:
    """Floating parameters and buffers by name, in float32; of complex ones both parts."""
    import torch

    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        plain = tensor.detach().cpu()
        if plain.is_complex():
            plain = torch.view_as_real(plain.resolve_conj().resolve_neg())
        if plain.is_floating_point():
            yield name, plain.float().numpy()
