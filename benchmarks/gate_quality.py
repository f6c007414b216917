"""How often the speed gate is wrong: on equal artefacts, and on ones that are truly slower.

Three models (about 3, 6 and 30 ms in ONNX Runtime on one thread of a CPU), on the machine as it is
and beside hogs, one a core, each busy and idle in turn for random times from a fixed seed. A trial
is what a check does with `max_regression = "10%"` and a `baseline` artefact: `latency.measure` has
the new one, the old one, PyTorch and the fixed kernel take turns, looks after 0.5, 1, 2, 4 and 6 s,
and `judge.regression` judges.

- `same`: two sessions of one artefact. `torch`: two copies of the PyTorch module, and nothing else.
- `5%`, `10%`, `20%`: the new artefact is the old one with a MatMul and a sum added to its graph,
  on as many rows as make it that much slower. The time a row takes is found on the processor's
  clock, by a line through the times of several numbers of rows. How much slower it really is, is
  then measured longer, with five pairs of sessions, since two sessions of one file are not equally
  fast; printed are the median over the pairs, the least and the greatest, of the ratio of the
  median times and of the ratio of the total times, neither of which is what the gate looks at.

A failure of `same`, `torch` or `5%` is a false alarm, a pass of `20%` a miss; at `10%`, the limit
itself, both are right. Beside it stands the usual rule: 100 runs of the old one, then 100 of the
new one, each after 10 for warming up; it fails when the ratio of the mean wall times is above 1.1.
Every trial opens its sessions anew. All are taken in rounds, so that what changes on the machine
meets all of them; dear ones only in each second, third ... round (`EVERY`), unless `--even`.

Usage: python benchmarks/gate_quality.py [--trials 60] [--minutes 24] [--models NAME ...]
    [--machines quiet hog] [--cases same torch 5% 10% 20%] [--rules paired mean] [--even]
    [--pair] [--json FILE]

60 trials of `same` and `torch` need about 40 minutes: `--minutes 24` ends earlier, and the table
says how many there were. `--pair` leaves PyTorch and the fixed kernel out of all rounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from common import print_table
from history_live import Model
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import latency
from pytest_onnxcheck.engine.inputs.cases import fill_inputs
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.speed import timing
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import LatencyMeasurement
from pytest_onnxcheck.verdict import Grade, Verdict

MODELS = ("radio-localisation", "audio-head", "resnet18-224")
MACHINES = ("quiet", "hog")
SLOWDOWNS = {"5%": 1.05, "10%": 1.10, "20%": 1.20}
CASES = ("same", "torch", *SLOWDOWNS)
RULES = ("paired", "mean")
#: a trial of a case is taken in each so many rounds
EVERY = {"same": 1, "torch": 1, "5%": 6, "10%": 6, "20%": 2}
#: the same for the mean of 100, times that of the case: short models, long ones
EVERY_MEAN = (3, 12)
LONG_SECONDS = 0.01

BUDGET = Budget.model_validate({"max_regression": "10%"})
LIMIT = 1.1
LOOKS = latency.decision_times(2.0, 6.0)
#: what issue D asks for: seconds a trial, share of false alarms, share of 20% slowdowns caught
BAR_SECONDS = {"quiet": 2.0, "hog": 6.0}
BAR_ALARMS = 0.01
BAR_CAUGHT = 0.95

WIDTH = 256
#: about what one row costs; only where to begin
ROW_SECONDS = 1.3e-6
PAIRS, PAIR_SECONDS = 5, 0.8
MEAN_RUNS, MEAN_WARM_UP = 100, 10
HOG = """
import os, random, sys, time
draw, parent = random.Random(sys.argv[1]), os.getppid()
time.sleep(draw.choice((0, draw.uniform(0.05, 1.5))))
while os.getppid() == parent:
    until = time.monotonic() + draw.uniform(0.05, 1.5)
    while time.monotonic() < until:
        pass
    time.sleep(draw.uniform(0.05, 1.5))
