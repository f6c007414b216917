"""External data: which part of which file every weight lies in, and whether it is there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.walk import tensors

if TYPE_CHECKING:
    import onnx

__all__ = ["data_faults", "locations", "unread_bytes"]


def locations(path: Path) -> list[str]:
    """The names of the data files an artefact reads, sorted."""
    return sorted({part.location for part in _parts(_graph_alone(path))} - {""})


def data_faults(path: Path) -> list[str]:
    """What keeps weights from being read from external data, one text each; empty when all are.

    Every weight must lie within its file, in as many bytes as its shape and type take and in no
    other's, and every file inside the artefact's folder. A file is read only where the artefact
    notes its SHA-1.

    Args:
        path: The artefact.

    Raises:
        Exception: It is no ONNX file.
    """
    return _faults(path.parent, _by_file(path))


def unread_bytes(path: Path) -> dict[str, int]:
    """Bytes at the end of data files that no weight is read from, by file.

    Files that are read to their end are left out, and all where `data_faults` finds something.
    """
    by_file = _by_file(path)
    if _faults(path.parent, by_file):
        return {}
    left = {
        name: (path.parent / name).stat().st_size - max(part.offset + part.needed for part in parts)
        for name, parts in by_file.items()
    }
    return {name: count for name, count in left.items() if count > 0}


@dataclass(frozen=True)
class _Part:
    """Where a weight lies.

    Attributes:
        tensor: The weight's name.
        what: Its type and shape, for people.
        needed: Bytes that they take.
        noted: What the artefact notes: `location`, `offset`, `length`, `checksum`.
    """

    tensor: str
    what: str
    needed: int
    noted: Mapping[str, str]

    @property
    def location(self) -> str:
        return self.noted.get("location", "")

    @property
    def offset(self) -> int:
        return int(self.noted.get("offset") or 0)

    @property
    def length(self) -> int | None:
        """None where the artefact does not say: then it reaches to the end of the file."""
        return int(self.noted["length"]) if self.noted.get("length") else None


def _by_file(path: Path) -> dict[str, list[_Part]]:
    by_file: dict[str, list[_Part]] = {}
    for part in _parts(_graph_alone(path)):
        by_file.setdefault(part.location, []).append(part)
    return by_file


def _faults(folder: Path, by_file: Mapping[str, list[_Part]]) -> list[str]:
    return [
        fault for location, parts in by_file.items() for fault in _of_file(folder, location, parts)
    ]


def _graph_alone(path: Path) -> onnx.ModelProto:
    import onnx

    return onnx.load(path, load_external_data=False)


def _parts(model: onnx.ModelProto) -> Iterator[_Part]:
    import onnx

    for tensor in tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            kind = onnx.TensorProto.DataType.Name(tensor.data_type)
            noted = {entry.key: entry.value for entry in tensor.external_data}
            yield _Part(tensor.name, f"{kind} {list(tensor.dims)}", _bytes(tensor), noted)


def _bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's data; types of 2 and 4 bits are packed."""
    import onnx

    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    packed = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
    whole: int = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    count: int = math.prod(tensor.dims)
    return (count * packed.get(kind, whole) + 7) // 8


def _of_file(folder: Path, location: str, parts: list[_Part]) -> Iterator[str]:
    first = f"weight {parts[0].tensor!r}" + (f" and {len(parts) - 1} more" if parts[1:] else "")
    file = folder / location
    if not location:
        yield f"the artefact names no data file for {first}"
    elif not _inside(folder, location):
        yield (
            f"data file {location!r}, which holds {first}, lies outside of the artefact's folder: "
            "it is lost when the folder is shipped, and ONNX forbids it"
        )
    elif not file.is_file():
        yield f"data file {location!r}, which holds {first}, is missing"
    else:
        size = file.stat().st_size
        wrong = [fault for part in parts if (fault := _of_part(part, size))]
        wrong = wrong or list(_overlaps(parts))
        if wrong:
            more = f" (so it is with {len(wrong) - 1} more)" if wrong[1:] else ""
            yield f"data file {location!r} has {size} bytes; {wrong[0]}{more}"
        yield from _of_checksum(file, location, parts)


def _inside(folder: Path, location: str) -> bool:
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive:
        return False
    return ".." not in PureWindowsPath(location).parts


def _of_part(part: _Part, size: int) -> str | None:
    name = f"weight {part.tensor!r}"
    try:
        offset, length = part.offset, part.length
    except ValueError:
        return f"offset or length of {name} is no number: {dict(part.noted)}"
    end = size if length is None else offset + length
    if offset < 0 or offset > size or end > size:
        return f"{name} is to be read from {offset} to {offset + (length or part.needed)}"
    if end - offset != part.needed:
        return f"{name}, {part.what}, takes {part.needed} bytes, and {end - offset} are set apart"
    return None


def _overlaps(parts: list[_Part]) -> Iterator[str]:
    """Weights that have bytes in common; those that are the same bytes are one weight, shared."""
    placed = sorted({(part.offset, part.offset + part.needed): part for part in parts}.items())
    for ((_, end), one), ((start, _), other) in pairwise(placed):
        if start < end:
            names = f"weights {one.tensor!r} and {other.tensor!r}"
            yield f"{names} overlap: one ends at {end}, the other starts at {start}"


def _of_checksum(file: Path, location: str, parts: list[_Part]) -> Iterator[str]:
    """ONNX lets an artefact note the SHA-1 of a whole data file."""
    noted = {part.noted["checksum"].lower() for part in parts if part.noted.get("checksum")}
    if noted:
        with file.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha1").hexdigest()
        if noted != {found}:
            yield (
                f"data file {location!r} is another one than the artefact was made with: its SHA-1 "
                f"is {found[:12]}…, noted {min(noted - {found})[:12]}…"
            )
