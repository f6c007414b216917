"""What every operation works with, and how it gets it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from pytest_onnxcheck.serve.http.limits import Limits
from pytest_onnxcheck.serve.http.reading import Reader
from pytest_onnxcheck.serve.http.tally import Tally

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.catalogue import Catalogue
    from pytest_onnxcheck.serve.jobs.queue import Jobs

__all__ = ["Door", "State"]


@dataclass
class State:
    """What the API is a door to.

    Attributes:
        catalogue: What is known of the models.
        jobs: The jobs.
        limits: How much is taken.
        reader: Reads jobs that many ask for at once.
        tally: Counts jobs that have ended.
        examining: Is held while a checkpoint that was sent is looked at, which takes a process
            with gigabytes: two at once.
        streams: How many event streams are open.
        ending: Whether the server is told to end.
    """

    catalogue: Catalogue
    jobs: Jobs
    limits: Limits = field(default_factory=Limits)
    reader: Reader = field(init=False)
    tally: Tally = field(init=False)
    examining: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    streams: int = 0
    ending: bool = False

    def __post_init__(self) -> None:
        """Sets what follows."""
        self.reader = Reader(self.jobs)
        self.tally = Tally(self.jobs)


async def _state(request: Request) -> State:
    found: State = request.app.state.door
    return found


Door = Annotated[State, Depends(_state)]
