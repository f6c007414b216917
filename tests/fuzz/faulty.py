"""What fuzzing must notice, one thing an input: tests/test_fuzz.py has it noticed."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from random import Random

from pytest_onnxcheck.errors import OnnxCheckError

#: what an input does, by its number
DOES = (
    *("nothing", "is refused", "raises", "reads", "reads in C", "starts", "takes memory"),
    *("hangs", "dies"),
)


class Subject:
    """Inputs of which each does something else."""

    def __init__(self, name: str, work: Path) -> None:
        self.outside = work.parents[1] / "outside.txt"
        self.watched = work.parent / "outside" / "secret.bin"

    def warm(self) -> None:
        return

    def make(self, rng: Random, folder: Path) -> str:
        return DOES[int(folder.name.partition("-")[0])]

    def attempt(self, made: str) -> None:
        if made == "is refused":
            raise OnnxCheckError("refused")
        if made == "raises":
            raise KeyError("raised")
        if made == "reads" and self.outside.exists():
            self.outside.read_text()
        if made == "reads in C":
            os.close(os.open(self.watched, os.O_RDONLY))
        if made == "starts":
            subprocess.run(["true"], check=True)
        if made == "takes memory":
            bytearray(300 << 20)
        if made == "hangs":
            time.sleep(60)
        if made == "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
