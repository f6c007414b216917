"""Kills a run with two workers at random moments, goes on with it, and counts what is wrong.

    python benchmarks/kills.py [--kills 40] [--seed 0]

Each time a run begins without artefacts, pytest or one of its workers is killed (SIGKILL), and
another run goes on (`--onnxcheck-resume`). Its checks must come out as those of a run that was left
alone; no check whose entry stood in the unfinished record may be made again; nothing half-built may
be left or used, and no process. Exits with 1 where something is wrong. Workers are forks of a
process that has imported what they need (`forking.py`): that would be three quarters of the time.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pytest_onnxcheck.cache.folder import Folder
from pytest_onnxcheck.errors import RecordError
from pytest_onnxcheck.record.record import Record, load

NETS = """
from torch import nn

def mlp(hidden=16):
    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4)).eval()
"""
MODEL = """
[models.{name}]
factory = "nets.py:mlp"
kwargs.hidden = {hidden}
precisions = {precisions}
dims.batch = [1, 3]
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""
#: writes down each check that is really made
CONFTEST = """
import os
from pathlib import Path

import pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    with Path(os.environ["COUNTED"]).open("a") as file:
        file.write(pyfuncitem.nodeid + "\\n")
"""
FORKING = Path(__file__).with_name("forking.py")
#: of each model
PRECISIONS = ('["fp32", "int8-dynamic"]', '["fp32"]')
#: seconds after which what is left of a killed run is an orphan
_PATIENCE = 15.0


def project(folder: Path) -> Path:
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "conftest.py").write_text(CONFTEST)
    head = 'schema = 1\n[defaults]\nexporters = ["torchscript"]\nopsets = [17]\n'
    tables = [
        MODEL.format(name=f"net{number}", hidden=8 + number, precisions=precisions)
        for number, precisions in enumerate(PRECISIONS)
    ]
    tables[1] = tables[1].replace('"batch", 4', '"batch", 5')  # of which checks fail
    (folder / "models.toml").write_text(head + "".join(tables))
    return folder


def start(folder: Path, counted: str, *args: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "pytest", "--onnxcheck", "-q", "-p", "no:cacheprovider"]
    # hypothesis' plugin takes half a second at the end of every process
    command += ["-p", "no:hypothesispytest", "--onnxcheck-json=record.json", "--dist=load"]
    command.append(f"--tx=2*popen//python={sys.executable} {FORKING}")
    env = {**os.environ, "COUNTED": str(folder / counted), "OMP_NUM_THREADS": "1"}
    env["FORKING"] = str(folder.parent / "socket")
    with (folder / f"{counted}.log").open("wb") as log:
        return subprocess.Popen(
            [*command, "--max-worker-restart=0", *args], cwd=folder, env=env, stdout=log, stderr=log
        )


def processes(folder: Path) -> list[int]:
    """The processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                inside = (entry / "cwd").resolve() == folder
            except OSError:
                continue
            found += [int(entry.name)] if inside else []
    return found


def children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def outcomes(record: Record) -> dict[str, tuple[str, str]]:
    return {entry.nodeid: (entry.outcome, str(entry.grade)) for entry in record.checks}


def unfinished(folder: Path) -> Record | None:
    """What the killed run left; None where it had not begun to check."""
    try:
        return load(folder / "record.json")
    except FileNotFoundError:
        return None


def broken(folder: Path) -> Iterator[str]:
    """Artefacts that are not what was built, and what is left of builds."""
    store = folder / ".onnxcheck"
    for name, fault in Folder(store).verify().items():
        yield f"altered {name}: {fault}"
    for left in store.rglob(".building-*"):
        yield f"left behind {left}"


def kill(folder: Path, after: int, delay: float, chance: random.Random, forking: int) -> str | None:
    """Runs the gate and kills it; says who was killed, None where it had ended by then.

    Args:
        folder: The project.
        after: How many checks are begun before, on a machine of whatever speed.
        delay: Seconds from then on.
        chance: Says who is killed.
        forking: The process that workers are forks of.
    """
    running = start(folder, "first")
    while len(lines(folder / "first")) < after and running.poll() is None:
        time.sleep(0.01)
    time.sleep(delay)
    workers = children(forking)
    whom = chance.choice(["pytest", "worker"]) if workers else "pytest"
    if running.poll() is not None:
        return None
    os.kill(running.pid if whom == "pytest" else chance.choice(workers), signal.SIGKILL)
    running.wait()
    return whom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary).resolve()
        forking = subprocess.Popen([sys.executable, FORKING, root / "socket"])
        while not (root / "socket").exists() and forking.poll() is None:
            time.sleep(0.1)
        whole = project(root / "whole")
        began = time.monotonic()
        start(whole, "first").wait()
        seconds = time.monotonic() - began
        expected = outcomes(load(whole / "record.json"))
        print(f"undisturbed: {len(expected)} checks in {seconds:.1f} s", flush=True)
        counts: Counter[str] = Counter()
        number = 0
        while number < arguments.kills:
            folder = project(root / f"kill{number}-{chance.random()}")
            after = chance.randrange(len(expected))
            delay = chance.uniform(0, 0.5 if after else seconds / 2)
            whom = kill(folder, after, delay, chance, forking.pid)
            if whom is None:
                continue
            deadline = time.monotonic() + _PATIENCE
            while processes(folder) and time.monotonic() < deadline:
                time.sleep(0.1)
            counts["orphans"] += len(processes(folder))
            try:
                left = unfinished(folder)
            except RecordError as error:
                counts["unreadable records"] += 1
                print(error)
                left = None
            finished = {entry.nodeid for entry in left.checks} if left else set()
            start(folder, "second", "--onnxcheck-resume").wait()
            found, made = load(folder / "record.json"), lines(folder / "second")
            ended = left is not None and left.finished  # nothing to go on with: all is made again
            twice = [] if ended else [nodeid for nodeid in made if nodeid in finished]
            wrong = {
                nodeid: (now, expected.get(nodeid))
                for nodeid, now in outcomes(found).items()
                if now != expected.get(nodeid)
            }
            missing = expected.keys() - outcomes(found).keys()
            faults = list(broken(folder))
            counts["killed: " + whom] += 1
            counts["checks kept"] += 0 if ended else len(finished)
            counts["checks made by the second run"] += len(made)
            counts["made twice"] += len(twice)
            counts["other verdicts"] += len(wrong)
            counts["missing"] += len(missing)
            counts["corrupt or left behind"] += len(faults)
            for fault in (*twice, *wrong.items(), *missing, *faults):
                print(textwrap.shorten(f"kill {number} ({whom}): {fault}", 200))
            number += 1
            print(f"{number}: {whom} after {after} checks, kept {len(finished)}", flush=True)
        forking.terminate()
        forking.wait()
        print(f"{time.monotonic() - began:.0f} s", flush=True)
        for what, count in counts.items():
            print(f"{count:6} {what}")
        bad = ("orphans", "unreadable records", "made twice", "other verdicts", "missing")
        raise SystemExit(any(counts[what] for what in (*bad, "corrupt or left behind")))


if __name__ == "__main__":
    main()
