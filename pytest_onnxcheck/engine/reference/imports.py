"""The user's code: imported by name, its source files, and where in it an error was raised."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.unimportable import why
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.places import is_ours
from pytest_onnxcheck.wording import meant, several

if TYPE_CHECKING:
    import torch

__all__ = [
    "import_named",
    "import_object",
    "is_users",
    "module_names",
    "sources",
    "sources_behind",
    "user_frames",
    "user_lines",
]


def import_object(path: str, root: Path) -> Callable[..., Any]:
    """The callable behind `module:name` or `path.py:name`, as `import_named` finds it.

    Raises:
        CheckpointError: There is no such module or name, or it is not callable.
    """
    target = import_named(path, root)
    if not callable(target):
        raise CheckpointError(f"{path!r} is a {type(target).__name__}, not a callable")
    return target  # type: ignore[no-any-return]


def import_named(path: str, root: Path) -> Any:
    """What stands behind `module:name` or `path.py:name`; modules are also looked for in `root`.

    A file imports its neighbours as `python path.py` would.

    Raises:
        CheckpointError: There is no such module or name, or importing it failed.
    """
    location, _, name = path.rpartition(":")
    module = _module_of(path, root)
    target: Any = module
    for part in name.split("."):
        if not hasattr(target, part):
            callables = [key for key, value in vars(module).items() if callable(value)]
            raise CheckpointError(
                f"{path!r}: {location} has no {name!r}{meant(name, [*callables, *dir(module)])}; "
                f"it has {several(callables, 20) or 'nothing that can be called'}"
            )
        target = getattr(target, part)
    return target


def _module_of(path: str, root: Path) -> ModuleType:
    """The module of `module:name` or `path.py:name`, as `import_named` finds it."""
    location = path.rpartition(":")[0]
    try:
        if location.endswith(".py"):
            return _import_file(root / location, root)
        return _import(location, root)
    except Exception as error:
        frames = user_frames(error)
        raise CheckpointError(
            f"{path!r} cannot be imported: {why(error, path, root)}{frames and chr(10)}{frames}"
        ) from error


def user_frames(error: BaseException) -> str:
    """Where in the user's code an error was raised: `file:line in function`, innermost last."""
    lines = user_lines(error)
    return "\n".join(f"  {file}:{number} in {function}" for file, number, function in lines)


def user_lines(error: BaseException) -> list[tuple[str, int, str]]:
    """File, line and function of the frames in the user's code, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)
    return [
        (frame.filename, frame.lineno or 0, frame.name)
        for frame in frames
        if is_users(frame.filename) and not is_ours(frame.filename)
    ]


def sources(module: torch.nn.Module, factory: str | None) -> set[Path]:
    """The user's source files that the module's code is in, followed through their imports."""
    pending = {type(child).__module__ for child in module.modules()}
    if factory is not None:
        pending.add(factory.partition(":")[0])
    return _followed(pending)


def sources_behind(path: str, root: Path) -> set[Path]:
    """The user's source files behind `module:name` or `path.py:name`, followed through imports.

    Raises:
        CheckpointError: The module cannot be imported.
    """
    return _followed({_module_of(path, root).__name__})


def _followed(pending: set[str]) -> set[Path]:
    """The user's source files of modules, and of those that they import."""
    seen: set[str] = set()
    sources: set[Path] = set()
    while pending:
        name = pending.pop()
        seen.add(name)
        found = sys.modules.get(name)
        file = getattr(found, "__file__", None)
        if found is None or file is None or not is_users(file):
            continue
        sources.add(Path(file))
        for value in vars(found).values():
            origin = value.__name__ if isinstance(value, ModuleType) else _origin(value)
            if origin and origin not in seen:
                pending.add(origin)
    return sources


def _import(name: str, root: Path) -> ModuleType:
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = importlib.import_module(name)
    _check_origin(module, root, name)
    return module


def module_names(text: str) -> str:
    """A text in which modules imported by their path are named as their files are."""
    return re.sub(r"\b_onnxcheck_[0-9a-f]{12}_", "", text)


def _import_file(path: Path, root: Path) -> ModuleType:
    name = f"_onnxcheck_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _beside(path, root):
            spec.loader.exec_module(module)
        _check_neighbours(path)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _beside(path: Path, root: Path) -> Iterator[None]:
    """Inside, a file's neighbours are found first; afterwards last, for imports in functions."""
    folders = list(dict.fromkeys([str(path.parent), str(root)]))
    sys.path[:0] = folders
    try:
        yield
    finally:
        for folder in folders:
            sys.path.remove(folder)
        sys.path += [folder for folder in folders if folder not in sys.path]


def _check_neighbours(path: Path) -> None:
    """Refuses a module of the name of a file's neighbour that was imported from elsewhere before.

    Raises:
        ImportError: The file imports it, and would have got another's code.
    """
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        for name in names:
            loaded = sys.modules.get(name.partition(".")[0])
            if loaded is not None and loaded.__name__ not in sys.stdlib_module_names:
                _check_origin(loaded, path.parent)


def _check_origin(module: ModuleType, folder: Path, name: str | None = None) -> None:
    name = name or module.__name__
    here = [folder.joinpath(*name.split(".")).with_suffix(".py")]
    here.append(folder.joinpath(*name.split("."), "__init__.py"))
    loaded = Path(module.__file__).resolve() if module.__file__ else None
    for path in here:
        if path.is_file() and path.resolve() != loaded:
            raise ImportError(
                f"{path} is meant, but a module {name!r} was already imported from {loaded}: "
                "rename one of them, or run the two manifests in two runs of pytest"
            )


def is_users(file: str) -> bool:
    """Whether a file is the user's own code, and no library's or Python's."""
    return file.endswith(".py") and not any(part in file for part in _libraries())


@functools.cache
def _libraries() -> tuple[str, ...]:
    """Parts of the paths of libraries' files and of Python's own."""
    return "site-packages", "dist-packages", sysconfig.get_path("stdlib")


def _origin(value: object) -> str | None:
    origin = getattr(value, "__module__", None)
    return origin if isinstance(origin, str) else None
