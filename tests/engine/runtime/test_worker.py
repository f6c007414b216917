"""The file that another interpreter runs by its path."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pytest_onnxcheck.engine.runtime import worker
from pytest_onnxcheck.engine.runtime.worker import added_peak, read_arrays, write_arrays

FILE = Path(worker.__file__)
#: what Python 3.8 has of the standard library, as far as it is used
STANDARD = {
    *("__future__", "contextlib", "ctypes", "gc", "importlib", "json", "os", "pathlib"),
    *("platform", "shutil", "statistics", "sys", "tempfile", "time", "typing", "collections"),
}


def test_it_is_python_3_8_and_needs_numpy_and_onnxruntime_alone():
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 8))
    found = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert found - STANDARD == {"numpy", "onnxruntime"}
    later = {"removeprefix", "removesuffix", "strict", "pairwise", "batched", "is_relative_to"}
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    keywords = {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}
    assert not later & (names | keywords)
    # annotations are never evaluated; a type that is used at run time must be one of 3.8
    assert "Times = Tuple[float, float, float]" in FILE.read_text(encoding="utf-8")


def test_it_answers_when_it_is_run_by_its_path_from_anywhere(tmp_path: Path):
    (tmp_path / "session.py").write_text("raise SystemExit('not this one')")
    asked = '{"do": "hello"}\n{"do": "close", "session": 7}\n{"do": "load", "path": "no", '
    asked += '"opening": {"provider": "CPUExecutionProvider", "provider_options": {}, '
    asked += '"session_options": {}}}\n{"do": "nothing"}\n'
    done = subprocess.run(
        [sys.executable, str(FILE)], input=asked, capture_output=True, text=True, cwd=tmp_path
    )
    hello, closed, load, unknown = (json.loads(line) for line in done.stdout.splitlines())
    assert "CPUExecutionProvider" in hello["value"]["available"]
    assert hello["value"]["packages"]["onnxruntime"] == hello["value"]["version"]
    assert hello["value"]["packages"]["numpy"] == np.__version__
    assert closed == {"value": None}
    assert "File doesn't exist" in load["error"]
    assert load["kind"] == unknown["kind"] == "run"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), np.float16),
        np.array(7, np.int64),
        np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        np.array([True, False]),
        np.array([np.nan, -np.inf, 0.0]),
        np.array([1 + 2j], np.complex64),
    ],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_arrays_come_back_as_they_were(tmp_path: Path, array: np.ndarray):
    write_arrays(str(tmp_path / "f"), [array, array])
    found = read_arrays(str(tmp_path / "f"))
    assert len(found) == 2
    for each in found:
        assert (each.dtype, each.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(each, array)


def test_texts_are_written_and_objects_are_not(tmp_path: Path):
    write_arrays(str(tmp_path / "f"), [np.array(["a", "größer"], object)])
    (found,) = read_arrays(str(tmp_path / "f"))
    assert found.tolist() == ["a", "größer"]
    with pytest.raises(ValueError, match="allow_pickle=False"):
        write_arrays(str(tmp_path / "f"), [np.array([{}], object)])


def test_a_pickle_is_not_read(tmp_path: Path):
    with (tmp_path / "f").open("wb") as file:
        np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        read_arrays(str(tmp_path / "f"))


def test_memory_is_none_where_the_run_fails():
    def broken():
        raise OSError("no")

    assert added_peak(broken) is None
