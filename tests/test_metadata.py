"""pyproject.toml, tox's environments, the locks and the documented commands agree."""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent

#: the environment that is there to be without one
UNLOCKED = "newest"

Table = dict[str, Any]


class Repository:
    """What is compared, as data that a test can break."""

    def __init__(self) -> None:
        self.pyproject: Table = tomllib.loads((ROOT / "pyproject.toml").read_text())
        self.locks = {f"locks/{path.name}": path.read_text() for path in ROOT.glob("locks/*.txt")}
        self.commands = [
            line.strip()
            for page in ("README.md", "CONTRIBUTING.md", ".ci/run")
            for line in (ROOT / page).read_text().splitlines()
            if re.search(r"pip install .*\btox\b", line)
        ]

    @property
    def project(self) -> Table:
        return self.pyproject["project"]

    @property
    def tox(self) -> Table:
        return self.pyproject["tool"]["tox"]

    @property
    def pythons(self) -> list[str]:
        """What the tests run on: `oldest` on the oldest, the others by their names."""
        named = [re.fullmatch(r"py(\d)(\d+)", name) for name in self.tox["env"]]
        found = [f"{match[1]}.{match[2]}" for match in named if match]
        (oldest,) = self.tox["env"]["oldest"]["base_python"]
        return sorted([oldest.removeprefix("python"), *found], key=Version)

    def environments(self) -> dict[str, Table]:
        """Name -> settings, with those all share."""
        names = {*self.tox["env_list"], *self.tox["env"]}
        base = self.tox["env_run_base"]
        return {name: {**base, **self.tox["env"].get(name, {})} for name in sorted(names)}

    def group(self, name: str) -> Iterator[str]:
        for entry in self.pyproject["dependency-groups"][name]:
            if isinstance(entry, dict):
                yield from self.group(entry["include-group"])
            else:
                yield entry

    def requirements(self, environment: Table) -> list[Requirement]:
        """What is asked for when an environment is set up."""
        found = list(environment.get("deps", []))
        for group in environment.get("dependency_groups", []):
            found += self.group(group)
        if environment["package"] != "skip":
            found += self.project["dependencies"]
            for extra in environment.get("extras", []):
                found += self.project["optional-dependencies"][extra]
        return [Requirement(text) for text in found]

    def pins(self, lock: str, python: str) -> dict[str, list[Version]]:
        """What a lock says on Linux with this Python."""
        found: dict[str, list[Version]] = {}
        where = {"python_version": python, "python_full_version": f"{python}.7"}
        for line in self.locks[lock].splitlines():
            text = line.partition("#")[0].strip()
            if text:
                pin = Requirement(text)
                (only,) = pin.specifier
                assert only.operator == "==", line
                if pin.marker is None or pin.marker.evaluate({**where, "sys_platform": "linux"}):
                    found.setdefault(canonicalize_name(pin.name), []).append(Version(only.version))
        return found

    def unpinned(self, lock: str, requirements: list[Requirement], python: str) -> Iterator[str]:
        pins = self.pins(lock, python)
        for wanted in requirements:
            versions = pins.get(canonicalize_name(wanted.name), [])
            if len(versions) != 1 or not wanted.specifier.contains(versions[0], prereleases=True):
                shown = ", ".join(map(str, versions)) or "nothing"
                yield f"{lock} has {shown} for {wanted} on Python {python}"


def problems(repository: Repository) -> list[str]:
    return [
        *locks_that_do_not_fit(repository),
        *locks_nobody_writes(repository),
        *floors_that_are_not_tested(repository),
        *commands_without_a_lock(repository),
        *pythons_that_differ(repository),
    ]


def locks_that_do_not_fit(repository: Repository) -> Iterator[str]:
    building = {
        "package": "skip",
        "deps": repository.pyproject["build-system"]["requires"],
        **repository.tox["env_pkg_base"],
    }
    for name, environment in {**repository.environments(), "the package's": building}.items():
        locks = environment.get("constraints", [])
        if len(locks) != (name != UNLOCKED):
            yield f"{name}: {len(locks)} locks"
        pythons = repository.pythons
        if "base_python" in environment:
            pythons = [python.removeprefix("python") for python in environment["base_python"]]
        for lock in locks:
            if lock not in repository.locks:
                yield f"{name}: there is no {lock}"
                continue
            for python in pythons:
                wanted = repository.requirements(environment)
                yield from repository.unpinned(lock, wanted, python)


def locks_nobody_writes(repository: Repository) -> Iterator[str]:
    written = {
        word.removeprefix("--output-file=")
        for command in repository.tox["env"]["lock"]["commands"]
        for word in command
        if isinstance(word, str) and word.startswith("--output-file=")
    }
    for lock in sorted(written ^ repository.locks.keys()):
        yield f"{lock}: {'not there' if lock in written else 'no command writes it'}"


def floors_that_are_not_tested(repository: Repository) -> Iterator[str]:
    environment = repository.environments()["oldest"]
    (python,) = environment["base_python"]
    (lock,) = environment["constraints"]
    pins = repository.pins(lock, python.removeprefix("python"))
    for wanted in repository.requirements(environment):
        floors = [Version(spec.version) for spec in wanted.specifier if spec.operator == ">="]
        if floors != pins.get(canonicalize_name(wanted.name)):
            yield f"{lock} does not have the oldest of {wanted}"


