"""An artefact's key follows the code that makes it, all of it and no other."""

import ast
import shutil

import numpy as np
import pytest

from pytest_onnxcheck import places
from pytest_onnxcheck.engine.convert.key import SHAPING, artefact_key, own_code, shaping_files
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.manifest import load_manifest

ENGINE = places.PACKAGE / "engine"

#: where the making of an artefact starts
STARTS = ("reference/load.py", "inputs/calibration.py", "convert/export.py", "convert/quantize.py")


def module_file(name):
    """The file of a module of engine, by its dotted name; None for a name inside a module."""
    path = places.PACKAGE.parent.joinpath(*name.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()), None)


def imported(path):
    """Files of engine that a file imports anywhere, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    files = {module_file(name) for name in names if name.startswith("pytest_onnxcheck.engine.")}
    return files - {None}


def reached():
    pending, seen = [ENGINE / start for start in STARTS], set()
    while pending:
        path = pending.pop()
        if path not in seen:
            seen.add(path)
            pending += imported(path)
    return seen


def test_all_code_that_makes_an_artefact_is_in_the_key():
    found = reached()
    left_out = found - set(shaping_files())
    assert not left_out, "these shape artefacts: add their room to SHAPING in convert/key.py"
    parts = {path.relative_to(ENGINE).parts[0] for path in found}
    assert set(SHAPING) - parts == {"builds.py"}, "these shape none: take them out of SHAPING"


def test_every_part_named_is_there():
    assert [part for part in SHAPING if not (ENGINE / part).exists()] == []


@pytest.fixture
def copy(tmp_path):
    """A copy of engine's code that may be changed."""
    ignore = shutil.ignore_patterns("__pycache__")
    return shutil.copytree(ENGINE, tmp_path / "engine", ignore=ignore)


def hash_of(engine):
    return own_code.__wrapped__(engine)  # not from memory


def test_the_hash_is_the_same_wherever_the_package_lies(copy):
    assert hash_of(copy) == own_code()


@pytest.mark.parametrize("part", SHAPING)
def test_a_change_of_what_shapes_changes_the_hash(copy, part):
    path = copy / part
    path = path if path.is_file() else sorted(path.glob("*.py"))[-1]
    path.write_text(path.read_text(encoding="utf-8") + "# changed", encoding="utf-8")
    assert hash_of(copy) != own_code()


def test_files_in_folders_of_a_room_count(copy):
    inner = copy / "convert" / "inner" / "deep"
    inner.mkdir(parents=True)
    (inner / "new.py").write_text("LEVEL = 1", encoding="utf-8")
    first = hash_of(copy)
    assert first != own_code()
    (inner / "new.py").write_text("LEVEL = 2", encoding="utf-8")
    assert hash_of(copy) not in (first, own_code())


@pytest.mark.parametrize("room", ["diagnosis", "checks", "advice", "mutants", "oracle", "speed"])
def test_code_that_only_looks_at_artefacts_does_not_count(copy, room):
    for path in (copy / room).rglob("*.py"):
        path.write_text(path.read_text(encoding="utf-8") + "# changed", encoding="utf-8")
    (copy / room / "new.py").write_text("", encoding="utf-8")
    assert hash_of(copy) == own_code()


def test_the_key_follows_own_cases_where_they_are_exported_with(tmp_path):
    (tmp_path / "net.py").write_text("import torch\n\ndef make():\n    return torch.nn.ReLU()\n")

    def key(draws, value):
        np.save(tmp_path / "own.npy", np.full((2, 4), value, "float32"))
        (tmp_path / "models.toml").write_text(
            f'schema = 1\n[models.net]\nfactory = "net.py:make"\ndraws = {draws}\n'
            'dims = { batch = [1, 2] }\ninputs.x.shape = ["batch", 4]\n'
            'outputs.y.shape = ["batch", 4]\ncases.own.file = "own.npy"\n'
        )
        model = load_manifest(tmp_path / "models.toml").models["net"]
        return artefact_key(load_reference(model), model.variants[0], "fp32")

    assert key(0, 1.0) == key(0, 1.0) != key(0, 2.0)
    assert key(1, 1.0) == key(1, 2.0)
