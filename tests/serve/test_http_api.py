"""The API in front of a worker: what is known of models, exports, events, downloads and metrics."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from served import exported_job, problem, serving, small_project

from pytest_onnxcheck.serve.http import downloads
from pytest_onnxcheck.serve.jobs.embedded import EmbeddedWorker
from pytest_onnxcheck.serve.jobs.job import Options
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with its worker."""
    manifest = small_project(tmp_path_factory.mktemp("project"))
    jobs = open_jobs(manifest)
    worker = EmbeddedWorker(jobs, Settings())
    worker.start()
    try:
        with serving(manifest, jobs) as client:
            yield client
    finally:
        worker.close()


def followed(door: httpx.Client, job: str, **headers: str) -> list[tuple[int, str, dict]]:
    """The events of a job until its end: id, name and data."""
    found = []
    with door.stream("GET", f"/api/jobs/{job}/events", headers=headers, timeout=120) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        for block in "".join(stream.iter_text()).split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
            if fields:
                found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


def measured(client: httpx.Client) -> dict[tuple, float]:
    """The metrics, by their names and labels."""
    answer = client.get("/metrics")
    assert answer.status_code == 200, answer.text
    families = [*text_string_to_metric_families(answer.text)]
    for family in families:
        names = {sample.name for sample in family.samples}
        counts = {name for name in names if name.endswith("_total")}
        assert counts == (names if family.type == "counter" else set()), family
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def exported(door: httpx.Client) -> dict:
    """A job that has exported mlp."""
    asked = door.post("/api/models/mlp/export-onnx", json={"precisions": ["fp32", "fp16"]})
    assert asked.status_code == 202
    assert asked.headers["location"] == f"/api/jobs/{asked.json()['id']}"
    told = followed(door, asked.json()["id"])
    assert told[-1][2]["state"] == "done", told[-1]
    return told[-1][2]


def test_a_job_is_followed_to_its_end(door: httpx.Client, exported: dict):
    path = f"/api/jobs/{exported['id']}"
    assert door.get(path).json() == exported
    lines = door.get(f"{path}/log").json()["lines"]
    assert [line["number"] for line in lines] == list(range(1, len(lines) + 1))
    events = followed(door, exported["id"])
    assert [data for _, name, data in events if name == "line"] == lines
    assert lines[-1]["text"] == "done"
    again = followed(door, exported["id"], **{"Last-Event-ID": "2"})
    assert [data for _, name, data in again if name == "line"] == lines[2:]
    assert door.get(f"{path}/log", params={"after": 2}).json()["lines"] == lines[2:]
    last = door.get(f"{path}/events", headers={"Last-Event-ID": str(len(lines))})
    assert last.status_code == 204
    wrong = door.get(f"{path}/events", headers={"Last-Event-ID": "two"})
    assert "Last-Event-ID" in problem(wrong, 422, "invalid-request")


def test_what_is_exported_is_told_of_the_model(door: httpx.Client, exported: dict):
    models = {model["name"]: model for model in door.get("/api/models").json()["models"]}
    assert models["seeded"]["has_onnx"] is False
    assert models["seeded"]["onnx_size_bytes"] is None
    fp32 = exported["result"]["files"][0]
    assert models["mlp"]["has_onnx"] is True
    assert models["mlp"]["onnx_size_bytes"] == fp32["size_bytes"]
    assert models["mlp"]["precisions"] == ["fp32", "fp16"]
    assert models["mlp"]["exported"] == ["fp32", "fp16"]
    known = door.get("/api/models/mlp").json()
    assert [artefact["variant"] for artefact in known["artefacts"]] == [
        "torchscript-op20-fp32",
        "torchscript-op20-fp16",
    ]
    assert known["artefacts"][0]["job"] == exported["id"]
    artefact = known["artefacts"][0]
    assert artefact["checkpoint"] == "mlp.pt"
    path = "/api/models/mlp/artefact/torchscript-op20-fp32"
    assert artefact["url"] == f"{path}?checkpoint=mlp.pt"
    (file,) = artefact["files"]
    assert file["url"] == f"{path}/{file['name']}?checkpoint=mlp.pt"
    for url in (artefact["url"], file["url"], path):
        assert door.get(url).headers["etag"] == f'"{file["sha256"]}"'
    told = problem(door.get(path, params={"checkpoint": "x.pt"}), 404, "no-such-artefact")
    assert "nothing of mlp with x.pt was exported yet" in told
    assert [file["name"] for file in known["checkpoints"]] == ["mlp.pt"]


