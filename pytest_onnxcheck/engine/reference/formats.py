"""What a file is by its content, whatever its suffix says, and what to do with one that is none."""

from __future__ import annotations

import json
import pickletools
import re
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    *("begins_as_none", "dtypes_of", "is_safetensors", "is_torchscript", "unpacked_too_far"),
    "unreadable",
]

#: how much of a file is looked at
_HEAD = 4096
#: how much of a pickle is walked through for the names of its classes
_PICKLE = 1 << 20
_PICKLE_PROTO = b"\x80"
_ZIP = b"PK\x03\x04"

#: what zipfile raises of an archive whose table of contents is damaged
_DAMAGED = (zipfile.BadZipFile, NotImplementedError, OSError, ValueError, struct.error)
#: an archive may unpack to so many bytes, and beyond that to so many times its own
_ALWAYS, _MOST_PACKED = 1 << 28, 10

#: begin of a file -> what it is, and what to do
_MAGIC = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file, as Keras and TensorFlow write weights; {convert}",
    b"GGUF": "is a GGUF file of llama.cpp; {convert}",
    b"\x93NUMPY": "is an array of numpy; {convert}",
    b"\x1f\x8b": "is compressed with gzip: unpack it",
    b"BZh": "is compressed with bzip2: unpack it",
    b"\xfd7zXZ": "is compressed with xz: unpack it",
    b"(\xb5/\xfd": "is compressed with zstd: unpack it",
    b"model_checkpoint_path:": "is the list of a TensorFlow checkpoint; {convert}",
}
_CONVERT = (
    "only PyTorch's files can be loaded: convert it, or build the model from it in the factory"
)
#: end of a table of LevelDB, which the index of a TensorFlow checkpoint is
_TENSORFLOW_INDEX = struct.pack("<Q", 0xDB4775248B80FB57)
#: package of a class in a pickle -> what such a file is
_PICKLES = {
    "joblib": "a file of joblib",
    "sklearn": "a pickle of scikit-learn",
    "xgboost": "a pickle of XGBoost",
    "lightgbm": "a pickle of LightGBM",
    "tensorflow": "a pickle of TensorFlow",
    "keras": "a pickle of Keras",
    "jax": "a pickle of JAX",
    "jaxlib": "a pickle of JAX",
    "flax": "a pickle of Flax",
    "numpy": "a pickle of numpy",
}


def unreadable(path: Path) -> str | None:
    """Why a file cannot be a checkpoint of PyTorch, such as `is a Git LFS pointer`.

    Returns:
        A clause that the file's name goes before; None where its content does not say.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return "is empty"
    known = next((text for magic, text in _MAGIC.items() if head.startswith(magic)), None)
    if known is not None:
        return known.format(convert=_CONVERT)
    if re.match(rb"\s*<(!doctype )?html", head, re.IGNORECASE):
        return "is a web page: the download gave a page in place of the file"
    if head.startswith(_ZIP):
        return _zip(path)
    if is_safetensors(path):
        return _short_safetensors(path)
    if _is_prose(head):
        first = head.decode(errors="ignore").partition("\n")[0]
        return f"is a text, which begins with {first[:40]!r}"
    what = _pickled(path) if head.startswith(_PICKLE_PROTO) else _binary(path, head)
    return None if what is None else f"is {what}; {_CONVERT}"


def unpacked_too_far(path: Path) -> str | None:
    """That an archive unpacks to far more than it is, which PyTorch's own never do; else None.

    Whoever loads it gets all of that into memory. Its members are not unpacked to see it.
    """
    size = path.stat().st_size
    try:
        members = _members(path) if zipfile.is_zipfile(path) else []
    except _DAMAGED:
        return None
    total = sum(member.file_size for member in members)
    if total <= max(_ALWAYS, _MOST_PACKED * size):
        return None
    return (
        f"has {size:,} bytes and unpacks to {total:,}: torch.save does not pack. Save it anew with "
        "torch.save if it is yours, and leave it alone if it is not"
    )


def _members(path: Path) -> list[zipfile.ZipInfo]:
    with zipfile.ZipFile(path) as archive:
        return archive.infolist()


def begins_as_none(path: Path) -> str | None:
    """That a file begins as none of those that PyTorch writes, `is neither ...`; else None."""
    with path.open("rb") as file:
        head = file.read(4)
    whole = head.startswith((_PICKLE_PROTO, _ZIP)) or is_safetensors(path)
    if whole or tarfile.is_tarfile(path):  # a tar: torch before 0.2
        return None
    return "is neither an archive, nor a pickle, nor safetensors: torch did not write it"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors do, whole or not: a length and a table in JSON."""
    with path.open("rb") as file:
        head = file.read(9)
    return len(head) == 9 and head[8:] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] < 10**8


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    return any(member.filename.endswith("constants.pkl") for member in _members(path))


