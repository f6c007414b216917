"""Versions of installed packages, without importing them."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterable

__all__ = ["installed_versions"]


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, for those that are installed."""
    found = {package: _version(package) for package in packages}
    return {package: version for package, version in found.items() if version is not None}


@functools.cache
def _version(package: str) -> str | None:
    """A package's version, read once: it takes a millisecond, and each artefact asks for five."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
