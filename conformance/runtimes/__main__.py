"""Writes `pytest_onnxcheck/engine/graph/runtimes.json`: what each release of ONNX Runtime loads.

    python -m conformance.runtimes [--releases 1.17.0 1.32.0] [--work DIR]

Every release has an environment (`engine/environments`), in which the probes are loaded. The first
patch of each minor version is asked, the oldest that installs on this Python is the first.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from conformance.runtimes import load, probes
from pytest_onnxcheck.engine.environments import clean_environment, made

HERE = Path(__file__).parent
TABLE = HERE.parents[1] / "pytest_onnxcheck" / "engine" / "graph" / "runtimes.json"

#: the first release of each minor version that PyPI has for Python 3.11
RELEASES = (
    *("1.15.0", "1.16.0", "1.17.0", "1.18.0", "1.19.0", "1.20.0", "1.21.0", "1.22.0", "1.23.0"),
    *("1.24.1", "1.25.0", "1.26.0", "1.27.0", "1.28.0", "1.29.0", "1.30.0", "1.31.0", "1.32.0"),
)

#: Pythons that releases may have wheels for, the oldest first
PYTHONS = ("3.11", "3.12", "3.13", "3.14")

#: what older ones read: IR version, opsets of ai.onnx and of ai.onnx.ml
OLDER_SOURCE = "https://onnxruntime.ai/docs/reference/compatibility.html#onnx-opset-support"
OLDER = (
    ("1.0", 6, 11, 2), ("1.3", 7, 12, 2), ("1.6", 7, 13, 2), ("1.8", 7, 14, 2), ("1.9", 8, 15, 2),
    ("1.11", 8, 16, 2), ("1.12", 8, 17, 3), ("1.14", 8, 18, 3),
)  # fmt: skip

#: what ONNX Runtime says where an operator, its types or its attribute are not there
_ABSENT = (
    "Could not find an implementation", "Failed to find kernel", "is not a registered",
    "No Op registered", "Type Error", "Unrecognized attribute", "currently registered",
    "No opset import", "No schema registered", "is under development", "has input size",
    "model IR version", "Unsupported value attribute datatype",
    "Unknown model file format version",
)  # fmt: skip
#: what it says where an operator has changed what it must be given: nothing of types
_CHANGED = ("has input size", "Unrecognized attribute")
#: what it says of a node that makes no sense, before it looks for a kernel
_UNCLEAR = ("InferenceError", "expected to have field", "has output size", load.CRASHED)


def main() -> None:
    """Asks every release, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--releases", nargs="+", default=RELEASES)
    parser.add_argument("--jobs", type=int, default=2, help="releases that are asked at once")
    parser.add_argument("--work", type=Path, default=Path(".onnxcheck"))
    chosen = parser.parse_args()
    work = chosen.work / "runtimes"
    work.mkdir(parents=True, exist_ok=True)
    versions, tried = list(probes.versions()), list(probes.probes())
    newest = chosen.releases[-1]
    questions = [(header, body) for _, _, (header, body) in versions]
    questions += [(probe.header, probe.body) for probe in tried]
    answers = {newest: ask(newest, questions, work, together=False)}
    # what the newest does not load is asked of no other: an artefact of the gate loads there
    kept = [place for place, said in enumerate(answers[newest]) if outcome(said) != NO]
    kept = sorted({*kept, *range(len(versions))})
    asked, older = [questions[place] for place in kept], chosen.releases[:-1]
    with ThreadPoolExecutor(chosen.jobs) as pool:
        for release, said in zip(
            older, pool.map(lambda release: ask(release, asked, work), older), strict=True
        ):
            rest = dict(zip(kept, said, strict=True))
            answers[release] = [rest.get(place, _ABSENT[0]) for place in range(len(questions))]
    wheels = newest_pythons()
    ordered = {release: answers[release] for release in chosen.releases}
    table = {
        "source": f"python -m conformance.runtimes: {sys.platform}, Python "
        f"{sys.version_info.major}.{sys.version_info.minor}, CPUExecutionProvider",
        "older_source": OLDER_SOURCE,
        "releases": [
            *({"version": v, "ir": ir, "opsets": {"ai.onnx": o, "ai.onnx.ml": ml}}
              for v, ir, o, ml in OLDER),
            *(row(release, versions, said, wheels) for release, said in ordered.items()),
        ],
        "operators": operators(tried, {r: said[len(versions) :] for r, said in ordered.items()}),
    }  # fmt: skip
    TABLE.write_text(written(table), encoding="utf-8")
    print(f"{TABLE}: {TABLE.stat().st_size} bytes")


YES, NO, UNCLEAR = "yes", "no", "unclear"


def outcome(said: str | None, probe: probes.Probe | None = None) -> str:
    """What an answer means: an operator whose kernel complains of its attributes is there.

    Args:
        said: The answer; None where the model loaded.
        probe: What was asked, if it was an operator.
    """
    if said is None:
        return YES
    of_types = probe is not None and probe.attribute is None and probe.inputs is None
    if of_types and any(text in said for text in _CHANGED):
        return UNCLEAR
    if any(text in said for text in _ABSENT):
        return NO
    return UNCLEAR if any(text in said for text in _UNCLEAR) else YES


