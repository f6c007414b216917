"""The options of one pytest run: command line before ini before default."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_onnxcheck.places import HISTORY

__all__ = ["SETTINGS", "Settings", "add_options", "parse_amount", "parse_count"]

#: options with a path that may stand in the ini file
_IN_INI = (
    *("onnxcheck_manifest", "onnxcheck_artifacts", "onnxcheck_json", "onnxcheck_html"),
    *("onnxcheck_codequality", "onnxcheck_history"),
)


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
    release: str | None
    sign: Path | None

    @classmethod
    def of(cls, config: pytest.Config) -> Settings:
        """Reads the options of a run; touches no file."""

        def path(name: str) -> Path | None:
            option: str | None = config.getoption(name)
            if option is not None:
                if not option:
                    raise pytest.UsageError(f"--{name.replace('_', '-')}=: no path is given")
                return config.invocation_params.dir / option
            ini = config.getini(name) if name in _IN_INI else ""
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
            artifacts=path("onnxcheck_artifacts") or config.rootpath / ".onnxcheck",
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
            release=_place(config.getoption("onnxcheck_release"), config.invocation_params.dir),
            sign=path("onnxcheck_sign"),
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
        help="Fail where a measurement could not tell: too close to a limit, or nothing to "
        "compare with.",
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
    _add_release(group)
    for name in _IN_INI:
        parser.addini(name, f"Default of --{name.replace('_', '-')}.")


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


def parse_amount(text: str) -> float:
    """The `type` of options that take a number from 0 up."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 up")
    return number


def parse_count(text: str) -> int:
    """The `type` of options that take a whole number from 0 up."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)
