"""A bundle becomes a version in MLflow's registry: whole, once, and found again.

MLflow's store of files stands in for a server here; tests/services has a real one.
"""

from __future__ import annotations

import json
import re
import socket
import time
from pathlib import Path

import pytest
import s3_server
from gated import Gated

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.errors import ReleaseError, StorageError
from pytest_onnxcheck.release import publish, register
from pytest_onnxcheck.release.registration import metrics, tags, time_of

mlflow = pytest.importorskip("mlflow", reason="the registry needs mlflow-skinny")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow's settings, for an empty store of files."""
    uri = (tmp_path / "store").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return uri


@pytest.fixture
def client(store: str):
    return mlflow.MlflowClient(tracking_uri=store)


@pytest.fixture
def folder(gated: Gated) -> Path:
    return gated.release().folder


@pytest.fixture
def source(folder: Path, tmp_path: Path) -> str:
    """Where the bundle is published: a folder, which MLflow's store of files takes."""
    return publish(folder, tmp_path / "published").uri


def refused(*arguments, **options) -> str:
    with pytest.raises(ReleaseError) as raised:
        register(*arguments, **options)
    return str(raised.value)


def state(client) -> tuple[list[tuple[int, str]], list[str]]:
    """The versions with their runs, and all runs that are not deleted."""
    versions = [(int(one.version), one.run_id) for one in client.search_model_versions()]
    experiments = [one.experiment_id for one in client.search_experiments()]
    return versions, [one.info.run_id for one in client.search_runs(experiments)]


def test_a_version_has_source_tags_metrics_metadata_and_alias(folder, source, client):
    made = register(folder, source, "net", alias="candidate")
    version = client.get_model_version_by_alias("net", "candidate")
    assert (made.uri, made.created, made.told) == ("models:/net/1", True, ())
    assert (version.version, version.source, version.run_id) == (1, source, made.run_id)
    known = json.loads((folder / "metadata.json").read_text())
    expected = {"framework": "pytorch", "format": "onnx", "verdict": "warn"}
    expected |= {"precision": "int8-dynamic", "opset": "17", "sha256": known["sha256"]}
    assert version.tags.items() >= expected.items()
    run = client.get_run(made.run_id)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "net-1.0")
    assert run.data.tags.items() >= expected.items()
    measured = run.data.metrics
    assert measured["size_bytes"] == known["size_bytes"]
    assert measured["max_abs/cpu/y"] == known["errors"][0]["outputs"][0]["max_abs"]
    assert measured["speedup/cpu-batch1"] == known["run"]["latency"][0]["speedup"]
    (artefact,) = client.list_artifacts(made.run_id)
    assert artefact.path == "metadata.json"
    copy = client.download_artifacts(made.run_id, "metadata.json")
    assert json.loads(Path(copy).read_text()) == known


def test_the_same_bundle_is_found_and_completed(folder, source, client, tmp_path):
    first = register(folder, source, "net")
    again = register(folder, f"{source}/", "net", alias="candidate", stage="Staging")
    assert (again.version, again.run_id, again.created) == (first.version, first.run_id, False)
    assert again.told == (
        "stage Staging: MLflow has deprecated stages, and will remove them: use an alias",
    )
    assert client.get_model_version("net", "1").current_stage == "Staging"
    assert client.get_registered_model("net").aliases == {"candidate": "1"}
    assert state(client) == ([(1, first.run_id)], [first.run_id])
    elsewhere = publish(folder, tmp_path / "elsewhere").uri
    assert f"it is version 1 already, with the source {source}, " in refused(
        folder, elsewhere, "net"
    )


class Killed(BaseException):
    """What no `except Exception` sees."""


