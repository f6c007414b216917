"""Small entries of a cache, in a module that a process of its own can import."""

import hashlib
import time
from pathlib import Path

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.cache.entry import Build
from pytest_onnxcheck.measurement import HashedFile

PLACE = "net/dynamo-op20-fp32"


def key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


class Maker:
    """Builds an entry of two files, and counts."""

    def __init__(self, name: str = "one", size: int = 1000, *, then=lambda work: None) -> None:
        self.key = key(name)
        self.count = 0
        self.contents = {
            "model.onnx": name.encode() * (size // len(name)),
            "model.onnx.data": bytes(10),
        }
        self.then = then

    def __call__(self, work: Path) -> Build:
        self.count += 1
        files = []
        for name, content in self.contents.items():
            (work / name).write_bytes(content)
            files.append(HashedFile(name, len(content), hashlib.sha256(content).hexdigest()))
        self.then(work)
        whole = hashlib.sha256(b"".join(self.contents.values())).hexdigest()
        return Build(self.key, PLACE, whole, tuple(files), 1.5, {"options": {}})

    def get(self, cache: BuildCache):
        return cache.get(PLACE, self.key, self)


def home(root: Path, name: str = "one") -> Path:
    return root / PLACE / key(name)[:16]


def use_until_told(root: Path, told) -> None:
    """A process that builds an entry, and lives on until it is told to end."""
    cache = BuildCache(root)
    Maker("held").get(cache)
    told.wait()
    told.wait()


def slowly(root: Path, log: Path, start) -> None:
    """Builds an entry when the others do; writes down that it did."""

    def note(work: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.3)

    start.wait()
    Maker(then=note).get(BuildCache(root / "own", root / "shared"))
