"""What only says where a graph comes from: taken out, and looked for in what is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = ["found_paths", "strip"]

#: fields of any part of a graph that no runtime reads: stack traces, scopes, comments
_STRIPPED = ("doc_string", "metadata_props")

#: how much is shown of a text in which a path was found
_SHOWN = 100


def strip(model: onnx.ModelProto) -> dict[str, int]:
    """Takes doc strings and metadata out of a model, in place, functions and subgraphs included.

    The model's own `metadata_props` stay: ONNX Runtime hands them to the application.

    Returns:
        How many of each were taken out, by the field's name.
    """
    kept = list(model.metadata_props)
    removed: Counter[str] = Counter()
    _clear(model, removed)
    model.metadata_props.extend(kept)
    removed["metadata_props"] -= len(kept)
    return {name: removed[name] for name in _STRIPPED}


def found_paths(content: bytes, paths: Iterable[str]) -> tuple[str, ...]:
    """The texts in a file in which a path stands, one for each of the paths, shortened.

    Args:
        content: The file.
        paths: The paths of this machine.
    """
    found = []
    for path in paths:
        at = content.find(path.encode())
        if at >= 0:
            text = content[at : at + _SHOWN].decode("utf-8", "replace")
            found.append("".join(letter if letter.isprintable() else "\0" for letter in text))
    return tuple(dict.fromkeys(text.partition("\0")[0] for text in found))


def _clear(message: Any, removed: Counter[str]) -> None:
    """Clears the fields of a message and of all inside it; weights are not walked."""
    for name in _STRIPPED:
        if name in message.DESCRIPTOR.fields_by_name:
            value = getattr(message, name)
            # an empty text counts for nothing, and is cleared: it takes bytes
            removed[name] += len(value) if name == "metadata_props" else bool(value)
            message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for inner in [value] if hasattr(value, "ListFields") else value:
            _clear(inner, removed)
