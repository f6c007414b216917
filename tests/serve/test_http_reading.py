"""Status requests that come at once are answered by one look, and never by one from before."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest
from served import small_project

from pytest_onnxcheck.serve.http.reading import Reader
from pytest_onnxcheck.serve.jobs.job import Job, NoSuchJob
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.jobs.store import StoreError


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return open_jobs(small_project(tmp_path))


class Watched:
    """Jobs whose looks are counted, and can be held up."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self.looks: list[list[str]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def several(self, names: list[str]) -> dict[str, Job]:
        self.looks.append(names)
        found = self.jobs.several(names)
        self.go_on.wait(10)
        return found


def test_who_asks_at_once_is_answered_by_one_look(jobs: Jobs):
    made = [jobs.submit("export", "mlp").id for _ in range(3)]
    watched = Watched(jobs)

    async def ask() -> list[bytes]:
        reader = Reader(watched)  # type: ignore[arg-type]
        return await asyncio.gather(*(reader.get(made[number % 3]) for number in range(60)))

    answers = [json.loads(answer) for answer in asyncio.run(ask())]
    assert [answer["id"] for answer in answers] == made * 20
    assert watched.looks == [made]


def test_nobody_is_answered_by_a_look_that_began_before_he_asked(jobs: Jobs):
    job = jobs.submit("export", "mlp").id
    watched = Watched(jobs)

    async def ask() -> tuple[bytes, bytes]:
        reader = Reader(watched)  # type: ignore[arg-type]
        watched.go_on.clear()
        early = asyncio.create_task(reader.get(job))
        while not watched.looks:
            await asyncio.sleep(0.001)
        jobs.cancel(job)
        late = asyncio.create_task(reader.get(job))
        await asyncio.sleep(0.01)
        watched.go_on.set()
        return await early, await late

    early, late = asyncio.run(ask())
    assert json.loads(early)["state"] == "queued"
    assert json.loads(late)["state"] == "cancelled"
    assert len(watched.looks) == 2


def test_one_that_is_not_there_spoils_no_other(jobs: Jobs):
    job = jobs.submit("export", "mlp").id

    async def ask() -> list[bytes | BaseException]:
        reader = Reader(jobs)
        names = (job, "1-00000000", "nothing", "9")
        return await asyncio.gather(*map(reader.get, names), return_exceptions=True)

    found, *missing = asyncio.run(ask())
    assert isinstance(found, bytes)
    assert [type(error) for error in missing] == [NoSuchJob] * 3
    assert "'1-00000000'" in str(missing[0])


def test_a_store_that_is_away_is_told_to_all(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    def away(names: list[str]) -> dict[str, Job]:
        raise StoreError("the store is away")

    monkeypatch.setattr(jobs, "several", away)

    async def ask() -> list[bytes | BaseException]:
        reader = Reader(jobs)
        return await asyncio.gather(reader.get("1"), reader.get("2"), return_exceptions=True)

    assert [str(error) for error in asyncio.run(ask())] == ["the store is away"] * 2


def test_whatever_else_goes_wrong_is_told_to_all_who_wait(jobs: Jobs):
    job = jobs.submit("export", "mlp").id
    jobs.huey.storage.put_data("ended:1", b"no JSON")

    async def ask() -> list[bytes | BaseException]:
        reader = Reader(jobs)
        asked = asyncio.gather(reader.get(job), reader.get("9-0"), return_exceptions=True)
        return await asyncio.wait_for(asked, 20)

    assert [type(error) for error in asyncio.run(ask())] == [json.JSONDecodeError] * 2


def test_a_job_that_the_api_cannot_tell_spoils_no_other(jobs: Jobs):
    job = jobs.submit("export", "mlp").id
    asked = {"id": "2-0", "kind": "unknown", "model": "mlp", "created": "then"}
    asked |= {"options": {"precisions": []}}
    jobs.huey.put("asked:2", asked)

    async def ask() -> list[bytes | BaseException]:
        reader = Reader(jobs)
        asked = asyncio.gather(reader.get("2-0"), reader.get(job), return_exceptions=True)
        return await asyncio.wait_for(asked, 20)

    wrong, right = asyncio.run(ask())
    assert "kind" in str(wrong)
    assert isinstance(right, bytes)
