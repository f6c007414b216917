"""Wrong usage, which is told before anything is collected."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from pytest_onnxcheck.plugin.settings import Settings

__all__ = ["refuse_wrong_usage"]


def refuse_wrong_usage(config: pytest.Config, settings: Settings) -> None:
    """Raises a UsageError for options that do nothing, or that cannot do what they are for."""
    if settings.wanted and settings.history.is_file():
        raise pytest.UsageError(f"--onnxcheck-history={settings.history}: a file, not a folder")
    if settings.unused_option:
        raise pytest.UsageError(
            f"{settings.unused_option} does nothing without --onnxcheck, or a manifest as an "
            "argument"
        )
    _refuse_two_manifests(config, settings)
    if settings.search_seconds and find_spec("hypothesis") is None:
        raise pytest.UsageError(
            "--onnxcheck-search needs hypothesis: pip install hypothesis, or the extra [search]"
        )


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