#: what `register` calls of MLflow's client, in order
STEPS = (
    *("create_registered_model", "search_model_versions", "get_experiment_by_name"),
    *("create_experiment", "search_runs", "create_run", "log_batch", "log_artifact"),
    *("set_terminated", "create_model_version", "get_run", "get_registered_model"),
    *("set_registered_model_alias", "transition_model_version_stage"),
)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_what_was_killed_at_a_step_is_completed_by_the_next_call(
    step, after, folder, source, client, monkeypatch
):
    real = getattr(mlflow.MlflowClient, step)

    def killed(*arguments, **options):
        if after:
            real(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, step, killed)
        with pytest.raises(Killed):
            register(folder, source, "net", alias="candidate", stage="Staging")
    for version in client.search_model_versions():
        assert client.get_run(version.run_id).info.status == "FINISHED"
        assert "sha256" in version.tags
    made = register(folder, source, "net", alias="candidate", stage="Staging")
    assert state(client) == ([(1, made.run_id)], [made.run_id])
    assert client.get_registered_model("net").aliases == {"candidate": "1"}
    assert client.get_model_version("net", "1").current_stage == "Staging"


@pytest.mark.parametrize("step", ["search_runs", "create_run", "create_model_version"])
def test_a_call_in_the_middle_of_another_makes_no_second_version(
    step, folder, source, client, monkeypatch
):
    real, inner = getattr(mlflow.MlflowClient, step), []

    def overtaken(*arguments, **options):
        monkeypatch.setattr(mlflow.MlflowClient, step, real)
        inner.append(register(folder, source, "net"))
        return real(*arguments, **options)

    monkeypatch.setattr(mlflow.MlflowClient, step, overtaken)
    outer = register(folder, source, "net")
    assert (outer.version, outer.run_id) == (inner[0].version, inner[0].run_id)
    assert (inner[0].created, outer.created) == (True, False)
    assert state(client) == ([(1, outer.run_id)], [outer.run_id])


def test_another_bundle_is_another_version_and_takes_the_alias(
    gated, folder, source, client, tmp_path
):
    register(folder, source, "net", alias="candidate")
    gated.edit(lambda record: record.update(created="2026-01-01T00:00:00+00:00"))
    folder.rename(folder.with_name("earlier"))
    other = gated.release().folder
    text = refused(other, source, "net")
    assert re.search(r"net/v\S+ holds another bundle, \w{12}…, and this one is \w{12}…: ", text)
    uri = publish(other, tmp_path / "published").uri
    made = register(other, uri, "net", alias="candidate")
    assert (made.version, made.told) == (2, ("alias candidate was version 1's",))
    assert client.get_registered_model("net").aliases == {"candidate": "2"}


def test_a_name_that_another_model_has(gated, folder, source, client, tmp_path):
    register(folder, source, "net")
    other = gated.release("free").folder
    text = refused(other, publish(other, tmp_path / "published").uri, "net")
    assert "'net' has the model 'net': choose another name, or set its tag" in text
    client.create_registered_model("theirs")
    client.create_model_version("theirs", "s3://elsewhere", tags={"by": "hand"})
    text = refused(folder, source, "theirs")
    assert "'theirs' has versions that onnxcheck did not register" in text
    client.set_registered_model_tag("theirs", "onnxcheck.release", "net")
    assert register(folder, source, "theirs").version == 2
    client.create_registered_model("empty")
    assert register(folder, source, "empty").version == 1


def test_what_is_wrong_is_told_before_anything_is_made(folder, source, client):
    text = refused(folder, "models?x", "a/b", alias="v1", stage="Canary")
    assert text.splitlines() == [
        f"{folder} is not registered as 'a/b':",
        "  - 'a/b' is no name of a registered model: write one without / : and quotes",
        "  - source 'models?x' is no URI: write where it is published, e.g. s3://bucket/net/v1",
        "  - the source has credentials or a query in it, which all would see: leave them out",
        "  - alias 'v1': MLflow keeps latest, v1, v2, ... for itself: take another word",
        "  - stage 'Canary': MLflow has None, Staging, Production, Archived; better use an alias",
    ]
    assert "letters, digits, - and _ are allowed" in refused(folder, source, "net", alias="a b")
    for other in (source.rpartition("/")[0], f"{source}/no"):
        assert f"{other} has no release.json: nothing is released there" in refused(
            folder, other, "net"
        )
    with pytest.raises(StorageError, match=r"gs://.* is no store that is known here"):
        register(folder, "gs://models/net", "net")
    (folder / "README.md").write_text("mine")
    assert "README.md: changed" in refused(folder, source, "net")
    assert client.search_registered_models() == []


