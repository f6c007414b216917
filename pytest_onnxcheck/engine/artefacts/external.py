"""External data: which part of which file every weight lies in, and whether it is there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.faults import tensor_bytes
from pytest_onnxcheck.engine.graph.walk import tensors
from pytest_onnxcheck.places import leads_out

if TYPE_CHECKING:
    import onnx

__all__ = ["data_faults", "data_files", "locations", "unread_bytes"]


def locations(path: Path) -> list[str]:
    """The names of the data files an artefact reads, sorted."""
    return sorted({part.location for part in _parts(_graph_alone(path))} - {""})


def data_files(path: Path) -> list[Path]:
    """The data files of an artefact that are there, by name; none outside of its folder."""
    names = locations(path)
    return [path.parent / name for name in names if _file_fault(path, name) is None]


def data_faults(path: Path) -> list[str]:
    """What keeps weights from being read from external data, one text each; empty when all are.

    Every weight must lie within its file, in as many bytes as its shape and type take and in no
    other's, and every file inside the artefact's folder, links followed. A file is read only where
    it does, and the artefact notes its SHA-1.

    Args:
        path: The artefact.

    Raises:
        Exception: It is no ONNX file.
    """
    return _faults(path, _by_file(path))


def unread_bytes(path: Path) -> dict[str, int]:
    """Bytes at the end of data files that no weight is read from, by file.

    Files that are read to their end are left out, and all where `data_faults` finds something.
    """
    by_file = _by_file(path)
    if _faults(path, by_file):
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


def _faults(path: Path, by_file: Mapping[str, list[_Part]]) -> list[str]:
    return [
        fault for location, parts in by_file.items() for fault in _of_file(path, location, parts)
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
            yield _Part(tensor.name, f"{kind} {list(tensor.dims)}", tensor_bytes(tensor), noted)


def _of_file(path: Path, location: str, parts: list[_Part]) -> Iterator[str]:
    first = f"weight {parts[0].tensor!r}" + (f" and {len(parts) - 1} more" if parts[1:] else "")
    if not location:
        yield f"the artefact names no data file for {first}"
        return
    fault = _file_fault(path, location)
    if fault is not None:
        yield f"data file {location!r}, which holds {first}, {fault}"
        return
    file = path.parent / location
    size = file.stat().st_size
    wrong = [fault for part in parts if (fault := _of_part(part, size))]
    wrong = wrong or list(_overlaps(parts))
    if wrong:
        more = f" (so it is with {len(wrong) - 1} more)" if wrong[1:] else ""
        yield f"data file {location!r} has {size} bytes; {wrong[0]}{more}"
    yield from _of_checksum(file, location, parts)


def _file_fault(path: Path, location: str) -> str | None:
    """Why a data file may not be opened, or is not there; nothing outside is looked at."""
    if leads_out(location):
        return (
            "lies outside of the artefact's folder: it is lost when the folder is shipped, and "
            "ONNX forbids it"
        )
    file = path.parent / location
    try:
        real = file.resolve()
        # where the artefact is itself a link, as in the cache of a hub, its data lies beside it
        folders = (path.parent.resolve(), path.resolve().parent)
        if not any(real.is_relative_to(folder) for folder in folders):
            return f"is a link that leads out of the artefact's folder, to {real}"
        if not real.exists():
            return "is missing"
        return None if real.is_file() else "is no regular file"
    except (OSError, ValueError, RuntimeError) as error:  # too long, of NUL, a circle of links
        return f"cannot be opened: {error}"


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
