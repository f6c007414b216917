"""PyTorch to ONNX, by both exporters."""

from __future__ import annotations

import contextlib
import gc
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.artefacts import writing
from pytest_onnxcheck.engine.artefacts.artefact import Notes
from pytest_onnxcheck.engine.convert.failures import cause, graph_excerpt, root_of, users_line
from pytest_onnxcheck.engine.convert.translations import (
    Translations,
    registered,
    translated,
    untranslated,
)
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.quiet import caught_stdout, quiet
from pytest_onnxcheck.engine.reference.exportable import Exportable, exportable
from pytest_onnxcheck.engine.reference.imports import module_names, user_frames
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.tensors import tensors_of
from pytest_onnxcheck.errors import ExportError, InputError
from pytest_onnxcheck.garbage import leave_out
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.sizes import ANY
from pytest_onnxcheck.places import PACKAGE, is_ours
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import torch

__all__ = ["export", "relocated"]

#: where Python's own modules lie
_PYTHON = f"{sysconfig.get_path('stdlib')}/"


def export(reference: Reference, variant: Variant, path: Path, *, half: bool = False) -> Notes:
    """Exports the reference to a file.

    Works on a copy of the module, because tracing may change its state.

    Args:
        reference: The PyTorch model.
        variant: Exporter and opset.
        path: The file to write; weights above 2 GB go to `PATH.data` beside it.
        half: Whether to cast the module to float16 first, and the float32 inputs with it.

    Returns:
        Notes: what the tracer turned into constants.

    Raises:
        InputError: PyTorch itself does not run, or returns other outputs than declared.
        ExportError: The exporter failed; the text ends with the user's frames.
    """
    inputs = example(reference)
    exported = exportable(reference, inputs)  # says what is wrong better than an exporter does
    printed: list[str] = []
    # what is wrong of them is no fault of the exporter
    translations = translated(reference.model, variant.exporter)
    try:
        with caught_stdout() as printed, quiet() as warned, _rare_garbage_collection():
            # nothing here holds the copy: it has to be garbage when that is collected
            _export_copy(exported, variant, tensors_of(inputs), path, translations, half=half)
    except InputError:
        raise
    except Exception as error:
        shown = "".join(printed)
        what = "export of the module in float16" if half else "export"
        raise ExportError(
            f"{reference.model.name}: {variant.exporter} {what} at opset {variant.opset} failed: "
            f"{users_line(error, shown)}{cause(error)}{reference.scalars_hint()}"
            f"{untranslated(root_of(error), reference.model, variant.exporter)}\n"
            f"{user_frames(root_of(error))}{graph_excerpt(error, shown)}"
        ) from error
    return Notes(traced=tuple(_traced(warned)))


def _export_copy(
    exported: Exportable,
    variant: Variant,
    tensors: dict[str, torch.Tensor],
    path: Path,
    translations: Translations,
    *,
    half: bool,
) -> None:
    module = exported.reference.copy()
    if half:
        module, tensors = _halved(module, tensors)
    run = _dynamo if variant.exporter == "dynamo" else _torchscript
    module, args = exported.module(module, tensors), exported.arguments(tensors)
    run(exported, variant, module, args, path, translations)


def _dynamo(
    exported: Exportable,
    variant: Variant,
    module: torch.nn.Module,
    args: tuple[torch.Tensor, ...],
    path: Path,
    translations: Translations,
) -> None:
    import torch

    reference = exported.reference
    for operator in (torch.ops.aten.lstm, torch.ops.aten.gru):
        # decompositions cached by an earlier export of a recurrent layer with a dynamic time dim
        # make every later one fail (torch 2.13)
        cache = getattr(operator.input, "_dispatch_cache", None)  # private: may go away
        if cache is not None:
            cache.clear()
    # what is released needs no gradients; with them attention may be captured in another layout
    # than it is decomposed in (torch 2.13, T5: "Cannot view a tensor")
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            args,
            dynamo=True,
            input_names=list(reference.model.inputs),
            output_names=list(reference.model.outputs),
            opset_version=variant.opset,
            dynamic_shapes=exported.dynamic_shapes(),
            custom_translation_table=dict(translations) or None,
            verbose=False,
        )
    assert program is not None
    for node in program.model.graph.all_nodes():
        for key, text in node.metadata_props.items():
            node.metadata_props[key] = relocated(text, reference.model.root)
    program.save(str(path), external_data=_parameter_bytes(module) > writing.MAX_INLINE_BYTES)


