"""PyTorch's fast path for transformers, which gives other values where a mask hides an element."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.reference.reference import Reference

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["HIDDEN", "PACKED", "hidden_from", "packs", "slow_attention"]

_FAST = "PyTorch's fast path (nn.TransformerEncoder, torch.backends.mha)"
HIDDEN = (
    f"{_FAST} gives other values, mostly zeros, where a mask hides an element than the same layers "
    "without it, which exporters take: at such places the artefact is compared with the latter"
)
PACKED = (
    f"{_FAST} gives other values than the same layers without it, which exporters take: zeros at "
    "padded places, which a mean over all places counts. If only padding differs, mask it in "
    "forward, or run PyTorch with torch.backends.mha.set_fastpath_enabled(False) as well"
)


def packs(module: torch.nn.Module) -> bool:
    """Whether PyTorch may pack what a module's masks leave, and put zeros elsewhere."""
    import torch

    encoders = [c for c in module.modules() if isinstance(c, torch.nn.TransformerEncoder)]
    return torch.backends.mha.get_fastpath_enabled() and bool(encoders)


@contextlib.contextmanager
def slow_attention() -> Iterator[None]:
    """Makes torch.nn's transformer layers call their submodules.

    Their fast path skips them, so that nothing could be ascribed to a submodule.
    """
    import torch

    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def hidden_from(
    reference: Reference, case: Case, outputs: list[Array], slow: list[Array]
) -> list[Array]:
    """Outputs with what the fast path does not compute: numbers where a declared mask hides them.

    Args:
        reference: The model, whose masks lie along the first dims of an output, or do not.
        case: What the masks are.
        outputs: PyTorch's, in order.
        slow: The same without its fast path.
    """
    import numpy as np

    found = []
    for declared, own, other in zip(reference.model.outputs.values(), outputs, slow, strict=True):
        merged = own
        for name, entry in reference.model.inputs.items():
            mask, axes = case.inputs[name], len(reference.shapes[name])
            along = reference.shapes[name] == (declared.shape or ())[:axes]
            fits = own.shape == other.shape and mask.shape == own.shape[:axes]
            if entry.fill == "mask" and entry.padding != "causal" and along and fits:
                places = masks.masked(entry, mask)
                places = places.reshape(*mask.shape, *[1] * (own.ndim - axes))
                merged = np.where(places & np.isfinite(other), other, merged)
        found.append(merged)
    return found
