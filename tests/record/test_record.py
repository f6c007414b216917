"""The record: what it tells, and reading it back."""

import hashlib
import importlib.metadata
import json
import platform
from datetime import datetime
from pathlib import Path

import pytest
from entries import (
    EXPORT,
    FILE,
    STRUCTURE,
    entry,
)

from pytest_onnxcheck import __version__
from pytest_onnxcheck.errors import RecordError
from pytest_onnxcheck.record.record import FORMAT, ManifestFile, NotCollected, load, make, write
from pytest_onnxcheck.record.rows import FrontierRow

MANIFEST = """
schema = 1
seed = 42

[models.net]
factory = "zoo:net"
inputs.x.shape = [1]
outputs.y.shape = [1]
"""


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "models.toml"
    path.write_text(MANIFEST, encoding="utf-8")
    return path


def test_a_record_tells_on_what_it_was_made(manifest):
    record = make([entry("export", EXPORT, manifest=str(manifest))] * 2)
    assert record.onnxcheck == __version__
    assert datetime.fromisoformat(record.created).utcoffset().total_seconds() == 0
    environment = record.environment
    assert environment.python == platform.python_version()
    assert environment.platform == platform.platform()
    assert environment.machine == platform.machine()
    assert environment.cpus > 0
    for package in ("torch", "onnx", "numpy", "pytest", "onnxscript"):
        assert environment.packages[package] == importlib.metadata.version(package)
    assert any(name.startswith("onnxruntime") for name in environment.packages)
    sha256 = hashlib.sha256(MANIFEST.encode()).hexdigest()
    assert record.manifests == (ManifestFile(str(manifest), sha256, seed=42, models=("net",)),)
    assert record.to_json()["format"] == FORMAT


def test_a_record_holds_what_the_checks_found(manifest):
    found = entry("export", EXPORT, manifest=str(manifest))
    (check,) = make([found]).to_json()["checks"]
    assert check == found.to_json()
    assert check["measurement"]["file"]["sha256"] == FILE.sha256


def test_a_record_tells_its_commit_and_its_job(manifest, monkeypatch):
    monkeypatch.setenv("GITLAB_CI", "true")
    monkeypatch.setenv("CI_JOB_NAME", "gate")
    monkeypatch.setattr("sys.argv", ["pytest", "--index=https://me:hunter2@pypi.example"])
    record = make([], root=manifest.parent)
    assert record.job.name == "gate"
    assert record.source.commit == ""
    assert record.environment.command == ("pytest", "--index=https://***@pypi.example")
    assert "hunter2" not in json.dumps(record.to_json())


def test_every_manifest_is_named_once(manifest, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(MANIFEST.replace("42", "43"), encoding="utf-8")
    entries = [entry("export", manifest=str(path)) for path in (manifest, other, manifest)]
    assert [found.seed for found in make(entries).manifests] == [42, 43]


def test_a_written_record_reads_back_the_same(manifest, tmp_path):
    path = tmp_path / "deep" / "folder" / "record.json"
    record = make(
        [entry("structure", STRUCTURE, manifest=str(manifest))],
        errors=[NotCollected("models.toml::wrong", "unknown key")],
        exitstatus=1,
        frontier=[FrontierRow("fp32", "pass", complete=True, model="net", release=True)],
        history=["nothing stored: the run failed"],
    )
    write(record.to_json(), path)
    assert json.loads(path.read_text()) == json.loads(json.dumps(record.to_json()))
    assert path.read_text().endswith("}\n")
    assert load(path) == record


def test_a_record_keeps_the_order_of_its_keys():
    written = make([], history=["a"]).to_json()
    assert list(written) == [
        *("format", "onnxcheck", "created", "environment", "source", "job", "manifests"),
        *("exitstatus", "finished", "selected", "shard", "parts"),
        *("errors", "frontier", "checks", "history"),
    ]


def test_what_a_project_added_is_left_out_and_what_it_took_away_is_not_missed(tmp_path):
    written = make([]).to_json() | {"build": "117"}
    del written["environment"]["command"], written["frontier"], written["history"]
    write(written, tmp_path / "record.json")
    assert load(tmp_path / "record.json").environment.command == ()


def test_a_record_of_an_earlier_version_is_read():
    record = load(Path(__file__).parents[1] / "data" / "record-0.1.0.json")
    assert record.onnxcheck == "0.1.0"
    kinds = {found.check: type(found.measurement).__name__ for found in record.checks}
    assert kinds == {
        "export": "ExportMeasurement",
        "quantization": "QuantizationMeasurement",
        "structure": "StructureMeasurement",
        "equivalence": "EquivalenceMeasurement",
        "mutation": "MutationMeasurement",
        "latency": "LatencyMeasurement",
        "recommend": "RecommendMeasurement",
    }
    points = {found.point for found in record.checks}
    assert points == {"", "cpu", "cpu-batch1"}
    assert {(found.exporter, found.opset, found.precision) for found in record.checks} == {
        ("torchscript", 17, "fp32"),
        ("torchscript", 17, "int8-dynamic"),
    }


def test_what_follows_from_a_measurement_is_written_as_it_was(tmp_path):
    before = Path(__file__).parents[1] / "data" / "record-0.1.0.json"
    write(load(before).to_json(), tmp_path / "record.json")
    was, now = (
        [
            check["measurement"]
            for check in json.loads(path.read_text())["checks"]
            if check["check"] == "latency"
        ]
        for path in (before, tmp_path / "record.json")
    )
    assert {"speedup", "speedup_over_fp32", "throughput"} <= was[0].keys()
    for measured in now:  # new since, and empty where they were not kept
        for side in ("torch", "onnxruntime", "fp32", "kernel"):
            assert (measured[side] or {}).pop("quantiles", []) == []
        assert measured.pop("transferred_bytes") is None
    assert was == now


def test_a_record_of_another_format_says_who_wrote_it_and_what_to_do(tmp_path):
    path = tmp_path / "record.json"
    write(make([]).to_json() | {"format": 2, "onnxcheck": "9.0"}, path)
    with pytest.raises(RecordError) as raised:
        load(path)
    assert str(raised.value) == (
        f"{path}: written by onnxcheck 9.0 in format 2, and this version ({__version__}) reads "
        "format 1: read it with the version that wrote it, or run the checks again with "
        "--onnxcheck-json=PATH"
    )


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ({"created": None}, "created: Input should be a valid string"),
        ({"checks": 3}, "'int' object is not iterable"),
        ({"checks": [{"check": "export"}]}, "checks.0: nodeid: Field required"),
        ({"checks": [3]}, "checks.0: not an entry"),
    ],
)
def test_a_damaged_record_says_where(tmp_path, damage, text):
    path = tmp_path / "record.json"
    write(make([]).to_json() | damage, path)
    with pytest.raises(RecordError) as raised:
        load(path)
    assert str(raised.value) == f"{path}: a damaged record: {text}"


def test_a_record_replaces_the_last_one_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "record.json"
    write({"run": 1}, path)
    write({"run": 2}, path)
    assert json.loads(path.read_text()) == {"run": 2}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]


def test_a_record_that_cannot_be_written_leaves_the_last_one(tmp_path):
    path = tmp_path / "record.json"
    write({"run": 1}, path)
    with pytest.raises(TypeError):
        write({"run": object()}, path)
    assert json.loads(path.read_text()) == {"run": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]
