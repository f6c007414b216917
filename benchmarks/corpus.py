"""Runs a corpus of real discrepancies through the gate: faults caught, faults missed, false alarms.

Every case module gets a manifest made from its `build`, `example_inputs` and `EXPORT` alone, as
someone who knows the model would write it (`corpus_manifests.py`), and `pytest --onnxcheck` judges
it; then once more with its `probe_inputs` and `sequence_inputs` as the user's own cases. A manifest
that is refused counts as red. A fault that passes because the plugin's own export does not make the
mistake of the case's script is `avoided`, where plain PyTorch and plain ONNX Runtime agree on every
revealing input (`corpus_truth.py`). The exit status is 1 when fewer than 22 of 25 faults are caught
or avoided without probes, or not all with them, when a healthy case goes red, or when a case could
not be judged.

Usage: python benchmarks/corpus.py FOLDER [--only GLOB] [--with-probes | --without-probes]
           [--jobs N] [--timeout SECONDS] [--keep DIR] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

#: whether the probes are added as cases -> share of the faults that must be caught
MODES = {"without": 22 / 25, "with": 1.0}
PYTEST = [
    *(sys.executable, "-m", "pytest", "--onnxcheck", "--onnxcheck-artifacts=artefacts"),
    *("-m", "not latency", "-q", "-p", "no:cacheprovider", "--benchmark-disable"),
]
PREPARE = Path(__file__).resolve().parent / "corpus_manifests.py"
TRUTH = PREPARE.with_name("corpus_truth.py")


@dataclass
class Outcome:
    """What the gate said of a case in one mode; `verdict` is red, green, error or not run."""

    case: str
    mode: str
    expected: str = "?"
    kind: str = ""
    evidence: list[str] = field(default_factory=list)
    verdict: str = "error"
    check: str = ""
    reason: str = ""
    warned: bool = False
    avoided: bool = False
    seconds: float = 0.0

    @property
    def label(self) -> str:
        """The verdict against what was expected."""
        labels = {
            ("fault", "red"): "caught",
            ("fault", "green"): "avoided" if self.avoided else "missed",
            ("healthy", "red"): "FALSE ALARM",
            ("healthy", "green"): "ok",
            ("ambiguous", "red"): "explained",
            ("ambiguous", "green"): "explained" if self.warned else "unexplained",
        }
        return labels.get((self.expected, self.verdict), self.verdict)


def finish(command: list[str], folder: Path, timeout: float) -> tuple[int | None, str]:
    """Exit status and output of a command; None when it had to be killed, children included."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    streams |= {"text": True, "errors": "replace", "start_new_session": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **streams) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None, f"killed after {timeout:g} s"
        return process.returncode, output


