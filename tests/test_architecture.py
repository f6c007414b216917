"""Who may import whom, as docs/architecture.md says."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pytest_onnxcheck

PACKAGE = Path(pytest_onnxcheck.__file__).parent

#: layer -> the layers and third-party packages it may import, inside functions too
ALLOWED = {
    "terms": set(),
    "errors": set(),
    "verdict": set(),
    "measurement": set(),
    "digits": set(),
    "preference": set(),
    "files": set(),
    "versions": set(),
    "machine": {"versions"},
    "history": {"errors", "files", "machine", "measurement", "filelock", "pydantic"},
    "manifest": {"errors", "terms", "pydantic", "pydantic_core"},
    "engine": {
        *("errors", "files", "machine", "manifest", "measurement", "preference"),
        *("terms", "versions"),
    },
    "judge": {"digits", "manifest", "measurement", "verdict"},
    "report": {
        *("digits", "errors", "files", "manifest", "measurement"),
        *("preference", "verdict", "versions"),
        *("history", "machine"),
    },
    "settings": {"terms", "pytest"},
    "suite": {
        *("engine", "errors", "history", "judge", "manifest", "measurement"),
        *("settings", "verdict", "pytest"),
    },
    "fixtures": {
        *("engine", "history", "manifest", "measurement", "settings", "verdict"),
        *("pytest", "pytest_benchmark"),
    },
    "results": {
        *("errors", "history", "judge", "manifest", "measurement", "report", "settings"),
        "pytest",
    },
    "collection": {"errors", "manifest", "report", "settings", "suite", "verdict", "pytest"},
    "hookspecs": {"manifest", "suite", "pytest"},
    "plugin": {"collection", "fixtures", "hookspecs", "results", "settings", "pytest"},
    "cli": {"errors", "files", "history", "manifest", "report", "terms"},
}
ENGINE_LIBRARIES = {
    "hypothesis",
    "torch",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "onnxscript",
    "numpy",
    "safetensors",
    "filelock",
    "sklearn",
}


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "pytest_onnxcheck":
                found.update(f"pytest_onnxcheck.{alias.name}" for alias in node.names)
            else:
                found.add(str(node.module))
    return found


def used_layers(path: Path) -> set[str]:
    used = set()
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "pytest_onnxcheck":
            if rest and rest[0] != "__version__":
                used.add(rest[0])
        elif top not in __import__("sys").stdlib_module_names:
            used.add(top)
    return used - {layer(path)}


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_layers(path: Path):
    allowed = ALLOWED[layer(path)]
    if layer(path) == "engine":
        allowed = allowed | ENGINE_LIBRARIES
    assert used_layers(path) <= allowed


def test_public_names_exist_and_are_all_there_is():
    for name in pytest_onnxcheck.__all__:
        assert getattr(pytest_onnxcheck, name) is not None
    public = {name for name in dir(pytest_onnxcheck) if not name.startswith("_")}
    assert public == set(pytest_onnxcheck.__all__) - {"__version__"}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pytest_onnxcheck.nothing  # noqa: B018


def test_the_plugin_stays_thin():
    assert len((PACKAGE / "plugin.py").read_text().splitlines()) <= 150
