"""Files as answers: with a hash for an ETag, in ranges, and never half of one."""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, Query, Request
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.measurement import HashedFile
from pytest_onnxcheck.serve.http.problems import ProblemError, response

__all__ = ["Which", "file_answer", "sha256_of", "zip_answer"]

_CHUNK = 1 << 20
#: every entry of an archive is of this time, so that equal files give equal archives
_TIME = (1980, 1, 1, 0, 0, 0)

_TYPES = {
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".md": "text/markdown; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: what a page of ours may do when it is opened from here: it has no part in this site
_SANDBOX = (
    "sandbox allow-scripts allow-popups; default-src 'none'; img-src data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'"
)


def _which(
    checkpoint: Annotated[
        str | None,
        Query(
            description="A name of the model's `checkpoints`; empty: the model without one; "
            "default: any."
        ),
    ] = None,
    dynamic: Annotated[
        bool | None,
        Query(description="Whether its sizes are open; default: open ones before fixed ones."),
    ] = None,
    batch_size: Annotated[
        int | None, Query(description="The only batch that it takes; default: any.")
    ] = None,
) -> dict[str, Any]:
    return {"checkpoint": checkpoint, "dynamic": dynamic, "batch_size": batch_size}


#: which of a variant's artefacts is asked for, as `Catalogue.artefact` takes it
Which = Annotated[dict[str, Any], Depends(_which)]


def file_answer(
    request: Request, path: Path, shown: str, sha256: str | None = None, *, inline: bool = False
) -> Response:
    """A file.

    Args:
        request: What is answered.
        path: The file.
        shown: The name that a browser saves it under.
        sha256: Its hash; default: it is read for it.
        inline: Whether a browser shows it, in a sandbox, in place of saving it.

    Raises:
        ProblemError: It is gone.
    """
    try:
        path.stat()
        digest = sha256 or sha256_of(path)
    except OSError:
        raise _gone(shown) from None
    headers = _headers(shown, digest, inline)
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    return _Ranged(path, headers=headers, media_type=_type(path))


def zip_answer(
    request: Request, folder: Path, files: tuple[HashedFile, ...], shown: str
) -> Response:
    """Several files as one archive, which is written while it is sent.

    Equal files give an equal archive, and its ETag is made of their names and hashes.

    Args:
        request: What is answered.
        folder: Where the files are.
        files: The files.
        shown: The name that a browser saves it under.

    Raises:
        ProblemError: One is gone.
    """
    if not all((folder / file.name).is_file() for file in files):
        raise _gone(shown)
    told = "".join(f"{file.name}\n{file.sha256}\n" for file in files)
    digest = hashlib.sha256(told.encode()).hexdigest()
    headers = _headers(shown, None, False) | {"ETag": f'"{digest}-zip"'}
    if _is_known(request, headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers, media_type="application/zip")
    return StreamingResponse(_zipped(folder, files), headers=headers, media_type="application/zip")


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, which is read once, and again when it was written anew.

    Raises:
        OSError: It cannot be read.
    """
    found = path.stat()
    return _sha256(path, found.st_mtime_ns, found.st_size)


@lru_cache(1024)
def _sha256(path: Path, modified: int, size: int) -> str:
    """Hash of a file as it is at a time and of a size."""
    return file_sha256(path)


class _Ranged(FileResponse):
    """A file, or a part of it; a part that it does not have is told as every error is."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = False

        async def told(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] >= 400:
                refused = True
                asked = Headers(scope=scope).get("range", "")
                problem = response(416, "range", f"the file has no part {asked!r}")
                await problem(scope, receive, send)
            elif not refused:
                await send(message)

        await super().__call__(scope, receive, told)


def _zipped(folder: Path, files: tuple[HashedFile, ...]) -> Iterator[bytes]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for file in files:
            entry = zipfile.ZipInfo(file.name, _TIME)
            entry.file_size = file.size_bytes
            with (folder / file.name).open("rb") as source, archive.open(entry, "w") as target:
                while piece := source.read(_CHUNK):
                    target.write(piece)
                    yield sink.taken()
            yield sink.taken()
    yield sink.taken()


class _Sink:
    """What an archive is written into, and taken out of at once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        pass

    def taken(self) -> bytes:
        taken, self._pieces = b"".join(self._pieces), []
        return taken


def _headers(shown: str, sha256: str | None, inline: bool) -> dict[str, str]:
    place = "inline" if inline else "attachment"
    plain = re.sub(r"[^A-Za-z0-9._+-]", "_", shown)  # for who reads no other, as curl -J
    found = {
        "Content-Disposition": f'{place}; filename="{plain}"; '
        f"filename*=UTF-8''{quote(shown, safe='')}",
        "Cache-Control": "private, no-cache",  # kept, and asked for by its ETag
    }
    if sha256 is not None:
        digest = base64.b64encode(bytes.fromhex(sha256)).decode()
        found |= {"ETag": f'"{sha256}"', "Repr-Digest": f"sha-256=:{digest}:"}
    if inline:
        found["Content-Security-Policy"] = _SANDBOX
    return found


def _is_known(request: Request, etag: str) -> bool:
    """Whether the client says that it has the file already."""
    given = request.headers.get("if-none-match", "")
    known = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in known or "*" in known


def _type(path: Path) -> str:
    return _TYPES.get(path.suffix, "application/octet-stream")


def _gone(shown: str) -> ProblemError:
    return ProblemError(404, "no-such-file", f"{shown} is no longer there: make it anew")
