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
        (
            "zzzzzzzz.py:make",
            r"'zzzzzzzz\.py:make' cannot be imported: there is no file /.*/zzzzzzzz\.py$",
        ),
        ("nte.py:make", r"there is no file /.*/nte\.py \(did you mean 'net\.py'\?\)$"),
        (
            "no_such_module:make",
            "'no_such_module:make' cannot be imported: there is no module 'no_such_module' in /.* "
            r"or on sys\.path$",
        ),
        (
            "nt:make",
            r"there is no module 'nt' in /.* or on sys\.path \(did you mean 'net\.py'\?\)$",
        ),
        ("net.py:missing", r"net\.py has no 'missing'; it has Net, fail$"),
        ("net.py:Nett", r"net\.py has no 'Nett' \(did you mean 'Net'\?\); it has Net, fail$"),
        ("net.py:SIZE", "'net.py:SIZE' is a int, not a callable"),
    ],
)
def test_what_is_not_there_is_named(folder, path, message):
    with pytest.raises(CheckpointError, match=message):
        import_object(path, folder)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder, and a function that writes a file into it; modules that a test imports are gone."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    before = set(sys.modules)

    def write(name, text):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def refused(path, root):
    with pytest.raises(CheckpointError) as caught:
        import_named(path, root)
    return str(caught.value)


@pytest.mark.parametrize("source", ["src", "code"])
def test_a_module_in_a_folder_of_the_project_names_pytests_pythonpath(project, source):
    root = project(f"{source}/ours_in_src/__init__.py", "MADE = 1")
    assert refused("ours_in_src:MADE", root) == (
        f"'ours_in_src:MADE' cannot be imported: there is no module 'ours_in_src': it is in "
        f"{root / source}, which is not on sys.path: write into {root / 'pyproject.toml'} "
        f'[tool.pytest.ini_options] pythonpath = ["{source}"], or install your project '
        "(pip install -e .)"
    )


def test_the_projects_folder_may_be_above_the_manifests(project):
    project("pyproject.toml", "")
    root = project("src/ours_above.py", "MADE = 1")
    project("gate/nets.py", "import ours_above")
    assert (
        f"it imports 'ours_above', which is not there: it is in {root / 'src'}, which is not on "
        f"sys.path: write into {root / 'pyproject.toml'} [tool.pytest.ini_options] pythonpath = "
        '["src"]'
    ) in refused("nets.py:make", root / "gate")


@pytest.mark.parametrize(
    ("module", "package"), [("no_such_package", "no_such_package"), ("skimage", "scikit-image")]
)
def test_a_package_that_is_not_installed_says_how_to_install_it(project, module, package):
    root = project("nets.py", f"import os\nimport {module}\n")
    assert refused("nets.py:make", root) == (
        f"'nets.py:make' cannot be imported: it imports {module!r}, which is not there: pip "
        f"install {package}\n  {root / 'nets.py'}:2 in <module>"
    )


def test_a_module_that_a_package_lacks_is_named(project):
    root = project("ours_lacking/__init__.py", "")
    said = refused("ours_lacking.nets:make", root)
    assert said.endswith("cannot be imported: there is no module 'ours_lacking.nets'")


def test_a_file_imports_its_neighbours_and_the_manifests_folder(project):
    project("pkg/neighbour_of_g2.py", "SIZE = 3")
    project("beside_manifest.py", "WIDTH = 4")
    root = project(
        "pkg/g2.py",
        "from neighbour_of_g2 import SIZE\nimport beside_manifest\n\n\ndef fresh():\n"
        "    import late_neighbour as late\n\n    return SIZE, beside_manifest.WIDTH, late.LATE\n",
    )
    project("pkg/late_neighbour.py", "LATE = 5")
    assert import_object("pkg/g2.py:fresh", root)() == (3, 4, 5)


def test_a_neighbour_of_anothers_name_is_refused(project):
    for folder in ("a", "b"):
        project(f"{folder}/neighbour_twice.py", f"NAME = {folder!r}")
        root = project(f"{folder}/nets.py", "import neighbour_twice\nimport json")
    assert import_named("a/nets.py:neighbour_twice.NAME", root) == "a"
    assert (
        f"{root / 'b' / 'neighbour_twice.py'} is meant, but a module 'neighbour_twice' was already "
        f"imported from {root / 'a' / 'neighbour_twice.py'}: rename one of them"
    ) in refused("b/nets.py:neighbour_twice.NAME", root)


def test_a_relative_import_says_how_to_name_the_module(project):
    root = project("ours_relative/nets.py", "from . import other")
    project("ours_relative/other.py", "")
    assert 'which a file by itself has not: write "ours_relative.nets:other"' in refused(
        "ours_relative/nets.py:other", root
    )
    assert import_named("ours_relative.nets:other", root) is not None


def test_an_error_of_the_module_is_told_with_its_line(project):
    root = project("nets.py", "SIZE = 1\nraise ValueError('no')")
    assert refused("nets.py:SIZE", root) == (
        f"'nets.py:SIZE' cannot be imported: ValueError: no\n  {root / 'nets.py'}:2 in <module>"
    )


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
