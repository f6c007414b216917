"""Why the user's code cannot be imported, and what to write."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pytest_onnxcheck.wording import meant, one_line

__all__ = ["why"]

#: what some modules are called on PyPI
_PACKAGES = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "pytorch_lightning": "pytorch-lightning",
}
#: how far up from the manifest a project's folder is looked for
_DEPTH = 4


def why(error: Exception, path: str, root: Path) -> str:
    """A sentence about an error that importing raised.

    Args:
        error: The error.
        path: `module:name` or `path.py:name`, as the manifest has it.
        root: The manifest's folder.
    """
    location, _, name = path.rpartition(":")
    a_file = location.endswith(".py")
    if a_file and not (root / location).is_file():
        return f"there is no file {root / location}{_close(location, root)}"
    if a_file and "attempted relative import" in str(error):
        dotted = ".".join(Path(location).with_suffix("").parts)
        return (
            f"it imports from its own package ({one_line(error)}), which a file by itself has "
            f'not: write "{dotted}:{name}"'
        )
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _missing(error.name, location, root)
    return f"{type(error).__name__}: {one_line(error, 600)}"


def _missing(missing: str, location: str, root: Path) -> str:
    """About a module that there is not: the one asked for, or one that it imports."""
    top = missing.partition(".")[0]
    asked = not location.endswith(".py") and f"{location}.".startswith(f"{missing}.")
    said = (
        f"there is no module {missing!r}"
        if asked
        else f"it imports {missing!r}, which is not there"
    )
    if top != missing:  # the package is there, and the module in it is not
        return said
    found = next(_elsewhere(top, root), None)
    if found is not None:
        project, folder = found
        inside = folder.relative_to(project).as_posix()
        return (
            f"{said}: it is in {folder}, which is not on sys.path: write into "
            f'{project / "pyproject.toml"} [tool.pytest.ini_options] pythonpath = ["{inside}"], or '
            "install your project (pip install -e .)"
        )
    if asked:
        return f"{said} in {root} or on sys.path{_close(f'{missing}.py', root)}"
    return f"{said}: pip install {_PACKAGES.get(top, top)}"


def _elsewhere(module: str, root: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of the project that a module lies in: `src` first; each after the project's own."""
    above = [root, *root.parents][:_DEPTH]
    project = next((folder for folder in above if (folder / "pyproject.toml").is_file()), root)
    for base in above[: above.index(project) + 1]:
        folders = sorted(path for path in base.iterdir() if path.is_dir())
        for folder in sorted(folders, key=lambda path: path.name != "src"):
            if (folder / f"{module}.py").is_file() or (folder / module / "__init__.py").is_file():
                yield project, folder


def _close(location: str, root: Path) -> str:
    """A file of a name like the one that is not there."""
    folder = (root / location).parent
    names = [path.name for path in folder.glob("*.py")] if folder.is_dir() else []
    return meant(Path(location).name, names)
