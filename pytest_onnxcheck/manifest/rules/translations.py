"""Rules for `translations`: names of operators, paths of functions, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.model import Model
from pytest_onnxcheck.manifest.rules.base import Found, check_import_path

__all__ = ["check_exporters", "check_inherited", "check_translations"]

_OPERATOR = re.compile(r"[A-Za-z_]\w*::[A-Za-z_]\w*(\.\w+)?")


def check_translations(section: s.Defaults) -> Found:
    """Keys that are no operators, and values that are no functions."""
    for operator, paths in (section.translations or {}).items():
        where = ("translations", operator)
        if not _OPERATOR.fullmatch(operator):
            yield (
                where,
                f"{operator!r} is no name of an operator: write 'namespace::name', as in "
                "torch.library.custom_op, with '.overload' behind it where it has several",
            )
        for path in dict.fromkeys(paths.values()):
            yield from check_import_path(where, path)


def check_exporters(translations: Mapping[str, Mapping[Any, str]], model: Model) -> Found:
    """One function where a model has two exporters, which take functions of two kinds."""
    if len(model.exporters) < 2:
        return
    for operator, paths in translations.items():
        path = next(iter(paths.values()))
        if [paths.get(exporter) for exporter in model.exporters] == [path] * len(model.exporters):
            yield (
                ("translations", operator),
                f"{path!r} is one function, and {model.name} has two exporters, which take other "
                f'ones: write {{ dynamo = "{path}", torchscript = "FILE.py:SYMBOLIC" }}, or the '
                "one of them that is needed",
            )


def check_inherited(defaults: s.Defaults, models: Iterable[Model]) -> Found:
    """The same of `[defaults]`, told once: of the first model that has two."""
    for operator, paths in (defaults.translations or {}).items():
        inheriting = [model for model in models if operator in model.inherited_translations]
        found = [list(check_exporters({operator: paths}, model)) for model in inheriting]
        yield from next(filter(None, found), [])