def test_a_download_is_what_was_exported(door: httpx.Client, exported: dict, tmp_path: Path):
    import numpy as np
    import onnxruntime

    file = exported["result"]["files"][0]["files"][0]
    answer = door.get("/api/models/mlp/artefact/fp32")
    assert hashlib.sha256(answer.content).hexdigest() == file["sha256"]
    assert answer.headers["etag"] == f'"{file["sha256"]}"'
    assert "mlp-torchscript-op20-fp32.onnx" in answer.headers["content-disposition"]
    path = tmp_path / "model.onnx"
    path.write_bytes(answer.content)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.zeros((3, 8), "float32")})[0].shape == (3, 4)


def test_a_download_is_asked_for_once_and_in_parts(
    door: httpx.Client, exported: dict, monkeypatch: pytest.MonkeyPatch
):
    path = "/api/models/mlp/artefact/torchscript-op20-fp32"
    whole = door.get(path)
    tag = whole.headers["etag"]
    assert door.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert door.get(path, headers={"If-None-Match": f'"x", W/{tag}'}).status_code == 304
    assert door.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    part = door.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    stale = door.get(path, headers={"Range": "bytes=10-19", "If-Range": '"another"'})
    assert (stale.status_code, stale.content) == (200, whole.content)
    problem(door.get(path, headers={"Range": "bytes=999999-"}), 416, "range")
    problem(door.get(path, headers={"Range": "octets"}), 416, "range")
    head = door.head(path)
    assert (head.headers["etag"], head.headers["content-length"], head.content) == (
        tag,
        str(len(whole.content)),
        b"",
    )
    monkeypatch.setattr(downloads, "file_sha256", None)  # the job knows it
    own = door.get(f"/api/jobs/{exported['id']}/files/mlp.onnx")
    assert own.content == whole.content
    assert own.headers["etag"] == tag


def test_an_artefact_of_several_files_comes_as_one_archive(
    door: httpx.Client, exported: dict, monkeypatch: pytest.MonkeyPatch
):
    from dataclasses import replace

    from pytest_onnxcheck.measurement import HashedFile

    catalogue = door.app.state.door.catalogue  # type: ignore[attr-defined]
    found = catalogue.artefact("mlp", "fp32")
    data = b"weights" * 400_000
    digest = hashlib.sha256(data).hexdigest()
    (found.folder / "mlp.onnx.data").write_bytes(data)
    two = replace(found, files=(*found.files, HashedFile("mlp.onnx.data", len(data), digest)))
    monkeypatch.setattr(catalogue, "artefact", lambda *_, **__: two)
    path = "/api/models/mlp/artefact/fp32"
    answer = door.get(path)
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["mlp.onnx", "mlp.onnx.data"]
        assert archive.read("mlp.onnx.data") == data
    assert door.get(path).content == answer.content
    assert door.get(path, headers={"If-None-Match": answer.headers["etag"]}).status_code == 304
    one = door.get(f"{path}/mlp.onnx.data")
    assert (one.content, one.headers["etag"]) == (data, f'"{digest}"')
    told = problem(door.get(f"{path}/other"), 404, "no-such-file")
    assert "it has mlp.onnx, mlp.onnx.data" in told
    (found.folder / "mlp.onnx.data").unlink()
    assert "make it anew" in problem(door.get(path), 404, "no-such-file")
    problem(door.get(f"{path}/mlp.onnx.data"), 404, "no-such-file")


