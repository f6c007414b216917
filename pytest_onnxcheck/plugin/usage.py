"""Options that make no sense, refused before anything is collected."""

from __future__ import annotations

import signal
import sys
from importlib.util import find_spec

import pytest

from pytest_onnxcheck.plugin.settings import Settings

__all__ = ["refuse"]


def refuse(config: pytest.Config, settings: Settings) -> None:
    """Raises where what was asked for cannot be, or would do nothing.

    Raises:
        pytest.UsageError: With what to write in its place.
    """
    if settings.wanted and settings.history.is_file():
        raise pytest.UsageError(f"--onnxcheck-history={settings.history}: a file, not a folder")
    if settings.unused_option:
        raise pytest.UsageError(
            f"{settings.unused_option} does nothing without --onnxcheck, or a manifest as an "
            "argument"
        )
    _refuse_two_manifests(config, settings)
    if settings.release is not None and settings.shard is not None:
        raise pytest.UsageError(
            f"--onnxcheck-release with --onnxcheck-shard={settings.shard}: a shard has seen a part "
            "of the models: merge the shards' records (onnxcheck merge), and release of the merged "
            "one (onnxcheck release)"
        )
    if settings.search_seconds and find_spec("hypothesis") is None:
        raise pytest.UsageError(
            "--onnxcheck-search needs hypothesis: pip install hypothesis, or the extra [search]"
        )
    if settings.ahead and not hasattr(signal, "SIGSTOP"):
        raise pytest.UsageError("--onnxcheck-ahead needs Linux or macOS, where processes can pause")
    if sys.platform != "linux":
        _refuse_limits(settings)
    given = config.args_source is pytest.Config.ArgsSource.ARGS
    if settings.enabled and not given and not settings.manifest.is_file():
        raise pytest.UsageError(
            f"--onnxcheck: no manifest at {settings.manifest}: let `onnxcheck init` "
            "draft one, or name it with --onnxcheck-manifest=PATH. The folder is pytest's "
            "rootdir; if it is not the one you mean, write every path option with '=' (pytest "
            "takes a bare path to an existing file for a hint where the rootdir is)"
        )


def _refuse_limits(settings: Settings) -> None:
    """What runs in pytest's process cannot be ended."""
    limits = {
        "isolate": settings.isolate,
        "timeout": settings.timeout,
        "memory": settings.memory_mb,
    }
    for name, value in limits.items():
        if value:
            raise pytest.UsageError(f"--onnxcheck-{name} needs Linux")


def _refuse_two_manifests(config: pytest.Config, settings: Settings) -> None:
    """An argument says what is run: another manifest as an option would not be looked at."""
    option: str | None = config.getoption("onnxcheck_manifest")
    if option is None or config.args_source is not pytest.Config.ArgsSource.ARGS:
        return
    folder = config.invocation_params.dir
    files = [argument.partition("::")[0] for argument in config.args]
    manifests = [file for file in files if file.endswith(".toml")]
    if manifests and settings.manifest.resolve() not in {
        (folder / manifest).resolve() for manifest in manifests
    }:
        raise pytest.UsageError(
            f"--onnxcheck-manifest={option} does nothing beside the argument {manifests[0]}, which "
            "is what is checked: leave out one of them, or give both as arguments"
        )
