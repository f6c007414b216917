"""What the tests of this folder did, and whether anything was lost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pytest_onnxcheck.release import Published, Releases, fetch, releases


@dataclass
class Tally:
    """Counts.

    Attributes:
        publishes: Calls of publish that said that the bundle is published.
        refused: Calls that failed with an error that says what to do.
        kills: Publishers that were killed.
        kills_before: Of them those that were killed before the bundle was released.
        races: Several publishers at once.
        cuts: Connections that were cut.
        downloads: Releases that were downloaded and verified.
        lost: Releases that were told and are not there.
        doubled: Releases that are there more than once.
        half: Releases that are listed and cannot be verified.
    """

    publishes: int = 0
    refused: int = 0
    kills: int = 0
    kills_before: int = 0
    races: int = 0
    cuts: int = 0
    downloads: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)

    def check(self, uri: str, told: Iterable[Published], to: Path) -> Releases:
        """That what is listed is what was told, once, and that all of it can be verified."""
        found = releases(uri)
        assert found.problems == ()
        listed = [(one.name, one.sha256) for one in found.released]
        self.doubled += [str(one) for one in set(listed) if listed.count(one) > 1]
        self.lost += [one.uri for one in told if (one.name, one.release.sha256) not in listed]
        for number, one in enumerate(found.released):
            where = f"{uri}/{one.name}/{one.version}"
            try:
                fetch(where, to / str(number))
                self.downloads += 1
            except Exception as error:  # whatever it is, it is counted
                self.half.append(f"{where}: {error}")
        assert (self.lost, self.doubled, self.half) == ([], [], [])
        return found

    def lines(self) -> list[str]:
        return [
            f"{self.publishes} publishes, {self.refused} that failed and said why, {self.kills} "
            f"kills ({self.kills_before} before the release was there), {self.races} races, "
            f"{self.cuts} connections cut, {self.downloads} downloads verified",
            f"lost: {len(self.lost)}, doubled: {len(self.doubled)}, half published: "
            f"{len(self.half)}",
        ]