def test_an_artefact_whose_files_were_removed_is_to_be_exported_again(tmp_path: Path):
    jobs = open_jobs(small_project(tmp_path))
    job = exported_job(jobs)
    with serving(jobs.manifest, jobs) as client:
        assert client.get("/api/models/mlp/artefact/fp32").content == b"onnx"
        (jobs.folder(job.id) / "mlp.onnx").unlink()
        told = problem(client.get("/api/models/mlp/artefact/fp32"), 404, "no-such-artefact")
        assert told.endswith("or its files were removed: export it")
        problem(client.get(f"/api/jobs/{job.id}/files/mlp.onnx"), 404, "no-such-file")


def test_an_artefact_of_fixed_sizes_says_so_and_stands_beside_the_open_one(tmp_path: Path):
    jobs = open_jobs(small_project(tmp_path))
    asked = [Options(), Options(dynamic=False), Options(dynamic=False, batch_size=3)]
    made = [exported_job(jobs, options) for options in asked]
    for job in made:
        (jobs.folder(job) / "mlp.onnx").write_text(job.id)
    path = "/api/models/mlp/artefact/fp32"
    with serving(jobs.manifest, jobs) as client:
        found = client.get("/api/models/mlp").json()["artefacts"]
        assert [(it["job"], it["dynamic"], it["batch_size"]) for it in found] == [
            (made[0].id, True, None),
            (made[1].id, False, None),
            (made[2].id, False, 3),
        ]
        for it in found:
            assert client.get(it["url"]).text == client.get(it["files"][0]["url"]).text == it["job"]
        assert client.get(path).text == made[0].id
        answer = client.get(f"{path}?batch_size=3")
        assert answer.text == made[2].id
        assert (
            'filename="mlp-torchscript-op17-fp32-batch3.onnx"'
            in (answer.headers["content-disposition"])
        )
        told = problem(client.get(f"{path}?batch_size=4"), 404, "no-such-artefact")
        assert "nothing of mlp for a batch of 4 alone was exported yet" in told


def test_what_was_not_exported_is_not_there(door: httpx.Client, exported: dict):
    told = problem(door.get("/api/models/mlp/artefact/int8-static"), 404, "no-such-artefact")
    assert "torchscript-op20-fp32" in told
    told = problem(door.get("/api/models/seeded/artefact/fp32"), 404, "no-such-artefact")
    assert "nothing of seeded was exported yet" in told


def test_a_validation_gives_verdicts_and_a_report(door: httpx.Client, exported: dict):
    options = {"precisions": ["fp32"]}
    job = door.post("/api/models/mlp/validate", json=options).json()["id"]
    assert followed(door, job)[-1][2]["state"] == "done"
    known = door.get("/api/models/mlp").json()
    assert known["job"] == job
    assert known["when"] is not None
    assert known["verdict"] in ("pass", "warn", "partial")
    assert [it["variant"] for it in known["verdicts"]] == ["torchscript-op20-fp32"]
    files = {file["name"] for file in door.get(f"/api/jobs/{job}/files").json()["files"]}
    assert {"record.json", "report.html"} <= files
    page = door.get(f"/api/jobs/{job}/files/report.html")
    assert page.headers["content-type"].startswith("text/html")
    assert "mlp" in page.text


def test_a_job_that_waits_is_cancelled_once(door: httpx.Client, exported: dict):
    first = door.post("/api/models/seeded/validate").json()["id"]
    second = door.post("/api/models/seeded/export-onnx").json()["id"]
    assert door.delete(f"/api/jobs/{second}").json()["state"] == "cancelled"
    told = problem(door.delete(f"/api/jobs/{second}"), 409, "ended")
    assert "(cancelled)" in told
    door.delete(f"/api/jobs/{first}")
    assert followed(door, first)[-1][2]["state"] == "cancelled"
    listed = door.get("/api/jobs", params={"model": "seeded"}).json()["jobs"]
    assert [job["id"] for job in listed] == [second, first]
    assert len(door.get("/api/jobs", params={"limit": 1}).json()["jobs"]) == 1


