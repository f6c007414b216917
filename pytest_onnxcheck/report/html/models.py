"""What the section of one model shows: texts, and where marks of plots stand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_onnxcheck.digits import milliseconds, three_digits
from pytest_onnxcheck.judge.frontier import Frontier
from pytest_onnxcheck.judge.limits import Margin, margins
from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    ExportMeasurement,
    LatencyMeasurement,
    LayerLoss,
    QuantizationMeasurement,
)
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.rows import Row
from pytest_onnxcheck.report import frontier as frontier_report
from pytest_onnxcheck.report.failures import Failure, failures, whole_text
from pytest_onnxcheck.report.html.plots import (
    Bar,
    Scatter,
    Strip,
    Trend,
    bars,
    scatter,
    strips,
)
from pytest_onnxcheck.report.resting import left_out
from pytest_onnxcheck.report.table import HEADER, cells, file_size
from pytest_onnxcheck.report.text import allowed, element_rows, held_to, metrics, worst_output

__all__ = ["Section", "section"]

#: a section's state is the worst of its variants'
_WORST = ("FAIL", "XPASS", "warn", "xfail", "partial", "pass", "skip")

#: stages in the order in which they are shown; one that is not known comes first
_STAGES = {
    stage: place
    for place, stage in enumerate(
        (
            *("loading the checkpoint", "running PyTorch", "scoring PyTorch"),
            *("reading calibration data", "exporting", "quantizing", "reading the file", "setup"),
            *(
                "comparing",
                "searching",
                "diagnosing",
                "scoring",
                "injecting faults",
                "trying",
                "check",
            ),
        ),
        1,
    )
}

#: as many as there are colours; the last is all others
_MOST_STAGES, _OTHER = 8, "other"

#: layers shown of one artefact, the worst first
_MOST_LAYERS = 12


@dataclass(frozen=True)
class Told:
    """A check, or several of one reason, with what is said."""

    where: str
    text: str
    more: int = 0


@dataclass(frozen=True)
class Held:
    """How much of a limit a check uses up: `width` of 1000, `over` beyond the limit."""

    variant: str
    check: str
    key: str
    measured: str
    allowed: str
    share: str
    width: float
    over: bool
    where: str


@dataclass(frozen=True)
class Worst:
    """The output of a variant that differs most, and its worst elements."""

    variant: str
    title: str
    floor: tuple[tuple[str, ...], ...]
    metrics: str
    held_to: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Timed:
    """The times of one check of latency."""

    label: str
    fact: str
    strips: tuple[Strip, ...]


@dataclass(frozen=True)
class Spent:
    """Seconds of a variant by stage; `parts` are stage, start and width in 1000."""

    variant: str
    cells: tuple[str, ...]
    total: str
    parts: tuple[tuple[str, float, float], ...]


@dataclass(frozen=True)
class Section:
    """One model. `find` is what a search looks through."""

    anchor: str
    name: str
    state: str
    manifest: str
    variants: tuple[str, ...]
    find: str
    proposal: str
    counts: tuple[tuple[str, int], ...]
    failures: tuple[Failure, ...]
    expected: tuple[Told, ...]
    warnings: tuple[Told, ...]
    skipped: tuple[Told, ...]
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    held: tuple[Held, ...]
    worst: tuple[Worst, ...]
    losses: tuple[tuple[str, tuple[Bar, ...]], ...]
    sizes: tuple[Bar, ...]
    timed: tuple[Timed, ...]
    scatter: Scatter
    trends: tuple[Trend, ...]
    stages: tuple[str, ...]
    spent: tuple[Spent, ...]
    files: tuple[tuple[str, ...], ...]


def section(
    anchor: str, rows: Sequence[Row], frontier: Frontier, trends: Sequence[Trend]
) -> Section:
    """The section of a model.

    Args:
        anchor: Its id in the page.
        rows: Its variants.
        frontier: What they cost and lose.
        trends: Its latencies over the runs.
    """
    entries = [entry for row in rows for entry in row.entries]
    states = [row.verdict() for row in rows]
    found = failures(entries)
    header, lines = _table(rows)
    stages = _stages(entries)
    names = tuple(row.variant for row in rows)
    texts = [rows[0].model, *names, *(failure.summary for failure in found)]
    return Section(
        anchor=anchor,
        name=rows[0].model,
        state=next((state for state in _WORST if state in states), states[0]),
        manifest=rows[0].manifest,
        variants=names,
        find=" ".join(" ".join(texts).lower().split()),
        proposal=frontier_report.proposal(frontier) or "",
        counts=tuple(Counter(entry.state for entry in entries).items()),
        failures=tuple(found),
        expected=tuple(_expected(entries)),
        warnings=tuple(_grouped(entries, "warn")),
        skipped=(*_grouped(entries, "skipped"), *_left_out(entries)),
        header=header,
        rows=lines,
        held=tuple(_held(entries)),
        worst=tuple(_worst(rows)),
        losses=tuple(_losses(entries)),
        sizes=_sizes(rows),
        timed=tuple(_timed(entries)),
        scatter=scatter(frontier, frontier_report.HEADER),
        trends=tuple(trends),
        stages=stages,
        spent=_spent(rows, stages),
        files=tuple(_files(rows)),
    )


def _table(rows: Sequence[Row]) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The table of a run without the model's column, and those that hold nothing."""
    lines = [cells(row) for row in rows]
    used = [
        i
        for i, name in enumerate(HEADER)
        if name != "model" and any(line[i] != "-" for line in lines)
    ]
    return tuple(HEADER[i] for i in used), tuple(tuple(line[i] for i in used) for line in lines)


