"""Which of the user's callables builds the model that a checkpoint's weights are of."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.checkpoint import Checkpoint
from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.engine.reference.weights import load_state
from pytest_onnxcheck.errors import CheckpointError, OnnxCheckError
from pytest_onnxcheck.wording import one_line, several

if TYPE_CHECKING:
    import torch

__all__ = ["Built", "build_with", "find_built", "import_paths"]

#: files that are read at most, so that an init in a home folder comes to an end
_MOST_FILES = 200
_SKIPPED = re.compile(r"^(\..*|_.*|test_.*|.*_test|conftest|setup|tests?|docs?|venv|build|dist)$")
#: functions that are called although their annotation does not say that they give a module
_NAMED = re.compile(r"^(build|make|create|get|load)_|(^|_)(model|net|network)(_|$)", re.IGNORECASE)
#: statements at the top of a file that only declare something
_DECLARES = (
    *(ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef),
    *(ast.Assign, ast.AnnAssign, ast.Try, ast.If),
)


@dataclass(frozen=True)
class Built:
    """A model that was built, and what the manifest must say to build it again.

    Attributes:
        module: The model with its weights.
        factory: `module:callable`; None where the checkpoint holds the whole model.
        state_dict: Where in the checkpoint the weights are; None for the whole file.
        config_key: Where its config is; None where the factory takes none.
        kwargs: Arguments of the factory that stand in the config.
        prefix: What the names of the weights begin with in the checkpoint; None where with nothing.
        others: More factories of the same file that fit.
    """

    module: torch.nn.Module
    factory: str | None
    state_dict: str | None = None
    config_key: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    prefix: str | None = None
    others: tuple[str, ...] = ()


def find_built(root: Path, checkpoint: Checkpoint) -> Built:
    """The factory below a folder whose model takes a checkpoint's weights.

    Only files that declare things and do nothing else are imported.

    Args:
        root: The folder.
        checkpoint: The checkpoint; it holds no module.

    Raises:
        CheckpointError: There is none; the text says what was tried.
    """
    found: list[Built] = []
    tried: list[str] = []
    for path in import_paths(root):
        if found and _file(path) != _file(str(found[0].factory)):
            break  # another file's may fit too, but finding out means to build every model there
        try:
            built = build_with(path, root, checkpoint)
        except OnnxCheckError as error:
            tried.append(f"{path} ({one_line(error, 160)})")
            continue
        found.append(built)
    if not found:
        what = several(tried, 3) if tried else f"no class or factory of a model in {root}"
        raise CheckpointError(
            f"{checkpoint.path}: nothing here builds the model of these weights: {what}. Name what "
            "does: --factory module:callable"
        )
    first, *rest = found
    return replace(first, others=tuple(str(built.factory) for built in rest))


def build_with(path: str, root: Path, checkpoint: Checkpoint | None) -> Built:
    """Builds a model with a factory, and loads a checkpoint's weights.

    Arguments of the factory are taken from the checkpoint's configs.

    Raises:
        CheckpointError: It cannot be called, or the weights do not fit.
    """
    import torch

    factory = import_object(path, root)
    if isinstance(factory, type) and not issubclass(factory, torch.nn.Module):
        raise CheckpointError(f"{path} is no torch.nn.Module")
    problem = ""
    for config_key, arguments in _arguments(factory, checkpoint):
        try:
            torch.manual_seed(0)
            module = factory(**arguments)
        except Exception as error:
            problem = f"{type(error).__name__}: {one_line(error, 120)}"
            continue
        if not isinstance(module, torch.nn.Module):
            problem = f"it returned a {type(module).__name__}, not a torch.nn.Module"
            continue
        kwargs = {} if config_key is not None else arguments
        if checkpoint is None:
            return Built(module, path, None, config_key, kwargs)
        for key in checkpoint.state_dicts():
            try:
                state = checkpoint.state_dict(key)
                loaded = load_state(module, state, checkpoint.path, tied=checkpoint.tied)
            except OnnxCheckError as error:
                problem = str(error)
                continue
            return Built(module, path, key, config_key, kwargs, loaded.prefix)
    if not problem:
        problem = f"needs {', '.join(_needed(factory))}, and no config in a checkpoint has them"
    raise CheckpointError(f"{path}: {problem}")


def _arguments(
    factory: Any, checkpoint: Checkpoint | None
) -> Iterator[tuple[str | None, dict[str, Any]]]:
    """Where a config is, and the arguments to call a factory with."""
    parameters, needed = _parameters(factory), _needed(factory)
    configs = checkpoint.configs() if checkpoint is not None else {}
    for key, config in configs.items():
        if needed == ["config"] or (not needed and "config" in parameters):
            yield key, {"config": config}
        known = {name: config[name] for name in parameters if name in config}
        plain = all(isinstance(value, str | bool | int | float) for value in known.values())
        if known and plain and set(needed) <= known.keys():
            yield None, known
    if not needed:
        yield None, {}


def _parameters(factory: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return {}


def _needed(factory: Any) -> list[str]:
    """The arguments that have no default."""
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [
        name
        for name, parameter in _parameters(factory).items()
        if parameter.default is parameter.empty and parameter.kind not in free
    ]


def import_paths(root: Path) -> Iterator[str]:
    """`module:name` of the classes and factories below a folder, by reading the sources alone."""
    files = 0
    for path in sorted(root.rglob("*.py"), key=lambda path: (len(path.parts), path)):
        inside = path.relative_to(root).with_suffix("").parts
        if any(_SKIPPED.match(part) for part in inside):
            continue
        files += 1
        if files > _MOST_FILES:
            return
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            continue
        if not all(_declares(statement) for statement in tree.body):
            continue
        names = [*_factories(tree), *_classes(tree)]
        for name in names:
            yield f"{_module(root, path)}:{name}"


def _file(path: str) -> str:
    return path.rpartition(":")[0]


def _module(root: Path, path: Path) -> str:
    """A file as an import path: dotted where its folders are importable, else by its file."""
    inside = path.relative_to(root).with_suffix("").parts
    if all(part.isidentifier() for part in inside):
        return ".".join(inside)
    return path.relative_to(root).as_posix()


def _declares(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, _DECLARES)


def _factories(tree: ast.Module) -> Iterator[str]:
    classes = set(_classes(tree))
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef) and not statement.name.startswith("_"):
            given = ast.unparse(statement.returns) if statement.returns is not None else ""
            if re.search(r"\bModule\b|Net\b|Model\b", given) or _makes(statement, classes):
                yield statement.name


def _makes(function: ast.FunctionDef, classes: set[str]) -> bool:
    """Whether it is called like a factory, or returns an instance of a class of layers."""
    if _NAMED.search(function.name):
        return True
    returned = [each.value for each in ast.walk(function) if isinstance(each, ast.Return)]
    calls = [
        ast.unparse(each.func)
        for value in returned
        if value is not None
        for each in ast.walk(value)
        if isinstance(each, ast.Call)
    ]
    return any(call in classes or re.search(r"\bnn\.[A-Z]\w*$", call) for call in calls)


def _classes(tree: ast.Module) -> Iterator[str]:
    for statement in tree.body:
        if isinstance(statement, ast.ClassDef) and statement.bases:
            yield statement.name