def test_options_that_are_wrong_are_told_one_by_one(door: httpx.Client):
    path = "/api/models/mlp/export-onnx"
    answer = door.post(path, json={"opset": 3, "precision": ["fp32"], "dynamic": "yes"})
    problem(answer, 422, "invalid-request")
    assert {fault["where"] for fault in answer.json()["errors"]} == {
        "body.opset",
        "body.precision",
        "body.dynamic",
    }
    body = {"Content-Type": "application/json"}
    problem(door.post(path, content=b"{", headers=body), 422, "invalid-request")
    problem(door.post(path, content=b"\x0bd\xed", headers=body), 400, "bad-request")
    form = door.post(path, data={"opset": "17"})
    assert "application/json" in problem(form, 415, "not-json")
    fixed = door.post("/api/models/mlp/validate", json={"batch_size": 2})
    problem(fixed, 422, "invalid-request")
    released = door.post("/api/models/mlp/release", json={"precisions": ["fp16"]})
    told = problem(released, 422, "invalid-request")
    assert told == "body.precisions: Extra inputs are not permitted"
    released = door.post("/api/models/mlp/release", json={})
    assert "[models.mlp.release]" in problem(released, 409, "refused")
    released = door.post("/api/models/mlp/release")
    assert "[models.mlp.release]" in problem(released, 409, "refused")


def test_paths_and_methods_that_are_not_there(door: httpx.Client):
    assert "/api/openapi.json" in problem(door.get("/api/model"), 404, "not-found")
    assert "did you mean 'mlp'" in problem(door.get("/api/models/mpl"), 404, "no-such-model")
    answer = door.put("/api/jobs/1")
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "DELETE, GET"


def test_metrics_tell_the_sizes_of_artefacts(door: httpx.Client, exported: dict):
    found = measured(door)
    for file in exported["result"]["files"]:
        variant = f"torchscript-op20-{file['precision']}"
        labels = ("onnxcheck_artefact_bytes", ("model", "mlp"), ("variant", variant))
        assert found[labels] == file["size_bytes"]


def test_metrics_count_each_job_once_and_never_fall(tmp_path: Path):
    jobs = open_jobs(small_project(tmp_path))
    worker = {"name": "here:1", "host": "here", "token": "t"}

    def end(kind: str, state: str, *, begun: bool = True) -> None:
        number = int(jobs.submit(kind, "mlp").id.partition("-")[0])
        if begun:
            jobs.begin(number, worker)
        jobs.end(number, state)

    def of(name: str, kind: str, state: str) -> tuple:
        return (f"onnxcheck_{name}", ("kind", kind), ("state", state))

    with serving(jobs.manifest, jobs) as client:
        jobs.submit("gate", "mlp")
        running = int(jobs.submit("export", "mlp").id.partition("-")[0])
        jobs.begin(running, worker)
        end("export", "done")
        end("export", "failed")
        end("export", "done")
        end("export", "cancelled", begun=False)
        found = measured(client)
        assert found == measured(client)
        assert found[of("jobs", "gate", "queued")] == 1
        assert found[of("jobs", "export", "running")] == 1
        assert found[of("jobs_ended_total", "export", "done")] == 2
        assert found[of("jobs_ended_total", "export", "failed")] == 1
        assert found[of("jobs_ended_total", "export", "cancelled")] == 1
        assert found[of("job_duration_seconds_count", "export", "done")] == 2
        assert of("job_duration_seconds_count", "export", "cancelled") not in found
        assert 0 <= found[of("job_duration_seconds_sum", "export", "done")] < 60
        assert found[("onnxcheck_event_streams",)] == 0

        jobs.end(running, "done")  # after later ones: it is counted all the same
        end("validate", "done")
        later = measured(client)
        assert of("jobs", "export", "running") not in later
        assert later[of("jobs_ended_total", "export", "done")] == 3
        assert later[of("jobs_ended_total", "validate", "done")] == 1
        grown = [name for name in found if name[0].endswith(("_total", "_count", "_sum"))]
        assert all(later[name] >= found[name] for name in grown)
    with serving(jobs.manifest, jobs) as another:
        assert measured(another) == later