def dtypes_of(path: Path) -> set[str]:
    """The dtypes of the floating tensors in a whole safetensors file, by torch's names."""
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    found = {entry["dtype"] for entry in _table(path).values() if "dtype" in entry}
    return {names[dtype] for dtype in found if dtype in names}


def _table(path: Path) -> Mapping[str, Any]:
    """The table that a safetensors file begins with.

    Raises:
        ValueError: It is cut short, or not JSON.
    """
    with path.open("rb") as file:
        table = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    if not isinstance(table, dict):
        raise ValueError(f"{path}: a {type(table).__name__}, not a table")
    return table


def _short_safetensors(path: Path) -> str | None:
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = 8 + struct.unpack("<Q", file.read(8))[0]
        ends = [e["data_offsets"][1] for e in _table(path).values() if "data_offsets" in e]
        wanted = length + max(ends, default=0)
    except (ValueError, LookupError, TypeError):
        if size >= length:
            return "is safetensors whose header is damaged: copy or download it again"
        wanted = length
    return (
        _cut_short(f"it should have {wanted:,} bytes and has {size:,}") if size < wanted else None
    )


def _cut_short(how: str) -> str:
    return f"is cut short ({how}): copy or download it again"


def _zip(path: Path) -> str | None:
    try:
        if not zipfile.is_zipfile(path):
            size = f"{path.stat().st_size:,} bytes"
            return _cut_short(f"an archive without its end, {size}")
        names = [member.filename for member in _members(path)]
    except _DAMAGED as error:
        return f"is a damaged archive ({error}): copy or download it again"
    if any(name.endswith("archive_format") for name in names):
        return "is a program of torch.export: give it the suffix .pt2"
    if "model.weights.h5" in names:
        return f"is a model of Keras; {_CONVERT}"
    if names and all(name.endswith(".npy") for name in names):
        return f"is an .npz of numpy; {_CONVERT}"
    if any(name.endswith("data.pkl") for name in names):
        return None
    return "is a zip archive, and none of torch.save: unpack it, and name the file in it"


def _pickled(path: Path) -> str | None:
    """What a pickle is by the packages of its classes; none of it is run."""
    with path.open("rb") as file:
        content = file.read(_PICKLE)
    words: list[str] = []
    packages: set[str] = set()
    try:
        for operation, argument, _ in pickletools.genops(content):
            if operation.name == "GLOBAL":
                packages.add(str(argument).partition(" ")[0].partition(".")[0])
            elif operation.name == "STACK_GLOBAL":
                packages.update(word.partition(".")[0] for word in words[-2:])
            elif isinstance(argument, str):
                words.append(argument)
    except (ValueError, IndexError, EOFError):
        pass  # joblib puts its arrays between
    if "torch" in packages:
        return None
    return next((what for package, what in _PICKLES.items() if package in packages), None)


def _is_prose(head: bytes) -> bool:
    """Whether a file begins as a text, and not as a pickle of the oldest protocol, a text too."""
    if not re.fullmatch(rb"[\t\r\n\x20-\x7e\x80-\xff]+", head):
        return False
    try:
        head.decode("utf-8", errors="strict" if len(head) < _HEAD else "ignore")
        for _ in pickletools.genops(head):
            pass
    except UnicodeDecodeError:
        return False
    except ValueError as error:  # a pickle that goes on behind the head ends in the middle
        return "exhausted" not in str(error)
    return False


def _binary(path: Path, head: bytes) -> str | None:
    """What a file without magic is by the form of its first bytes."""
    if head[4:8] == b"TFL3":
        return "a model of TensorFlow Lite"
    # protobuf: the first field, a number; then the second, or a text
    if head[:3] == b"\x08\x01\x12":
        return "a SavedModel of TensorFlow"
    second = head[1] if len(head) > 1 else 0
    if head[:1] == b"\x08" and 2 <= second <= 30 and head[2:3] in {b"\x12", b":", b"\x1a"}:
        return "an ONNX model: `onnx = ` takes artefacts that exist already"
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - 8))
        if file.read() == _TENSORFLOW_INDEX:
            return "the index of a TensorFlow checkpoint"
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return "the data of a TensorFlow checkpoint"
    # msgpack: a map, whose first key is a text
    if 0x81 <= head[0] <= 0x8F and 0xA1 <= second <= 0xBF and _text(head[2 : 2 + second - 0xA0]):
        return "a msgpack file, as Flax writes weights"
    return None


def _text(part: bytes) -> bool:
    return re.fullmatch(rb"[\w./-]+", part) is not None
