"""What an equivalence check costs: the zoo's, beside those of an earlier revision.

By default that is the last one with fixed tolerances and declared cases alone: what the noise floor
and the probes cost. Precisions that are judged by thresholds are counted apart, since they got no
probes before. Both sides run in turn, each revision in a worktree of its own, with warm artefacts,
and the ratio of each round is taken: machines are shared and noisy.

Usage: python benchmarks/equivalence.py [ROUNDS] [BASELINE]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

#: the last revision with fixed tolerances and declared cases alone
BASELINE = "7010d31"


#: how the names of variants end that a noise floor judges
FLOORED = ("-fp32", "-fp16", "-half")


def seconds(tree: Path, artifacts: Path) -> Counter[tuple[str, bool]]:
    """Seconds of the equivalence checks of one run of the zoo in a tree.

    By model, and by whether a noise floor judges them.
    """
    record = artifacts.with_suffix(".json")
    # the revision's own hooks, which lay in another module once
    hooks = tree / "pytest_onnxcheck" / "plugin" / "hooks.py"
    plugin = f"pytest_onnxcheck.plugin{'.hooks' if hooks.exists() else ''}"
    command = [sys.executable, "-m", "pytest", "-p", "no:onnxcheck", "-p", plugin]
    command += ["--onnxcheck", "-m", "equivalence", "-q"]
    command += ["--benchmark-disable", "-p", "no:cacheprovider", "--onnxcheck-target=cpu"]
    command += [f"--onnxcheck-artifacts={artifacts}", f"--onnxcheck-json={record}"]
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    found: Counter[tuple[str, bool]] = Counter()
    for entry in json.loads(record.read_text())["checks"]:
        found[entry["model"], entry["variant"].endswith(FLOORED)] += entry["seconds"]
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    revision = sys.argv[2] if len(sys.argv) > 2 else BASELINE
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        baseline = Path(folder) / "baseline"
        worktree = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*worktree, "add", "--detach", baseline, revision], check=True)
        try:
            compare(Path(folder), baseline, rounds)
        finally:
            subprocess.run([*worktree, "remove", "--force", baseline], check=True)


def compare(folder: Path, baseline: Path, rounds: int) -> None:
    """Prints medians by model, and the median of the rounds' ratios."""
    sides = [(baseline, folder / "before"), (ROOT, folder / "after")]
    for side in sides:
        seconds(*side)  # builds the artefacts
    before, after = zip(*[[seconds(*side) for side in sides] for _ in range(rounds)], strict=True)
    print(f"seconds of the zoo's equivalence checks, medians of {rounds} rounds:")
    for floored in (True, False):
        print("judged by a noise floor:" if floored else "by thresholds:")
        own = [[_of(run, floored) for run in runs] for runs in (before, after)]
        for model in own[0][0]:
            medians = [statistics.median(run[model] for run in runs) for runs in own]
            print(f"  {model:20} {medians[0]:6.2f} {medians[1]:6.2f}")
        totals = [statistics.median(run.total() for run in runs) for runs in own]
        print(f"  {'together':20} {totals[0]:6.2f} {totals[1]:6.2f}")
        ratios = [new.total() / old.total() for old, new in zip(*own, strict=True)]
        shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"  ratio: {statistics.median(ratios):.2f} (rounds: {shown}; goal 1.5)")


def _of(run: Counter[tuple[str, bool]], floored: bool) -> Counter[str]:
    return Counter({model: spent for (model, kind), spent in run.items() if kind is floored})


if __name__ == "__main__":
    main()