"""

Call = Callable[[], Any]


@dataclass(frozen=True)
class Trial:
    """One answer of a rule.

    Attributes:
        model: The model.
        machine: `quiet` or `hog`.
        case: What the new side is.
        rule: `paired` or `mean`.
        grade: `fail`, `pass`, or `warn` for inconclusive.
        seen: How many times as long the new one took, as the rule saw it.
        seconds: Wall time of it all but opening the sessions.
    """

    model: str
    machine: str
    case: str
    rule: str
    grade: str
    seen: float
    seconds: float


class Subject:
    """A model, and artefacts of it that are slower by a known share."""

    def __init__(self, name: str, cases: Sequence[str], folder: Path) -> None:
        self.name = name
        self.model = Model(name)
        self.inputs = fill_inputs(self.model.reference, self.model.dims, "latency", 0)
        self.slower: dict[str, Artefact] = {}
        #: case -> ratios of the medians and of the totals, of some pairs of sessions
        self.truth: dict[str, tuple[tuple[float, ...], ...]] = {}
        rounds = timing.interleave([self.session()], [0.5])
        self.seconds = statistics.median(row[0] for row in rounds.thread)
        progress(f"{name}: {1e3 * self.seconds:.2f} ms")
        slower = [case for case in cases if case in SLOWDOWNS]
        if slower:
            self._make_slower(slower, folder)

    def session(self, case: str = "same") -> Call:
        """A session of its own."""
        return self._opened(self.slower.get(case, self.model.artefact))

    def _opened(self, artefact: Artefact) -> Call:
        return open_session(artefact, self.model.target, threads=1).call(self.inputs)

    def module(self) -> Call:
        """A copy of the PyTorch module."""
        module = copy.deepcopy(self.model.reference.module)
        tensors = {name: torch.from_numpy(array) for name, array in self.inputs.items()}
        return lambda: self.model.reference.call(module, tensors)

    def pair(self, case: str) -> tuple[Call, Call]:
        """The old and the new one."""
        if case == "torch":
            return self.module(), self.module()
        return self.session(), self.session(case)

    def _sloth(self, folder: Path) -> tuple[float, float]:
        """How much slower the added work makes it: a constant share, and a share a row."""

        def share(rows: int) -> float:
            return self._true_ratios(self._with_work(rows, folder))[0] - 1

        first = max(round(0.1 * self.seconds / ROW_SECONDS), 1)
        row = max(share(first), 0.02) / first
        sizes = [max(round(part / row), 1) for part in (0.05, 0.1, 0.2, 0.05, 0.1, 0.2)]
        slope, constant = np.polyfit(sizes, [share(rows) for rows in sizes], 1)
        return float(constant), float(slope)

    def _with_work(self, rows: int, folder: Path) -> Artefact:
        path = folder / f"{self.name}-{rows}.onnx"
        onnx.save(with_work(onnx.load(self.model.artefact.path), rows), path)
        return Artefact.given(path)

    def _make_slower(self, cases: Sequence[str], folder: Path) -> None:
        constant, slope = self._sloth(folder)
        for case in cases:
            rows = max(round((SLOWDOWNS[case] - 1 - constant) / slope), 1)
            self.slower[case] = self._with_work(rows, folder)
            pairs = [self._true_ratios(self.slower[case]) for _ in range(PAIRS)]
            self.truth[case] = tuple(zip(*pairs, strict=True))
            progress(f"{self.name} {case}: {rows} rows, {told(self.truth[case])}")

    def _true_ratios(self, slower: Artefact) -> tuple[float, float]:
        """Ratio of the medians, and of the totals, of the processor times of new sessions."""
        rounds = timing.interleave([self.session(), self._opened(slower)], [PAIR_SECONDS])
        old, new = zip(*rounds.thread, strict=True)
        return statistics.median(new) / statistics.median(old), sum(new) / sum(old)


def with_work(model: onnx.ModelProto, rows: int) -> onnx.ModelProto:
    """The model with one more output: the sum of a product of rows x 256 with 256 x 256.

    A number of the first input is added to the left matrix first, or ONNX Runtime would compute
    the product when the session is opened.
    """
    draw = np.random.default_rng(0)
    left = draw.standard_normal((rows, WIDTH), dtype=np.float32)
    right = draw.standard_normal((WIDTH, WIDTH), dtype=np.float32) / 16
    constants = {
        "left": left,
        "right": right,
        **{key: np.array([value]) for key, value in (("flat", -1), ("from", 0), ("to", 1))},
    }
    grown = copy.deepcopy(model)
    graph = grown.graph
    for name, array in constants.items():
        graph.initializer.append(numpy_helper.from_array(array, f"work.{name}"))
    for operator, inputs, output in (
        ("Reshape", [graph.input[0].name, "work.flat"], "work.numbers"),
        ("Slice", ["work.numbers", "work.from", "work.to"], "work.number"),
        ("Add", ["work.left", "work.number"], "work.rows"),
        ("MatMul", ["work.rows", "work.right"], "work.product"),
        ("ReduceSum", ["work.product"], "work.sum"),
    ):
        keep = {"keepdims": 0} if operator == "ReduceSum" else {}
        graph.node.append(helper.make_node(operator, inputs, [output], **keep))
    graph.output.append(helper.make_tensor_value_info("work.sum", TensorProto.FLOAT, []))
    return grown


def pair(subject: Subject, case: str) -> tuple[Grade, float, float]:
    """The project's own rule for two sides alone: what it says, the change it saw, seconds."""
    old, new = subject.pair(case)
    started = time.perf_counter()
    rounds = timing.interleave(
        [new, old], LOOKS, lambda rounds: regression(measured(rounds)).decided
    )
    seconds = time.perf_counter() - started
    found = measured(rounds)
    return regression(found).grade, 1 / found.ratios["baseline"].value, seconds


