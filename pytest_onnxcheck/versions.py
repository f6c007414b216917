"""Versions of installed packages, without importing them."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable

__all__ = ["installed_versions"]


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, for those that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