def test_a_deleted_experiment(folder, source, client):
    client.delete_experiment(client.create_experiment("net"))
    assert "the experiment 'net' is deleted: restore it" in refused(folder, source, "net")


def test_no_server_is_named(folder, source, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert "no server is named: set MLFLOW_TRACKING_URI" in refused(folder, source, "net")


def test_a_server_that_is_not_there_and_its_credentials(folder, source, monkeypatch, capfd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:sesame-1@127.0.0.1:{port}")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "sesame-2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with s3_server.moto_server() as server:
        s3_server.use(monkeypatch, server)
        bucket = f"s3://{s3_server.new_bucket(server)}/models"
        text = refused(folder, publish(folder, bucket).uri, "net")
    assert (
        f"http://***@127.0.0.1:{port} is not reached (Connection refused): is it up, and does "
        "MLFLOW_TRACKING_URI name it?" in text
    )
    assert "sesame" not in text + "".join(capfd.readouterr())
    text = refused(folder, source, "net")
    assert f"{source} is a folder, which a server does not take" in text


def test_the_command(folder, source, store, client, capsys):
    arguments = ["register", str(folder), "--source", source, "--name", "net"]
    assert main([*arguments, "--alias", "candidate", "--stage", "Staging"]) == 0
    said = capsys.readouterr()
    line = f"models:/net/1  registered, alias candidate, stage Staging: {source}\n"
    assert said.out == line
    assert said.err == (
        "stage Staging: MLflow has deprecated stages, and will remove them: use an alias\n"
    )
    assert main([*arguments, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert (written["uri"], written["created"]) == ("models:/net/1", False)
    assert main([*arguments[:-1], "a/b"]) == 1
    assert "no name of a registered model" in capsys.readouterr().err


def test_publishing_registers_too(folder, client, capsys, tmp_path):
    arguments = ["publish", str(folder), "--to", str(tmp_path / "published")]
    asked = ["--register", "net", "--alias", "candidate"]
    assert main([*arguments, *asked]) == 0
    published, registered = capsys.readouterr().out.splitlines()
    uri = published.split()[0]
    assert registered == f"models:/net/1  registered, alias candidate: {uri}"
    version = client.get_model_version_by_alias("net", "candidate")
    release = json.loads((Path(uri.removeprefix("file://")) / "release.json").read_text())
    assert (version.source, version.tags["bundle_sha256"]) == (uri, release["sha256"])
    assert main([*arguments, *asked, "--json"]) == 0
    said = capsys.readouterr()
    written = json.loads(said.out)
    assert (written["already"], written["registered"]["created"]) == (True, False)
    assert "published already" in said.err


def test_what_no_registry_takes_is_told_before_anything_is_published(folder, capsys, tmp_path):
    arguments = ["publish", str(folder), "--to", str(tmp_path / "published")]
    assert main([*arguments, "--register", "a/b", "--stage", "Canary"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{folder} is not published:\n  - 'a/b' is no name of a registered")
    assert "stage 'Canary': MLflow has None, Staging" in said
    assert main([*arguments, "--alias", "candidate"]) == 2
    assert "--alias and --stage are of --register NAME" in capsys.readouterr().err
    assert not (tmp_path / "published").exists()


def test_names_of_metrics_are_what_registries_allow(gated):
    import dataclasses

    known = gated.release().metadata
    (errors, *_) = known.errors
    output = dataclasses.replace(errors.outputs[0], name="layer/0:out", floors=None)
    known = dataclasses.replace(known, errors=(dataclasses.replace(errors, outputs=(output,)),))
    found = metrics(known)
    assert "max_abs/cpu/layer_0_out" in found
    assert "floors/cpu/layer_0_out" not in found
    assert tags(known, "pass")["verdict"] == "pass"
    assert abs(time_of(known) / 1e3 - time.time()) < 86400
