"""Does a job in a fork of this process: the same functions and the same pytest as the command.

A worker starts it for one job, `python -m pytest_onnxcheck.serve.jobs.child`, in the manifest's
folder. Its requests and messages are those of `supervised.supervisor`, the messages::

    {"now": "exporting net::dynamo-op20-fp32"}, {"share": 0.5}, {"line": "..."}
    {"result": {...}, "error": null}, {"done": true}      or {"died": {...}}
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.serve.jobs.job import (
    BUNDLE,
    OUTPUT,
    RECORD,
    REPORT,
    JobError,
    Options,
    last_words,
)
from pytest_onnxcheck.supervised.supervisor import Supervisor, attach

if TYPE_CHECKING:
    from pytest_onnxcheck.api.export import ExportedFile
    from pytest_onnxcheck.manifest import Model
    from pytest_onnxcheck.progress import Stage
    from pytest_onnxcheck.record.record import Record

__all__ = ["main"]

#: which checks a job makes, as `-m` takes it; None for all
_CHECKS = {"validate": "not latency", "benchmark": "latency", "gate": None, "release": None}
#: characters of a failure in the log
_MOST = 300


def main() -> None:
    """Does what it is asked for until its input ends."""
    requests, answers = attach()

    def work(asked: int, messages: int) -> None:
        os.close(requests)
        answers.close()
        _work(asked, messages)

    Supervisor(requests, answers, work, Path.cwd()).serve()


def _work(asked: int, messages: int) -> None:
    with os.fdopen(asked, "rb") as lines:
        for line in lines:
            request = json.loads(line)
            told = _Told(messages)
            output = os.open(Path(request["folder"]) / OUTPUT, os.O_WRONLY | os.O_CREAT, 0o666)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            told.send(_done(request, told))
            told.send({"done": True})


def _done(request: Mapping[str, Any], told: _Told) -> dict[str, Any]:
    """Result and error of a job."""
    from pytest_onnxcheck import progress
    from pytest_onnxcheck.errors import OnnxCheckError
    from pytest_onnxcheck.serve.jobs.manifests import find_model

    progress.listen(told.stage)
    do = _export if request["kind"] == "export" else _check
    try:
        options = Options.from_json(request["options"])
        model = find_model(Path(request["manifest"]), request["kind"], request["model"], options)
        result, error = do(request, told, model, options)
    except (OnnxCheckError, OSError) as problem:
        result, error = None, str(problem)
    except Exception as problem:
        traceback.print_exc()
        said = "".join(traceback.format_exception_only(problem)).strip()
        result, error = None, f"{said}\n{OUTPUT} among the job's files has the traceback."
    finally:
        progress.listen(None)
    return {"result": result, "error": error}


class _Told:
    """Sends what a job says; in a fork of a fork nothing."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._pid = os.getpid()

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message."""
        from pytest_onnxcheck.record.encoding import as_line

        if os.getpid() != self._pid:
            return
        line = memoryview(as_line(message))
        while line:
            line = line[os.write(self._messages, line) :]

    def stage(self, stage: Stage | None) -> None:
        """Sends what is being done."""
        self.send({"now": None if stage is None else f"{stage.doing} {stage.what}"})


def _export(
    request: Mapping[str, Any], told: _Told, model: Model, options: Options
) -> tuple[dict[str, Any], str | None]:
    from pytest_onnxcheck.api.export import Outcome, export_model
    from pytest_onnxcheck.places import relative
    from pytest_onnxcheck.report.export import outcome_lines

    folder, settings = Path(request["folder"]), request["settings"]
    exported = export_model(
        options.checkpoint,
        manifest=request["manifest"],
        model=model.name,
        output=folder,
        batch_size=options.batch_size,
        opset=options.opset,
        exporter=options.exporter,
        precisions=options.precisions,
        dynamic=options.dynamic,
        artifacts=settings["artifacts"],
        cache=settings["cache"],
        cache_size=settings["cache_size"],
        cache_remote=settings["cache_remote"],
    )
    path = Path(exported.model)
    outcome = Outcome(path, exported)
    for line in outcome_lines(1, [path], outcome, width=100, verbose=True):
        told.send({"line": line.replace(f"{folder}/", "").rstrip()})
    result = exported.to_json()
    if exported.checkpoint is not None:  # by a name that every machine has for it
        result["checkpoint"] = relative(exported.checkpoint, model.root)
    for file in result["files"]:
        file["path"] = None if file["path"] is None else Path(file["path"]).name
    return result, _wrong(exported.files)


def _wrong(files: Iterable[ExportedFile]) -> str | None:
    """Why some were not exported, what is said of several once; None where all were."""
    found: dict[str, list[str]] = {}
    for file in files:
        if not file.ok:
            found.setdefault(str(file.error), []).append(file.precision)
    said = [f"{', '.join(precisions)}: {error}" for error, precisions in found.items()]
    return "\n".join(said) or None


def _check(
    request: Mapping[str, Any], told: _Told, model: Model, options: Options
) -> tuple[dict[str, Any], str | None]:
    from pytest_onnxcheck.report.summary import as_data
    from pytest_onnxcheck.serve.jobs.manifests import job_manifest, node_ids, write_manifest

    manifest = Path(request["manifest"])
    released = None
    wanted = node_ids(manifest, model, options)
    if request["kind"] == "release":
        record, released = _release(request, told)
    elif wanted is not None:
        record = _gate(request, told, manifest, wanted)
    else:
        own = job_manifest(manifest, request["run"])  # the worker removes it
        write_manifest(own, manifest, model, options)
        record = _gate(request, told, own, [f"{own.name}::{model.name}"])
    result = {
        "verdict": "fail" if record.exitstatus else "pass",
        **as_data(record, RECORD),
        "report": REPORT,
        "released": released,
    }
    return result, None


def _release(request: Mapping[str, Any], told: _Told) -> tuple[Record, dict[str, Any]]:
    from pytest_onnxcheck.api.release import release_model

    manifest, model = Path(request["manifest"]), request["model"]
    folder, settings = Path(request["folder"]), request["settings"]

    def run(path: Path, record: Path, **_: Any) -> Record:
        found = _gate(request, told, path, [f"{path.name}::{model}"])
        record.write_bytes((folder / RECORD).read_bytes())
        return found

    made = release_model(
        manifest,
        model,
        to=settings["releases"] or folder / BUNDLE,
        key=settings["key"],
        run=run,
    )
    assert made.record is not None
    told.send({"line": made.summary.replace(f"{folder}/", "")})
    for text in made.told:
        told.send({"line": text})
    released = made.to_json()
    if not settings["releases"]:
        released["uri"] = str(Path(made.uri).relative_to(folder))
    return made.record, released


def _gate(request: Mapping[str, Any], told: _Told, manifest: Path, wanted: Sequence[str]) -> Record:
    """The gate, as `pytest --onnxcheck` with the options a user would type."""
    import pytest

    from pytest_onnxcheck.record.record import load

    for name in [name for name in os.environ if name.startswith("PYTEST_")]:
        del os.environ[name]
    folder = Path(request["folder"])
    arguments = [*wanted, "--onnxcheck", f"--onnxcheck-manifest={manifest}", "-v"]
    arguments += [f"--onnxcheck-json={folder / RECORD}", f"--onnxcheck-html={folder / REPORT}"]
    arguments += ["-p", "no:cacheprovider"]
    if (checks := _CHECKS[request["kind"]]) is not None:
        arguments += ["-m", checks]
    for name in ("artifacts", "cache", "cache_size", "cache_remote"):
        if (value := request["settings"][name]) is not None:
            arguments.append(f"--onnxcheck-{name.replace('_', '-')}={value}")
    status = int(pytest.main(arguments, plugins=[_Watching(told)]))
    sys.stdout.flush()
    if status not in (0, 1) or not (folder / RECORD).is_file():
        ended = "checked nothing" if status == 5 else f"ended with {status} and made no record"
        raise JobError("\n".join([f"pytest {ended}:", *last_words(folder)]))
    return load(folder / RECORD)


class _Watching:
    """A plugin that tells each check as soon as it is made."""

    def __init__(self, told: _Told) -> None:
        self._told = told
        self._all = 0
        self._made: set[str] = set()

    def pytest_collection_finish(self, session: Any) -> None:
        """Tells how much there is to do."""
        self._all = len(session.items)
        self._told.send({"line": f"{self._all} checks"})

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Tells how a check ended."""
        from pytest_onnxcheck.wording import one_line

        ended = report.when == "call" or (report.when == "setup" and not report.passed)
        if not ended or report.nodeid in self._made:
            return
        self._made.add(report.nodeid)
        _, _, name = report.nodeid.partition("::")
        said = f": {one_line(report.longrepr, _MOST)}" if report.failed else ""
        self._told.send({"line": f"{name} {report.outcome} ({report.duration:.1f} s){said}"})
        self._told.send({"share": len(self._made) / max(self._all, 1)})


if __name__ == "__main__":
    main()
