"""What int8 artefacts give on CPUs with and without VNNI: predicted, and observed where it can be.

First the artefacts of `tests/data/saturation`, recorded on an AMD CPU with AVX2 and no VNNI: how
far the prediction is from the record, in bits of the output (0 is equal to the last bit) and in dB.

Then the zoo, a line for each int8 variant: the worst signal-to-quantization-noise ratio in dB over
the cases, with weights of 8 bits on a CPU with VNNI, and on x86 without it (predicted, and
observed); of portable weights, of 7 bits; and of 8 bits with the session entry
`session.x64quantprecision` (observed where it can be, else as on a CPU with VNNI). Last whether the
portable artefact has the same bytes whatever CPU flags the code sees.

Observed is what ONNX Runtime itself computes without VNNI: on this CPU, where it has none, else
under `qemu-x86_64 -cpu Haswell` (Debian's qemu-user), where that is installed. A dash: neither.

Usage: python benchmarks/saturation.py [--models NAME ...] [--cases N]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import print_table

from pytest_onnxcheck import machine
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.runtime.saturation import Emulation
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.manifest import Model, Variant, load_manifest
from pytest_onnxcheck.manifest.targets import CPU

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests/data/saturation"
ENTRY = "session.x64quantprecision"

Arrays = dict[str, np.ndarray]

#: runs an artefact on files of inputs; needs onnxruntime and numpy alone
WORKER = """
import sys
import numpy as np, onnxruntime
onnxruntime.set_default_logger_severity(4)
path, precise, *files = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.add_session_config_entry("session.x64quantprecision", precise)
session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
for file in files:
    given = np.load(file)
    read = {value.name: given[value.name] for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    np.savez(file + ".out", **dict(zip(names, session.run(None, read))))
"""


def without_vnni() -> list[str] | None:
    """The command that runs Python without VNNI; None where there is none."""
    python = os.path.realpath(sys.executable)
    if machine.saturates():
        return [python]
    emulator = shutil.which("qemu-x86_64")
    return None if emulator is None else [emulator, "-cpu", "Haswell", python]


def observed(path: Path, cases: Sequence[Arrays], *, precise: bool) -> list[Arrays] | str | None:
    """What ONNX Runtime gives without VNNI; why it does not load; None where it cannot be run."""
    command = without_vnni()
    if command is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        files = [str(Path(folder) / f"{index}.npz") for index in range(len(cases))]
        for file, case in zip(files, cases, strict=True):
            np.savez(file, **case)
        done = subprocess.run(
            [*command, "-c", WORKER, str(path), str(int(precise)), *files],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            return "does not load" if "Exception during init" in done.stderr else "crashes"
        return [dict(np.load(f"{file}.out.npz")) for file in files]


def ratio_db(exact: np.ndarray, found: np.ndarray) -> float:
    """Signal to noise in dB; infinite where they are equal."""
    noise = float(((found.astype(float) - exact) ** 2).sum())
    signal = float((exact.astype(float) ** 2).sum())
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.float64(signal) / np.float64(noise))) if noise else np.inf


def worst_db(exact: Sequence[Arrays], found: Sequence[Arrays]) -> float:
    """The worst over cases and outputs that are not all zero."""
    pairs = [
        (wanted[name], given[name])
        for wanted, given in zip(exact, found, strict=True)
        for name in wanted
        if np.any(wanted[name])
    ]
    return min(ratio_db(*pair) for pair in pairs)


def apart(one: np.ndarray, other: np.ndarray) -> int:
    """By how many float32 numbers two arrays differ at most: 0 is equal to the last bit."""

    def ordered(values: np.ndarray) -> np.ndarray:
        bits = values.astype(np.float32).view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)

    return int(np.abs(ordered(one) - ordered(other)).max())


def recorded() -> Iterator[Sequence[str]]:
    """The recorded artefacts: predicted beside recorded."""
    yield "recorded artefact", "layers", "pairs", "predicted", "recorded", "bits", "VNNI", "bits"
    for row in json.loads((RECORDED / "recorded.json").read_text())["rows"]:
        path = RECORDED / row["artefact"]
        data = np.load(path.with_suffix(".npz"))
        emulation = Emulation(path, CPU)
        saturating, counts = emulation.run({"x": data["x"]}, saturating=True)
        exact, _ = emulation.run({"x": data["x"]}, saturating=False)
        (plain,), (precise,) = saturating.values(), exact.values()
        pairs = sum(count.pairs for count in counts.values())
        beyond = sum(count.saturated for count in counts.values())
        yield (
            path.stem,
            str(len(emulation.layers)),
            f"{beyond / pairs:.2%}" if pairs else "0",
            f"{ratio_db(data['float64'], plain):.1f} dB",
            f"{ratio_db(data['float64'], data['plain']):.1f} dB",
            str(apart(plain, data["plain"])),
            f"{ratio_db(data['float64'], precise):.1f} dB",
            str(apart(precise, data["precise"])),
        )


class Zoo:
    """The zoo's artefacts, built in a folder that goes with the run."""

    def __init__(self, folder: Path, cases: int) -> None:
        self.folder = folder
        self.builds = Builds(folder / "artefacts")
        self.cases = cases

    def line(self, model: Model, variant: Variant) -> Sequence[str]:
        """The ratios of one variant."""
        reference = self.builds.reference(model)
        oracle = self.builds.oracle(reference)
        cases = oracle.declared[: self.cases]
        exact = [
            dict(zip(model.outputs, oracle.expected(case).outputs, strict=True)) for case in cases
        ]
        made = {
            bits: self.builds.artefact(reference, with_options(variant, reduce_range=bits == 7))
            for bits in (8, 7)
        }
        fed = [open_session(made[8], CPU).cast_inputs(case.inputs) for case in cases]
        eight, seven = (Emulation(made[bits].path, CPU) for bits in (8, 7))
        runs = [eight.run(inputs, saturating=True) for inputs in fed]
        counts = [count for _, products in runs for count in products.values()]
        pairs = sum(count.pairs for count in counts)
        plain = [outputs for outputs, _ in runs]
        vnni = [eight.run(inputs, saturating=False)[0] for inputs in fed]
        portable = [seven.run(inputs, saturating=True)[0] for inputs in fed]
        seen = observed(made[8].path, fed, precise=False)
        return (
            f"{model.name} {variant.precision}",
            f"{worst_db(exact, vnni):.1f}",
            f"{sum(count.saturated for count in counts) / pairs:.2%}" if pairs else "0",
            f"{worst_db(exact, plain):.1f}",
            told(exact, seen),
            difference(plain, seen),
            f"{worst_db(exact, portable):.1f}",
            told(exact, observed(made[7].path, fed, precise=False)),
            told(exact, observed(made[8].path, fed, precise=True)),
            "same" if self.same_bytes(model, variant) else "DIFFER",
        )

    def same_bytes(self, model: Model, variant: Variant) -> bool:
        """Whether the artefact is the same with and without VNNI among the CPU's flags."""
        hashes = set()
        real = machine._CPUINFO
        for flags in ("avx2", "avx512_vnni"):
            cpuinfo = self.folder / "cpuinfo"
            cpuinfo.write_text(f"flags : {flags}\n")
            machine._CPUINFO = cpuinfo
            builds = Builds(self.folder / flags)
            hashes.add(builds.artefact(builds.reference(model), variant).sha256)
        machine._CPUINFO = real
        return len(hashes) == 1


def with_options(variant: Variant, **options: Any) -> Variant:
    """The variant with other options."""
    changed = variant.quantization.model_copy(update=options)
    return dataclasses.replace(variant, quantization=changed)


def told(exact: Sequence[Arrays], found: list[Arrays] | str | None) -> str:
    """A ratio, or why there is none."""
    if isinstance(found, list):
        return f"{worst_db(exact, found):.1f}"
    return found or "-"


def difference(predicted: Sequence[Mapping[str, np.ndarray]], seen: list[Arrays] | object) -> str:
    """How far the prediction is from what was observed, relative to it."""
    if not isinstance(seen, list):
        return "-"
    found = worst_db(seen, [dict(case) for case in predicted])
    return "equal" if np.isinf(found) else f"{found:.0f} dB"


def zoo(folder: Path, names: Sequence[str], cases: int) -> Iterator[Sequence[str]]:
    """The zoo's int8 variants of the first exporter."""
    yield (
        *("zoo", "8 bits: VNNI", "pairs", "without", "observed", "apart"),
        *("7 bits", "observed", "entry", "bytes"),
    )
    lines = Zoo(folder, cases)
    for model in load_manifest(ROOT / "models.toml").models.values():
        if names and model.name not in names:
            continue
        first = model.variants[0].exporter
        for variant in model.variants:
            if variant.traits.bits == 8 and variant.exporter == first:
                yield lines.line(model, variant)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--cases", type=int, default=2)
    given = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    print(f"{machine.cpu_name()}; without VNNI: {machine.saturates()}; {without_vnni()}\n")
    print_table(recorded())
    print()
    with tempfile.TemporaryDirectory() as folder:
        print_table(zoo(Path(folder), given.models, given.cases))


if __name__ == "__main__":
    main()
