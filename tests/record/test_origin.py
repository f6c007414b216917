"""Where a run comes from, without secrets."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pytest_onnxcheck.record.origin import Job, Source, command_line, job, source


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for command in (
        ("init", "--quiet", "--initial-branch=trunk"),
        *(("config", f"user.{key}", "a@b.c") for key in ("name", "email")),
        ("commit", "--quiet", "--allow-empty", "--message=first"),
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def test_the_commit_and_the_branch(repository: Path):
    found = source(repository, {})
    assert len(found.commit) == 40
    assert (found.branch, found.dirty) == ("trunk", False)


def test_a_changed_file_is_told_and_a_new_one_is_not(repository: Path):
    (repository / "new.txt").write_text("new")
    assert source(repository, {}).dirty is False
    subprocess.run(["git", "add", "new.txt"], cwd=repository, check=True)
    assert source(repository, {}).dirty is True


def test_where_ci_checks_out_a_commit_it_says_the_branch(repository: Path):
    subprocess.run(["git", "checkout", "--quiet", "--detach"], cwd=repository, check=True)
    assert source(repository, {}).branch == ""
    assert source(repository, {"GITHUB_REF_NAME": "feature"}).branch == "feature"
    assert source(repository, {"CI_COMMIT_REF_NAME": "release"}).branch == "release"


def test_outside_of_git_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert source(tmp_path, {"GITHUB_REF_NAME": "feature"}) == Source()


def test_without_git_nothing_is_told(repository: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(repository))
    assert source(repository, {}) == Source()


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Job()),
        ({"CI": "false"}, Job()),
        ({"CI": "true"}, Job("ci")),
        (
            {
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_JOB": "gate",
                "GITHUB_RUN_ID": "7",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_REPOSITORY": "a/b",
            },
            Job("github", "gate", "7", "https://github.com/a/b/actions/runs/7"),
        ),
        (
            {
                "GITLAB_CI": "true",
                "CI_JOB_NAME": "gate",
                "CI_PIPELINE_ID": "8",
                "CI_JOB_URL": "https://me:secret@gitlab.example/8",
            },
            Job("gitlab", "gate", "8", "https://***@gitlab.example/8"),
        ),
    ],
)
def test_the_ci_job(environ: dict[str, str], expected: Job):
    assert job(environ) == expected


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (
            "--index=https://user:hunter2@pypi.example/simple",
            "--index=https://***@pypi.example/simple",
        ),
        ("git+https://ghp_12345@github.com/a/b", "git+https://***@github.com/a/b"),
        ("--api-token=abc", "--api-token=***"),
        ("DB_PASSWORD=abc", "DB_PASSWORD=***"),
        ("--api-key=abc", "--api-key=***"),
        ("AWS_ACCESS_KEY=abc", "AWS_ACCESS_KEY=***"),
        ("--author=me", "--author=me"),
        ("--keys=2", "--keys=2"),
        ("-k", "-k"),
        ("models.toml::a@b", "models.toml::a@b"),
        ("--onnxcheck-json=record.json", "--onnxcheck-json=record.json"),
        ("prefix-s3cr3t-value", "prefix-***"),
    ],
)
def test_secrets_stay_out_of_the_command_line(argument: str, shown: str):
    environ = {"DEPLOY_TOKEN": "s3cr3t-value", "SHORT_KEY": "abc", "HOME": "onnxcheck-json"}
    assert command_line(["pytest", argument], environ) == ("pytest", shown)


def test_the_value_after_a_secret_option_is_hidden():
    found = command_line(["pytest", "--password", "hunter2", "tests"], {})
    assert found == ("pytest", "--password", "***", "tests")
