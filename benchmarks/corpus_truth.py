"""Whether a case's fault is in an artefact at all, by plain PyTorch and plain ONNX Runtime.

The plugin's own export may not make the mistake that the case's script makes. What passes the gate
then is no fault missed but one avoided; said only where every revealing input of the case gives
what PyTorch gives, in a comparison that owes nothing to the plugin's.

Usage, in a process of its own: python benchmarks/corpus_truth.py CASE.py ARTEFACT.onnx
Prints what differs, one line each; nothing where the fault is avoided.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import torch

from pytest_onnxcheck.engine.reference.tensors import flatten

#: what evidence of other kinds (a state kept, an input missing, a lossy weight) cannot be seen by
SEEN = {"load", "value", "shape", "run", "dtype", "nonfinite"}
RTOL = ATOL = 1e-3


def differences(case: ModuleType, artefact: Path) -> Iterator[str]:
    """What tells the artefact from PyTorch, on the example and on the revealing inputs."""
    evidence = list(chain.from_iterable(entry.split("|") for entry in case.EVIDENCE))
    for entry in evidence:
        if entry.partition("@")[0] not in SEEN or entry.endswith("@sequence"):
            yield f"{entry} cannot be seen by running it"
    module = case.build().eval()
    session = onnxruntime.InferenceSession(artefact, providers=["CPUExecutionProvider"])
    names = case.EXPORT["input_names"]
    for index, tensors in enumerate(
        [case.example_inputs(), *getattr(case, "probe_inputs", list)()]
    ):
        with torch.inference_mode():
            value = module(*(tensor.clone() for tensor in tensors))
        values = value if isinstance(value, tuple | list) else [value]
        expected = [t.numpy() for t in chain.from_iterable(map(flatten, values))]
        arrays = {name: t.numpy() for name, t in zip(names, tensors, strict=True)}
        taken = {entry.name: arrays[entry.name] for entry in session.get_inputs()}
        where = f"probe {index - 1}" if index else "example"
        try:
            outputs: list[Any] = session.run(None, taken)
        except Exception as error:
            yield f"{where}: does not run: {str(error).splitlines()[0]}"
            continue
        for name, own, found in zip(case.EXPORT["output_names"], expected, outputs, strict=False):
            if told := apart(own, found):
                yield f"{where}, output {name}: {told}"


def apart(own: np.ndarray[Any, Any], found: np.ndarray[Any, Any]) -> str | None:
    """How an output differs from PyTorch's; None where it does not."""
    if (own.shape, own.dtype) != (found.shape, found.dtype):
        return f"{found.dtype.name}{list(found.shape)}, PyTorch {own.dtype.name}{list(own.shape)}"
    exact = own.dtype.kind != "f"
    close = np.isclose(
        found, own, rtol=0 if exact else RTOL, atol=0 if exact else ATOL, equal_nan=True
    )
    return None if close.all() else f"{np.count_nonzero(~close)} of {own.size} elements differ"


def main() -> None:
    source, artefact = map(Path, sys.argv[1:])
    sys.path.insert(0, str(source.parent))
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None
    assert spec.loader is not None
    case = sys.modules[source.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(case)
    print("\n".join(differences(case, artefact)))


if __name__ == "__main__":
    main()
