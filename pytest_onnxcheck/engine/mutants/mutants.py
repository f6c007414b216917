"""Faulty copies of an artefact: small seeded faults, to prove that the gate notices them.

Each operator lists the faults of one kind that a model admits; `mutants` applies them one after
the other to a single copy in memory, and takes each back before it makes the next. Only nodes of
the top-level graph that an output depends on are changed, not the bodies of If, Loop and Scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.mutants.edit import Edit, Fault
from pytest_onnxcheck.engine.mutants.interface import changed_dtypes, static_dims, swapped_outputs
from pytest_onnxcheck.engine.mutants.nodes import (
    changed_epsilons,
    changed_pads,
    changed_perms,
    changed_reductions,
    replaced_activations,
)
from pytest_onnxcheck.engine.mutants.view import View
from pytest_onnxcheck.engine.mutants.weights import (
    changed_scales,
    dropped_biases,
    exponent_bits,
    integer_bits,
    scaled_channels,
    transposed_weights,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["OPERATORS", "Mutant", "mutants"]


@dataclass(frozen=True)
class Mutant:
    """An artefact with one fault.

    Attributes:
        operator: The kind of fault, one of `OPERATORS`.
        description: What was changed, on one line.
        where: Name of the tensor, node, output or dim that was changed. A node without a name
            goes by its first output.
        model: The faulty model with its weights. All mutants of a run share it: it is valid until
            the next one is taken, and is the original model after the last one.
    """

    operator: str
    description: str
    where: str
    model: onnx.ModelProto = field(repr=False, compare=False)


def mutants(path: Path, count: int, seed: str) -> Iterator[Mutant]:
    """Seeded mutants of an artefact, no two with the same description.

    They come in rounds: every kind that still applies once, in random order.

    Args:
        path: The `.onnx` file; its external data is loaded.
        count: How many to make; fewer come where the model admits no more.
        seed: The same seed gives the same mutants.
    """
    import numpy as np
    import onnx

    view = View(onnx.load(path))
    rng = np.random.default_rng(list(hashlib.sha256(seed.encode()).digest()))
    kinds = {operator: find(view, rng) for operator, find in _FINDERS.items()}
    made: set[str] = set()
    while kinds:
        for operator in [list(kinds)[i] for i in rng.permutation(len(kinds))]:
            if len(made) >= count:
                return
            fault = next((f for f in kinds[operator] if f.description not in made), None)
            if fault is None:
                del kinds[operator]
                continue
            made.add(fault.description)
            edit = Edit(view.proto.graph)
            try:
                fault.change(edit)
                yield Mutant(operator, fault.description, fault.where, view.proto)
            finally:
                edit.undo()


_Finder = Callable[["View", "np.random.Generator"], Iterator[Fault]]


def _shuffled(listed: Callable[[View], Iterator[Fault]]) -> _Finder:
    def find(view: View, rng: np.random.Generator) -> Iterator[Fault]:
        faults = list(listed(view))
        for index in rng.permutation(len(faults)):
            yield faults[index]

    return find


_FINDERS: dict[str, _Finder] = {
    "exponent-bit": exponent_bits,
    "integer-bit": integer_bits,
    "scaled-channel": scaled_channels,
    "scale-changed": changed_scales,
    "dropped-bias": _shuffled(dropped_biases),
    "transposed-weight": _shuffled(transposed_weights),
    "epsilon-changed": _shuffled(changed_epsilons),
    "pads-changed": _shuffled(changed_pads),
    "swapped-outputs": _shuffled(swapped_outputs),
    "replaced-activation": _shuffled(replaced_activations),
    "static-dim": _shuffled(static_dims),
    "dtype-changed": _shuffled(changed_dtypes),
    "perm-changed": _shuffled(changed_perms),
    "reduction-changed": _shuffled(changed_reductions),
}

#: The kinds of faults.
OPERATORS = tuple(_FINDERS)
