"""Checkpoints that somebody sent, under names of ours; nothing is kept that could run code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter

from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.files import abandoned, file_sha256, flush, write_atomically
from pytest_onnxcheck.processes import ended

__all__ = ["Upload", "Uploads"]

#: seconds until the process that looks at a file is given up
_SECONDS = 180.0
_SUFFIXES = {"safetensors": ".safetensors", "torch": ".pt"}


@dataclass(frozen=True)
class Upload:
    """A checkpoint that was sent.

    Attributes:
        name: The name that it has here: the model's, and the beginning of its hash.
        model: The model that it was sent for.
        file: Name of its file in the folder.
        size_bytes: Its size.
        sha256: Hash of its contents.
        received: When it came, in UTC.
        format: `safetensors` or `torch`.
        state_dicts: See `Received`.
    """

    name: str
    model: str
    file: str
    size_bytes: int
    sha256: str
    received: str
    format: str
    state_dicts: tuple[str, ...]


_WRITTEN = TypeAdapter(Upload)


class Uploads:
    """A folder with what was sent: the files, and beside each what is known of it.

    Args:
        folder: The folder; what servers that were killed had received of a file is removed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        abandoned(folder)

    def of(self, model: str) -> list[Upload]:
        """What was sent for a model and is still there, the newest first."""
        found = [_read(path) for path in self.folder.glob("*.json")]
        mine = [
            upload
            for upload in found
            if upload is not None and upload.model == model and self.path(upload).is_file()
        ]
        return sorted(mine, key=lambda upload: upload.received, reverse=True)

    def path(self, upload: Upload) -> Path:
        """Where its file is."""
        return self.folder / upload.file

    def keep(self, model: str, received: Path) -> Upload:
        """Looks at a file that came, and keeps it under its own name.

        Args:
            model: The model that it is for, which the manifest has.
            received: The whole file, on the disk of this folder; it is moved or left alone.

        Raises:
            CheckpointError: It is no checkpoint, or would run code when it is loaded.
        """
        found = _examined(received)
        sha256 = file_sha256(received)
        name = f"{model}-{sha256[:12]}"
        file = name + _SUFFIXES[str(found["format"])]
        upload = Upload(
            name,
            model,
            file,
            received.stat().st_size,
            sha256,
            datetime.now(UTC).isoformat(timespec="seconds"),
            str(found["format"]),
            tuple(found["state_dicts"]),
        )
        flush(received)
        received.replace(self.folder / file)
        write_atomically(self.folder / f"{name}.json", json.dumps(asdict(upload)))
        return upload


def _read(path: Path) -> Upload | None:
    """What is known of a file that was sent; None where this is no file of ours, or damaged."""
    try:
        found = _WRITTEN.validate_json(path.read_bytes(), strict=True)
    except (OSError, ValueError):
        return None
    # the file lies beside it, whatever is written there
    return found if Path(found.file).name == found.file and found.name == path.stem else None


def _examined(path: Path) -> dict[str, list[str]]:
    """What a process with limits says of a file.

    Raises:
        CheckpointError: It refused the file, or did not live to say anything.
    """
    command = [sys.executable, "-m", "pytest_onnxcheck.serve.examine", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        raise CheckpointError(
            f"refused: reading it took more than {_SECONDS:g} s: send it as safetensors"
        ) from None
    if done.returncode:
        raise CheckpointError(
            f"refused: the process that read it ended with {ended(done.returncode)}: send it as "
            "safetensors"
        )
    answer: dict[str, list[str]] = json.loads(done.stdout)
    if "error" in answer:
        raise CheckpointError(str(answer["error"]))
    return answer
