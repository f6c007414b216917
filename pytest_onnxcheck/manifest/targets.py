"""Targets: what runs an artefact. Some are built in; the manifest and a hook declare others."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypedDict

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.places import ARTEFACTS, ENVIRONMENTS

__all__ = [
    "BUILTIN_TARGETS",
    "CPU",
    "CUDA_GRAPH_OPTIONS",
    "EVALUATOR",
    "WEB",
    "Engine",
    "Opening",
    "Target",
    "deploy_targets",
    "is_library_file",
    "resolve_targets",
]

#: an option by its name
Options = Mapping[str, str | bool | int | float]

#: stands for onnx's reference evaluator, which is no provider of ONNX Runtime
EVALUATOR = "ReferenceEvaluator"

#: ONNX Runtime in WebAssembly
WEB = "onnxruntime-web"

_CPU_PROVIDER = "CPUExecutionProvider"
#: providers beside which PyTorch is timed on the GPU
_ON_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider", "NvTensorRTRTXExecutionProvider")
#: provider -> its option for CUDA graphs
_CUDA_GRAPH = {
    "CUDAExecutionProvider": "enable_cuda_graph",
    "TensorrtExecutionProvider": "trt_cuda_graph_enable",
    "NvTensorRTRTXExecutionProvider": "enable_cuda_graph",
}
CUDA_GRAPH_OPTIONS = frozenset(_CUDA_GRAPH.values())


class Opening(TypedDict):
    """What a session is opened with, JSON-able: arguments of `worker.open_handle`."""

    provider: str
    provider_options: Options
    session_options: Options


@dataclass(frozen=True)
class Target:
    """What runs an artefact.

    Attributes:
        name: What the manifest calls it.
        provider: ONNX Runtime's execution provider, or `EVALUATOR`.
        provider_options: Its options.
        session_options: Config entries of the session (their names have a dot), and the settings
            that `sections.SESSION_SETTINGS` lists.
        device: The torch device on which PyTorch is timed beside it.
        libraries: The model's custom operators for it: files, and modules that know theirs.
        python: The interpreter whose onnxruntime runs it, and that its environment is made with;
            empty: this one.
        environment: Packages of an environment that is made for it; empty: none is.
        oldest: The version that `deploy` names, whose environment is made for it: of the lowest
            release from there on that can be had; empty: none is.
        runtime: ONNX Runtime in JavaScript: `onnxruntime-node` or `onnxruntime-web`; empty: in
            Python.
        browser: The browser in which onnxruntime-web runs; empty: in node.
        kept: The folder where what is made is kept.
        makes: Whether it may be made.
        engine: What runs it in place of ONNX Runtime; its name is the provider's.
    """

    name: str
    provider: str
    provider_options: Options = field(default_factory=dict)
    session_options: Options = field(default_factory=dict)
    device: str = "cpu"
    libraries: tuple[str, ...] = ()
    python: str = ""
    environment: tuple[str, ...] = ()
    oldest: str = ""
    runtime: str = ""
    browser: str = ""
    kept: str = field(default="", compare=False)
    makes: bool = field(default=True, compare=False)
    engine: Engine | None = field(default=None, compare=False)

    @property
    def elsewhere(self) -> bool:
        """Whether it runs in another environment, in a process of its own."""
        return bool(self.python or self.environment or self.oldest or self.runtime)

    @property
    def accelerated(self) -> bool:
        """Whether nodes can fall from it to the CPU."""
        return self.engine is None and self.provider not in (_CPU_PROVIDER, EVALUATOR)

    def opening(self) -> Opening:
        """What a session is opened with."""
        return Opening(
            provider=self.provider,
            provider_options=dict(self.provider_options),
            session_options=dict(self.session_options),
        )

    @property
    def is_graphed(self) -> bool:
        """Whether its runs are captured as CUDA graphs."""
        return not CUDA_GRAPH_OPTIONS.isdisjoint(self.provider_options)

    def graphed(self) -> Target:
        """The same, with runs captured as CUDA graphs where the provider can."""
        option = _CUDA_GRAPH.get(self.provider)
        if option is None:
            return self
        return replace(self, provider_options={**self.provider_options, option: 1})

    @property
    def key(self) -> str:
        """The same for targets that open the same sessions."""
        there = [self.python, self.environment, self.oldest, self.runtime, self.browser]
        return json.dumps([self.opening(), self.libraries, there], sort_keys=True)


class Engine(Protocol):
    """What runs artefacts in place of ONNX Runtime; `pytest_onnxcheck_engines` gives it."""

    def versions(self) -> Mapping[str, str]:
        """Who it is: name -> version, e.g. `{"openvino": "2026.4"}`, for the record.

        Raises:
            ImportError: It is not installed here: its checks skip.
        """
        ...

    def open(self, path: Path, options: Options, threads: int | None) -> Callable[..., Any]:
        """Opens an artefact.

        Args:
            path: The file, with its external data beside it.
            options: `provider_options` of the target.
            threads: How many threads it may use; None leaves it to the engine.

        Returns:
            A function that takes arrays by the names of the artefact's inputs, and gives those of
            its outputs, in the artefact's order.

        Raises:
            ImportError: It is not installed here: its checks skip.
            Exception: It does not take the artefact: the check fails with the text.
        """
        ...


CPU = Target("cpu", _CPU_PROVIDER)

#: Options that hold when the manifest says nothing. TF32 keeps 10 of float32's 23 bits of mantissa
#: and is on by default on NVIDIA's GPUs: it would be a second precision under the name of fp32.
_PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": 0}}

BUILTIN_TARGETS = {
    "cpu": CPU,
    "cuda": Target(
        "cuda",
        "CUDAExecutionProvider",
        _PROVIDER_OPTIONS["CUDAExecutionProvider"],
        device="cuda",
    ),
    "tensorrt": Target("tensorrt", "TensorrtExecutionProvider", device="cuda"),
    "openvino": Target("openvino", "OpenVINOExecutionProvider"),
    "reference": Target("reference", EVALUATOR),
}


def is_library_file(entry: str) -> bool:
    """Whether an entry of `operator_libraries` is a file, rather than a module."""
    return "/" in entry or "\\" in entry or entry.endswith((".so", ".dylib", ".dll"))


def resolve_targets(root: Path, *levels: Mapping[str, s.TargetOptions]) -> dict[str, Target]:
    """All targets by name: the built-in ones, and what is declared, the weakest level first.

    A table of a name that is there already adds to it; one that changes its provider replaces it.
    A table without a provider under a new name is left out: `rules` tells of it; but in another
    environment it is the CPU's.

    Args:
        root: The manifest's folder, where paths start.
        *levels: Tables by name.
    """
    targets = dict(BUILTIN_TARGETS)
    for tables in levels:
        for name, table in tables.items():
            before = targets.get(name)
            there = _CPU_PROVIDER if table.elsewhere else None
            provider = table.provider or (before.provider if before else there)
            if provider is None:
                continue
            if before is None or before.provider != provider:
                device = "cuda" if provider in _ON_CUDA else "cpu"
                before = Target(name, provider, _PROVIDER_OPTIONS.get(provider, {}), device=device)
            browser = table.browser or before.browser
            options = {**before.provider_options, **(table.provider_options or {})}
            targets[name] = Target(
                name,
                provider,
                options,
                {**before.session_options, **(table.session_options or {})},
                table.torch_device or _beside(before.device, options),
                python=before.python if table.python is None else interpreter(table.python, root),
                environment=table.environment or before.environment,
                runtime=table.runtime or (WEB if browser else before.runtime),
                browser=browser,
                kept=str(root / ARTEFACTS / ENVIRONMENTS),
            )
    return targets


def deploy_targets(
    deployed: Iterable[s.Deploy], declared: Mapping[str, Target], root: Path
) -> dict[str, Target]:
    """The targets that `deploy` asks for, by name, but for those that are declared."""
    kept = str(root / ARTEFACTS / ENVIRONMENTS)
    return {
        deploy.target: Target(
            deploy.target, _CPU_PROVIDER, oldest=deploy.oldest_onnxruntime, kept=kept
        )
        for deploy in deployed
        if deploy.run and deploy.target not in declared
    }


def interpreter(python: str, root: Path) -> str:
    """An interpreter's path from the manifest's folder on; a name alone as it is."""
    return str(root / python) if is_library_file(python) else python


def _beside(device: str, options: Options) -> str:
    """The torch device beside it: of several GPUs, the one that ONNX Runtime is told to use."""
    if device.partition(":")[0] != "cuda" or "device_id" not in options:
        return device
    return f"cuda:{options['device_id']}"
