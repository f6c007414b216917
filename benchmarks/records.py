"""Two records of one manifest on one machine: what differs beyond measured times.

    python benchmarks/records.py BEFORE.json AFTER.json

For a change that should change nothing: make a record of the zoo before and after
(`python -m tox run -e onnxcheck -- --onnxcheck-json=FILE`, each from an empty `.onnxcheck/`) and
compare. Checks, outcomes, grades, findings and everything measured must be the same to the last
bit; of a latency check, whatever is no time. Exits with 1 where something differs.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: what says where, when or how fast: seconds, paths, whether the cache had it
VOLATILE = {"seconds", "stages", "cached", "path", "manifest", "resumed"}
#: where an artefact came from; a noise floor has a source too, which is compared
SOURCES = {"built", "local", "remote"}
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def steady(value: Any, *, timed: bool) -> Any:
    """The part of a record's value that two runs of one code have in common.

    Args:
        value: JSON.
        timed: Whether it was measured by a clock: then numbers stand for numbers, and only the
            kind of what was found counts.
    """
    if isinstance(value, dict):
        kept = {
            key: entry
            for key, entry in value.items()
            if key not in VOLATILE and not (key == "source" and str(entry) in SOURCES)
        }
        return {key: steady(entry, timed=timed) for key, entry in kept.items()}
    if isinstance(value, list):
        return [steady(entry, timed=timed) for entry in value]
    if timed and isinstance(value, float):
        return "a number"
    if timed and isinstance(value, str):
        return NUMBER.sub("N", value)
    return value


def check(entry: dict[str, Any]) -> dict[str, Any]:
    """One check, comparable."""
    timed = entry["check"] == "latency"
    found: dict[str, Any] = steady(entry, timed=timed)
    if timed:  # how many rounds, whether one was interrupted, how sure: load decides
        found["measurement"] = sorted(found.get("measurement") or {})
        found["findings"] = [finding["what"] for finding in entry.get("findings", [])]
        found.pop("reason", None)
    return found


def differences(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Where two values of JSON differ, one line each."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            place = f"{where}.{key}" if where else key
            if key not in after:
                yield f"{place}: {short(before[key])}, now gone"
            elif key not in before:
                yield f"{place}: new, {short(after[key])}"
            else:
                yield from differences(before[key], after[key], place)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            yield from differences(*pair, f"{where}[{index}]")
    elif before != after:
        yield f"{where}: {short(before)}, now {short(after)}"


def short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    arguments = parser.parse_args()
    records = [json.loads(path.read_text()) for path in (arguments.before, arguments.after)]
    before, after = ({entry["nodeid"]: check(entry) for entry in r["checks"]} for r in records)
    found = list(differences(before, after))
    found += differences(records[0]["errors"], records[1]["errors"], "errors")
    for line in found:
        print(line)
    hashes = sum("sha256" in json.dumps(entry) for entry in after.values())
    print(
        f"{len(before)} and {len(after)} checks, {hashes} of them with hashes of artefacts: "
        f"{len(found)} differences"
    )
    raise SystemExit(bool(found))


if __name__ == "__main__":
    main()
