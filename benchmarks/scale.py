"""How the gate scales: on two workers, with a child that builds ahead, warm, and with many models.

Usage: python benchmarks/scale.py [--parts zoo models] [--keep FOLDER]

The zoo is run without timing, from an empty folder of artefacts: in one process, on two workers,
with `--onnxcheck-ahead=1`, and in one process again, on what the first has built. The workers know
from the first run, by pytest's cache, how long checks take. Records must be the same.
Then 1, 40 and 400 tiny models; the time per model is what each takes beyond the first, which
imports everything.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from common import print_table
from records import check, differences

ROOT = Path(__file__).parent.parent

MODEL = """
[models.net{index}]
factory = "nets.py:net"
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""
NETS = """
from torch import nn


def net():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
"""


@dataclass(frozen=True)
class Run:
    """A run of the gate.

    Attributes:
        seconds: By the wall clock.
        processor: Seconds of processor time, with all children.
        peak: Bytes that its largest process had in memory.
        record: What it recorded.
    """

    seconds: float
    processor: float
    peak: int
    record: dict


def run(project: Path, folder: Path, name: str, *args: str, built: str = "") -> Run:
    """Runs the gate without timing; artefacts lie under the run's name, or that of `built`."""
    record = folder / f"{name}.json"
    command = [
        *(sys.executable, "-m", "pytest", "--onnxcheck", "-q", "-m", "not latency"),
        *(f"--onnxcheck-artifacts={folder / (built or name)}", f"--onnxcheck-json={record}"),
        # it imports hypothesis at the end of every run
        *("-o", f"cache_dir={folder / 'cache'}", "-p", "no:hypothesispytest", *args),
    ]
    # as usual Python and pytest keep the code that they compile, beside its source
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=project, env=env, stdout=log, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)  # it was waited for here
    if status:
        sys.exit(f"{' '.join(command)}\n{(folder / f'{name}.log').read_text()}")
    processor = usage.ru_utime + usage.ru_stime
    found = Run(seconds, processor, usage.ru_maxrss * 1024, json.loads(record.read_text()))
    print(f"{name:>12}  {seconds:6.1f} s  {processor:6.1f} s of processor time", flush=True)
    return found


def same(before: Run, after: Run) -> bool:
    """Whether two runs found the same."""
    pairs = [
        {each["nodeid"]: check(each) for each in it.record["checks"]} for it in (before, after)
    ]
    found = list(differences(*pairs))
    for line in found[:5]:
        print(f"  {line}")
    return not found


def zoo(folder: Path) -> list[tuple[str, float, float]]:
    """Ratios of the zoo's runs, each with its bar."""
    # what all read is then in memory, and code compiled
    run(ROOT, folder, "not counted", "-n", "0", "--onnxcheck-model=simple-cnn")
    one = run(ROOT, folder, "one process", "-n", "0")
    two = run(ROOT, folder, "two workers", "-n", "2")
    ahead = run(ROOT, folder, "ahead", "--onnxcheck-ahead=1")
    warm = run(ROOT, folder, "warm", built="one process")
    for name, other in {"two workers": two, "ahead": ahead, "warm": warm}.items():
        print(f"{name}: {'the same record' if same(one, other) else 'ANOTHER RECORD'}")
    return [
        ("-n 2 / -n 0", two.seconds / one.seconds, 0.6),
        ("warm / cold", warm.seconds / one.seconds, 0.3),
        ("--onnxcheck-ahead 1 / cold", ahead.seconds / one.seconds, 0.75),
    ]


def models(folder: Path) -> list[tuple[str, float, float]]:
    """How 400 tiny models compare with 40."""
    (folder / "nets.py").write_text(NETS)
    runs = {}
    for count in (1, 40, 400):
        head = 'schema = 1\n[defaults]\nexporters = ["torchscript"]\n'
        text = head + "".join(MODEL.format(index=index) for index in range(count))
        (folder / "models.toml").write_text(text)
        runs[count] = run(folder, folder, f"{count} models")
    each = {count: (runs[count].seconds - runs[1].seconds) / (count - 1) for count in (40, 400)}
    peak = {count: runs[count].peak for count in (40, 400)}
    for count in (40, 400):
        print(f"{count} models: {each[count] * 1e3:.0f} ms each, {peak[count] / 1e6:.0f} MB")
    return [
        ("time per model, 400 / 40", each[400] / each[40], 1.1),
        ("memory, 400 / 40", peak[400] / peak[40], 1.1),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parts", nargs="+", choices=["zoo", "models"], default=["zoo", "models"])
    parser.add_argument("--keep", type=Path, help="a folder for logs, records and artefacts")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        ratios = []
        for part in given.parts:
            ratios += {"zoo": zoo, "models": models}[part](folder)
    rows = [("", "ratio", "bar", "")]
    rows += [
        (name, f"{ratio:.2f}", f"{bar:.2f}", "met" if ratio <= bar else "MISSED")
        for name, ratio, bar in ratios
    ]
    print_table(rows)


if __name__ == "__main__":
    main()
