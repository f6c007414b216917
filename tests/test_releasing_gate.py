"""What passed is released at the end of the run, `--onnxcheck-release`, and nothing else is."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
import s3_server
from project import Project, Result, mlps

import pytest_onnxcheck
from pytest_onnxcheck import ReleaseError, release_model
from pytest_onnxcheck.api.release import release_all, wanted
from pytest_onnxcheck.cli import main
from pytest_onnxcheck.record.record import Record, load
from pytest_onnxcheck.release import fetch, releases, verify

RELEASED = mlps("net") + 'release.version = "1.0"\nlatency.dims = []\n'
OTHER = mlps("other") + 'release.version = "2.0"\nlatency.dims = []\n'


@pytest.fixture
def gated(project: Project) -> Project:
    project.on_clock()
    project.manifest(RELEASED)
    return project


def release(project: Project, *args: str, to: str = "dist") -> Result:
    return project.pytest("--onnxcheck", f"--onnxcheck-release={to}", *args)


def released(project: Project, to: str = "dist") -> list[str]:
    folder = project.path / to
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_what_passed_is_released_without_a_record_being_asked_for(gated):
    result = release(gated)
    assert result.ret == 0
    line = f"release  net::torchscript-op17-fp32  {gated.path}/dist/net-1.0"
    result.stdout.fnmatch_lines([line, "*latency was not measured: the bundle says nothing*"])
    assert released(gated) == ["net-1.0"]
    assert not (gated.path / "record.json").exists()
    verify(gated.path / "dist" / "net-1.0")


def test_of_several_models_all_are_released_or_those_that_are_asked_for(gated):
    gated.manifest(RELEASED + OTHER + mlps("kept"))
    assert release(gated, "--onnxcheck-model=oth*", to="one").ret == 0
    assert released(gated, "one") == ["other-2.0"]
    result = release(gated, "--onnxcheck-json=record.json")
    assert result.ret == 0
    assert released(gated) == ["net-1.0", "other-2.0"]
    of_the_run = json.loads((gated.path / "record.json").read_text())["created"]
    known = verify(gated.path / "dist" / "net-1.0").metadata
    assert known.run.date == of_the_run


def test_a_signed_release(gated):
    pytest.importorskip("model_signing", reason="the extra [sign] is not installed")
    from keys import elliptic

    key = elliptic(gated.path / "key.pem", password="sesame 7 open")
    result = release(gated, "--onnxcheck-sign=key.pem")
    assert result.ret == 4
    result.stdout.fnmatch_lines(["*--onnxcheck-release: nothing is signed:*", "*key.pem is encr*"])
    gated.environ["ONNXCHECK_SIGN_PASSWORD"] = "sesame 7 open"
    result = release(gated, "--onnxcheck-sign=key.pem")
    assert result.ret == 0
    signed = verify(gated.path / "dist" / "net-1.0", key.with_suffix(".pub")).signed_with
    result.stdout.fnmatch_lines([f"release  net::*net-1.0, signed with {signed[:12]}…"])
    assert not any("sesame" in line for line in result.outlines)


def test_nothing_is_released_of_a_run_in_which_anything_failed(gated):
    (gated.path / "test_own.py").write_text("def test_own():\n    assert False\n")
    result = release(gated, "models.toml", "test_own.py")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["release  nothing is released: the run did not pass"])
    assert released(gated) == []


def test_of_a_part_of_the_checks_nothing_is_released_though_all_are_green(gated):
    result = release(gated, "-k", "structure or export")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["release  net is not released:*", "  - the run left out checks or variants of the model*"]
    )
    assert released(gated) == []


def test_an_expected_failure_is_green_and_not_released(gated):
    mark = '[[models.net.xfail]]\nreason = "known"\nchecks = ["structure"]\n'
    named = RELEASED.replace(
        "release.version", 'release.variant = "torchscript-op17-fp32"\nrelease.version'
    )
    gated.manifest(named.replace('["batch", 4]', '["batch", 5]') + mark)
    result = release(gated)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["release  *is not released:", "*which is no pass*"])
    assert released(gated) == []


def test_every_reason_of_every_model_is_told(gated):
    gated.manifest(RELEASED + OTHER)
    result = release(gated, "-k", "structure or export")
    assert result.ret == 1
    result.stdout.fnmatch_lines(
        ["release  several models are not released:", "  - net *", "  - other *"]
    )


def test_of_two_models_one_of_which_is_refused_none_is_published(gated):
    """The other was run whole, and is bundled; where a folder is asked for, that is told."""
    gated.manifest(RELEASED + OTHER)
    to = (gated.path / "published").as_uri()
    result = release(gated, "-k", "net or structure", to=to)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["release  other is not released:*", "*net-1.0 was made all the*"])
    assert releases(to).released == ()


def test_a_place_that_cannot_be_written_fails_the_green_run_with_the_reason(gated):
    (gated.path / "taken").touch()
    result = release(gated, to="taken")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["release  *File exists: *taken*", "*passed*"])


def test_under_xdist_the_controller_releases_once(gated):
    result = release(gated, "-n", "1", "--onnxcheck-json=record.json")  # a worker costs 3 s
    assert result.ret == 0
    (timed,) = [check for check in gated.record["checks"] if check["check"] == "latency"]
    assert (timed["outcome"], timed["target"]) == ("skipped", None)  # latency.dims = []
    assert sum(line.startswith("release  net::") for line in result.outlines) == 1
    assert released(gated) == ["net-1.0"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--onnxcheck", "--onnxcheck-sign=k"], "--onnxcheck-sign does nothing without*"),
        (["--onnxcheck", "--onnxcheck-release="], "--onnxcheck-release=: no place is given"),
        (
            ["--onnxcheck", "--onnxcheck-release=dist", "--onnxcheck-shard=1/2"],
            "--onnxcheck-release with --onnxcheck-shard=1/2: a shard has seen a part of the "
            "models: merge*",
        ),
        (["--onnxcheck-release=dist"], "--onnxcheck-release does nothing without --onnxcheck*"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_run(gated, args, told):
    result = gated.pytest(*args)
    assert result.ret == 4
    result.stdout.fnmatch_lines([f"*{told}"])
    assert not (gated.path / ".onnxcheck").exists()


def test_a_manifest_that_releases_nothing_is_told_before_anything_is_run(gated):
    gated.manifest(mlps("net"))
    result = release(gated)
    assert result.ret == 4
    result.stdout.fnmatch_lines(
        ["*--onnxcheck-release: *models.toml: nothing is released:", "*has a table*: write one"]
    )
    assert not (gated.path / ".onnxcheck").exists()


def test_collecting_releases_nothing(gated):
    assert release(gated, "--collect-only", "-q").ret == 0
    assert released(gated) == []


@pytest.fixture
def registry(gated: Project) -> str:
    """MLflow's settings for a store of files, which stands in for a server."""
    uri = (gated.path / "mlflow").as_uri()
    gated.environ |= {"MLFLOW_TRACKING_URI": uri, "MLFLOW_ALLOW_FILE_STORE": "true"}
    gated.manifest(
        RELEASED + 'release.registered_model = "detector"\nrelease.alias = "candidate"\n'
    )
    return uri


