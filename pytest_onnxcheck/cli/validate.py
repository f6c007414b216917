"""`onnxcheck validate`: is a manifest right, and which variants does it have."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_to"]


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declares the command."""
    parser = commands.add_parser("validate", help="check a manifest and list its variants")
    parser.add_argument("manifest", type=Path, nargs="?", default=Path("models.toml"))
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> str:
    from pytest_onnxcheck.manifest import load_manifest

    manifest = load_manifest(arguments.manifest, shown=str(arguments.manifest))
    manifest.check()
    return "".join(
        f"{model.name}::{variant.name}\n"
        for model in manifest.models.values()
        for variant in model.variants
    )
