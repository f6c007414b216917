"""What `onnxcheck inspect` prints."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_onnxcheck.measurement import TensorSpec
from pytest_onnxcheck.report.table import file_size

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.artefacts.contents import Contents

__all__ = ["inspection_lines"]

_LABEL = 12


def inspection_lines(
    found: Contents, last_listed: str, *, width: int = 80, graph: bool = False
) -> Iterator[str]:
    """An artefact's contents, a line or more for each.

    Args:
        found: The contents.
        last_listed: The newest ONNX Runtime that the table of versions has.
        width: Columns.
        graph: Whether to list the nodes.
    """
    parts = [
        *(("input" if not place else "", _spec(s)) for place, s in enumerate(found.inputs)),
        *(("output" if not place else "", _spec(s)) for place, s in enumerate(found.outputs)),
        ("opset", ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())),
        ("IR version", str(found.ir_version)),
        ("loads in", _runtime(found.oldest_onnxruntime, last_listed)),
        ("producer", found.producer or "not said"),
        ("parameters", f"{found.parameters:,}"),
        ("size", file_size(found.size_bytes)),
        ("operators", ", ".join(f"{name} {count}" for name, count in found.operators.items())),
    ]
    parts += [("metadata", f"{key} = {value}") for key, value in found.metadata.items()]
    parts += [("leaks", path) for path in found.leaked_paths] or [("leaks", "no path")]
    parts += [("DATA", fault) for fault in found.data_faults]
    for label, text in parts:
        yield from _wrapped(label, text, width)
    for file in found.files:
        yield f"{'file':<{_LABEL}}{file.name}, {file.size_bytes} bytes, SHA-256"
        yield f"{'':<{_LABEL}}{file.sha256}"
    if graph:
        yield ""
        for node in found.nodes:
            text = f"{', '.join(node.outputs)} = {node.operator}({', '.join(node.inputs)})"
            yield from _wrapped("", text, width, indent=2)


def _spec(spec: TensorSpec) -> str:
    return f"{spec.name}  {spec.dtype} [{', '.join(map(str, spec.shape or ()))}]"


def _runtime(oldest: str | None, last_listed: str) -> str:
    if oldest is None:
        return f"newer than ONNX Runtime {last_listed}, where the table of versions ends"
    return f"ONNX Runtime {oldest} and later, by IR version, opsets, operators and types"


def _wrapped(label: str, text: str, width: int, indent: int = _LABEL) -> Sequence[str]:
    return textwrap.wrap(
        text,
        max(width, 40),
        initial_indent=f"{label:<{indent}}",
        subsequent_indent=" " * (indent + 2),
        break_on_hyphens=False,
    ) or [label]
