"""Custom operators of PyTorch: how the manifest's `translations` reach the exporters.

The dynamo exporter takes a table by the operator's overload; the TorchScript exporter has a
registry, from which what was put there is taken away after the export.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.errors import CheckpointError, ExportError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.wording import closest, several

if TYPE_CHECKING:
    import torch

__all__ = ["Translations", "registered", "translated", "untranslated"]

#: overload of an operator -> the function that translates it for an exporter
Translations = Mapping[Any, Callable[..., Any]]

#: how each exporter says that it has no function for an operator
_UNTRANSLATED = (
    re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)', overload='(\w+)'\)>"),
    re.compile(r"unrecognized namespace (\w+::\w+)"),
    re.compile(r"Exporting the operator '(\w+::\w+)' to ONNX"),
)

_KIND = {
    "dynamo": "a function of onnxscript's operators",
    "torchscript": "a symbolic function, symbolic(g, ...)",
}


def translated(model: Model, exporter: str) -> Translations:
    """The translations of a model for an exporter.

    What is inherited is left out where the process has no such operator: `[defaults]` are for many
    models.

    Raises:
        ExportError: A function cannot be imported, or the model's own table names an operator
            that there is not.
    """
    found: dict[Any, Callable[..., Any]] = {}
    for operator, path in model.translations_for(exporter).items():
        where = f"{model.name}: translations: {operator!r}"
        try:
            function = import_object(path, model.root)
        except CheckpointError as error:
            raise ExportError(f"{where}: {error}") from error
        overload = _overload(operator)
        if overload is not None:
            found[overload] = function
        elif operator not in model.inherited_translations:
            raise ExportError(f"{where} {_unknown(operator)}")
    return found


@contextlib.contextmanager
def registered(translations: Translations, opset: Any) -> Iterator[None]:
    """Lets the TorchScript exporter know translations meanwhile, at one opset."""
    from torch import onnx as exporters

    names: list[str] = []
    try:
        for overload, function in translations.items():
            name = overload.name().partition(".")[0]
            exporters.register_custom_op_symbolic(name, function, opset)  # type: ignore[attr-defined]
            names.append(name)
        yield
    finally:
        for name in names:
            exporters.unregister_custom_op_symbolic(name, opset)  # type: ignore[attr-defined]
            _forget(name)


def untranslated(error: BaseException, model: Model, exporter: str) -> str:
    """What to write where an exporter has no function for an operator; else empty."""
    if "No schema registered for" in str(error):
        return (
            "\nonnxscript takes operators of other domains than ONNX's with a schema only: "
            "values.Op(values.Opset(DOMAIN, 1), NAME, onnx.defs.OpSchema(...)), as in "
            "docs/custom-operators.md"
        )
    match = next(filter(None, (pattern.search(str(error)) for pattern in _UNTRANSLATED)), None)
    if match is None:
        return ""
    operator, *overload = match.groups()
    operator = operator.replace(".", "::", 1)
    if overload not in ([], ["default"]):
        operator += f".{overload[0]}"
    value = '"FILE.py:FUNCTION"'
    written = dict(model.translations.get(operator, {}))
    others = [name for name in model.exporters if name != exporter]
    if written or others:
        parts = [f'{name} = "{path}"' for name, path in written.items() if name != exporter]
        value = f"{{ {', '.join([*parts, f'{exporter} = {value}'])} }}"
    return (
        f"\nThe exporter has no translation of {operator}. Write one, {_KIND[exporter]}, and name "
        f'it in the manifest: translations."{operator}" = {value} (docs/custom-operators.md)'
    )


def _overload(operator: str) -> torch._ops.OpOverload | None:
    """The overload that a name means, `namespace::name` or `namespace::name.overload`."""
    import torch

    namespace, _, rest = operator.partition("::")
    name, _, overload = rest.partition(".")
    packet = getattr(getattr(torch.ops, namespace), name, None)
    return getattr(packet, overload or "default", None)


def _unknown(operator: str) -> str:
    """Why there is no such overload, and what may be meant."""
    import torch

    known = list(torch._C._dispatch_get_all_op_names())  # private: has no public equal
    name = operator.partition(".")[0]
    overloads = [entry for entry in known if entry.partition(".")[0] == name]
    if overloads:
        return f"has no such overload; write one of {several(overloads)}"
    close = closest(name, {entry.partition(".")[0] for entry in known})
    hint = f"; did you mean {close!r}?" if close else "."
    return (
        f"is no operator of PyTorch{hint} It has to be registered (torch.library) when the "
        "factory's or the translation's module is imported"
    )


def _forget(name: str) -> None:
    """Drops an operator that has no function left: torch trips over its empty entry (2.13)."""
    with contextlib.suppress(ImportError, AttributeError, KeyError):  # private: may go away
        from torch.onnx._internal.torchscript_exporter import registration

        registry = registration.registry._registry
        if not registry[name]._functions:
            del registry[name]
