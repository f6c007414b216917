"""What import-linter cannot say of the layers: which libraries stay where; the public names."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import pytest_onnxcheck

PACKAGE = Path(pytest_onnxcheck.__file__).parent

#: layer or room -> the third-party packages it may import, inside functions too. Who of our own
#: imports whom is import-linter's to check: `[tool.importlinter]` in pyproject.toml.
LIBRARIES = {
    "cache": {"filelock"},
    "cli": {"click", "rich"},
    "files": {"filelock"},
    "history": {"filelock"},
    "manifest": {"pydantic", "pydantic_core"},
    "plugin": {"pytest", "pytest_benchmark", "xdist"},
    "record": {"pydantic"},
    "release": {"cryptography", "mlflow", "model_signing", "pydantic", "requests"},
    "report": {"jinja2", "markupsafe"},
    "serve.catalogue": set(),
    "serve.http": {"anyio", "fastapi", "prometheus_client", "pydantic", "starlette", "uvicorn"},
    "serve.jobs": {"filelock", "huey", "pytest", "redis", "tomlkit"},
    "serve.panel": {"fastapi", "gradio", "jinja2", "markupsafe", "starlette"},
    "serve.uploads": {"pydantic"},
    "storage": {"boto3", "botocore"},
    "engine.environments": {"filelock"},
    "engine.ahead": {"onnxscript", "torch"},
    "engine.graph": {"numpy", "onnx", "onnxscript"},
    "engine.reference": {"numpy", "safetensors", "torch", "transformers"},
    "engine.inputs": {"numpy", "torch"},
    "engine.artefacts": {"onnx", "onnx_ir"},
    "engine.mutants": {"numpy", "onnx"},
    "engine.oracle": {"hypothesis", "numpy", "sklearn", "torch"},
    "engine.runtime": {"numpy", "onnx", "onnxruntime", "torch"},
    "engine.convert": {"onnx", "onnx_ir", "onnxruntime", "torch"},
    "engine.speed": {"numpy", "onnxruntime", "torch"},
    "engine.checks": {"numpy", "onnx"},
    "engine.advice": {"numpy", "onnx", "onnxruntime"},
    "engine.guess": {"onnx", "torch"},
    "engine.diagnosis": {"numpy", "onnx", "onnxruntime", "torch"},
}


def room(path: Path) -> str:
    """`engine.graph` of engine/graph/walk.py, `judge` of judge/latency.py, `files` of files.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:2] if parts[0] in ("engine", "serve") else parts[:1])


def third_party(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module).partition(".")[0])
    return found - {"pytest_onnxcheck", *sys.stdlib_module_names}


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_third_party_packages_stay_in_their_rooms(path: Path):
    assert third_party(path) <= LIBRARIES.get(room(path), set())


def test_public_names_exist_and_are_all_there_is():
    for name in pytest_onnxcheck.__all__:
        assert getattr(pytest_onnxcheck, name) is not None
    public = {name for name in dir(pytest_onnxcheck) if not name.startswith("_")}
    assert public == set(pytest_onnxcheck.__all__) - {"__version__"}


@pytest.mark.parametrize(
    "package",
    [path.parent for path in MODULES if path.name == "__init__.py"],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_module_takes_the_place_of_a_name_of_its_package(package: Path):
    # importing PACKAGE.NAME sets the attribute NAME: what was there under that name is gone
    dotted = ".".join(("pytest_onnxcheck", *package.relative_to(PACKAGE).parts))
    for node in ast.walk(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            for name in {alias.asname or alias.name for alias in node.names}:
                if (package / f"{name}.py").exists():
                    assert node.module in (f"{dotted}.{name}", dotted)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        pytest_onnxcheck.nothing  # noqa: B018


def test_the_plugin_stays_thin():
    assert len((PACKAGE / "plugin" / "hooks.py").read_text().splitlines()) <= 150
