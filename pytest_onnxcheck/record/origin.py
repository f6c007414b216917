"""Where a run comes from: the commit, the CI job, the command. Keeps secrets out."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    *("Job", "Source", "command_line", "git", "job", "source"),
    *("without_credentials", "without_secrets"),
]

#: seconds that git may take; a run does not wait for it longer
_PATIENCE = 10.0

_HIDDEN = "***"

#: `user:password@` in a URL, or a token alone before the `@`
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")

#: options and variables whose values are nobody's business
_SECRET = re.compile(
    r"token|passw|passphrase|secret|credential|apikey|(?:^|[-_.])key$|auth(?!or)", re.I
)

_ASSIGNED = re.compile(r"(-{0,2}[\w.-]+)=(.*)", re.DOTALL)

#: how short a secret variable's value may be and still be looked for in the command line
_SHORTEST = 6


@dataclass(frozen=True)
class Source:
    """The commit that was checked out where the run began.

    Attributes:
        commit: Its full hash; empty outside of git.
        branch: The branch; in CI, where none is checked out, what the job says; empty if unknown.
        dirty: Whether tracked files differ from the commit; None where git did not tell.
    """

    commit: str = ""
    branch: str = ""
    dirty: bool | None = None


@dataclass(frozen=True)
class Job:
    """The CI job of a run.

    Attributes:
        service: `github`, `gitlab`, `azure`, `jenkins`, `buildkite`, `circleci`, or `ci` for one
            that is not known; empty outside of CI.
        name: The job's name.
        run: The id of the run or pipeline.
        url: Where to look at it.
    """

    service: str = ""
    name: str = ""
    run: str = ""
    url: str = ""


#: service -> the variable that tells it, and those of the job's name, its run and its URL
_SERVICES = {
    "github": ("GITHUB_ACTIONS", "GITHUB_JOB", "GITHUB_RUN_ID", ""),
    "gitlab": ("GITLAB_CI", "CI_JOB_NAME", "CI_PIPELINE_ID", "CI_JOB_URL"),
    "azure": ("TF_BUILD", "AGENT_JOBNAME", "BUILD_BUILDID", ""),
    "jenkins": ("JENKINS_URL", "JOB_NAME", "BUILD_NUMBER", "BUILD_URL"),
    "buildkite": ("BUILDKITE", "BUILDKITE_LABEL", "BUILDKITE_BUILD_NUMBER", "BUILDKITE_BUILD_URL"),
    "circleci": ("CIRCLECI", "CIRCLE_JOB", "CIRCLE_BUILD_NUM", "CIRCLE_BUILD_URL"),
    "ci": ("CI", "", "", ""),
}

#: what CI calls the branch, where it checks out a commit
_BRANCHES = (
    *("GITHUB_HEAD_REF", "GITHUB_REF_NAME", "CI_COMMIT_REF_NAME", "BUILD_SOURCEBRANCHNAME"),
    *("BUILDKITE_BRANCH", "CIRCLE_BRANCH", "BRANCH_NAME"),
)


def source(folder: Path, environ: Mapping[str, str] | None = None) -> Source:
    """The commit checked out in a folder; says nothing where there is no git.

    Args:
        folder: A folder in the work tree.
        environ: The environment's variables; default: this process's.
    """
    environ = os.environ if environ is None else environ
    commit, named = git(folder, "rev-parse", "HEAD"), git(folder, "branch", "--show-current")
    if commit is None:
        return Source()
    told = (environ.get(variable) for variable in _BRANCHES)
    branch = named or next(filter(None, told), "")
    changed = git(folder, "status", "--porcelain", "--untracked-files=no")
    return Source(commit, branch, None if changed is None else bool(changed))


def job(environ: Mapping[str, str] | None = None) -> Job:
    """The CI job this process is part of; empty outside of CI."""
    environ = os.environ if environ is None else environ
    for service, (sign, *names) in _SERVICES.items():
        if environ.get(sign, "").lower() not in ("", "false", "0"):
            name, run, url = (environ.get(variable, "") for variable in names)
            if service == "github":
                url = _github_url(environ)
            return Job(service, name, run, without_credentials(url))
    return Job()


def _github_url(environ: Mapping[str, str]) -> str:
    server, repository, run = (
        environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")
    )
    return f"{server}/{repository}/actions/runs/{run}" if server and repository and run else ""


def command_line(
    arguments: Iterable[str], environ: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """The arguments without what is secret in them.

    That is: credentials in URLs, values of options whose name says so (`--token=X`, `--token X`),
    and the values of environment variables whose name does.
    """
    shown: list[str] = []
    hide = False
    for argument in arguments:
        shown.append(_HIDDEN if hide else _argument(without_secrets(argument, environ)))
        hide = argument.startswith("-") and "=" not in argument and bool(_SECRET.search(argument))
    return tuple(shown)


def _argument(argument: str) -> str:
    assigned = _ASSIGNED.fullmatch(argument)
    return f"{assigned[1]}={_HIDDEN}" if assigned and _SECRET.search(assigned[1]) else argument


def without_secrets(text: str, environ: Mapping[str, str] | None = None) -> str:
    """A text without the values of environment variables whose name says that they are secret.

    Its URLs hold no `user:password@` either.
    """
    for name, value in (os.environ if environ is None else environ).items():
        if _SECRET.search(name) and len(value) >= _SHORTEST:
            text = text.replace(value, _HIDDEN)
    return without_credentials(text)


def without_credentials(text: str) -> str:
    """A text whose URLs hold no `user:password@`."""
    return _CREDENTIALS.sub(f"{_HIDDEN}@", text)


def git(folder: Path, *arguments: str, seconds: float = _PATIENCE) -> str | None:
    """What git prints of a folder, without the last line's end.

    Returns:
        None where it fails, is not there or takes longer than these seconds.
    """
    environ = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environ,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.rstrip("\n")
