"""Fuzzing: `python tests/fuzz SUBJECT... [--seed N] [--count N]`; prints counts, and how to replay.

Every input follows from subject, seed and number alone. The inputs are tried in a child process,
which has limits of time and memory and is started anew after one that ended it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent

#: how many inputs are tried by default
COUNTS = {
    "manifests": 100_000,
    "onnx": 5_000,
    "records": 5_000,
    "histories": 5_000,
    "baselines": 5_000,
    "checkpoints": 1_000,
}

#: what fuzzing must notice: no part of a run
_FAULTY = {"faulty": 9}

#: failures of one subject that are shown
_SHOWN = 20


class Child:
    """A process that tries the inputs of a subject from one number on."""

    def __init__(self, subject: str, seed: int, numbers: range, folder: str, limit: float) -> None:
        command = [sys.executable, str(HERE / "child.py"), subject, str(seed), folder]
        self.limit = limit
        self.stderr = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self.process = subprocess.Popen(
            [*command, str(numbers.start), str(numbers.stop)],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.pipe, self.left = self.process.stdout.fileno(), b""

    def lines(self):
        """What it says, line by line, until it ends; None where it says nothing for too long."""
        while True:
            head, line, rest = self.left.partition(b"\n")
            if line:
                self.left = rest
                yield json.loads(head)
                continue
            if not select.select([self.pipe], [], [], self.limit)[0]:
                yield None
                return
            chunk = os.read(self.pipe, 1 << 16)
            if not chunk:
                return
            self.left += chunk

    def said(self) -> str:
        """The end of what it wrote to stderr."""
        self.stderr.seek(0)
        return self.stderr.read()[-2000:]

    def end(self) -> int:
        """Ends it and what it started; returns its status."""
        try:
            status = self.process.wait(1)
        except subprocess.TimeoutExpired:
            status = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        return self.process.wait() if status is None else status


def tried(subject: str, seed: int, numbers: range, limit: float) -> tuple[Counter, list]:
    """Tries the inputs of some numbers: the outcomes counted, and what failed, by number."""
    outcomes: Counter[str] = Counter()
    failures: list[tuple[int, str]] = []
    number = numbers.start
    while number < numbers.stop:
        with tempfile.TemporaryDirectory(prefix="onnxcheck-fuzz-") as folder:
            # starting takes as long as importing torch does
            child = Child(subject, seed, range(number, numbers.stop), folder, limit)
            hung, ready = False, False
            for line in child.lines():
                if line is None:
                    hung = True
                    break
                ready = True
                number, outcome, detail = line
                if outcome == "trying":
                    continue
                outcomes[outcome] += 1
                if outcome == "failed":
                    failures.append((number, detail))
                number += 1
            status = child.end()
        if number < numbers.stop or hung:
            if not ready:
                raise SystemExit(f"{subject}: the child does not start: {child.said()}")
            how = f"no end within {limit:g} s" if hung else f"died with status {status}"
            how += f"\n{child.said()[-300:]}"
            outcomes["failed"] += 1
            failures.append((number, how))
            number += 1
    return outcomes, failures


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/fuzz")
    parser.add_argument("subjects", nargs="*", choices=[*COUNTS, *_FAULTY, []], metavar="SUBJECT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, help="inputs a subject")
    parser.add_argument("--start", type=int, default=0, help="number of the first input")
    parser.add_argument("--limit", type=float, default=60, help="seconds an input may take")
    parser.add_argument("--only", type=int, help="try this input alone, in this process")
    parser.add_argument("--keep", type=Path, help="with --only: the folder to write it into")
    options = parser.parse_args()
    if options.only is not None:
        from child import replay

        return replay(options.subjects[0], options.seed, options.only, options.keep)
    failed = 0
    for subject in options.subjects or COUNTS:
        stop = options.start + (options.count or (COUNTS | _FAULTY)[subject])
        began = time.perf_counter()
        numbers = range(options.start, stop)
        outcomes, failures = tried(subject, options.seed, numbers, options.limit)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
        seconds = time.perf_counter() - began
        print(f"{subject}: {outcomes.total()} inputs: {counts}; {seconds:.0f} s", flush=True)
        for number, detail in failures[:_SHOWN]:
            print(
                f"  python tests/fuzz {subject} --seed {options.seed} --only {number}\n    ", end=""
            )
            print(detail.replace("\n", "\n    "), flush=True)
        failed += len(failures)
    print(f"{failed} failures")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
