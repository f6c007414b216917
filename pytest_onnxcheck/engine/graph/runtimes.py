"""Which releases of ONNX Runtime load a model, by a table of what each of them has.

The table, `runtimes.json`, is written by `python -m conformance.runtimes`, which asks real
releases: the IR version and opsets that they read, and the operators, types and attributes for
which their CPU provider opens a session. Releases before the first that was asked have the versions
alone, from ONNX Runtime's documentation.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.types import element_types
from pytest_onnxcheck.engine.graph.walk import nodes_of

if TYPE_CHECKING:
    import onnx

__all__ = [
    "Runtime",
    "Uses",
    "lowest_release",
    "obstacles",
    "oldest_onnxruntime",
    "release",
    "runtimes",
    "uses",
]

_TABLE = Path(__file__).with_suffix(".json")
#: parts of the types that nobody was asked about
_NOT_ASKED = ("complex", "float6", "fnuz", "e8m0", "int2")
#: types that are named where an operator does not take others, at most
_NAMED = 8


@dataclass(frozen=True)
class Runtime:
    """A release of ONNX Runtime.

    Attributes:
        version: E.g. `1.17`.
        ir_version: The newest IR version that it reads.
        opsets: Domain -> newest opset that it reads.
        tried: The release that was asked, e.g. `1.17.0`: the first of its minor version that there
            are wheels of; None where only its versions are known.
        python: The newest Python that there are wheels of it for, e.g. `3.12`; None as above.
    """

    version: str
    ir_version: int
    opsets: Mapping[str, int]
    tried: str | None
    python: str | None = None

    @property
    def number(self) -> tuple[int, ...]:
        """The version, to compare."""
        return _number(self.version)


@dataclass(frozen=True)
class _Use:
    """One way in which a model uses an operator.

    Attributes:
        operator: Its name, with the domain unless that is ai.onnx.
        since: The opset that its version begins with.
        types: Types at the table's keys; None where one is not known.
        attributes: The attributes that it sets.
        inputs: How many inputs it has.
        node: Name of the first such node.
    """

    operator: str
    since: int
    types: tuple[str, ...] | None
    attributes: frozenset[str]
    inputs: int
    node: str


@dataclass(frozen=True)
class Uses:
    """What a model asks of a runtime.

    Attributes:
        ir_version: Version of the file format.
        opsets: Domain -> version; ai.onnx under that name.
        operators: Each way in which it uses an operator that the table knows, once.
        unknown: Operators that the table does not know: nothing is said of them.
    """

    ir_version: int
    opsets: dict[str, int]
    operators: tuple[_Use, ...]
    unknown: tuple[str, ...]


@functools.cache
def runtimes() -> tuple[Runtime, ...]:
    """The releases of the table, the oldest first."""
    return tuple(
        Runtime(
            entry["version"],
            entry["ir"],
            entry["opsets"],
            entry.get("tried"),
            entry.get("python"),
        )
        for entry in _table()["releases"]
    )


def release(version: str) -> Runtime:
    """The table's row of a version such as `1.17` or `1.17.3`: the newest that is not above it."""
    rows = [row for row in runtimes() if row.number <= _number(version)[:2]]
    return rows[-1] if rows else runtimes()[0]


def lowest_release(version: str, python: tuple[int, int] = sys.version_info[:2]) -> str:
    """The lowest release from a version on that there are wheels of, such as `1.17.0`.

    Args:
        version: Such as `1.17` or `1.17.3`; one beyond the table is taken for a release.
        python: For which Python.
    """
    asked = _number(version)
    exact = version if len(asked) > 2 else f"{version}.0"
    for row in runtimes():
        if row.number >= asked[:2] and row.python and _number(row.python) >= python:
            return exact if row.number == asked[:2] and len(asked) > 2 else str(row.tried)
    newest = runtimes()[-1]
    return str(newest.tried) if newest.number >= asked[:2] else exact


def uses(model: onnx.ModelProto) -> Uses:
    """What a model asks of a runtime. Weights' data need not be loaded."""
    import onnx.inliner

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    types = element_types(model, _outputs_of)
    found: dict[object, _Use] = {}
    unknown: dict[str, None] = {}
    for node in nodes_of(model.graph):
        name = _name(node)
        entry = _version(name, opsets.get(node.domain or "ai.onnx", 1))
        if entry is None:
            unknown[name] = None
            continue
        attributes = frozenset(attribute.name for attribute in node.attribute)
        inputs = len(node.input)
        given = _types_at(entry["keys"], node, types)
        use = _Use(name, entry["since"], given, attributes, inputs, node.name)
        found.setdefault((name, given, attributes, inputs), use)
    return Uses(model.ir_version, opsets, tuple(found.values()), tuple(unknown))


