"""What an equivalence check costs in another environment: ResNet-18 at 224, beside the same here.

PyTorch's part is done before and shared, so that what is compared is what the environment changes:
opening the session, running it on every case and probe, and the way of the arrays. This
interpreter stands for the other one, so that both have the same onnxruntime. The checks alternate,
and the ratio of each round is taken.

Usage: python benchmarks/environments.py [ROUNDS] [MODEL]
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from common import print_table

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks import equivalence
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU, Target

ROOT = Path(__file__).resolve().parent.parent
THERE = Target("there", CPU.provider, python=sys.executable)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    name = sys.argv[2] if len(sys.argv) > 2 else "resnet18-224"
    sys.path.insert(0, str(ROOT))
    model = load_manifest(ROOT / "models.toml").models[name]
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        builds = Builds(Path(folder))
        reference = builds.reference(model)
        variant = model.variants[0]
        artefact = builds.artefact(reference, variant)
        oracle = builds.oracle(reference)
        subjects = [Subject(artefact, artefact, oracle, variant, on) for on in (CPU, THERE)]
        first = [measured(subject) for subject in subjects]  # PyTorch's part, and both processes
        found = [[measured(subject) for subject in subjects] for _ in range(rounds)]
        runs = [_run(subject) for subject in subjects]
    here, there = zip(*found, strict=True)
    print(f"{name} {variant.name}: seconds of an equivalence check, {rounds} rounds in turn")
    print_table(
        [
            ("", "here", "there", "ratio"),
            ("first", *(f"{seconds:.2f}" for seconds in first), ""),
            (
                "median",
                *(f"{statistics.median(side):.3f}" for side in (here, there)),
                f"{statistics.median(b / a for a, b in found):.2f}",
            ),
            ("one run", *(f"{seconds:.4f}" for seconds in runs), f"{runs[1] / runs[0]:.2f}"),
        ]
    )
    print(f"rounds: {', '.join(f'{b / a:.2f}' for a, b in found)}; goal 1.5")


def measured(subject: Subject) -> float:
    """Seconds of a check."""
    started = time.perf_counter()
    equivalence.measure(subject)
    return time.perf_counter() - started


def _run(subject: Subject) -> float:
    """Seconds of one run of a session on the first case, the median of 20."""
    session = open_session(subject.artefact, subject.target)
    inputs = subject.oracle.cases(subject.variant)[0].inputs
    times = []
    for _ in range(20):
        started = time.perf_counter()
        session.run(inputs)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
