"""The user's code is found by name, and what it is made of and where it fails is told."""

import sys

import pytest

from pytest_onnxcheck.engine.reference.imports import (
    import_named,
    import_object,
    sources,
    user_frames,
)
from pytest_onnxcheck.errors import CheckpointError

NET = """
import torch
import {helper}

SIZE = 3


class Net(torch.nn.Module):
    class Inner:
        @staticmethod
        def make():
            return Net()


def fail():
    raise ValueError("no")
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with net.py, which imports a module beside it."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    helper = f"helper_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{helper}.py").write_text("import torch\n", encoding="utf-8")
    (tmp_path / "net.py").write_text(NET.format(helper=helper), encoding="utf-8")
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.modules.pop(helper, None)


def test_a_file_is_imported_once_and_names_may_be_dotted(folder):
    assert import_named("net.py:SIZE", folder) == 3
    assert import_object("net.py:Net.Inner.make", folder) is import_named(
        "net.py:Net.Inner.make", folder
    )


def test_a_module_is_looked_for_in_the_root(folder):
    (name,) = (path.stem for path in folder.glob("helper_*.py"))
    assert import_named(f"{name}:torch", folder) is sys.modules["torch"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.py:make", r"'none\.py:make' cannot be imported \(looked in .*FileNotFoundError"),
        ("no_such_module:make", "'no_such_module:make' cannot be imported .*ModuleNotFoundError"),
        ("net.py:missing", r"net\.py has no 'missing'; it has \['Net', 'fail'\]"),
        ("net.py:SIZE", "'net.py:SIZE' is a int, not a callable"),
    ],
)
def test_what_is_not_there_is_named(folder, path, message):
    with pytest.raises(CheckpointError, match=message):
        import_object(path, folder)


def test_sources_follow_the_users_imports_and_no_librarys(folder):
    made = import_object("net.py:Net", folder)()
    assert {path.name for path in sources(made, None)} == {
        "net.py",
        *(path.name for path in folder.glob("helper_*.py")),
    }


def test_frames_are_the_users_alone(folder):
    with pytest.raises(ValueError, match="no") as caught:
        import_object("net.py:fail", folder)()
    frames = user_frames(caught.value).splitlines()
    assert frames[-1].endswith("net.py:16 in fail")
    assert not any("site-packages" in frame for frame in frames)
