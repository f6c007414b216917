"""What a worker holds its jobs to, and where it keeps what they build."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """The options of a worker. Paths are absolute.

    Attributes:
        timeout: Seconds that a job may take; None for any.
        memory: Bytes that the processes of a job may hold together; None for any.
        artifacts: The folder of artefacts; None for `.onnxcheck` beside the manifest.
        cache: See `--onnxcheck-cache`; likewise the next two.
        cache_size: In bytes.
        cache_remote: `s3://BUCKET/PREFIX` or `file:///FOLDER`.
        releases: Where releases are published, as `--onnxcheck-release`; None to make the bundle in
            the job's folder.
        key: The private key that signs them, in PEM.
    """

    timeout: float | None = None
    memory: int | None = None
    artifacts: str | None = None
    cache: str | None = None
    cache_size: int | None = None
    cache_remote: str | None = None
    releases: str | None = None
    key: str | None = None

    def check(self) -> None:
        """Looks at what can be looked at before the first job: the stores, and the key.

        Raises:
            ReleaseError: The key cannot sign.
            StorageError: Nothing can be published there, or the remote cache is none.
            OSError: The key cannot be read.
        """
        from pytest_onnxcheck.api.release import check
        from pytest_onnxcheck.storage import open_store

        if self.cache_remote is not None:
            open_store(self.cache_remote)
        check((), self.releases or "", None if self.key is None else Path(self.key))

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)