def paired(subject: Subject, case: str) -> tuple[Grade, float, float]:
    """The project's own rule as `test_latency` applies it."""
    if case == "torch":
        return pair(subject, case)
    model, new = subject.model, subject.slower.get(case, subject.model.artefact)
    started = time.perf_counter()
    found, _ = latency.measure(
        new,
        new,
        model.reference,
        model.target,
        model.dims,
        baseline=model.artefact,
        decided=lambda measured: regression(measured).decided,
    )
    seconds = time.perf_counter() - started
    return regression(found).grade, 1 / found.ratios["baseline"].value, seconds


def measured(rounds: timing.Rounds) -> LatencyMeasurement:
    """What the judge looks at, of the rounds of the new and the old one."""
    new, old = (timing.summarised(name, rounds.samples(n)) for n, name in enumerate(("new", "old")))
    ratio = timing.ratio(rounds, 1, 0)
    return LatencyMeasurement(
        target="cpu",
        provider="CPUExecutionProvider",
        dims={},
        threads=1,
        boundary="host to host",
        torch=old,
        onnxruntime=new,
        load_seconds=0.0,
        ratios={"baseline": ratio},
        baseline=old,
        seconds=rounds.seconds,
    )


def regression(found: LatencyMeasurement) -> Verdict:
    """What the gate says."""
    return judge.regression(found, None, BUDGET)


def mean_of_100(subject: Subject, case: str) -> tuple[Grade, float, float]:
    """The usual rule: one after the other, ratio of the means."""
    started = time.perf_counter()
    old, new = (mean_seconds(call) for call in subject.pair(case))
    ratio = new / old
    grade = Grade.FAIL if ratio > LIMIT else Grade.PASS
    return grade, ratio, time.perf_counter() - started


def mean_seconds(call: Call) -> float:
    for _ in range(MEAN_WARM_UP):
        call()
    started = time.perf_counter()
    for _ in range(MEAN_RUNS):
        call()
    return (time.perf_counter() - started) / MEAN_RUNS


@contextmanager
def hogs(machine: str, seed: int) -> Iterator[None]:
    """Keeps the cores busy now and then."""
    cores = len(os.sched_getaffinity(0)) if machine == "hog" else 0
    started = [
        subprocess.Popen([sys.executable, "-c", HOG, f"{seed}/{core}"]) for core in range(cores)
    ]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def due(number: int, subject: Subject, case: str, rule: str, even: bool) -> bool:
    """Whether a round has a trial of this."""
    every = EVERY[case]
    if rule == "mean":
        every *= EVERY_MEAN[subject.seconds > LONG_SECONDS]
    return even or number % every == 0


def trials(subjects: Sequence[Subject], arguments: argparse.Namespace) -> Iterator[Trial]:
    """Rounds of trials, until there are enough or the time is over."""
    until = time.monotonic() + 60 * arguments.minutes
    rules = {"paired": pair if arguments.pair else paired, "mean": mean_of_100}
    for number in range(arguments.trials):
        for machine in arguments.machines:
            progress(f"round {number + 1} of {arguments.trials}, {machine}")
            with hogs(machine, number):
                for subject in subjects:
                    for case in arguments.cases:
                        for rule in arguments.rules:
                            if not due(number, subject, case, rule, arguments.even):
                                continue
                            if time.monotonic() > until:
                                progress(f"{arguments.minutes:g} minutes are over")
                                return
                            grade, seen, seconds = rules[rule](subject, case)
                            yield Trial(
                                *(subject.name, machine, case, rule),
                                *(str(grade), round(seen, 5), round(seconds, 3)),
                            )


