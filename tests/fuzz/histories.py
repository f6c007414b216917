"""Spoilt runs and baselines of a history: listed, plotted, compared with, added to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random

from commands import run
from mutate import spoil_bytes, spoil_document

from pytest_onnxcheck import judge
from pytest_onnxcheck.history import History
from pytest_onnxcheck.machine import fingerprint

_TIMES = {"torch": 0.003, "onnxruntime": 0.002, "fp32": 0.0021, "kernel": 0.001}
_POINT = {
    "created": "2025-11-21T17:55:00+00:00",
    "machine": dataclasses.asdict(fingerprint()),
    "manifest": "models.toml",
    "target": "cpu",
    "normalised": 2.0,
    "interval": [1.9, 2.1],
    "speedup": 1.5,
    "speedup_interval": [1.4, 1.6],
    "median_seconds": _TIMES,
    "sha256": "ab" * 32,
    "kernel": "numpy; 2",
    "threads": 1,
    "noisy": False,
    "limit": 0.1,
    "clock": "thread",
    "dims": {"batch": 1},
}
_CHECKS = ("models.toml::net::dynamo-op20-fp32[cpu-batch1]", "models.toml::net::v[cpu-batch8]")
_RUN = {"format": 1, "checks": dict.fromkeys(_CHECKS, _POINT)}


class Subject:
    """`histories` spoils a run, `baselines` what was accepted."""

    def __init__(self, name: str, work: Path) -> None:
        self.spoils_baseline = name == "baselines"
        self.work = work

    def warm(self) -> None:
        folder = self.work / "good"
        folder.mkdir()
        self._write(folder, _RUN, _baseline(_RUN))
        kept = History(folder)
        assert (len(kept.runs), len(kept.baseline), kept.problems) == (1, 2, [])
        self.attempt(folder)

    def make(self, rng: Random, folder: Path) -> Path:
        baseline = _baseline(_RUN)
        whole = baseline if self.spoils_baseline else _RUN
        if rng.random() < 0.3:
            spoilt: object = spoil_bytes(rng, json.dumps(whole).encode())
        else:
            spoilt = spoil_document(rng, whole)
        self._write(folder, *((_RUN, spoilt) if self.spoils_baseline else (spoilt, baseline)))
        return folder

    def attempt(self, made: Path) -> None:
        kept = History(made, manifest="models.toml")
        for check in {**kept.baseline, **{check: () for points in kept.runs for check in points}}:
            model, _, point = check.partition("::")[2].partition("::")
            variant, _, rest = point.partition("[")
            kept.before(model, variant, rest.removesuffix("]"))
        points = kept.runs[-1] if kept.runs else {}
        judge.vanished(kept.baseline, points, {}, made, ())
        list(judge.unmatched(kept.baseline, points, {}))
        if points:
            kept.append(points)
        run("history", str(made))
        run("history", str(made), "--json")
        run("history", str(made), f"--svg={made / 'plot.svg'}")
        if points:
            kept.accept(points)

    def _write(self, folder: Path, run: object, baseline: object) -> None:
        (folder / "0001_20251121T175500Z.json").write_bytes(_as_bytes(run))
        (folder / "baseline.json").write_bytes(_as_bytes(baseline))


def _baseline(run: dict) -> dict:
    return {**run, "checks": {check: [point] for check, point in run["checks"].items()}}


def _as_bytes(content: object) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()