def test_gate_bundle_signature_store_and_registry_in_one_step(gated, registry, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the registry needs mlflow-skinny")
    pytest.importorskip("model_signing", reason="the extra [sign] is not installed")
    from keys import elliptic

    key = elliptic(gated.path / "key.pem")
    with s3_server.moto_server() as server:
        s3_server.use(monkeypatch, server)
        gated.environ |= s3_server.environment(server)
        to = f"s3://{s3_server.new_bucket(server)}/onnx"
        result = release(gated, "--onnxcheck-sign=key.pem", to=to)
        assert result.ret == 0
        (published,) = releases(to).released
        found = fetch(f"{to}/net", gated.path / "downloaded", key.with_suffix(".pub"))
    uri, signed = f"{to}/net/{published.version}", f"signed with {found.signed_with[:12]}…"
    line = f"release  net::torchscript-op17-fp32  {uri}, {signed}, models:/detector/1 (candidate)"
    assert line in result.outlines
    assert not any(s3_server.SECRET_KEY in line for line in result.outlines)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.MlflowClient(tracking_uri=registry)
    assert client.get_model_version_by_alias("detector", "candidate").source == uri
    assert not (gated.path / ".onnxcheck" / "bundles").exists()


def again(result: Result) -> list[str]:
    """The arguments of the command that is told for what could not be handed on."""
    (told,) = [line for line in result.outlines if "the bundle is kept, to try again:" in line]
    return shlex.split(told.partition(": onnxcheck ")[2])


def lost(project: Project, folder: str) -> str:
    """A test that passes, after the checks, and puts a file in a folder's place."""
    text = f"import shutil\ndef test_own():\n    shutil.rmtree({folder!r}, True)\n"
    (project.path / "test_own.py").write_text(f"{text}    open({folder!r}, 'w').close()\n")
    return "test_own.py"


def test_a_place_that_is_lost_meanwhile_fails_the_green_run_and_the_bundle_is_kept(gated):
    to = (gated.path / "published").as_uri()
    result = release(gated, "models.toml", lost(gated, "published"), to=to)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["release  net passed and is not published:", "*5 passed*"])
    command = again(result)
    (gated.path / "published").unlink()
    assert main(command) == 0
    assert [one.name for one in releases(to).released] == ["net"]