def rows(done: Sequence[Trial], arguments: argparse.Namespace) -> Iterator[list[str]]:
    """A line for each model, machine, case and rule."""
    yield [
        "model",
        "machine",
        "case",
        "rule",
        "n",
        "fail",
        "pass",
        "unclear",
        "seen",
        "s",
        "most s",
    ]
    for model in arguments.models:
        for machine in arguments.machines:
            for case in arguments.cases:
                for rule in arguments.rules:
                    key = (model, machine, case, rule)
                    found = [t for t in done if (t.model, t.machine, t.case, t.rule) == key]
                    if not found:
                        continue
                    yield [
                        *key,
                        str(len(found)),
                        *(share(found, grade) for grade in ("fail", "pass", "warn")),
                        f"{statistics.median(t.seen for t in found) - 1:+.1%}",
                        f"{statistics.median(t.seconds for t in found):.1f}",
                        f"{max(t.seconds for t in found):.1f}",
                    ]


def share(found: Sequence[Trial], grade: str) -> str:
    """How many of them, and in percent."""
    count = sum(t.grade == grade for t in found)
    return f"{count} ({count / len(found):.1%})"


def bars(done: Sequence[Trial], arguments: argparse.Namespace) -> Iterator[str]:
    """What is asked for beside what was found, over all models."""
    for machine in arguments.machines:
        for rule in arguments.rules:
            here = [t for t in done if (t.machine, t.rule) == (machine, rule)]
            equal = [t for t in here if t.case in ("same", "torch")]
            little = [t for t in here if t.case == "5%"]
            slower = [t for t in here if t.case == "20%"]
            judged = [*equal, *little, *slower]
            if not judged:
                continue
            yield f"{machine}, {rule}:"
            for what, found in (("same and torch", equal), ("5% slower", little)):
                if found:
                    met = mark(sum(t.grade == "fail" for t in found) <= BAR_ALARMS * len(found))
                    yield (
                        f"  {what}: false alarms {share(found, 'fail')}, inconclusive "
                        f"{share(found, 'warn')} of {len(found)}; bar {BAR_ALARMS:.0%}: {met}"
                    )
            if slower:
                met = mark(sum(t.grade == "fail" for t in slower) >= BAR_CAUGHT * len(slower))
                yield (
                    f"  20% slower: caught {share(slower, 'fail')}, missed {share(slower, 'pass')}"
                    f", inconclusive {share(slower, 'warn')} of {len(slower)}; bar "
                    f"{BAR_CAUGHT:.0%}: {met}"
                )
            bar = BAR_SECONDS[machine]
            late = sum(t.seconds > bar for t in judged)
            yield (
                f"  seconds a trial, of these: median "
                f"{statistics.median(t.seconds for t in judged):.2f}, most "
                f"{max(t.seconds for t in judged):.2f}, above the bar of {bar:g} s: "
                f"{late} of {len(judged)}: {mark(not late)}"
            )


def mark(met: bool) -> str:
    return "met" if met else "MISSED"


def told(truth: tuple[tuple[float, ...], ...]) -> str:
    return ", ".join(
        f"{statistics.median(ratios) - 1:+.1%} ({min(ratios) - 1:+.1%} to {max(ratios) - 1:+.1%}) "
        f"by {name}"
        for name, ratios in zip(("medians", "totals"), truth, strict=True)
    )


def progress(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--trials", type=int, default=60, help="rounds (default 60)")
    parser.add_argument("--minutes", type=float, default=24, help="of trials at most (default 24)")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--machines", nargs="+", default=MACHINES, choices=MACHINES)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--rules", nargs="+", default=RULES, choices=RULES)
    parser.add_argument("--even", action="store_true", help="all cases in all rounds")
    parser.add_argument("--pair", action="store_true", help="without PyTorch and the kernel")
    parser.add_argument("--json", type=Path, help="keep all trials there")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        subjects = [Subject(name, arguments.cases, Path(folder)) for name in arguments.models]
        started = time.monotonic()
        done = list(trials(subjects, arguments))
        minutes = (time.monotonic() - started) / 60
    for subject in subjects:
        for case, truth in subject.truth.items():
            print(f"{subject.name} ({1e3 * subject.seconds:.2f} ms) {case}: {told(truth)}")
    print()
    print_table(rows(done, arguments))
    print()
    print("\n".join(bars(done, arguments)))
    print(f"{len(done)} trials in {minutes:.1f} minutes")
    if arguments.json is not None:
        record = {
            "subjects": {s.name: {"seconds": s.seconds, "slower": s.truth} for s in subjects},
            "pair": arguments.pair,
            "trials": [asdict(trial) for trial in done],
        }
        arguments.json.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
