"""What calls leave behind in a module, and why one that changes cannot be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.alike import same
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import BehaviourError

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["changed", "gives_again", "misbehaviour", "snapshot"]

#: runs on fresh copies that tell chance from state: few integers may be the same by chance
_FRESH_RUNS = 8


def gives_again(reference: Reference, case: Case, outputs: list[Array]) -> bool:
    """Whether every one of several fresh copies gives these outputs."""
    return all(same(outputs, reference.run(case.inputs)) for _ in range(_FRESH_RUNS))


def misbehaviour(
    reference: Reference, case: Case, outputs: list[Array], left: list[str]
) -> BehaviourError:
    """The error about a reference that is random, or keeps state.

    Args:
        reference: The PyTorch model.
        case: The case that was run twice.
        outputs: What it gave the first time.
        left: Paths of what calls left changed in the module.
    """
    name = reference.model.name
    if not gives_again(reference, case, outputs):
        return BehaviourError(
            f"{name}: PyTorch is nondeterministic: the same weights and inputs "
            f"(case {case.name}) give other outputs on every run, so that nothing can be "
            "compared with them. Look for random numbers, the time, or layers left in "
            "training mode in forward. In the artefact, what torch draws is mostly drawn anew "
            "(test_structure names the nodes), and what Python or numpy gives is a constant"
        )
    told = f" (changed: {', '.join(left)})" if left else ""
    return BehaviourError(
        f"{name}: PyTorch keeps state between calls{told}: inputs A, B, A give A other "
        f"outputs the second time (case {case.name}). An ONNX artefact has no memory: make "
        "the state an input and an output of forward"
    )


def snapshot(module: torch.nn.Module) -> dict[str, object]:
    """What a call could leave behind: attributes by path, with something that tells a change."""
    state: dict[str, object] = {}
    for prefix, child in module.named_modules():
        for name, value in [
            *vars(child).items(),
            *child._parameters.items(),
            *child._buffers.items(),
        ]:
            if name not in ("_parameters", "_buffers", "_modules") and not callable(value):
                state[f"{prefix}.{name}".lstrip(".")] = _trace(value)
    return state


def changed(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """Paths of what is not as it was."""
    return sorted(name for name in before | after if before.get(name) != after.get(name))


def _trace(value: Any) -> object:
    import torch

    if isinstance(value, torch.Tensor):
        return id(value), None if value.is_inference() else value._version
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, list | dict | set):
        return id(value), len(value)
    return id(value)