def test_of_several_models_each_that_is_not_published_is_told(gated):
    gated.manifest(RELEASED + OTHER)
    assert gated.run().ret == 0
    (gated.path / "taken").touch()
    models, kept = wanted([gated.path / "models.toml"]), gated.path / "kept"
    models[1] = dataclasses.replace(models[1], registered_model="detector", alias="candidate")
    to = (gated.path / "taken").as_uri()
    with pytest.raises(ReleaseError, match="net passed and is not published") as raised:
        list(release_all(gated.path / "record.json", models, to, kept=kept))
    (folder,) = kept.iterdir()
    assert raised.value.reasons[-2:] == (
        f"the bundle is kept, to try again: onnxcheck publish {folder}/net-1.0 --to {to}",
        f"other passed too and is not published yet: onnxcheck publish {folder}/other-2.0 --to {to}"
        " --register detector --alias candidate",
    )


def test_a_registry_that_is_lost_meanwhile_fails_the_green_run(gated, registry, monkeypatch):
    pytest.importorskip("mlflow", reason="the registry needs mlflow-skinny")
    to = (gated.path / "published").as_uri()
    result = release(gated, "models.toml", lost(gated, "mlflow"), to=to)
    assert result.ret == 1
    result.stdout.fnmatch_lines([f"release  net is published, {to}/net/v*, and not registered:"])
    command = again(result)
    assert command[-4:] == ["--register", "detector", "--alias", "candidate"]
    (gated.path / "mlflow").unlink()
    for name, value in gated.environ.items():
        monkeypatch.setenv(name, value)
    assert main(command) == 0


def test_what_cannot_be_published_is_told_before_anything_is_run(gated, registry):
    (gated.path / "taken").touch()
    for to, told in (
        (f"file://{gated.path}/taken", "*taken*"),
        ("ftp://there", "*ftp://* is no store*"),
        ("s3://user:secret@bucket", "*credentials come from the environment*"),
    ):
        result = release(gated, to=to)
        assert result.ret == 4
        result.stdout.fnmatch_lines([f"*--onnxcheck-release: {told}"])
    del gated.environ["MLFLOW_TRACKING_URI"]
    result = release(gated, to=f"file://{gated.path}/published")
    assert result.ret == 4
    result.stdout.fnmatch_lines(
        ["*nothing can be registered as 'detector':", "*MLFLOW_TRACKING_URI*"]
    )
    assert not (gated.path / ".onnxcheck").exists()


@pytest.fixture
def forked(gated: Project) -> Callable[..., Record]:
    """The gate of `release_model` is a fork, as every run of a project: it costs no imports."""

    def gate(manifest, record, *, models, targets, arguments):
        assert (manifest, targets, arguments) == (gated.path / "models.toml", (), ())
        chosen = [f"--onnxcheck-model={model}" for model in models]
        gated.pytest("--onnxcheck", f"--onnxcheck-json={record}", *chosen)
        return load(record)

    return gate


def test_from_python(gated, forked):
    found = release_model(gated.path / "models.toml", to=gated.path / "dist", run=forked)
    assert found.uri == str(gated.path / "dist" / "net-1.0")
    assert (found.version, found.metadata.model, found.signed_with) == ("1.0", "net", None)
    assert found.metrics["size_bytes"] == found.metadata.size_bytes
    assert found.record.exitstatus == 0
    said = json.loads(json.dumps(found.to_json()))
    assert (said["uri"], said["metrics"], said["registered"]) == (found.uri, found.metrics, None)
    assert verify(Path(found.uri)).metadata == found.metadata
    assert pytest_onnxcheck.release_model is release_model


def test_from_python_it_is_told_why_not(gated):
    manifest, to = gated.path / "models.toml", gated.path / "dist"
    with pytest.raises(ReleaseError, match=r"no table \[models.nte.release\] .*: net\)"):
        release_model(manifest, "nte", to=to)
    gated.manifest(RELEASED + OTHER)
    with pytest.raises(ReleaseError, match=r"several models \(net, other\): say which"):
        release_model(manifest, to=to)
    assert gated.run("--onnxcheck-model=net").ret == 0
    written = gated.record
    written["exitstatus"] = 1

    def failed(*_, **__):
        (gated.path / "record.json").write_text(json.dumps(written))
        return load(gated.path / "record.json")

    with pytest.raises(ReleaseError, match="pytest ended with exit status 1"):
        release_model(manifest, "net", to=to, run=failed)
    written["checks"][0].update(outcome="failed", reason="opset: 17, declared 20")
    written["errors"] = [{"nodeid": "models.toml", "error": "cannot be read"}]
    with pytest.raises(ReleaseError, match="failed: opset: 17, declared 20") as raised:
        release_model(manifest, "net", to=to, run=failed)
    assert "models.toml could not be collected: cannot be read" in str(raised.value)
    assert not to.exists()
