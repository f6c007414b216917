"""Jobs that many ask for at once: all who wait are answered by one look into the store.

No request is answered by a look that began before it came: what a client did before, it sees.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from anyio.to_thread import run_sync

from pytest_onnxcheck.serve.http.schemas import JobInfo
from pytest_onnxcheck.serve.jobs.job import NoSuchJob

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.job import Job
    from pytest_onnxcheck.serve.jobs.queue import Jobs

__all__ = ["Reader"]


class Reader:
    """Reads jobs for the requests of one event loop."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def get(self, id: str) -> bytes:
        """A job as `JobInfo` has it, in JSON.

        Raises:
            NoSuchJob: There is no such job.
            StoreError: The store is not reached.
            Exception: Whatever else the look met: none who waits is left waiting.
        """
        future = self._waiting.get(id)
        if future is None:
            future = self._waiting[id] = asyncio.get_running_loop().create_future()
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(future)  # others wait for it too

    async def _read(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            found: list[bytes | Exception]
            try:
                found = await run_sync(self._look, list(batch))
            except Exception as error:
                found = [error] * len(batch)
            for future, answer in zip(batch.values(), found, strict=True):
                if isinstance(answer, bytes):
                    future.set_result(answer)
                else:
                    future.set_exception(answer)
                    future.exception()  # whoever asked may be gone

    def _look(self, ids: list[str]) -> list[bytes | Exception]:
        found = self._jobs.several(ids)
        return [_written(found[id]) if id in found else NoSuchJob.of(id) for id in ids]


def _written(job: Job) -> bytes | Exception:
    """A job in JSON; the error where it is none that the API has: others were asked for too."""
    try:
        return JobInfo.model_validate(job.to_json()).model_dump_json().encode()
    except ValueError as error:
        return error
