"""The process that tries inputs: `child.py SUBJECT SEED FOLDER START STOP`; says a line each."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # what the tests share

from guard import Guard

from pytest_onnxcheck.errors import OnnxCheckError

#: subject -> the module that makes and tries its inputs
_MODULES = {"onnx": "onnx_files", "baselines": "histories"}

#: lines of a traceback that are told
_LINES = 14


class Tries:
    """The inputs of a subject.

    A subject's module has `Subject(name, work)`, which has `make(rng, folder)`, that writes an
    input, and `attempt(made)`, that does with it what the package does.
    """

    def __init__(self, name: str, seed: int, folder: Path) -> None:
        self.name, self.seed, self.folder = name, seed, folder
        self.work, self.outside = folder / "work", folder / "outside"
        self.outside.mkdir()
        self.work.mkdir()
        (self.outside / "secret.bin").write_bytes(bytes(range(256)) * 256)
        module = importlib.import_module(_MODULES.get(name, name))
        self.subject = module.Subject(name, self.work)
        self.guard = Guard(folder, self.outside / "secret.bin")

    def warm(self) -> None:
        """Tries an input that is right: what is imported for it is no fault of the others."""
        self.subject.warm()
        self.guard.may_start = getattr(self.subject, "STARTS", False)
        self.guard.limit()

    def attempt(self, number: int, keep: Path | None = None) -> tuple[str, str]:
        """What becomes of an input: `accepted`, `refused` or `failed`, and why."""
        rng = random.Random(f"{self.name}/{self.seed}/{number}")
        folder = Path(tempfile.mkdtemp(prefix=f"{number}-", dir=self.work))
        made = self.subject.make(rng, folder)
        if keep is not None:
            shutil.copytree(folder, keep, symlinks=True, dirs_exist_ok=True)
        self.guard.begin()
        try:
            self.subject.attempt(made)
            outcome, detail = "accepted", ""
        except OnnxCheckError as error:
            outcome, detail = "refused", str(error)
        except Exception:
            outcome, detail = "failed", _tail()
        noted = self.guard.end()
        if noted:
            outcome, detail = "failed", "\n".join([*noted, detail])
        shutil.rmtree(folder, ignore_errors=True)
        return outcome, detail


def _tail() -> str:
    return "\n".join(traceback.format_exc().strip().splitlines()[-_LINES:])


def replay(name: str, seed: int, number: int, keep: Path | None) -> int:
    """Tries one input in this process, and tells what becomes of it."""
    with tempfile.TemporaryDirectory(prefix="onnxcheck-fuzz-") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        tries = Tries(name, seed, Path(folder))
        tries.warm()
        outcome, detail = tries.attempt(number, keep)
    print(f"{name} {number}: {outcome}\n{detail}")
    return int(outcome == "failed")


def main(name: str, seed: str, folder: str, start: str, stop: str) -> None:
    said = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    tries = Tries(name, int(seed), Path(folder))
    tries.warm()
    for number in range(int(start), int(stop)):
        print(json.dumps([number, "trying", ""]), file=said)
        outcome, detail = tries.attempt(number)
        print(json.dumps([number, outcome, detail[-2000:]]), file=said)
    os._exit(0)  # what was mutated may not end in order


if __name__ == "__main__":
    main(*sys.argv[1:])
