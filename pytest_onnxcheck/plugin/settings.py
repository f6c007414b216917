"""The options of one pytest run: command line before ini before default."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_onnxcheck.digits import byte_count
from pytest_onnxcheck.places import ARTEFACTS, HISTORY

if TYPE_CHECKING:
    from pytest_onnxcheck.cache.builds import BuildCache
    from pytest_onnxcheck.storage import Address

__all__ = [
    *("SETTINGS", "Settings", "add_options", "build_cache"),
    *("parse_amount", "parse_count", "parse_positive", "parse_size"),
]


@dataclass(frozen=True)
class Settings:
    """What `--onnxcheck...` and the ini file ask for; paths are absolute.

    `wanted` tells whether checks are asked for at all: with `--onnxcheck`, or by a manifest as an
    argument. `unused_option` is an option of the command line that does nothing without that.
    `manifest_given` tells whether the user named the manifest or it is the default, and
    `history_given` likewise: without it no run is added to the history.
    """

    enabled: bool
    wanted: bool
    unused_option: str | None
    manifest: Path
    manifest_given: bool
    models: tuple[str, ...]
    targets: tuple[str, ...]
    required_targets: tuple[str, ...]
    artifacts: Path
    cache: Path | None
    cache_size: int | None
    cache_remote: Address | None
    environments: bool
    json: Path | None
    html: Path | None
    codequality: Path | None
    github: bool
    history: Path
    history_given: bool
    accept: bool
    mutants: int
    search_seconds: float
    recommend_seconds: float
    frontier: bool
    strict: bool
    ahead: int
    isolate: bool
    timeout: float | None
    memory_mb: float | None
    release: str | None
    sign: Path | None

    @classmethod
    def of(cls, config: pytest.Config) -> Settings:
        """Reads the options of a run; touches no file."""

        def path(name: str, *, in_ini: bool = True) -> Path | None:
            option: str | None = config.getoption(name)
            if option is not None:
                if not option:
                    raise pytest.UsageError(f"--{name.replace('_', '-')}=: no path is given")
                return config.invocation_params.dir / option
            ini = config.getini(name) if in_ini else ""
            return config.rootpath / ini if ini else None

        manifest = path("onnxcheck_manifest")
        history = path("onnxcheck_history")
        enabled = config.getoption("onnxcheck")
        wanted = enabled or any(".toml" in argument for argument in config.args)
        given = [
            f"--{name.replace('_', '-')}"
            for name, value in vars(config.option).items()
            if name.startswith("onnxcheck_") and value
        ]
        return cls(
            enabled=enabled,
            wanted=wanted,
            unused_option=None if wanted else next(iter(given), None),
            manifest=manifest or config.rootpath / "models.toml",
            manifest_given=manifest is not None,
            models=tuple(config.getoption("onnxcheck_model") or ()),
            targets=tuple(config.getoption("onnxcheck_target") or ()),
            required_targets=tuple(config.getoption("onnxcheck_require") or ()),
            artifacts=path("onnxcheck_artifacts") or config.rootpath / ARTEFACTS,
            cache=path("onnxcheck_cache"),
            cache_size=_cache_size(config),
            cache_remote=_cache_remote(config),
            environments=not config.getoption("onnxcheck_no_environments"),
            json=path("onnxcheck_json"),
            html=path("onnxcheck_html"),
            codequality=path("onnxcheck_codequality"),
            github=not config.getoption("onnxcheck_no_github"),
            history=history or config.rootpath / HISTORY,
            history_given=history is not None,
            accept=config.getoption("onnxcheck_accept"),
            mutants=config.getoption("onnxcheck_mutants"),
            search_seconds=config.getoption("onnxcheck_search"),
            recommend_seconds=config.getoption("onnxcheck_recommend"),
            frontier=config.getoption("onnxcheck_frontier"),
            strict=config.getoption("onnxcheck_strict"),
            ahead=config.getoption("onnxcheck_ahead"),
            isolate=config.getoption("onnxcheck_isolate"),
            timeout=config.getoption("onnxcheck_timeout"),
            memory_mb=config.getoption("onnxcheck_memory"),
            release=_place(config.getoption("onnxcheck_release"), config.invocation_params.dir),
            sign=path("onnxcheck_sign", in_ini=False),
        )


SETTINGS = pytest.StashKey[Settings]()


def add_options(parser: pytest.Parser) -> None:
    """Declares the options, in a group of their own, and their ini equivalents."""
    group = parser.getgroup("onnxcheck", "PyTorch to ONNX release gate")
    group.addoption(
        "--onnxcheck",
        action="store_true",
        help="Check the models of the manifest. Without file arguments nothing else is run.",
    )
    group.addoption(
        "--onnxcheck-manifest",
        metavar="PATH",
        help="The manifest (default: models.toml in the rootdir).",
    )
    group.addoption(
        "--onnxcheck-model",
        metavar="GLOB",
        action="append",
        help="Only models whose name matches; may be repeated.",
    )
    group.addoption(
        "--onnxcheck-target",
        metavar="NAME",
        action="append",
        help="Run on this target in place of the manifest's; may be repeated.",
    )
    group.addoption(
        "--onnxcheck-require",
        metavar="NAME",
        action="append",
        help="Fail where this target is absent, rather than skip; may be repeated.",
    )
    group.addoption(
        "--onnxcheck-artifacts",
        metavar="DIR",
        help="Where artefacts are built and kept (default: .onnxcheck in the rootdir).",
    )
    _add_cache(group)
    group.addoption(
        "--onnxcheck-json", metavar="PATH", help="Write a record of everything measured."
    )
    _add_reports(group)
    group.addoption(
        "--onnxcheck-history",
        metavar="DIR",
        help="Keep the latencies of this run there, and compare with what is there (default: only "
        f"compare, with {HISTORY}).",
    )
    group.addoption(
        "--onnxcheck-accept",
        action="store_true",
        help="Make the latencies of this run the baseline, if every check passes.",
    )
    group.addoption(
        "--onnxcheck-strict",
        action="store_true",
        help="Fail where a pass would say nothing: too close to a limit, nothing to compare with, "
        "nothing checked.",
    )
    group.addoption(
        "--onnxcheck-mutants",
        metavar="N",
        type=parse_count,
        default=0,
        help="Put N faults into each passing artefact, and see whether the checks notice them.",
    )
    group.addoption(
        "--onnxcheck-search",
        metavar="SECONDS",
        type=parse_amount,
        default=0.0,
        help="Look for inputs on which an artefact differs, this long each (needs hypothesis).",
    )
    group.addoption(
        "--onnxcheck-ahead",
        metavar="N",
        type=parse_count,
        default=0,
        help="Build later models in N child processes while checks run; none under pytest-xdist.",
    )
    group.addoption(
        "--onnxcheck-frontier",
        action="store_true",
        help="Print what every variant costs and loses, and which others beat it.",
    )
    group.addoption(
        "--onnxcheck-recommend",
        metavar="SECONDS",
        type=parse_amount,
        default=0.0,
        help="Try precisions the manifest does not list, this long per model, exporter, opset and "
        "target, and say which is best.",
    )
    _add_limits(group)
    _add_release(group)
    parser.addini("onnxcheck_manifest", "Default of --onnxcheck-manifest.")
    parser.addini("onnxcheck_artifacts", "Default of --onnxcheck-artifacts.")
    parser.addini("onnxcheck_cache", "Default of --onnxcheck-cache.")
    parser.addini("onnxcheck_cache_size", "Default of --onnxcheck-cache-size.")
    parser.addini("onnxcheck_cache_remote", "Default of --onnxcheck-cache-remote.")
    parser.addini("onnxcheck_json", "Default of --onnxcheck-json.")
    parser.addini("onnxcheck_html", "Default of --onnxcheck-html.")
    parser.addini("onnxcheck_codequality", "Default of --onnxcheck-codequality.")
    parser.addini("onnxcheck_history", "Default of --onnxcheck-history.")


def _add_cache(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--onnxcheck-cache",
        metavar="DIR",
        help="Keep artefacts there, where other jobs and checkouts find them too (default: in the "
        "folder of --onnxcheck-artifacts).",
    )
    group.addoption(
        "--onnxcheck-cache-size",
        metavar="SIZE",
        type=parse_size,
        help="Hold that folder to a size, as 20GB: what was not used for longest is removed.",
    )
    group.addoption(
        "--onnxcheck-cache-remote",
        metavar="URI",
        help="Fetch artefacts from there, and store there what is built: s3://BUCKET/PREFIX or "
        "file:///FOLDER.",
    )
    group.addoption(
        "--onnxcheck-no-environments",
        action="store_true",
        help="Make no environment for a target that names one: skip its checks, unless it is there "
        "or required.",
    )


def _cache_remote(config: pytest.Config) -> Address | None:
    option: str | None = config.getoption("onnxcheck_cache_remote")
    text = config.getini("onnxcheck_cache_remote") if option is None else option
    if option is None and not text:
        return None
    from pytest_onnxcheck.errors import StorageError
    from pytest_onnxcheck.storage import parse

    try:
        return parse(text)
    except StorageError as error:
        raise pytest.UsageError(f"--onnxcheck-cache-remote: {error}") from None


def _cache_size(config: pytest.Config) -> int | None:
    option: int | None = config.getoption("onnxcheck_cache_size")
    ini = config.getini("onnxcheck_cache_size")
    if option is not None or not ini:
        return option
    try:
        return parse_size(ini)
    except argparse.ArgumentTypeError as error:
        raise pytest.UsageError(f"onnxcheck_cache_size: {error}") from None


def _add_reports(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--onnxcheck-html",
        metavar="PATH",
        help="Write a report to look at: one file, which needs no network.",
    )
    group.addoption(
        "--onnxcheck-codequality",
        metavar="PATH",
        help="Write what failed or warned as GitLab's code-quality report.",
    )
    group.addoption(
        "--onnxcheck-no-github",
        action="store_true",
        help="In GitHub Actions: no job summary, and no annotations at lines of the manifest.",
    )


def _add_release(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--onnxcheck-release",
        metavar="TO",
        help="If every check passed, publish the models that the manifest releases, to "
        "s3://BUCKET/PREFIX or file:///FOLDER; or make their bundles in a folder.",
    )
    group.addoption(
        "--onnxcheck-sign",
        metavar="KEY",
        help="Sign them with this private key: elliptic, in PEM; its password, if it has one, in "
        "ONNXCHECK_SIGN_PASSWORD.",
    )


def _place(to: str | None, folder: Path) -> str | None:
    """Where to release to; a path starts from the folder."""
    if to == "":
        raise pytest.UsageError("--onnxcheck-release=: no place is given")
    return to if to is None or "://" in to else str(folder / to)


def build_cache(settings: Settings) -> Callable[[], BuildCache]:
    """What opens the place where artefacts are kept; it can be pickled."""
    from pytest_onnxcheck.cache.builds import BuildCache

    return partial(
        BuildCache,
        settings.artifacts,
        settings.cache,
        limit=settings.cache_size,
        remote=settings.cache_remote,
    )


def _add_limits(group: pytest.OptionGroup) -> None:
    group.addoption(
        "--onnxcheck-isolate",
        action="store_true",
        help="Check each model in a process of its own, which may crash; for models whose "
        "manifest does not say (`isolate`).",
    )
    group.addoption(
        "--onnxcheck-timeout",
        metavar="SECONDS",
        type=parse_positive,
        help="End a stage of a check that takes longer; for models whose manifest does not say "
        "(`timeout`).",
    )
    group.addoption(
        "--onnxcheck-memory",
        metavar="MB",
        type=parse_positive,
        help="End a check whose processes hold more; for models whose manifest does not say "
        "(`memory_mb`).",
    )


def parse_positive(text: str) -> float:
    """The `type` of options that take a number above 0."""
    number = parse_amount(text)
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return number


def parse_amount(text: str) -> float:
    """The `type` of options that take a number from 0 up."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return number


def parse_size(text: str) -> int:
    """The `type` of options that take a number of bytes."""
    try:
        return byte_count(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def parse_count(text: str) -> int:
    """The `type` of options that take a whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)