def made(jobs: Jobs, checkpoint: str, data: bytes) -> None:
    """A job that has exported a checkpoint of mlp."""
    job = jobs.submit("export", "mlp", Options(checkpoint=checkpoint))
    number = int(job.id.partition("-")[0])
    assert jobs.begin(number, {"name": "here:1", "host": "here", "token": "t"})
    hashed = {"name": "it.onnx", "size_bytes": len(data)}
    file = {
        **{"exporter": "torchscript", "opset": 20, "precision": "fp32", "path": "it.onnx"},
        **{"size_ratio": 1.0, "checked": None},
        "files": [{**hashed, "sha256": hashlib.sha256(data).hexdigest()}],
    }
    jobs.end(number, "done", result={"checkpoint": checkpoint, "files": [file]})
    jobs.folder(job).mkdir(parents=True)
    (jobs.folder(job) / "it.onnx").write_bytes(data)


def test_the_exports_of_two_checkpoints_are_told_apart(tmp_path: Path):
    manifest = small_project(tmp_path)
    jobs = open_jobs(manifest)
    (tmp_path / "other.pt").write_bytes(b"")
    for checkpoint in ("mlp.pt", "other.pt"):
        made(jobs, checkpoint, checkpoint.encode())
    path = "/api/models/mlp/artefact/fp32"
    with serving(manifest, jobs) as client:
        assert client.get(path).content == b"other.pt"
        for checkpoint in ("mlp.pt", "other.pt"):
            of = {"checkpoint": checkpoint}
            for url in (path, f"{path}/it.onnx"):
                assert client.get(url, params=of).content == checkpoint.encode()
        told = [line for line in client.get("/metrics").text.splitlines() if 'model="mlp"' in line]
    assert told == ['onnxcheck_artefact_bytes{model="mlp",variant="torchscript-op20-fp32"} 8.0']


def test_a_manifest_that_is_wrong_is_no_fault_of_the_request(tmp_path: Path):
    manifest = small_project(tmp_path)
    jobs = open_jobs(manifest)
    jobs.submit("gate", "mlp")
    right = manifest.read_text()
    with serving(manifest, jobs) as client:
        assert measured(client)[("onnxcheck_manifest_usable",)] == 1
        manifest.write_text("schema = ")
        assert "not TOML" in problem(client.get("/api/models"), 503, "manifest")
        found = measured(client)
        assert found[("onnxcheck_manifest_usable",)] == 0
        assert found["onnxcheck_jobs", ("kind", "gate"), ("state", "queued")] == 1
        manifest.write_text(right)
        assert client.get("/api/models").status_code == 200


def test_an_error_of_the_server_is_told_without_its_traceback(
    door: httpx.Client, monkeypatch: pytest.MonkeyPatch
):
    def broken() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(door.app.state.door.catalogue, "models", broken)  # type: ignore[attr-defined]
    for path in ("/api/models", "/metrics"):
        answer = door.get(path)
        assert "secret" not in problem(answer, 500, "internal-error")
        assert answer.headers["connection"] == "close"  # it does, and nothing is to be sent on it


def test_openapi_describes_every_answer(door: httpx.Client):
    schema = door.get("/api/openapi.json").json()
    assert schema["servers"] == [{"url": "/api"}]
    opset = schema["components"]["schemas"]["ExportOptions"]["properties"]["opset"]
    assert {"type": "integer", "minimum": 9, "maximum": 30} in opset["anyOf"]
    text = json.dumps(schema)
    assert "HTTPValidationError" not in text
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            for status in ("401", "404", "429", "500"):
                content = operation["responses"][status]["content"]
                assert list(content) == ["application/problem+json"], (path, method)
