"""The gate on calibration data: worthless data goes red, and the text says what to do."""

from __future__ import annotations

import numpy as np
import pytest
from project import Project, checks_of, mlps

STATIC = "torchscript-op17-int8-static"
QUANTIZATION = f"net::{STATIC}::test_quantization"


@pytest.fixture
def gate(project: Project):
    """Gates an int8-static model with the given calibration; the result of the run."""

    def run(calibration: str | None, *args: str):
        keys = "" if calibration is None else f"calibration = {{ {calibration} }}\n"
        project.manifest(
            mlps("net").replace("dims =", f"{keys}dims ="), 'precisions = ["int8-static"]'
        )
        return project.run("-m", "not latency and not equivalence", *args)

    return run


def save(project: Project, x: np.ndarray) -> None:
    np.savez(project.path / "data.npz", x=x)


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def warnings(project: Project) -> list[str]:
    checks = {check["check"]: check for check in project.record["checks"]}
    return [
        finding["text"]
        for finding in checks["quantization"]["findings"]
        if finding["what"] == "calibration" and finding["grade"] == "warn"
    ]


def test_real_examples_are_recorded_with_their_hash(project: Project, gate):
    save(project, normal(10, 8))
    assert gate('file = "data.npz"').ret == 0
    checks = {check["check"]: check for check in project.record["checks"]}
    measured = checks["quantization"]["measurement"]["calibration"]
    assert (measured["origin"], measured["examples"]) == ("10 examples of data.npz", 10)
    assert len(measured["sha256"]) == 64
    assert warnings(project) == []


def test_zeros_go_red(project: Project, gate):
    save(project, np.zeros((10, 8), "float32"))
    result = gate('file = "data.npz"')
    assert result.ret == 1
    assert project.outcomes()[QUANTIZATION] == "failed"
    result.stdout.fnmatch_lines(
        [
            "calibration: input 'x' is 0 in all 10 examples of data.npz: every range that follows "
            "from it is wrong. Give real examples, or declare *"
        ]
    )


def test_few_examples_and_random_draws_warn(project: Project, gate):
    save(project, normal(3, 8))
    assert gate('file = "data.npz"').ret == 0
    assert warnings(project) == [
        "only 3 examples (3 examples of data.npz), at least 8 expected: values that real data "
        "reaches and these do not are clipped. Give more"
    ]
    assert gate(None).ret == 0
    assert warnings(project) == [
        "16 random draws: the ranges are those of noise, not of your data. Give real examples: "
        "calibration = { file = ... }"
    ]


def test_missing_and_insufficient_data_go_red_and_say_what_to_do(project: Project, gate):
    assert gate('file = "data.npz", count = 64').ret == 1
    folder = project.path
    assert project.reason(QUANTIZATION) == (
        f"net: calibration file {folder / 'data.npz'} not found: write it with "
        "numpy.savez(path, x=...), or correct calibration.file, relative to the manifest's folder "
        f"{folder}"
    )
    # one check owns the bad data, the others say which; the export is healthy
    chosen = [name for name in checks_of("int8-static", points=()) if "equivalence" not in name]
    expected = {f"net::{STATIC}::{name}": "skipped" for name in chosen}
    expected |= {f"net::{STATIC}::test_export": "passed", QUANTIZATION: "failed"}
    assert project.outcomes() == expected
    assert project.reason(f"net::{STATIC}::test_structure") == (
        f"needs what failed in models.toml::{QUANTIZATION}"
    )
    save(project, normal(5, 8))
    assert gate('file = "data.npz", count = 64').ret == 1
    assert project.reason(QUANTIZATION) == (
        "net: data.npz holds 5 examples, calibration.count asks for 64: give more, or set count = 5"
    )
    save(project, normal(5, 9))
    assert gate('file = "data.npz"').ret == 1
    assert project.reason(QUANTIZATION) == (
        "net: calibration data, data.npz[0]: input 'x' has shape [1, 9], declared [batch, 8]. The "
        "file must hold it as [examples, 8] or [examples, batch, 8]"
    )


def test_a_source_that_raises_goes_red_under_its_name(project: Project, gate):
    (project.path / "data.py").write_text("def images():\n    raise OSError('no /data')\n")
    assert gate('source = "data.py:images"').ret == 1
    assert project.reason(QUANTIZATION).startswith(
        "net: calibration source data.py:images failed, which must be or return an iterable of "
        "{input: array} batches: OSError: no /data"
    )
