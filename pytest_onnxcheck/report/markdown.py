"""A run as Markdown, for a pull request's comment and a CI job's summary: reasons first."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pytest_onnxcheck.judge.compared import Change, compared
from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report import frontier
from pytest_onnxcheck.report.escaping import code, fenced, inline, markdown
from pytest_onnxcheck.report.failures import Failure, failures
from pytest_onnxcheck.report.resting import left_out
from pytest_onnxcheck.report.table import made_on
from pytest_onnxcheck.report.table import markdown as table
from pytest_onnxcheck.report.unfinished import unfinished
from pytest_onnxcheck.wording import listed

__all__ = ["LONGEST", "comment", "counts", "headline"]

#: characters that GitHub takes of a comment, with some to spare
LONGEST = 60_000

#: how many of one kind are listed before the rest is only counted
_MOST = 30

#: state -> how a count of it is told, the worst first
_STATES = {
    "failed": "failed",
    "xpassed": "passed unexpectedly",
    "warn": "with warnings",
    "xfailed": "failed as expected",
    "skipped": "skipped",
    "passed": "passed",
}


def comment(record: Record, before: Record | None = None, *, longest: int = LONGEST) -> str:
    """What failed and warned, with reasons; then what is other than before, and the table.

    Args:
        record: The run.
        before: An earlier run to compare it with.
        longest: Characters; texts of failures, and then the table, are left out beyond it.
    """
    parts = [
        f"## {headline(record)}\n",
        *_collected(record),
        *_failed(failures(record.checks)),
        *_warned(record.checks),
        *_changed(record, before),
        *_skipped(record.checks),
        *_released(record),
    ]
    texts = [_whole(failure) for failure in failures(record.checks)]
    texts.append(_folded("All variants", table(record.checks)) if record.checks else "")
    end = f"{_end(record)}\n"
    length = sum(len(part) + 1 for part in parts) + len(end)
    kept = []
    for text in texts:
        length += len(text) + 1
        kept += [text] if length <= longest else []
    if len(kept) < len(texts):
        kept.append("_The rest is in the record and the HTML report._\n")
    return _cut("\n".join([*parts, *filter(None, kept), end]), longest)


def _cut(text: str, longest: int) -> str:
    """At the end of a line, so that no row of a table is open."""
    if len(text) <= longest:
        return text
    more = "\n\n_The rest is in the record and the HTML report._\n"
    return text[: longest - len(more)].rpartition("\n")[0] + more


def headline(record: Record) -> str:
    """The verdict in one line."""
    failed = sum(entry.outcome in ("failed", "xpassed") for entry in record.checks)
    broken = len(record.errors)
    if failed or broken:
        what = [f"{failed} of {len(record.checks)} checks failed"] if failed else []
        what += [f"{broken} could not be collected"] if broken else []
        cut = f"; {unfinished(record)}" if not record.finished else ""
        return f"❌ onnxcheck: {listed(what)}{cut}"
    if not record.finished:
        return f"❌ onnxcheck: {unfinished(record)}"
    if not record.checks:
        return "❌ onnxcheck: no model was checked"
    if record.exitstatus:
        return f"❌ onnxcheck: the run failed (exit status {record.exitstatus}), no check did"
    return f"✅ onnxcheck: {counts(record.checks)}"


def counts(entries: Sequence[Entry]) -> str:
    """How many checks ended how, the worst first: `1 failed, 2 skipped, 30 passed`."""
    found = Counter(entry.state for entry in entries)
    return ", ".join(f"{found[state]} {told}" for state, told in _STATES.items() if found[state])


def _collected(record: Record) -> Iterator[str]:
    for error in record.errors:
        yield f"{code(error.nodeid)} could not be collected:\n\n{fenced(error.error)}\n"


def _failed(found: Sequence[Failure]) -> Iterator[str]:
    if found:
        rows = ((_check(failure.entry), failure.summary) for failure in found)
        yield f"### Failed\n\n{_reasons(rows, len(found))}"


def _warned(entries: Iterable[Entry]) -> Iterator[str]:
    where: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.state == "warn":
            where.setdefault(f"{entry.model}\n{entry.reason}", []).append(entry)
    if where:
        rows = ((_among(found), found[0].reason) for found in where.values())
        yield f"### Warnings\n\n{_reasons(rows, len(where))}"


def _changed(record: Record, before: Record | None) -> Iterator[str]:
    if before is None:
        return
    found = compared(before.checks, record.checks)
    title = f"### Against {markdown(before.created[:16].replace('T', ' '))}"
    if before.source.commit:
        title += f" ({code(before.source.commit[:9])})"
    if not found:
        yield f"{title}\n\nEvery check ends as it did.\n"
        return
    lines = [
        *_moved("worse", found.worse),
        *_moved("better", found.better),
        *_moved("new", found.new),
        *_moved("gone", found.gone),
    ]
    yield f"{title}\n\n" + "\n".join(lines) + "\n"


def _moved(kind: str, found: Sequence[Change]) -> Iterator[str]:
    for change in found[:_MOST]:
        states = " → ".join(filter(None, (change.before, change.after)))
        yield f"- {kind}: {code(change.nodeid)} ({states})"
    if len(found) > _MOST:
        yield f"- {kind}: … and {len(found) - _MOST} more"


def _skipped(entries: Sequence[Entry]) -> Iterator[str]:
    found = Counter(inline(entry.reason) for entry in entries if entry.outcome == "skipped")
    if found:
        rows = (
            (f"{count} checks" if count > 1 else "1 check", reason)
            for reason, count in found.most_common()
        )
        text = _reasons(rows, len(found), first="skipped")
        yield _folded(f"{sum(found.values())} skipped", text)
    if probes := left_out(entries):
        named = [(f"{code(name)} of {code(model)}", reason) for model, name, reason in probes]
        text = _reasons(named, len(named), first="probes")
        yield _folded("Probes left out by the manifest", text)


def _released(record: Record) -> Iterator[str]:
    proposals = [frontier.proposal(found) for found in frontiers(record.checks)]
    lines = [f"- {markdown(proposal)}" for proposal in proposals if proposal is not None]
    if lines:
        yield "### To release\n\n" + "\n".join(lines) + "\n"


def _whole(failure: Failure) -> str:
    commands = fenced("\n".join(map(inline, failure.commands)), "sh")
    body = f"{fenced(failure.text)}\n\nAgain:\n\n{commands}"
    return _folded(f"<code>{_html(failure.entry.nodeid)}</code>", body)


def _html(text: str) -> str:
    return html.escape(inline(text))


def _folded(title: str, body: str) -> str:
    """What opens when its title is clicked; the title is HTML."""
    return f"<details><summary>{title}</summary>\n\n{body.strip()}\n\n</details>\n"


def _reasons(rows: Iterable[tuple[str, str]], count: int, first: str = "check") -> str:
    lines = [f"| {first} | reason |", "| --- | --- |"]
    lines += [f"| {what} | {markdown(reason)} |" for what, reason in list(rows)[:_MOST]]
    more = f"\n… and {count - _MOST} more.\n" if count > _MOST else ""
    return "\n".join(lines) + "\n" + more


def _check(entry: Entry) -> str:
    point = f"[{entry.point}]" if entry.point else ""
    return code(f"{entry.model}::{entry.variant}::test_{entry.check}{point}")


def _among(found: Sequence[Entry]) -> str:
    more = len(found) - 1
    return _check(found[0]) + (f" and {more} more" if more else "")


def _end(record: Record) -> str:
    source, job = record.source, record.job
    line = markdown(made_on(record).strip())
    if source.commit:
        on = f" on {code(source.branch)}" if source.branch else ""
        dirty = ", with changes" if source.dirty else ""
        line += f" Commit {code(source.commit[:9])}{on}{dirty}."
    if job.url.startswith(("https://", "http://")):
        line += f" Job: {code(job.url)}."
    return line
