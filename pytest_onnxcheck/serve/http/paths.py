"""Paths as a client has them, and without what a proxy has taken off."""

from __future__ import annotations

from fastapi import Request
from starlette.types import Scope

__all__ = ["inner_path", "root"]


def inner_path(scope: Scope) -> str:
    """A request's path without the one that a proxy has taken off: `/api/models`."""
    return str(scope["path"]).removeprefix(str(scope.get("root_path", "")))


def root(request: Request) -> str:
    """The path that the API's paths go on from, a proxy's own included: `/api`."""
    return str(request.scope.get("root_path", ""))
