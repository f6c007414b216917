"""Where a node comes from: the module, the source line and PyTorch's operator.

Dynamo's exporter writes them into a node's metadata. The TorchScript exporter writes the modules
into a node's name, `/encoder/layers.0/Relu`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.walk import dynamo_note
from pytest_onnxcheck.places import is_ours

if TYPE_CHECKING:
    import onnx

__all__ = ["module_of", "operator_of", "source_of", "users_file"]


def module_of(node: onnx.NodeProto, modules: Collection[str]) -> str | None:
    """The module an exporter ascribes a node to.

    Args:
        node: The node.
        modules: Paths of the model's modules, as `named_modules` gives them.

    Returns:
        Its path, empty for the model itself; None where the exporter says nothing.
    """
    scopes = dynamo_note(node, "name_scopes")
    if scopes is not None:
        return _innermost(scopes, modules)
    if not node.name.startswith("/"):
        return None
    path = ""
    for part in node.name.split("/")[1:-1]:
        path = _inside(path, part, modules)
    return path


def source_of(node: onnx.NodeProto, root: Path) -> str:
    """`file:line` of the user's innermost frame in dynamo's stack trace; empty without one.

    Args:
        node: The node.
        root: The manifest's folder, to which files are named relative.
    """
    stack = dynamo_note(node, "stack_trace") or ""
    frames = re.findall(r'File "([^"]+)", line (\d+)', stack)
    users = [f"{root / file}:{line}" for file, line in frames if users_file(file)]
    return users[-1] if users else ""


def operator_of(node: onnx.NodeProto) -> str:
    """PyTorch's operator that dynamo made a node of, e.g. `aten.relu`; empty without one."""
    target = re.search(r"target=torch\.ops\.(\w+\.\w+)", dynamo_note(node, "fx_node") or "")
    return target.group(1) if target else ""


def users_file(name: str) -> bool:
    """Whether a source file is the user's: no library's, not ours, and no generated code."""
    return not (name.startswith("<") or is_ours(name) or "-packages" in name or "/torch/" in name)


def _innermost(scopes: str, modules: Collection[str]) -> str | None:
    """The last of dynamo's scopes that is a module; the very last scope is the operator."""
    try:
        listed = ast.literal_eval(scopes)
    except (SyntaxError, ValueError):
        return None
    found = [scope for scope in listed[:-1] if scope in modules]
    return found[-1] if found else None


def _inside(path: str, part: str, modules: Collection[str]) -> str:
    """The module below a path that a part of a TorchScript scope names.

    A part is the attribute's name, or the path from where a container was indexed. A module that
    is called again gets a number behind its name.
    """
    parents = [path]
    while parents[-1]:
        parents.append(parents[-1].rpartition(".")[0])
    for name in (part, re.sub(r"_\d+$", "", part)):
        for parent in parents:
            candidate = f"{parent}.{name}".lstrip(".")
            if candidate in modules:
                return candidate
    return path
