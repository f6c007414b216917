"""Bundles registered in a real MLflow server: killed, cut off, at the same time, refused."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gated import Gated, gate
from services import mlflow_server
from services.ceph import Ceph
from services.http_proxy import Fault, Proxy
from services.registering import SECONDS, Call, Placed

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.release import Registered, publish, register

pytestmark = pytest.mark.skipif(
    "ONNXCHECK_SERVICES" not in os.environ,
    reason="a server needs the whole of mlflow: tox run -e services",
)

#: what was tried, for the last line
COUNTS = {"registrations": 0, "kills": 0, "cuts": 0, "races": 0}


@pytest.fixture(scope="module", autouse=True)
def told() -> Iterator[None]:
    yield
    if COUNTS["registrations"]:
        tried = ", ".join(f"{number} {what}" for what, number in COUNTS.items())
        print(f"\nMLflow: {tried}: no version lost, none doubled, none half")


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Gated:
    return gate(tmp_path_factory.mktemp("gated"))


@pytest.fixture(scope="module")
def bundle(gated: Gated, server: Ceph, bucket: str) -> Placed:
    """One that is published to Ceph."""
    folder, environ = gated.release().folder, server.environment()
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environ.items():
            patched.setenv(name, value)
        return Placed(folder, publish(folder, f"s3://{bucket}/registered").uri, environ)


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with (
        mlflow_server.running(tmp_path_factory.mktemp("server")) as url,
        Proxy(url) as proxy,
    ):
        yield proxy


@pytest.fixture(autouse=True)
def settings(proxy: Proxy, bundle: Placed, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.break_at(None)
    for name, value in bundle.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


@pytest.fixture
def client(proxy: Proxy):
    import mlflow

    return mlflow.MlflowClient(tracking_uri=proxy.upstream)


def registered(bundle: Placed, name: str) -> Registered:
    COUNTS["registrations"] += 1
    return register(bundle.folder, bundle.source, name, alias="candidate", stage="Staging")


def refused(bundle: Placed, name: str, alias: str = "candidate") -> str:
    with pytest.raises(ReleaseError) as raised:
        register(bundle.folder, bundle.source, name, alias=alias)
    return str(raised.value)


def is_whole(client, bundle: Placed, name: str, made: Registered) -> None:
    """There is one version, with all that belongs to it, and one run."""
    (version,) = client.search_model_versions(f"name = '{name}'")
    assert (int(version.version), version.run_id) == (made.version, made.run_id)
    assert (version.source, version.current_stage) == (bundle.source, "Staging")
    assert client.get_registered_model(name).aliases == {"candidate": str(version.version)}
    has_all(client, version)
    experiment = client.get_experiment_by_name(name).experiment_id
    (run,) = client.search_runs([experiment])
    assert run.info.run_id == made.run_id


def has_all(client, version) -> None:
    """A version is never half there: tags, metrics and metadata are."""
    assert version.tags.keys() >= {"framework", "format", "precision", "verdict", "sha256"}
    run = client.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert {"size_bytes", "max_abs/cpu/y", "speedup/cpu-batch1"} <= run.data.metrics.keys()
    assert [file.path for file in client.list_artifacts(version.run_id)] == ["metadata.json"]


def requests_of(proxy: Proxy, bundle: Placed, name: str) -> int:
    """How many requests a registration takes."""
    proxy.break_at(None)
    registered(bundle, name)
    return len(proxy.seen)


def test_mlflow_shows_version_alias_tags_metrics_source_and_metadata(bundle, client):
    made = registered(bundle, "shown")
    version = client.get_model_version_by_alias("shown", "candidate")
    run = client.get_run(version.run_id)
    print(f"\n{made.summary}\n  tags: {dict(sorted(version.tags.items()))}")
    print(f"  metrics of run {version.run_id}: {run.data.metrics}")
    is_whole(client, bundle, "shown", made)
    known = json.loads((bundle.folder / "metadata.json").read_text())
    assert version.tags["sha256"] == known["sha256"]
    assert run.data.metrics["size_bytes"] == known["size_bytes"]
    copy = Path(client.download_artifacts(version.run_id, "metadata.json"))
    assert copy.read_bytes() == (bundle.folder / "metadata.json").read_bytes()


def test_a_call_that_is_killed_at_any_request_is_completed_by_the_next(bundle, proxy, client):
    for at in range(1, requests_of(proxy, bundle, "counted") + 1):
        for after in (False, True):
            name = f"killed-{at}-{after}"
            proxy.break_at(Fault(at, "stall", after))
            call = Call(proxy.url, bundle, name)
            assert proxy.stalled.wait(SECONDS), name
            call.kill()
            COUNTS["kills"] += 1
            for version in client.search_model_versions(f"name = '{name}'"):
                has_all(client, version)
            proxy.break_at(None)
            is_whole(client, bundle, name, registered(bundle, name))


def test_a_connection_that_is_cut_once_at_any_request_changes_nothing(bundle, proxy, client):
    """The request is made again, also where the server had carried it out."""
    for at in range(1, requests_of(proxy, bundle, "cut") + 1):
        for after in (False, True):
            name = f"cut-{at}-{after}"
            proxy.break_at(Fault(at, "cut", after))
            is_whole(client, bundle, name, registered(bundle, name))
            COUNTS["cuts"] += 1


def test_a_server_that_is_gone_in_the_middle_is_told_and_the_next_call_completes(
    bundle, proxy, client, monkeypatch
):
    for at in range(1, requests_of(proxy, bundle, "gone") + 1):
        name = f"gone-{at}"
        proxy.break_at(Fault(at, "cut", after=True, onwards=True))
        with monkeypatch.context() as patched:
            patched.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
            with pytest.raises(ReleaseError, match=r"is not reached .*: is it up"):
                registered(bundle, name)
        COUNTS["cuts"] += 1
        for version in client.search_model_versions(f"name = '{name}'"):
            has_all(client, version)
        proxy.break_at(None)
        is_whole(client, bundle, name, registered(bundle, name))


@pytest.mark.parametrize("number", range(6))
def test_calls_at_the_same_time_make_one_version(number, bundle, proxy, client):
    name, at = f"raced-{number}", time.monotonic() + 1
    calls = [Call(proxy.url, bundle, name, at) for _ in range(4)]
    results = [call.result() for call in calls]
    COUNTS["races"] += 1
    assert all(isinstance(one, Registered) for one in results), results
    assert {(one.version, one.run_id) for one in results} == {
        (results[0].version, results[0].run_id)
    }
    assert sum(one.created for one in results) == 1
    is_whole(client, bundle, name, registered(bundle, name))


def test_a_server_that_does_not_answer(bundle, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy.break_at(Fault(1, "stall", onwards=True))
    assert f"{proxy.url} does not answer within 1 s: is it up?" in refused(bundle, "slow")


def test_what_answers_with_errors_or_is_no_mlflow_server(bundle, proxy, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    proxy.break_at(Fault(1, 500, onwards=True))
    assert f"{proxy.url} answers with errors: " in refused(bundle, "broken")
    for status in (200, 404):
        proxy.break_at(Fault(1, status, onwards=True))
        text = refused(bundle, "elsewhere")
        assert f"what answers at {proxy.url} is no MLflow server" in text


def test_credentials_are_asked_for_and_seen_by_nobody(bundle, tmp_path, monkeypatch, capfd, caplog):
    import requests

    user, password = "guest", "sesame-of-the-guest"
    with mlflow_server.running(tmp_path, asks=True) as url, Proxy(url) as proxy:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.url)
        assert "does not take the credentials (401): set MLFLOW_TRACKING_USERNAME and" in refused(
            bundle, "net"
        )
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", mlflow_server.USER)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "sesame-of-nobody")
        text = refused(bundle, "net")
        assert "does not take the credentials (401)" in text
        assert "sesame" not in text
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", mlflow_server.PASSWORD)
        proxy.break_at(None)
        made = registered(bundle, "net")
        assert made.version == 1
        assert [body for _, _, body in proxy.seen if b"sesame" in body] == []
        assert not any("sesame" in path for _, path, _ in proxy.seen)
        requests.post(
            f"{url}/api/2.0/mlflow/users/create",
            json={"username": user, "password": password},
            auth=(mlflow_server.USER, mlflow_server.PASSWORD),
            timeout=30,
        ).raise_for_status()
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        text = refused(bundle, "net", "mine")
        assert "does not allow it (403): " in text
    said = "".join(capfd.readouterr()) + caplog.text + text
    assert "sesame" not in said + str(made.to_json())
