"""Reports of a real run."""

from __future__ import annotations

import jsonschema
import pytest
from project import Project, mlps

from pytest_onnxcheck.record import schema

QUICK = 'precisions = ["fp32", "int8-dynamic"]\n[defaults.latency]\nseconds = 0.1'


@pytest.fixture
def gated(project: Project) -> Project:
    """A model that passes, and one whose tolerance nothing keeps."""
    project.on_clock()
    strict = "tolerance.int8-dynamic.rel_rms = 1e-9\n"
    project.manifest(mlps("good", "bad") + strict, QUICK)
    return project


def test_the_record_of_a_run_is_valid_and_tells_where_its_time_went(gated: Project):
    assert gated.run().ret == 1
    record = gated.record
    jsonschema.Draft202012Validator(schema.json_schema()).validate(record)
    checks = {check["nodeid"].partition("::")[2]: check for check in record["checks"]}
    export = checks["good::torchscript-op17-fp32::test_export"]
    assert {"reference", "export", "setup", "check"} <= export["stages"].keys()
    assert export["stages"]["export"] > 0
    converted = checks["good::torchscript-op17-int8-dynamic::test_quantization"]
    assert "conversion" in converted["stages"]
    failed = checks["bad::torchscript-op17-int8-dynamic::test_equivalence[cpu]"]
    assert failed["outcome"] == "failed"
    assert [limit["key"] for limit in failed["limits"]] == ["tolerance.rel_rms"]
    latency = checks["good::torchscript-op17-fp32::test_latency[cpu-batch1]"]
    assert len(latency["measurement"]["torch"]["quantiles"]) == 21