def last_line(text: str) -> str:
    """The last line that names an error, or else the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"(E\s+)?[\w.]*(Error|Exception|Exit)\b", line)]
    return (errors or lines or [""])[-1]


def judge(source: Path, root: Path, modes: list[str], timeout: float) -> list[Outcome]:
    """One case in every mode; without probes of its own, the second mode is the first again."""
    folder = root.resolve() / source.stem
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, str(PREPARE), str(source.resolve())]
    status, output = finish([*command, str(folder)], folder, timeout)
    (folder / "prepare.txt").write_text(output)
    about = folder / "case.json"
    read = json.loads(about.read_text()) if about.exists() else {}
    not_run = read.pop("not_run", None)
    outcomes: list[Outcome] = []
    for mode in modes:
        outcome = Outcome(source.stem, mode, **read)
        if not_run:
            outcome.verdict, outcome.reason = "not run", not_run
        elif status != 0:
            outcome.reason = f"cannot be prepared: {last_line(output)}"
        elif outcomes and not (folder / "with.toml").exists():
            outcome = replace(outcomes[0], mode=mode)
        else:
            gate(outcome, folder, timeout)
        outcomes.append(outcome)
    print(f"{source.stem}: {', '.join(o.label for o in outcomes)}", file=sys.stderr, flush=True)
    return outcomes


def gate(outcome: Outcome, folder: Path, timeout: float) -> None:
    """Runs pytest and fills in what it said."""
    given = outcome.mode if (folder / f"{outcome.mode}.toml").exists() else "without"
    record = folder / f"{outcome.mode}.json"
    options = [f"--onnxcheck-manifest={given}.toml", f"--onnxcheck-json={record.name}"]
    started = time.perf_counter()
    status, output = finish([*PYTEST, *options], folder, timeout)
    outcome.seconds = round(time.perf_counter() - started, 1)
    (folder / f"{outcome.mode}.txt").write_text(output)
    read = json.loads(record.read_text()) if record.exists() else {"checks": [], "errors": []}
    failed = [check for check in read["checks"] if check["outcome"] == "failed"]
    findings = chain.from_iterable(check.get("findings", ()) for check in read["checks"])
    outcome.warned = any(finding["grade"] == "warn" for finding in findings)
    defects = [check["reason"] for check in failed if _is_defect(check["reason"], given)]
    refused = [error["error"] for error in read["errors"] if f"{given}.toml:" in error["error"]]
    if refused and not failed:
        outcome.verdict, outcome.check, outcome.reason = (
            "red",
            "manifest",
            " ".join(refused[0].split()),
        )
    elif status == 0 and read["checks"]:
        outcome.verdict = "green"
        outcome.avoided = outcome.expected == "fault" and _avoided(outcome, read, folder, timeout)
    elif status == 1 and failed and not defects:
        outcome.verdict, outcome.check = "red", failed[0]["nodeid"].split("::", 2)[-1]
        outcome.reason = " ".join(failed[0]["reason"].split())
    else:
        errors = [*defects, *(error["error"] for error in read["errors"]), output]
        outcome.reason = f"pytest exit {status}: {last_line(errors[0])}"


def _avoided(outcome: Outcome, read: dict[str, Any], folder: Path, timeout: float) -> bool:
    """Whether the artefact, which the plugin exported, gives what PyTorch gives."""
    built = [check for check in read["checks"] if check["check"] == "export"]
    if not built or any(check["exporter"] == "file" for check in built):
        return False
    told = []
    for check in built:
        artefact = check["measurement"]["file"]["path"]
        command = [sys.executable, str(TRUTH), str(folder / f"{outcome.case}.py"), artefact]
        status, output = finish(command, folder, timeout)
        told.append(output if status == 0 else f"it could not be seen: {last_line(output)}")
    (folder / f"{outcome.mode}.truth.txt").write_text("\n".join(told))
    return not any(text.strip() for text in told)


def _is_defect(reason: str, given: str) -> bool:
    """Whether a check failed by a traceback of its own, or because the manifest here is wrong."""
    wrong = given == "without" and "PyTorch itself does not run" in reason
    return wrong or re.search(r"^E  +\S", reason, re.MULTILINE) is not None


def show(mode: str, outcomes: list[Outcome]) -> bool:
    """Prints the table and totals of a mode; gives whether it is as good as asked."""
    print(f"\n{mode} probes\n")
    print(f"{'case':42} {'expected':9} {'verdict':11} {'s':>5}  check: reason")
    for o in outcomes:
        found = f"{o.check}: {o.reason[:100]}" if o.check else o.reason[:100]
        print(f"{o.case:42} {o.expected:9} {o.label:11} {o.seconds:5.0f}  {found}".rstrip())
    labels = Counter(o.label for o in outcomes)
    ran = Counter(o.expected for o in outcomes if o.verdict != "not run")
    good = labels["caught"] + labels["avoided"]
    share = good / ran["fault"] if ran["fault"] else 1.0
    totals = f"{good}/{ran['fault']} ({share:.1%}, asked for {MODES[mode]:.0%})"
    print(f"\nfaults caught:       {totals}, {labels['avoided']} of them avoided by the export")
    print(f"false alarms:        {labels['FALSE ALARM']}/{ran['healthy']}")
    print(f"ambiguous explained: {labels['explained']}/{ran['ambiguous']}")
    print(f"errors: {labels['error']}, not run: {labels['not run']}")
    for o in outcomes:
        if o.label == "missed":
            print(f"missed {o.case}: {o.kind}; shows at {', '.join(o.evidence)}")
    return share >= MODES[mode] and not labels["FALSE ALARM"] and not labels["error"]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", metavar="GLOB", default="*", help="cases whose name matches")
    which = parser.add_mutually_exclusive_group()
    for mode in MODES:
        which.add_argument(f"--{mode}-probes", action="store_const", dest="mode", const=mode)
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for a step of a case")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="work here, and leave it all")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the outcomes")
    options = parser.parse_args()
    modes = [options.mode] if options.mode else list(MODES)
    cases = [p for p in sorted(options.folder.glob("case*.py")) if Path(p.stem).match(options.only)]
    if not cases:
        parser.error(f"no case in {options.folder} matches {options.only!r}")
    with tempfile.TemporaryDirectory(prefix="corpus-") as temporary:
        root = options.keep or Path(temporary)
        with ThreadPoolExecutor(options.jobs) as pool:
            judged = list(pool.map(lambda case: judge(case, root, modes, options.timeout), cases))
    if options.json:
        rows = [{**asdict(o), "label": o.label} for o in chain.from_iterable(judged)]
        options.json.write_text(json.dumps(rows, indent=1) + "\n")
    good = [show(mode, [row[i] for row in judged]) for i, mode in enumerate(modes)]
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