def _expected(entries: Sequence[Entry]) -> Iterator[Told]:
    for entry in entries:
        if entry.outcome == "xfailed":
            text = f"{entry.expected_failure or 'expected to fail'}\n\n{whole_text(entry)}"
            yield Told(_check(entry), text)


def _grouped(entries: Sequence[Entry], state: str) -> Iterator[Told]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == state:
            found.setdefault(entry.reason, []).append(entry)
    for reason, among in found.items():
        text = "\n".join(map(str, among[0].findings)) if state == "warn" else reason
        yield Told(_check(among[0]), text, len(among) - 1)


def _left_out(entries: Sequence[Entry]) -> Iterator[Told]:
    for _, name, reason in left_out(entries):
        yield Told(f"probe {name}", f"left out by the manifest's skip_probes: {reason}")


def _check(entry: Entry) -> str:
    return f"{entry.variant}::test_{entry.check}" + (f"[{entry.point}]" if entry.point else "")


def _held(entries: Sequence[Entry]) -> Iterator[Held]:
    for entry in entries:
        for margin in margins(entry):
            limit = margin.limit
            yield Held(
                variant=entry.variant,
                check=f"{entry.check} {entry.point}".strip(),
                key=limit.key,
                measured=f"{margin.value:.4g}",
                allowed=allowed(limit),
                share=_percent(margin),
                width=1000 * min(max(margin.share, 0.0), 1.0),
                over=margin.share > 1,
                where=margin.where,
            )


def _percent(margin: Margin) -> str:
    share = 100 * margin.share
    return "far beyond" if share > 1e5 else f"{share:.3g}%" if share < 1000 else f"{share:.0f}%"


def _worst(rows: Sequence[Row]) -> Iterator[Worst]:
    for row in rows:
        for entry in row.of("equivalence"):
            measured = entry.measurement
            if not isinstance(measured, EquivalenceMeasurement):
                continue
            failed = [finding.where for finding in entry.findings if finding.grade]
            found = worst_output(measured, failed[0] if failed else "") or worst_output(measured)
            if found is None:
                continue
            output, case = found
            header, *lines = element_rows(output)
            floor = output.floor
            yield Worst(
                variant=f"{row.variant} [{entry.point}]",
                title=f"output {output.name!r} {list(output.expected_shape)} "
                f"{output.expected_dtype}, {case}",
                floor=()
                if floor is None
                else (
                    ("error", _short(floor.error_worst), _short(floor.error_rms)),
                    ("noise floor", _short(floor.floor_worst), _short(floor.floor_rms)),
                    ("PyTorch's own error", _short(floor.torch_worst), ""),
                    ("error in floors", _short(floor.farthest), ""),
                ),
                metrics=metrics(output),
                held_to="" if measured.held_to is None else held_to(measured.held_to),
                header=header,
                rows=tuple(lines),
            )


def _short(value: float) -> str:
    return f"{value:.3g}"


def _losses(entries: Sequence[Entry]) -> Iterator[tuple[str, tuple[Bar, ...]]]:
    """The layers of a quantized artefact whose check failed: nobody else measures them."""
    for entry in entries:
        found = getattr(entry.measurement, "diagnosis", None)
        if found is None:
            continue
        where = _check(entry)
        if found.losses:
            yield f"{where}: signal to noise behind each layer", _layers(found.losses)
        if found.sensitivity is not None and found.sensitivity.layers:
            title = f"{where}: signal to noise of each node's own loss"
            yield title, _layers(found.sensitivity.layers)


