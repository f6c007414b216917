"""The options of one pytest run: command line before ini before default."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from pytest_onnxcheck.terms import Target

__all__ = ["SETTINGS", "Settings", "parse_amount", "parse_count", "parse_target"]


@dataclass(frozen=True)
class Settings:
    """What `--onnxcheck...` and the ini file ask for; paths are absolute.

    `manifest_given` tells whether the user named the manifest or it is the default.
    """

    enabled: bool
    manifest: Path
    manifest_given: bool
    models: tuple[str, ...]
    targets: tuple[str, ...]
    artifacts: Path
    json: Path | None
    mutants: int
    search_seconds: float
    recommend_seconds: float
    frontier: bool

    @classmethod
    def of(cls, config: pytest.Config) -> Settings:
        """Reads the options of a run; touches no file."""

        def path(name: str) -> Path | None:
            option: str | None = config.getoption(name)
            if option is not None:
                return config.invocation_params.dir / option
            ini = config.getini(name)
            return config.rootpath / ini if ini else None

        manifest = path("onnxcheck_manifest")
        return cls(
            enabled=config.getoption("onnxcheck"),
            manifest=manifest or config.rootpath / "models.toml",
            manifest_given=manifest is not None,
            models=tuple(config.getoption("onnxcheck_model") or ()),
            targets=tuple(config.getoption("onnxcheck_target") or ()),
            artifacts=path("onnxcheck_artifacts") or config.rootpath / ".onnxcheck",
            json=path("onnxcheck_json"),
            mutants=config.getoption("onnxcheck_mutants"),
            search_seconds=config.getoption("onnxcheck_search"),
            recommend_seconds=config.getoption("onnxcheck_recommend"),
            frontier=config.getoption("onnxcheck_frontier"),
        )

    @property
    def in_vain(self) -> str | None:
        """An option that asks for more checks, where `--onnxcheck` asks for none."""
        asked = {
            "--onnxcheck-mutants": self.mutants,
            "--onnxcheck-search": self.search_seconds,
            "--onnxcheck-recommend": self.recommend_seconds,
            "--onnxcheck-frontier": self.frontier,
        }
        return None if self.enabled else next((name for name in asked if asked[name]), None)


SETTINGS = pytest.StashKey[Settings]()


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


def parse_target(text: str) -> str:
    """The `type` of `--onnxcheck-target`."""
    targets = get_args(Target)
    if text not in targets:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(targets)}")
    return text
