"""The programs a model passes through on its way to ONNX Runtime, each run on one case.

All give outputs by the manifest's names, and what else there is to say.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.inputs.cases import Case, example
from pytest_onnxcheck.engine.reference.exportable import Exportable, exportable, jit_traced
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.tensors import arrays_of, flatten, tensors_of
from pytest_onnxcheck.engine.runtime.evaluator import Evaluator, too_large
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import StageError, Unsupported
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]
    Outputs = tuple[dict[str, Array], str]

__all__ = ["NotRunError", "described", "evaluated", "exported", "run_in_session", "traced"]

#: how many characters of an error are repeated
_MOST_CHARACTERS = 600


class NotRunError(Exception):
    """A program could not be made, which says nothing about whether it is right."""


def described(error: BaseException) -> str:
    """An error in one line: ours as they are, since they are made to be read, others by type."""
    text = str(error) if isinstance(error, StageError) else f"{type(error).__name__}: {error}"
    return one_line(text, _MOST_CHARACTERS)


def exported(reference: Reference, case: Case) -> Outputs:
    """Runs what torch.export captures; where its guards refuse the case, without them.

    Raises:
        NotRunError: It cannot be exported here.
        StageError: It does not run, not even without guards.
    """
    import torch

    try:
        made = exportable(reference, example(reference))
        program = _export(made)
    except Exception as error:
        raise NotRunError(f"cannot be exported here: {described(error)}") from error
    args = made.arguments(tensors_of(case.inputs))
    with torch.inference_mode():
        try:
            return _by_name(reference, program.module()(*args)), ""
        except Exception as error:
            note = f"guard: {described(error)}"
        try:
            return _by_name(reference, _unguarded(program)(*args)), note
        except Exception as error:
            raise StageError(f"{note}; without it: {described(error)}") from error


def traced(reference: Reference, case: Case) -> Outputs:
    """Runs what the tracer captures.

    Raises:
        NotRunError: It cannot be traced here.
    """
    import torch

    inputs = example(reference)
    tensors = tensors_of(inputs)
    # the tracer takes less apart by itself than the exporter does
    made = Exportable(reference, flat=True)
    try:
        module = made.module(reference.copy(), tensors)
        program = jit_traced(module, made.arguments(tensors), strict=False)
    except Exception as error:
        raise NotRunError(f"cannot be traced here: {described(error)}") from error
    args = made.arguments(tensors_of(case.inputs))
    with torch.inference_mode():
        return _by_name(reference, program(*args)), ""


def run_in_session(
    artefact: Artefact, case: Case, target: Target, *, optimise: bool = True
) -> Outputs:
    """Runs an artefact in ONNX Runtime.

    Raises:
        StageError: It does not load or does not run there.
    """
    session = open_session(artefact, target, optimise=optimise)
    return dict(zip(session.outputs, session.run(case.inputs), strict=True)), ""


def evaluated(artefact: Artefact, case: Case) -> Outputs:
    """Runs an artefact in onnx's own evaluator, which knows nothing of ONNX Runtime.

    Raises:
        NotRunError: It is too large, or has operators that onnx does not specify.
        StageError: It does not load there.
    """
    opened = OpenedGraph(artefact.path)
    values = sum(opened.sizes(case.inputs).values()) // 4
    reason = too_large(opened.graph, values)
    if reason is not None:
        raise NotRunError(f"not run: {reason}")
    try:
        evaluator = Evaluator(str(artefact.path), limited=False)
    except Unsupported as error:
        raise NotRunError(f"not run: {error}") from error
    feeds = {value.name: case.inputs[value.name] for value in evaluator.get_inputs()}
    names = [value.name for value in evaluator.get_outputs()]
    return dict(zip(names, evaluator.run(None, feeds), strict=True)), ""


def _export(made: Exportable) -> torch.export.ExportedProgram:
    """What torch.export captures, tried in the exporter's order."""
    import torch

    dynamic, auto = torch.export.Dim.DYNAMIC, torch.export.Dim.AUTO
    try:
        return _export_with(made, dynamic, strict=False)
    except Exception:
        with contextlib.suppress(Exception):
            return _export_with(made, dynamic, strict=True)
        return _export_with(made, auto, strict=False)


def _export_with(made: Exportable, hint: Any, *, strict: bool) -> torch.export.ExportedProgram:
    """What torch.export captures, with one hint for all dims that may vary."""
    import torch

    reference = made.reference
    tensors = tensors_of(example(reference))
    with _sizes_of_one():
        return torch.export.export(
            made.module(reference.copy(), tensors),
            made.arguments(tensors),
            dynamic_shapes=made.dynamic_shapes(hint),
            strict=strict,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _sizes_of_one() -> contextlib.AbstractContextManager[Any]:
    """Keeps dynamic dims apart from 1, as the exporter does."""
    from torch.fx.experimental import _config

    patch = getattr(_config, "patch", None)
    if patch is None or not hasattr(_config, "backed_size_oblivious"):  # private: may go away
        return contextlib.nullcontext()
    patched: contextlib.AbstractContextManager[Any] = patch(backed_size_oblivious=True)
    return patched


def _unguarded(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """The program without what the exporter leaves out too: guards, checks and assertions."""
    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()
    for node in reversed(module.graph.nodes):
        if node.op == "call_function" and "_assert" in str(node.target) and not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module


def _by_name(reference: Reference, returned: Any) -> dict[str, Array]:
    """What a program returned, by the manifest's names of the outputs."""
    return dict(zip(reference.model.outputs, arrays_of(flatten(returned)), strict=True))