def _layers(losses: Sequence[LayerLoss]) -> tuple[Bar, ...]:
    return bars(
        [
            (f"{loss.value} ({loss.operator})", loss.noise, f"{loss.sqnr_db:.1f} dB", "loss")
            for loss in losses[:_MOST_LAYERS]
        ]
    )


def _sizes(rows: Sequence[Row]) -> tuple[Bar, ...]:
    found = []
    for row in rows:
        size, ratio = row.size_bytes(), row.size_ratio()
        if size is not None:
            text = file_size(size) + ("" if ratio is None else f", {ratio:.2f} of fp32")
            found.append((row.variant, float(size), text, "fp32" if row.is_fp32 else "size"))
    return bars(found)


def _timed(entries: Sequence[Entry]) -> Iterator[Timed]:
    for entry in entries:
        measured = entry.measurement
        if isinstance(measured, LatencyMeasurement):
            ratio = measured.ratios["torch"]
            fact = (
                f"{measured.speedup:.2f} times as fast as PyTorch [{ratio.low:.2f}, "
                f"{ratio.high:.2f}] on {ratio.clock} time; {measured.threads} thread"
                f"{'s' * (measured.threads > 1)} a side, {measured.boundary}; "
                f"{measured.onnxruntime.count} calls; loads in {_seconds(measured.load_seconds)}"
            )
            if measured.transferred_bytes is not None:
                fact += f"; {file_size(measured.transferred_bytes)} to transfer (gzip)"
            yield Timed(f"{entry.variant} [{entry.point}]", fact, strips(measured))


def _seconds_of(entries: Sequence[Entry]) -> Counter[str]:
    found: Counter[str] = Counter()
    for entry in entries:
        found.update(entry.stages)
    return found


def _stages(entries: Sequence[Entry]) -> tuple[str, ...]:
    """The stages that took longest, in the order of their work; the others are one."""
    named = [stage for stage, _ in _seconds_of(entries).most_common()]
    shown = named if len(named) <= _MOST_STAGES else named[: _MOST_STAGES - 1]
    found = sorted(shown, key=lambda stage: _STAGES.get(stage, 0))
    return (*found, _OTHER) if len(shown) < len(named) else tuple(found)


def _spent(rows: Sequence[Row], stages: Sequence[str]) -> tuple[Spent, ...]:
    taken: dict[str, dict[str, float]] = {}
    for row in rows:
        counted = _seconds_of(row.entries)
        told = {stage: float(counted[stage]) for stage in stages}
        if _OTHER in told:
            told[_OTHER] = counted.total() - sum(told.values())
        taken[row.variant] = told
    most = max((sum(seconds.values()) for seconds in taken.values()), default=0.0)
    found = []
    for variant, seconds in taken.items():
        start, parts = 0.0, []
        for stage, value in seconds.items():
            width = 1000 * value / most if most else 0.0
            parts.append((stage, round(start, 1), round(width, 1)))
            start += width
        texts = tuple(_seconds(value) for value in seconds.values())
        found.append(Spent(variant, texts, _seconds(sum(seconds.values())), tuple(parts)))
    return tuple(found) if most else ()


def _seconds(value: float) -> str:
    if not value:
        return "-"
    return milliseconds(value) if value < 0.1 else f"{three_digits(value)} s"


def _files(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """Variant, file, size and hash of what was checked, checkpoint and libraries too."""
    for row in rows:
        exported, quantized = row.measured(ExportMeasurement), row.measured(QuantizationMeasurement)
        checks = [found.file for found in (exported if row.is_fp32 else quantized)[:1]]
        for file in checks:
            if not file.files:
                name = file.path.rpartition("/")[2]
                yield row.variant, name, file_size(file.size_bytes), file.sha256
            for each in file.files:
                yield row.variant, each.name, file_size(each.size_bytes), each.sha256
        checkpoint = next((found.checkpoint_sha256 for found in exported), None)
        if row.is_fp32 and checkpoint:
            yield row.variant, "checkpoint", "", checkpoint
        for each in exported[0].libraries if exported else ():
            yield row.variant, f"library {each.name}", file_size(each.size_bytes), each.sha256
