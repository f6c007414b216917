"""Which releases of ONNX Runtime load an `.onnx`, by the table of releases, and by running them."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import InputError, RunError, TargetAbsent
from pytest_onnxcheck.places import ARTEFACTS, ENVIRONMENTS

__all__ = ["Compatibility", "Release", "compat"]


@dataclass(frozen=True)
class Release:
    """What is known of a file in one release of ONNX Runtime.

    Attributes:
        version: E.g. `1.17`.
        obstacles: Why it does not load the file, by the table; empty where it does.
        tried: The release that was run, e.g. `1.17.0`; None where none was.
        problem: What that said where it did not load and run the file; None where it did.
        not_run: Why it was not run though it was asked for; None otherwise.
    """

    version: str
    obstacles: tuple[str, ...]
    tried: str | None = None
    problem: str | None = None
    not_run: str | None = None

    @property
    def loads(self) -> bool:
        """Whether it loads the file: as it was run, else by the table."""
        return not self.obstacles if self.tried is None else self.problem is None

    @property
    def agrees(self) -> bool:
        """Whether the run, if there was one, did what the table says."""
        return self.tried is None or (self.problem is None) == (not self.obstacles)


@dataclass(frozen=True)
class Compatibility:
    """Which releases of ONNX Runtime load a file.

    Attributes:
        path: The file.
        ir_version: Its IR version.
        opsets: Domain -> version; ai.onnx under that name.
        oldest: The oldest release that loads it, as all newer ones do; None where there is none.
        unknown: Operators of which the table knows nothing.
        ran: Whether runs computed something; False where the file was only loaded, because none of
            the inputs that could be drawn for it run here either.
        releases: The releases, the oldest first.
    """

    path: Path
    ir_version: int
    opsets: dict[str, int]
    oldest: str | None
    unknown: tuple[str, ...]
    ran: bool
    releases: tuple[Release, ...]

    @property
    def ok(self) -> bool:
        """Whether every run did what the table says."""
        return all(release.agrees for release in self.releases)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        releases = [
            {**dataclasses.asdict(each), "loads": each.loads, "agrees": each.agrees}
            for each in self.releases
        ]
        return {**dataclasses.asdict(self), "path": str(self.path), "releases": releases}


def compat(
    path: Path | str,
    *,
    run: bool = False,
    releases: Sequence[str] = (),
    environments: bool = True,
    folder: Path | None = None,
) -> Compatibility:
    """Says of each release of ONNX Runtime whether it loads a file.

    Args:
        path: The `.onnx`.
        run: Whether to load and run it in the releases too, each in an environment of its own.
        releases: Which, such as `1.17`; default: all of the table.
        environments: Whether environments may be made; those that are there are used anyhow.
        folder: Where they are kept; default: in `.onnxcheck`.

    Raises:
        ExportError: The file is not there, or no ONNX file.
        InputError: A release is not in the table.
    """
    from pytest_onnxcheck.engine.artefacts.reading import read_model
    from pytest_onnxcheck.engine.graph.runtimes import (
        obstacles,
        oldest_onnxruntime,
        runtimes,
        uses,
    )

    file = Path(path)
    used = uses(read_model(file))
    known = {each.version: each for each in runtimes()}
    for version in releases:
        if version not in known:
            raise InputError(f"ONNX Runtime {version}: the table has {', '.join(known)}")
    chosen = [each for each in runtimes() if not releases or each.version in releases]
    found = [Release(each.version, tuple(obstacles(used, each))) for each in chosen]
    ran = False
    if run:
        kept = (folder or Path(ARTEFACTS)) / ENVIRONMENTS
        with tempfile.TemporaryDirectory(prefix="onnxcheck-") as work:
            inputs = _inputs(file, Path(work))
            ran = inputs is not None
            patches = {each.version: each.tried for each in chosen}
            found = list(_run(file, inputs, found, patches, kept, environments))
    return Compatibility(
        file, used.ir_version, used.opsets, oldest_onnxruntime(used), used.unknown, ran,
        tuple(found),
    )  # fmt: skip


def _inputs(file: Path, work: Path) -> Path | None:
    """A file of inputs that run here; None where none of those that can be drawn do."""
    from pytest_onnxcheck.engine.artefacts.contents import contents
    from pytest_onnxcheck.engine.inputs.drawn import OPEN_SIZES, drawn
    from pytest_onnxcheck.engine.runtime.tried import problem
    from pytest_onnxcheck.engine.runtime.worker import write_arrays

    specs = contents(file).inputs
    for size in OPEN_SIZES:
        arrays = drawn(specs, size)
        if arrays is None:
            return None
        path = work / f"inputs-{size}"
        write_arrays(str(path), arrays)
        if problem(file, path) is None:
            return path
    return None


def _run(
    file: Path,
    inputs: Path | None,
    found: Sequence[Release],
    patches: dict[str, str | None],
    kept: Path,
    environments: bool,
) -> Iterator[Release]:
    """The releases, each with what came of running it."""
    from pytest_onnxcheck.engine.environments import made
    from pytest_onnxcheck.engine.runtime.tried import problem
    from pytest_onnxcheck.progress import stage

    for each in found:
        patch = patches[each.version]
        if patch is None:
            text = "no environment of it can be made for a Python that is still in use"
            yield dataclasses.replace(each, not_run=text)
            continue
        try:
            python = made([f"onnxruntime=={patch}"], kept, make=environments)
        except (RunError, TargetAbsent) as error:
            yield dataclasses.replace(each, not_run=str(error))
            continue
        with stage("running", file.name, f"ONNX Runtime {patch}"):
            said = problem(file, inputs, python=str(python))
        yield dataclasses.replace(each, tried=patch, problem=said)