def relocated(note: str, root: Path) -> str:
    """What dynamo notes of a node, without this machine's folders: the artefact is the same on all.

    Args:
        note: Names of modules, or a stack trace as Python prints it.
        root: The manifest's folder, below which files are named relative to it. What pip installed
            is named from `site-packages` on, Python's own from `<python>` on.
    """

    def shorter(match: re.Match[str]) -> str:
        file = match[1]
        installed = re.split(r"[/\\](?:site|dist)-packages[/\\]", file)
        if len(installed) > 1:
            file = f"site-packages/{installed[-1]}"
        elif is_ours(file):
            file = f"site-packages/{Path(file).relative_to(PACKAGE.parent).as_posix()}"
        elif file.startswith(_PYTHON):
            file = f"<python>/{file.removeprefix(_PYTHON)}"
        elif Path(file).is_relative_to(root):
            file = Path(file).relative_to(root).as_posix()
        return f'File "{file}"'

    return re.sub(r'File "([^"]+)"', shorter, module_names(note))


def _torchscript(
    exported: Exportable,
    variant: Variant,
    module: torch.nn.Module,
    args: tuple[torch.Tensor, ...],
    path: Path,
    translations: Translations,
) -> None:
    import torch

    reference = exported.reference
    shapes = reference.shapes | {
        name: output.shape
        for name, output in reference.model.outputs.items()
        if output.shape is not None
    }
    axes = {
        name: {
            axis: f"{name}_{axis}" if dim == ANY else dim
            for axis, dim in enumerate(shape)
            if isinstance(dim, str)
        }
        for name, shape in shapes.items()
    }
    with registered(translations, variant.opset):
        torch.onnx.export(
            module,
            args,
            str(path),
            dynamo=False,
            input_names=list(reference.model.inputs),
            output_names=list(reference.model.outputs),
            opset_version=variant.opset,
            dynamic_axes=axes,
            external_data=_parameter_bytes(module) > writing.MAX_INLINE_BYTES,
        )


def _halved(
    module: torch.nn.Module, tensors: dict[str, torch.Tensor]
) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """The module, and the inputs that are float32, in float16."""
    import torch

    return module.half(), {
        name: tensor.half() if tensor.dtype is torch.float32 else tensor
        for name, tensor in tensors.items()
    }


def _parameter_bytes(module: torch.nn.Module) -> int:
    tensors = [*module.parameters(), *module.buffers()]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _traced(warned: list[warnings.WarningMessage]) -> Iterator[str]:
    """Where the tracer turned something that follows the inputs into a constant."""
    from torch.jit._trace import TracerWarning

    places = {}
    for entry in warned:
        if issubclass(entry.category, TracerWarning):
            places[f"{entry.filename}:{entry.lineno}"] = str(entry.message)
    for place, message in places.items():
        what = one_line(message).partition(". ")[0]
        yield (
            f"{place}: the tracer says: {what}. Whatever the example gives there stays for "
            "every input"
        )


@contextlib.contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Collects cyclic garbage a hundred times less often, and then leaves libraries out of it.

    An export makes millions of objects that live to its end, and the first one imports libraries
    whose objects live as long as the process. Walking them again and again takes 7 to 18% of an
    export (ResNet-18, dynamo).
    """
    threshold = gc.get_threshold()
    gc.set_threshold(threshold[0] * 100, *threshold[1:])
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        leave_out("exporters")