def commands_without_a_lock(repository: Repository) -> Iterator[str]:
    for command in repository.commands:
        lock = re.search(r" -c (\S+)", command)
        if lock is None or lock[1] not in repository.locks:
            yield f"no lock: {command}"
        else:
            yield from repository.unpinned(lock[1], [Requirement("tox")], repository.pythons[0])


def pythons_that_differ(repository: Repository) -> Iterator[str]:
    tested, project = repository.pythons, repository.project
    claimed = [
        match[1]
        for line in project["classifiers"]
        if (match := re.fullmatch(r"Programming Language :: Python :: (\d\.\d+)", line))
    ]
    if claimed != tested:
        yield f"classifiers: {claimed}, tested: {tested}"
    if project["requires-python"] != f">={tested[0]}":
        yield f"requires-python: {project['requires-python']}, tested: {tested}"
    ruff = repository.pyproject["tool"]["ruff"]["target-version"]
    if ruff != f"py{tested[0].replace('.', '')}":
        yield f"ruff's target-version: {ruff}, tested: {tested}"
    for command in repository.tox["env"]["lock"]["commands"]:
        if f"--python-version={tested[0]}" not in command:
            yield f"not locked from Python {tested[0]}: {command}"


@pytest.fixture(scope="module")
def intact() -> Repository:
    return Repository()


@pytest.fixture
def repository(intact: Repository) -> Repository:
    return copy.deepcopy(intact)


def test_everything_agrees(repository: Repository):
    assert problems(repository) == []


def test_every_extra_and_group_is_locked_somewhere(repository: Repository):
    groups = repository.pyproject["dependency-groups"]
    wanted = [text for group in groups for text in repository.group(group)]
    for extra in repository.project["optional-dependencies"].values():
        wanted += extra
    python = repository.pythons[0]
    for text in wanted:
        requirement = [Requirement(text)]
        misses = [list(repository.unpinned(lock, requirement, python)) for lock in repository.locks]
        assert [] in misses, text


def drop_a_pin(repository: Repository) -> None:
    text = repository.locks["locks/main.txt"]
    repository.locks["locks/main.txt"] = re.sub(r"(?m)^safetensors==.*\n", "", text)


def pin_what_the_metadata_refuses(repository: Repository) -> None:
    text = repository.locks["locks/main.txt"]
    repository.locks["locks/main.txt"] = re.sub(r"(?m)^torch==.*$", "torch==1.0", text)


def pin_on_one_python_only(repository: Repository) -> None:
    text = repository.locks["locks/main.txt"]
    marker = "; python_full_version < '3.13'"
    repository.locks["locks/main.txt"] = re.sub(r"(?m)^(onnx==\S+)$", rf"\1 {marker}", text)


def add_a_dependency(repository: Repository) -> None:
    repository.project["dependencies"].append("something>=1")


def add_an_environment_without_a_lock(repository: Repository) -> None:
    repository.tox["env"]["docs"] = {"package": "skip", "constraints": []}


def name_a_lock_that_is_not_there(repository: Repository) -> None:
    repository.tox["env"]["lint"]["constraints"] = ["locks/lint.txt"]


def build_with_what_no_lock_has(repository: Repository) -> None:
    repository.pyproject["build-system"]["requires"] = ["setuptools>=80"]


def leave_a_lock_behind(repository: Repository) -> None:
    repository.locks["locks/pytest7.txt"] = ""


def claim_an_older_version(repository: Repository) -> None:
    dependencies = repository.project["dependencies"]
    dependencies[:] = [re.sub("^torch>=.*", "torch>=2.0", text) for text in dependencies]


def install_tox_without_a_lock(repository: Repository) -> None:
    repository.commands.append("python -m pip install tox")


def claim_a_python_nobody_tests(repository: Repository) -> None:
    repository.project["classifiers"].append("Programming Language :: Python :: 3.99")


def allow_a_python_nobody_tests(repository: Repository) -> None:
    repository.project["requires-python"] = ">=3.9"


def lint_for_another_python(repository: Repository) -> None:
    repository.pyproject["tool"]["ruff"]["target-version"] = "py39"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (drop_a_pin, r"main.txt has nothing for safetensors>=.* on Python 3.1\d"),
        (pin_what_the_metadata_refuses, r"main.txt has 1.0 for torch>="),
        (pin_on_one_python_only, r"main.txt has nothing for onnx>=.* on Python 3.13"),
        (add_a_dependency, r"oldest.txt has nothing for something>=1 on Python 3.11"),
        (add_an_environment_without_a_lock, r"docs: 0 locks"),
        (name_a_lock_that_is_not_there, r"lint: there is no locks/lint.txt"),
        (build_with_what_no_lock_has, r"tools.txt has nothing for setuptools>=80"),
        (leave_a_lock_behind, r"locks/pytest7.txt: no command writes it"),
        (claim_an_older_version, r"oldest.txt does not have the oldest of torch>=2.0"),
        (install_tox_without_a_lock, r"no lock: python -m pip install tox"),
        (claim_a_python_nobody_tests, r"classifiers: .*'3.99'\], tested: \['3.11', .*\]"),
        (allow_a_python_nobody_tests, r"requires-python: >=3.9, tested: \['3.11'"),
        (lint_for_another_python, r"ruff's target-version: py39"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_what_does_not_agree_is_said(repository: Repository, damage, message: str):
    damage(repository)
    assert re.search(message, "\n".join(problems(repository)))
