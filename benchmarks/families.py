"""What the wide healthy set costs and gives: the table of docs/families.md.

    python benchmarks/families.py [--models GLOB ...] [--write]

Each model of `conformance/families.toml` is gated in a process of its own, from an empty folder of
artefacts and on one thread, so that its time and its peak of memory are its own; both include the
start of Python and the imports. The time is the processor's, which other load changes least.
`--write` puts the rows into docs/families.md: those of models that were not run stay as they are.
Exits with 1 where a model fails.
"""

from __future__ import annotations

import argparse
import fnmatch
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.record.record import load
from pytest_onnxcheck.record.rows import rows

ROOT = Path(__file__).parent.parent
MANIFEST = ROOT / "conformance" / "families.toml"
PAGE = ROOT / "docs" / "families.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->"
EXPORTERS = ("dynamo", "torchscript")
COLUMNS = ("model", *EXPORTERS, "cases", "size", "seconds", "peak memory")


def gate(model: str) -> list[str]:
    """Gates one model in a process of its own.

    Returns:
        The cells of its row; size and cases are those of the first artefact that has any.

    Raises:
        SystemExit: The process wrote no record; with what it printed.
    """
    with tempfile.TemporaryDirectory() as folder:
        record, output = Path(folder, "record.json"), Path(folder, "output.txt")
        command = [
            *(sys.executable, "-m", "pytest", "--onnxcheck", "-p", "no:cacheprovider"),
            *(f"--onnxcheck-manifest={MANIFEST}", f"--onnxcheck-model={model}"),
            *(f"--onnxcheck-artifacts={folder}/artefacts", f"--onnxcheck-json={record}"),
            *("-m", "not latency"),
        ]
        threads = {**os.environ, "OMP_NUM_THREADS": "1"}
        with output.open("w") as log:
            child = subprocess.Popen(
                command, cwd=ROOT, env=threads, stdout=log, stderr=subprocess.STDOUT
            )
            _, _, used = os.wait4(child.pid, 0)
        if not record.exists():
            raise SystemExit(f"{model}: no record\n{output.read_text()}")
        found = {row.recipe[0]: row for row in rows(load(record).checks)}
    verdicts = [found[name].verdict() if name in found else "-" for name in EXPORTERS]
    held = [row.held_to() for row in found.values()]
    cases = next((f"{one.cases}+{one.probes}" for one in held if one), "-")
    sizes = [size for row in found.values() if (size := row.size_bytes())]
    size = f"{sizes[0] / 1e6:.3g} MB" if sizes else "-"
    seconds = used.ru_utime + used.ru_stime
    # of the larger one of pytest and the child that opens sessions; Linux counts in 1024 bytes
    peak = used.ru_maxrss * 1024 / 1e9
    return [model, *verdicts, cases, size, f"{seconds:.0f}", f"{peak:.2f} GB"]


def line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def known() -> dict[str, str]:
    """The lines of the page's table by model."""
    text = PAGE.read_text().partition(BEGIN)[2].partition(END)[0]
    return {match[1]: match[0] for match in re.finditer(r"(?m)^\| (\S+) \| .*\|$", text)}


def write(lines: dict[str, str], models: list[str]) -> None:
    """Puts the table into the page, in the order of the manifest."""
    table = [line(COLUMNS), line(["---"] * len(COLUMNS))]
    table += [lines[model] for model in models if model in lines]
    text = PAGE.read_text()
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(table) + "\n\n" + END + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=["*"], metavar="GLOB")
    parser.add_argument("--write", action="store_true", help="into docs/families.md")
    arguments = parser.parse_args()
    models = list(load_manifest(MANIFEST).models)
    chosen = [
        model
        for model in models
        if any(fnmatch.fnmatchcase(model, glob) for glob in arguments.models)
    ]
    print(line(COLUMNS), line(["---"] * len(COLUMNS)), sep="\n", flush=True)
    failed = False
    for model in chosen:
        cells = gate(model)
        failed |= not {*cells[1:3]} <= {"pass", "warn", "xfail", "-"}
        print(line(cells), flush=True)
        if arguments.write:
            write({**known(), model: line(cells)}, models)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
