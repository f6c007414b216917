"""Models of the zoo go the whole way, by the commands that docs/publishing.md shows."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import clean, mlflow_server
from services.ceph import Ceph

from pytest_onnxcheck.release import releases

REPOSITORY = Path(__file__).parents[2]
STEPS, ONE_STEP = re.findall(
    r"```sh\n(.*?)```",
    (REPOSITORY / "docs" / "publishing.md").read_text().partition("## The whole way")[2],
    re.DOTALL,
)
MODELS = [("wakeword-resnet18", "wakeword"), ("radio-localisation", "localisation")]


@pytest.fixture(scope="module")
def settings(
    server: Ceph, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[pytest.MonkeyPatch]:
    """The environment names Ceph and an MLflow server."""
    with (
        mlflow_server.running(tmp_path_factory.mktemp("mlflow")) as url,
        pytest.MonkeyPatch.context() as patched,
    ):
        for name, value in {**server.environment(), "MLFLOW_TRACKING_URI": url}.items():
            patched.setenv(name, value)
        yield patched


@pytest.fixture(scope="module")
def zoo(settings: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the zoo, all of it committed."""
    folder = tmp_path_factory.mktemp("zoo")
    shutil.copy(REPOSITORY / "models.toml", folder)
    ignored = shutil.ignore_patterns("__pycache__", "families*")
    shutil.copytree(REPOSITORY / "conformance", folder / "conformance", ignore=ignored)
    (folder / ".gitignore").write_text("__pycache__/\n")
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("init", "--quiet"), ("add", "."), (*who, "commit", "--quiet", "-m", "zoo")):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def shell(commands: str, folder: Path) -> str:
    """What commands print; each must succeed."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
    environ["COLUMNS"] = "200"
    ran = subprocess.run(
        ["bash", "-ex", "-o", "pipefail", "-c", commands],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    print(f"\n{ran.stdout}")
    assert ran.returncode == 0
    assert os.environ["AWS_SECRET_ACCESS_KEY"] not in ran.stdout
    return ran.stdout


@pytest.fixture(scope="module")
def to(settings: pytest.MonkeyPatch, bucket: str) -> str:
    """What stands for the address of the page."""
    return f"s3://{bucket}/onnx"


@pytest.mark.parametrize(("model", "name"), MODELS)
def test_the_whole_way_by_the_commands_of_the_page(model, name, zoo, to, clean_python):
    commands = STEPS.replace("s3://models/onnx", to)
    said = shell(commands.replace(MODELS[0][0], model).replace(MODELS[0][1], name), zoo)
    (release,) = releases(to, name).released
    source = f"{to}/{name}/{release.version}"
    assert f"models:/{name}/1  registered, alias candidate: {source}" in said
    assert f"* {name}/{release.version}  {model}::{release.variant}, " in said
    downloaded = zoo / "downloaded" / f"{name}-{release.version}"
    assert re.search(rf"{downloaded.name}  .*: as it was made, and signed with key.pub", said)
    shown = said.rpartition("<ModelVersion: ")[2]
    assert "aliases=['candidate']" in shown
    assert f"source='{source}'" in shown
    assert "'framework': 'pytorch'" in shown
    assert f"'sha256': '{release.model_sha256}'" in shown
    for batch in (1, 5):
        clean.run(clean_python, downloaded, batch=batch)
    print(f"{downloaded.name}: runs with onnxruntime and numpy alone")


def test_all_of_it_in_one_step(zoo, to):
    said = shell(ONE_STEP.replace("s3://models/onnx", to), zoo)
    current = releases(to).current["wakeword"]
    assert re.search(
        rf"release  wakeword-resnet18::\S+  {to}/wakeword/{current}, signed with \w{{12}}…, "
        r"models:/wakeword/\d+ \(candidate\)",
        said,
    )
    assert re.search(rf"{to}/wakeword  .*: as it was made, and signed with key.pub", said)