def obstacles(used: Uses, runtime: Runtime) -> list[str]:
    """Why a release does not load a model; empty where nothing is known that keeps it.

    Args:
        used: What the model asks for.
        runtime: The release.
    """
    return list(dict.fromkeys(_obstacles(used, runtime)))


def oldest_onnxruntime(used: Uses) -> str | None:
    """The oldest ONNX Runtime that loads a model, and of which all newer ones do.

    Returns:
        A version such as `1.17`; None where the table's newest does not.
    """
    oldest = None
    for runtime in reversed(runtimes()):
        if next(_obstacles(used, runtime), None) is not None:
            break
        oldest = runtime.version
    return oldest


def _obstacles(used: Uses, runtime: Runtime) -> Iterator[str]:
    if used.ir_version > runtime.ir_version:
        yield f"IR version {used.ir_version}, and it reads {runtime.ir_version} and older"
    too_new = set()
    for domain, version in used.opsets.items():
        most = runtime.opsets.get(domain)
        if most is not None and version > most:
            too_new.add(domain)
            yield f"opset {version} of {domain}, and it has {most}"
    if runtime.tried is None:
        return
    for use in used.operators:
        domain = use.operator.rpartition("::")[0] or "ai.onnx"
        if domain not in too_new:
            yield from _missing(use, runtime)


def _missing(use: _Use, runtime: Runtime) -> Iterator[str]:
    """What a release lacks for one use of an operator."""
    entry = _version(use.operator, use.since)
    assert entry is not None
    what = f"{use.operator} (node {use.node!r})"
    held = {
        types: span for span, listed in entry["types"].items() for types in listed
    }  # types, joined -> the releases
    there = [types for types, span in held.items() if _within(span, runtime)]
    if held and not there:
        yield f"{what}: it does not have this operator in the version of opset {use.since}"
        return
    given = None if use.types is None else " ".join(use.types)
    if held and given is not None and given not in there and _asked(entry, use.types or ()):
        takes = ", ".join(there[:_NAMED]) + (", ..." if len(there) > _NAMED else "")
        yield f"{what}: not on {given.replace(' ', ', ')}; it has it on {takes}"
        return
    for span, names in entry.get("attributes", {}).items():
        if not _within(span, runtime):
            for name in sorted(use.attributes.intersection(names)):
                yield f"{what}: it does not know the attribute {name!r}"
    for span, counts in entry.get("more_inputs", {}).items():
        if use.inputs in counts and not _within(span, runtime):
            yield f"{what}: it does not take {use.inputs} inputs"


def _asked(entry: Mapping[str, Any], types: tuple[str, ...]) -> bool:
    """Whether releases were asked for an operator on these types."""
    if any(part in kind for kind in types for part in _NOT_ASKED):
        return False
    return not entry.get("usual_types_only")


def _within(span: str, runtime: Runtime) -> bool:
    """Whether a release is in `1.17` (from there on) or `1.17-1.20`; `?` is taken for yes."""
    if span == "?":
        return True
    first, _, last = span.partition("-")
    return _number(first) <= runtime.number and (not last or runtime.number <= _number(last))


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@functools.cache
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return found


def _name(node: onnx.NodeProto) -> str:
    domain = "" if node.domain == "ai.onnx" else node.domain
    return f"{domain}::{node.op_type}" if domain else str(node.op_type)


def _version(operator: str, opset: int) -> dict[str, Any] | None:
    """The table's entry of an operator as an opset has it."""
    versions = _table()["operators"].get(operator, [])
    return next((entry for entry in reversed(versions) if entry["since"] <= opset), None)


def _types_at(
    keys: list[str], node: onnx.NodeProto, types: Mapping[str, str]
) -> tuple[str, ...] | None:
    """The types of a node's values at `i0` (its first input), `o1` (its second output)."""
    found = []
    for key in keys:
        values = node.input if key[0] == "i" else node.output
        place = int(key[1:])
        kind = types.get(values[place]) if place < len(values) else None
        if kind is None:
            return None
        found.append(kind)
    return tuple(found)


def _outputs_of(node: onnx.NodeProto, opset: int) -> tuple[list[str], list[str]]:
    """The types of an operator's inputs and outputs, or what stands for them in its schema."""
    entry = _version(_name(node), opset)
    return (entry["inputs"], entry["outputs"]) if entry else ([], [])
