"""What this machine has: versions, targets that run, the processor, and what would be skipped."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck import __version__
from pytest_onnxcheck.api.validate import Skipped, validate
from pytest_onnxcheck.engine.runtime.presence import Presence, presence
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.machine import cpu_features, cpu_name, saturates
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS
from pytest_onnxcheck.versions import installed_versions

__all__ = ["Diagnosis", "doctor"]

_PACKAGES = (
    *("pytest", "pytest-benchmark", "torch", "numpy", "safetensors", "onnx", "onnx-ir"),
    *("onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
    *("boto3", "hypothesis", "mlflow-skinny", "model-signing", "scikit-learn"),
)
#: package -> what is not there without it
_OPTIONAL = {
    "boto3": "s3://: pip install 'pytest-onnxcheck[s3]'",
    "mlflow-skinny": "onnxcheck register: pip install 'pytest-onnxcheck[mlflow]'",
    "hypothesis": "--onnxcheck-search: pip install 'pytest-onnxcheck[search]'",
    "model-signing": "release --sign, verify --key: pip install 'pytest-onnxcheck[sign]'",
    "scikit-learn": "metrics of [models.NAME.accuracy]: pip install 'pytest-onnxcheck[metrics]'",
}
_RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")


@dataclass(frozen=True)
class Diagnosis:
    """What this machine has.

    Attributes:
        versions: Package -> version, this one and Python included.
        cpu: The processor's name.
        features: What of it matters to artefacts.
        saturates: Whether it adds up products of 8 bits in 16.
        threads: Logical processors, those this process may use, and what the environment says.
        targets: The built-in targets, and whether each runs a model.
        skipped: What a run would skip: of the manifest where there is one.
        problems: What is wrong, with the way out.
    """

    versions: dict[str, str]
    cpu: str
    features: tuple[str, ...]
    saturates: bool
    threads: dict[str, str]
    targets: tuple[Presence, ...]
    skipped: tuple[Skipped, ...]
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the CPU runs artefacts, and nothing is wrong."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**dataclasses.asdict(self), "ok": self.ok}


def doctor(manifest: Path | str | None = None) -> Diagnosis:
    """Looks at the machine.

    Args:
        manifest: What would be skipped is told of it; default: `models.toml`, where there is one.
    """
    versions = {"pytest-onnxcheck": __version__, "python": platform.python_version()}
    versions |= installed_versions(_PACKAGES)
    targets = tuple(presence(target) for target in BUILTIN_TARGETS.values())
    path = Path(manifest or "models.toml")
    skipped: tuple[Skipped, ...] = ()
    problems = list(_problems(versions, targets))
    if manifest is not None or path.is_file():
        try:
            skipped = validate(path, imports=False).skipped
        except OnnxCheckError as error:
            problems.append(str(error))
    return Diagnosis(
        versions=versions,
        cpu=cpu_name(),
        features=cpu_features(),
        saturates=saturates(),
        threads=_threads(),
        targets=targets,
        skipped=(*skipped, *_without(versions)),
        problems=tuple(problems),
    )


def _problems(versions: dict[str, str], targets: tuple[Presence, ...]) -> Iterator[str]:
    several = [package for package in _RUNTIMES if package in versions]
    if len(several) > 1:
        yield (
            f"{' and '.join(several)} overwrite one another: pip uninstall all of them, then "
            "install the one you want"
        )
    for target in targets:
        if target.problem is not None and not target.absent:
            yield target.problem


def _without(versions: dict[str, str]) -> Iterator[Skipped]:
    for package, what in _OPTIONAL.items():
        if package not in versions:
            yield Skipped((), what, f"{package} is not installed")


def _threads() -> dict[str, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = {"processors": str(os.cpu_count()), "usable": str(usable)}
    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS"):
        if name in os.environ:
            found[name] = os.environ[name]
    return found