def ask(
    release: str,
    questions: Sequence[tuple[bytes, bytes]],
    work: Path,
    *,
    together: bool = True,
) -> list[str | None]:
    """What a release says of each model; started again where one crashes the process."""
    python = made([f"onnxruntime=={release}"], work.parent / ".environments")
    lines: dict[Any, list[int]] = defaultdict(list)
    for place, (header, _) in enumerate(questions):
        lines[header if together and place > _ALONE else (header, place)].append(place)
    models, answers = work / f"models-{release}.jsonl", work / f"answers-{release}.jsonl"
    with models.open("w", encoding="utf-8") as file:
        for places in lines.values():
            parts = [questions[places[0]][0], *(questions[place][1] for place in places)]
            file.write(json.dumps([base64.b64encode(part).decode() for part in parts]) + "\n")
    command = [str(python), str(HERE / "load.py"), str(models), str(answers)]
    while subprocess.run(command, env=clean_environment(), capture_output=True).returncode:
        print(f"{release}: a model crashed it", flush=True)
    found: list[str | None] = [load.CRASHED] * len(questions)
    order = list(lines.values())
    for text in answers.read_text(encoding="utf-8").splitlines():
        line, places, answer = json.loads(text)
        if answer != load.TRYING:
            for place in places:
                found[order[line][place]] = answer
    print(f"{release}: {found.count(None)} of {len(found)} load", flush=True)
    return found


#: the first questions are of versions, and are asked alone
_ALONE = 80


def newest_pythons() -> dict[str, str]:
    """Release -> the newest Python that the registry has a wheel of it for, on this system."""
    found: dict[str, str] = {}
    for python in PYTHONS:
        options = ("--python-version", python, "--only-binary=:all:", "--disable-pip-version-check")
        command = [sys.executable, "-m", "pip", "index", "versions", "onnxruntime", *options]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        listed = next(line for line in said.splitlines() if line.startswith("Available versions:"))
        found |= dict.fromkeys(listed.partition(":")[2].replace(" ", "").split(","), python)
    return found


def row(
    release: str,
    versions: Sequence[tuple[str, int, object]],
    said: Sequence[str | None],
    wheels: dict[str, str],
) -> dict[str, Any]:
    """The versions that a release reads, and the newest Python that has it."""
    most: dict[str, int] = {}
    for (what, number, _), answer in zip(versions, said, strict=False):
        if answer is None:
            most[what] = max(most.get(what, 0), number)
    minor = release.rpartition(".")[0]
    ir = most.pop("ir")
    python = wheels[release]
    return {"version": minor, "tried": release, "python": python, "ir": ir, "opsets": most}


def operators(
    tried: Sequence[probes.Probe], answers: dict[str, Sequence[str | None]]
) -> dict[str, list[dict[str, Any]]]:
    """Operator, with its domain unless that is ai.onnx -> its versions."""
    found: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    releases = list(answers)
    plain: dict[tuple[probes.Signature, tuple[str, ...]], list[str]] = {}
    for place, probe in enumerate(tried):
        of = probe.of
        name = f"{of.domain}::{of.operator}" if of.domain else of.operator
        entry = found[name].setdefault(
            of.since,
            {
                "since": of.since,
                "inputs": list(of.inputs),
                "outputs": list(of.outputs),
                "usual_types_only": of.usual_types_only,
                "keys": list(of.keys),
                "types": defaultdict(list),
                "attributes": defaultdict(list),
                "more_inputs": defaultdict(list),
            },
        )
        found_there = [outcome(said[place], probe) for said in answers.values()]
        if probe.attribute is None and probe.inputs is None:
            plain[of, probe.types] = found_there
            entry["types"][_span(found_there, releases)].append(" ".join(probe.types))
            continue
        later = _later(found_there, plain[of, probe.types], releases)
        if probe.attribute is not None:
            entry["attributes"][later].append(probe.attribute)
        else:
            entry["more_inputs"][later].append(probe.inputs)
    for versions in found.values():
        for entry in versions.values():
            for key in ("types", "attributes", "more_inputs"):
                entry[key].pop("", None)
                if not entry[key] and key != "types":
                    del entry[key]
            if not entry["usual_types_only"]:
                del entry["usual_types_only"]
    return {name: list(versions.values()) for name, versions in sorted(found.items())}


def _later(answers: Sequence[str], plain: Sequence[str], releases: Sequence[str]) -> str:
    """The release with which something came that the operator first had to do without, or empty.

    Args:
        answers: What became of the operator with it.
        plain: And without it.
        releases: The releases.
    """
    asked = [place for place, without in enumerate(plain) if without == YES]
    found = [answers[place] for place in asked]
    if UNCLEAR in found or NO not in found or found[-1] != YES:
        return ""
    since = asked[len(found) - found[::-1].index(NO)]
    return releases[since].rpartition(".")[0]


def _span(answers: Iterable[str], releases: Sequence[str]) -> str:
    """`1.17` where it loads from there on, `1.17-1.20` where it stops; `?` where it is unclear."""
    minors = [release.rpartition(".")[0] for release in releases]
    found = list(answers)
    if UNCLEAR in found:
        return "?"
    loads = [minor for minor, answer in zip(minors, found, strict=True) if answer == YES]
    if not loads:
        return ""
    return loads[0] if loads[-1] == minors[-1] else f"{loads[0]}-{loads[-1]}"


def written(table: dict[str, Any]) -> str:
    """The table as JSON, an operator's version a line."""
    head = {key: value for key, value in table.items() if key != "operators"}
    lines = [json.dumps(head, indent=1)[:-2] + ',\n "operators": {']
    names = list(table["operators"].items())
    for place, (name, versions) in enumerate(names):
        each = ",\n   ".join(json.dumps(entry, separators=(",", ":")) for entry in versions)
        lines.append(f'  "{name}": [\n   {each}]{"," if place + 1 < len(names) else ""}')
    return "\n".join([*lines, " }", "}", ""])


if __name__ == "__main__":
    main()
