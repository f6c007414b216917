"""What the panel says and does, without a browser and without Gradio."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import runs

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.record.record import Record, write
from pytest_onnxcheck.serve.catalogue import Catalogue, UnknownError
from pytest_onnxcheck.serve.jobs.job import Job, Options
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.jobs.store import StoreError
from pytest_onnxcheck.serve.panel.choice import Choice, Weights
from pytest_onnxcheck.serve.panel.desk import PANES, Desk
from pytest_onnxcheck.serve.panel.view import View
from pytest_onnxcheck.serve.uploads import Upload, Uploads

#: a name of a file that would run a script, were it taken for markup
EVIL = "<img src=x onerror=alert(1)>"

MANIFEST = """
schema = 1

[models.net]
factory = "nets:net"
checkpoint = "runs/*.pt"
precisions = ["fp32", "fp16"]
opsets = [18]
inputs.x.shape = [1]
outputs.y.shape = [1]

[models.lost]
factory = "nets:net"
checkpoint = "none/*.pt"
inputs.x.shape = [1]
outputs.y.shape = [1]

[models.gone]
factory = "nets:net"
checkpoint = "gone.pt"
inputs.x.shape = [1]
outputs.y.shape = [1]

[models.seeded]
factory = "nets:net"
exporters = ["torchscript"]
inputs.x.shape = [1]
outputs.y.shape = [1]
"""

PANE = {pane.name: pane for pane in PANES}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two checkpoints by a glob, a glob and a name that lead nowhere, and a model without."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for place, name in enumerate(("first.pt", "last.pt", f"{EVIL}.pt")):
        (folder / name).write_bytes(b"x" * 1000)
        os.utime(folder / name, (1e9 + place, 1e9 + place))
    (tmp_path / "nets.py").write_text("")
    path = tmp_path / "models.toml"
    path.write_text(MANIFEST)
    return path


@pytest.fixture
def jobs(manifest: Path) -> Jobs:
    return open_jobs(manifest)


@pytest.fixture
def desk(manifest: Path, jobs: Jobs) -> Desk:
    return Desk(Catalogue(manifest, jobs), jobs)


def chosen(desk: Desk, table: str = "net", **changes: Any) -> Choice:
    offer = desk.offer(table)
    weights = next(each for each in offer.weights if EVIL not in each.label)
    choice = Choice(weights, offer.exporters[0], offer.opset, True, offer.precisions)
    return dataclasses.replace(choice, **changes)


def started(desk: Desk, jobs: Jobs, kind: str, **changes: Any) -> Job:
    assert desk.start(kind, chosen(desk, **changes)) == ""
    return jobs.all()[0]


def begun(jobs: Jobs, job: Job) -> int:
    """A job that a worker runs, by its number."""
    number = int(job.id.partition("-")[0])
    assert jobs.begin(number, {"name": "here:1", "host": "here", "token": "t"})
    return number


def ended(jobs: Jobs, job: Job, state: str = "done", **found: Any) -> Job:
    jobs.end(begun(jobs, job), state, **found)
    return jobs.get(job.id)


def weights(desk: Desk, model: str) -> Weights:
    offers = (desk.offer(table) for table in desk.tables())
    return next(it for offer in offers for it in offer.weights if it.model == model)


def seen(desk: Desk, model: str = "net-last") -> View:
    return desk.look(weights(desk, model), "file.onnx")


def cancelled(desk: Desk, name: str) -> str:
    """What is said when the job that a tab shows is cancelled."""
    return desk.cancel(str(desk.shown(PANE[name], seen(desk)).job))


def words(html: str) -> str:
    """The text of HTML, on one line."""
    return " ".join(unescape(re.sub("<[^>]*>", " ", html)).split())


def shown(desk: Desk, name: str, model: str = "net-last") -> str:
    found = desk.shown(PANE[name], seen(desk, model))
    return words(f"{found.status} {found.body}")


def test_checkpoints_of_a_glob_come_newest_first_with_time_and_size(desk: Desk):
    offer = desk.offer("net")
    assert [each.label for each in offer.weights] == [
        f"runs/{EVIL}.pt (2001-09-09 01:46 UTC, 1.00 kB)",
        "runs/last.pt (2001-09-09 01:46 UTC, 1.00 kB)",
        "runs/first.pt (2001-09-09 01:46 UTC, 1.00 kB)",
    ]
    assert all(re.fullmatch("[0-9a-f]{16}", each.key) for each in offer.weights)
    assert offer.weights[1].model == "net-last"
    assert offer.weights[1].file_name == "last.onnx"
    assert (offer.exporters, offer.opset) == (("dynamo",), 18)
    assert offer.precisions == ("fp32", "fp16")
    assert offer.trouble == ""


def test_checkpoints_of_one_name_in_several_folders_are_saved_under_their_models_names(
    desk: Desk, manifest: Path
):
    for run in ("a", "b"):
        (manifest.parent / "runs" / run).mkdir()
        (manifest.parent / "runs" / run / "best.pt").write_bytes(b"x")
    manifest.write_text(MANIFEST.replace("runs/*.pt", "runs/*/best.pt"))
    names = {each.file_name for each in desk.offer("net").weights}
    assert names == {"net-a.onnx", "net-b.onnx"}


def test_a_checkpoint_that_comes_later_is_there_after_a_refresh(desk: Desk, manifest: Path):
    kept = desk.offer("net").weights[1].key
    (manifest.parent / "runs" / "new.pt").write_bytes(b"x")
    offer = desk.offer("net")
    assert offer.weights[0].label.startswith("runs/new.pt (")
    assert offer.find(kept) == offer.weights[2]
    (manifest.parent / "runs" / "last.pt").unlink()
    # another is never taken in its place
    assert desk.offer("net").find(kept) is None
    assert desk.offer("net").newest == desk.offer("net").weights[0]


def test_without_a_checkpoint_it_says_which_and_what_to_do(desk: Desk):
    lost, gone = desk.offer("lost"), desk.offer("gone")
    assert lost.weights == gone.weights == ()
    assert "no file matches checkpoint 'none/*.pt'" in lost.trouble
    assert lost.trouble.endswith("Mend it, or train a checkpoint, and press Refresh.")
    assert "there is no file" in gone.trouble
    assert "gone.pt" in gone.trouble
    assert "press Refresh" in gone.trouble
    assert desk.start("export", None).startswith("There is no checkpoint")


def test_a_model_without_checkpoint_is_built_from_its_seed(desk: Desk):
    offer = desk.offer("seeded")
    assert [each.label for each in offer.weights] == ["none: built from its seed"]
    assert offer.exporters == ("torchscript",)


def test_a_model_of_a_pretrained_folder_says_which(desk: Desk, jobs: Jobs, manifest: Path):
    pretrained = MANIFEST.replace("[models.seeded]", '[models.seeded]\npretrained = "saved/bert"')
    manifest.write_text(pretrained)
    assert [each.label for each in desk.offer("seeded").weights] == ["none: read from saved/bert"]
    catalogue = Catalogue(manifest, jobs)
    with pytest.raises(
        UnknownError, match=r"no checkpoint 'x': seeded is read from saved/bert and has none$"
    ):
        catalogue.checkpoint("seeded", "x")
    with pytest.raises(UnknownError, match=r"gone is read from gone\.pt, which is not there$"):
        catalogue.checkpoint("gone", "x")
    manifest.write_text(MANIFEST)
    with pytest.raises(UnknownError, match=r"seeded is built from its seed and has none$"):
        catalogue.checkpoint("seeded", "x")


def test_a_manifest_that_is_wrong_is_told(desk: Desk, manifest: Path):
    known = weights(desk, "net-last")
    manifest.write_text("schema = ")
    assert "models.toml:1: not TOML" in desk.offer("net").trouble
    assert desk.tables() == []
    assert desk.current() == (None, None, None)
    with pytest.raises(OnnxCheckError, match="not TOML"):
        desk.look(known, "")


NOTHING = {
    "Export": "Nothing is exported yet: choose precisions above, and press Export.",
    "Validate": "Nothing is validated yet: press Validate.",
    "Benchmark": "Nothing is timed yet: press Benchmark.",
    "Compare variants": "Nothing is compared yet: press Compare.",
    "Download": "Nothing is exported yet, so that there is nothing to download",
    "Report": "There is no report yet: Validate, Benchmark and Compare write one each.",
    "History": "No job was started yet.",
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_tab_with_nothing_to_show_says_what_to_press(desk: Desk, name: str):
    assert NOTHING[name] in shown(desk, name)


@pytest.mark.parametrize("name", ["Export", "Validate", "Benchmark", "Compare variants"])
def test_what_is_on_its_way_is_not_missing(desk: Desk, jobs: Jobs, name: str):
    job = started(desk, jobs, str(PANE[name].kind))
    assert desk.shown(PANE[name], seen(desk)).body == ""
    assert jobs.cancel(job.id).over
    assert NOTHING[name] in shown(desk, name)


def test_a_button_asks_for_a_job_with_what_is_chosen(desk: Desk, jobs: Jobs):
    job = started(desk, jobs, "export", precisions=("int8-static", "fp32"), dynamic=False)
    assert (job.kind, job.model, job.state) == ("export", "net-last", "queued")
    assert job.options.precisions == ("fp32", "int8-static")
    assert (job.options.exporter, job.options.opset) == ("dynamo", 18)
    assert job.options.dynamic is False
    assert job.options.checkpoint == "runs/last.pt"
    # the checks take the manifest's dims
    assert started(desk, jobs, "validate", dynamic=False).options.dynamic is True
    assert "waits in the queue" in shown(desk, "Export")
    assert (
        "export · dynamo · opset 18 · fixed sizes · fp32, int8-static · checkpoint runs/last.pt"
    ) in shown(desk, "Export")


GIVEN = """
[models.mine]
factory = "nets:net"
checkpoint = "runs/last.pt"
onnx = { fp32 = "mine.onnx", fp16 = "half.onnx" }
inputs.x.shape = [1]
outputs.y.shape = [1]
"""


def test_of_a_file_that_the_manifest_gives_the_file_is_checked_and_nothing_exported(
    desk: Desk, jobs: Jobs, manifest: Path
):
    manifest.write_text(MANIFEST + GIVEN)
    offer = desk.offer("mine")
    assert offer.given
    assert (offer.exporters, offer.opset) == ((), None)
    # what another model had on the page is no option of this one
    asked = chosen(
        desk, exporter="dynamo", opset=18, precisions=("fp32",), weights=offer.weights[0]
    )
    for kind in ("validate", "benchmark", "gate"):
        assert desk.start(kind, asked) == ""
        assert jobs.all()[0].options == Options(checkpoint="runs/last.pt")
    view = desk.look(offer.weights[0], "file.onnx")
    export = desk.shown(PANE["Export"], view)
    assert not export.starts
    assert words(export.body) == (
        "Nothing is exported: the manifest gives the files of mine ( mine.onnx , half.onnx ), and "
        "Validate, Benchmark and Compare look at those."
    )
    assert all(desk.shown(pane, view).starts for pane in PANES if pane.kind in ("validate", "gate"))
    assert (
        "The manifest gives the files of mine, in its folder on the server: mine.onnx , "
        in shown(desk, "Download", "mine")
    )
    assert not desk.offer("net").given
    assert desk.shown(PANE["Export"], seen(desk)).starts


REFUSED = [
    ("export", {"precisions": ()}, "Nothing is ticked: choose one precision or more."),
    ("export", {"opset": 99}, "opset: 99 is not a number from 9 to 30"),
    ("export", {"opset": 12.5}, "Opset 12.5 is no whole number."),
    ("release", {}, "net-last is not released: write a table [models.net.release]"),
]


@pytest.mark.parametrize(("kind", "changes", "told"), REFUSED)
def test_what_cannot_be_is_told_and_starts_nothing(
    desk: Desk, jobs: Jobs, kind: str, changes: dict[str, Any], told: str
):
    assert told in desk.start(kind, chosen(desk, **changes))
    assert jobs.all() == []


def test_a_full_queue_is_told(desk: Desk, jobs: Jobs):
    jobs.most_waiting = 1
    assert desk.start("export", chosen(desk)) == ""
    assert "the queue is full (1 of 1 places)" in desk.start("validate", chosen(desk))
    assert len(jobs.all()) == 1


def test_a_job_that_runs_is_found_again_with_its_tab(desk: Desk, jobs: Jobs):
    assert desk.current() == ("net", None, None)
    seeded = weights(desk, "seeded")
    job = started(desk, jobs, "validate", weights=seeded)
    begun(jobs, job)
    assert desk.current() == ("seeded", seeded.key, "Validate")
    jobs.tell(1, "comparing seeded::dynamo-op18-fp32", 0.25)
    jobs.log(1, f"a line {EVIL}")
    found = desk.shown(PANE["Validate"], seen(desk, "seeded"))
    assert "comparing seeded::dynamo-op18-fp32" in found.status
    assert 'value="0.25"' in found.status
    assert re.fullmatch(r"\d\d:\d\d:\d\d  a line " + re.escape(EVIL), found.log)
    assert found.runs
    assert EVIL not in found.status
    jobs.end(1, "done", result={"verdict": "pass"})
    assert desk.current() == ("seeded", seeded.key, None)


def test_cancelling_ends_a_job_that_waits(desk: Desk, jobs: Jobs):
    job = started(desk, jobs, "benchmark")
    assert cancelled(desk, "Benchmark") == ""
    assert jobs.get(job.id).state == "cancelled"
    assert "cancelled" in shown(desk, "Benchmark")
    assert "Start it again when you like." in shown(desk, "Benchmark")
    assert "no job has the id 'x'" in desk.cancel("x")
    assert desk.cancel(job.id) == ""  # pressed twice


def test_cancel_ends_the_job_that_is_shown_and_never_the_next(desk: Desk, jobs: Jobs):
    first = started(desk, jobs, "export", precisions=("fp32",))
    shown_first = desk.shown(PANE["Export"], seen(desk))
    ended(jobs, first)
    second = started(desk, jobs, "export", precisions=("fp16",))
    told = desk.cancel(str(shown_first.job))
    assert told.startswith("There is nothing to cancel, it has ended meanwhile: export of net-last")
    assert told.endswith(", done.")
    assert jobs.get(second.id).state == "queued"
    assert cancelled(desk, "Export") == ""
    assert jobs.get(second.id).state == "cancelled"


def test_a_job_that_is_asked_for_twice_runs_once(desk: Desk, jobs: Jobs):
    job = started(desk, jobs, "export")
    assert desk.start("export", chosen(desk)) == ""
    begun(jobs, job)
    assert desk.start("export", chosen(desk)) == ""
    assert jobs.all() == [jobs.get(job.id)]
    jobs.end(1, "done")
    assert started(desk, jobs, "export").id != job.id
    assert started(desk, jobs, "export", precisions=("fp32",)).id != job.id
    assert len(jobs.all()) == 3


def test_the_job_that_runs_is_shown_and_cancelled_before_those_that_wait(desk: Desk, jobs: Jobs):
    first = started(desk, jobs, "export", precisions=("fp32",))
    begun(jobs, first)
    second = started(desk, jobs, "export", precisions=("fp16",))
    assert "runs export · dynamo · opset 18 · fp32 ·" in shown(desk, "Export")
    assert "1 more waits: see History." in shown(desk, "Export")
    assert cancelled(desk, "Export") == ""
    assert jobs.stopped(1)
    assert jobs.get(second.id).state == "queued"
    jobs.end(1, "cancelled")
    assert "waits in the queue export · dynamo · opset 18 · fp16 ·" in shown(desk, "Export")
    assert "more wait" not in shown(desk, "Export")


def test_a_job_that_was_cut_off_says_once_what_to_do(desk: Desk, jobs: Jobs):
    error = "It was cut off: its worker here:1 ended. Nothing of it was kept but what was built."
    ended(jobs, started(desk, jobs, "export"), "cut_off", error=error)
    found = desk.shown(PANE["Export"], seen(desk))
    assert words(found.status).endswith(f"by here:1 {error}")


def test_what_failed_alike_in_several_precisions_is_said_once(desk: Desk, jobs: Jobs):
    bad = exported()["files"][2]
    result = exported(files=[bad, {**bad, "precision": "int8-dynamic"}])
    job = ended(jobs, started(desk, jobs, "export"), "failed", error="it all: no", result=result)
    found = shown(desk, "Export")
    assert "dynamo-op18-int8-static, dynamo-op18-int8-dynamic failed, and are not kept" in found
    assert found.count("no data") == 1
    assert "it all: no" not in found
    assert "it all: no" in desk.job(job.id).status


PICKLE = "runs/last.pt: refused: it holds more than tensors and plain values"
TROUBLES = [
    ("failed", PICKLE, "Mend what the message says, and start it again."),
]


@pytest.mark.parametrize(("state", "error", "advice"), TROUBLES)
def test_a_job_that_came_to_no_good_end_says_why_and_what_to_do(
    desk: Desk, jobs: Jobs, state: str, error: str, advice: str
):
    ended(jobs, started(desk, jobs, "export"), state, error=error + EVIL)
    assert error in shown(desk, "Export")
    assert advice in shown(desk, "Export")
    assert EVIL not in desk.shown(PANE["Export"], seen(desk)).status
    assert NOTHING["Export"] in shown(desk, "Export")


def exported(**changes: Any) -> dict[str, Any]:
    """What an export of two precisions leaves, of which one failed."""
    close = {"max_abs": 2e-6, "mse": 1e-12, "cosine": 1.0, "floors": 1.5, "quality": "excellent"}
    checked = {"grade": "pass", "failures": [], "warnings": [EVIL], "closeness": close}
    floors = {"key": "tolerance.safety", "passes": 8, "fails": 8, "larger_is_better": False}
    cosine = {"key": "tolerance.cosine", "passes": 0.99, "fails": 0.9, "larger_is_better": True}
    checked["margins"] = [
        {"limit": floors, "value": 1.5, "share": 0.19, "where": "batch=1, output 'y'"},
        {"limit": cosine, "value": 0.999, "share": 0.01, "where": "batch=1, output 'y'"},
    ]
    good = {
        "precision": "fp32",
        "exporter": "dynamo",
        "opset": 18,
        "path": "last.onnx",
        "files": [{"name": "last.onnx", "size_bytes": 4000, "sha256": "ab" * 32}],
        "size_bytes": 4000,
        "size_ratio": 1.0,
        "seconds": 1.0,
        "checked": checked,
        "error": None,
    }
    small = {
        **good,
        "precision": "fp16",
        "path": "last-fp16.onnx",
        "files": [{"name": "last-fp16.onnx", "size_bytes": 2200, "sha256": "cd" * 32}],
        "size_bytes": 2200,
        "size_ratio": 0.55,
    }
    bad = {**good, "precision": "int8-static", "path": None, "error": f"no data {EVIL}"}
    bad |= {"files": [], "size_bytes": 0, "checked": None}
    found = {"model": "net-last", "checkpoint": "runs/last.pt", "recipe": "r"}
    return {**found, "files": [good, small, bad], "ok": False, **changes}


@pytest.fixture
def with_files(desk: Desk, jobs: Jobs) -> Job:
    job = ended(jobs, started(desk, jobs, "export"), result=exported())
    folder = jobs.folder(job.id)
    folder.mkdir(parents=True)
    for name in ("last.onnx", "last-fp16.onnx"):
        (folder / name).write_bytes(b"onnx")
    return job


@pytest.mark.usefixtures("with_files")
def test_an_export_shows_sizes_with_reductions_errors_and_what_failed(desk: Desk):
    found = shown(desk, "Export")
    assert "UTC from runs/last.pt Bytes" in found
    error = "max 2.0e-06 (1.5 floors) floors 1.5, allowed ≤ 8 excellent"
    assert f"dynamo-op18-fp32 4.00 kB {error}" in found
    assert f"dynamo-op18-fp16 2.20 kB, 45% smaller than fp32 {error}" in found
    assert "dynamo-op18-int8-static - - failed" in found
    assert f"dynamo-op18-int8-static failed, and is not kept no data {EVIL}" in found
    assert EVIL not in desk.shown(PANE["Export"], seen(desk)).body


@pytest.mark.usefixtures("with_files")
def test_downloads_have_the_chosen_name_a_link_and_a_hash(desk: Desk):
    view = desk.look(weights(desk, "net-last"), "wake/../word.onnx")
    found = desk.shown(PANE["Download"], view).body
    for precision, name in (("fp32", "wake_.._word.onnx"), ("fp16", "wake_.._word-fp16.onnx")):
        path = f"../download/artefact/net-last/dynamo-op18-{precision}/{name}"
        assert f'href="{path}?checkpoint=runs%2Flast.pt"' in found
    assert "ab" * 32 in found
    assert "int8-static" not in found
    assert "No bundle is made yet: press Make the bundle." in found


@pytest.mark.usefixtures("with_files")
def test_downloads_of_one_precision_are_told_apart_by_sizes_and_exporter(desk: Desk, jobs: Jobs):
    other = {**exported()["files"][0], "exporter": "torchscript"}
    for dynamic, files in ((False, exported()["files"][:1]), (True, [other])):
        job = started(desk, jobs, "export", dynamic=dynamic)
        job = ended(jobs, job, result=exported(files=files))
        jobs.folder(job.id).mkdir(parents=True)
        (jobs.folder(job.id) / "last.onnx").write_bytes(b"onnx")
    found = desk.shown(PANE["Download"], desk.look(weights(desk, "net-last"), "it.onnx")).body
    links = re.findall('href="[^"]*/([^"]*)"', found)
    assert [link.partition("?")[0] for link in links] == [
        "it-torchscript-op18-fp32.onnx",
        "it-dynamo-op18-fp32.onnx",
        "it-fixed.onnx",
        "it-fp16.onnx",
    ]
    assert links[2].endswith("?checkpoint=runs%2Flast.pt&amp;dynamic=false")
    assert "dynamo-op18-fp32 · fixed sizes · 4.00 kB" in words(found)


@pytest.fixture
def sent(manifest: Path, jobs: Jobs) -> Desk:
    """A desk with a checkpoint that was sent for a model that has one of its own."""
    (manifest.parent / "gone.pt").write_bytes(b"x")
    folder = jobs.files / "uploads"
    folder.mkdir(parents=True)
    found = Upload("gone-ab", "gone", "gone-ab.pt", 1, "ab", "2026-12-01", "torch", ("",))
    (folder / "gone-ab.pt").write_bytes(b"x")
    (folder / "gone-ab.json").write_text(json.dumps(dataclasses.asdict(found)))
    return Desk(Catalogue(manifest, jobs, Uploads(folder)), jobs)


def test_a_checkpoint_that_was_sent_is_not_chosen_before_the_manifests_own(
    sent: Desk, manifest: Path
):
    os.utime(manifest.parent / "gone.pt", (1e9, 1e9))
    offer = sent.offer("gone")
    assert [each.uploaded for each in offer.weights] == [True, False]
    assert offer.newest == offer.weights[1]
    (manifest.parent / "gone.pt").unlink()
    assert (only := sent.offer("gone").newest) is not None
    assert only.uploaded


def test_each_checkpoint_has_its_own_artefacts_jobs_and_downloads(sent: Desk, jobs: Jobs):
    own, other = sorted(sent.offer("gone").weights, key=lambda it: it.uploaded)
    assert (own.checkpoint, other.checkpoint) == ("gone.pt", "gone-ab")
    made = {}
    for each in (own, other):
        job = started(sent, jobs, "export", weights=each)
        result = exported(model="gone", checkpoint=job.options.checkpoint)
        job = made[each] = ended(jobs, job, result=result)
        jobs.folder(job).mkdir(parents=True)
        for name in ("last.onnx", "last-fp16.onnx"):
            (jobs.folder(job) / name).write_bytes(b"onnx")
    assert made[other].options.checkpoint == ".onnxcheck/serve/uploads/gone-ab.pt"
    catalogue = Catalogue(jobs.manifest, jobs, Uploads(jobs.files / "uploads"))
    for each, job in made.items():
        view = sent.look(each, "it.onnx")
        assert view.jobs == (job,)
        assert {artefact.job for artefact in view.known.artefacts} == {job.id}
        found = sent.shown(PANE["Download"], view).body
        assert f'/it.onnx?checkpoint={each.checkpoint}"' in found
        assert catalogue.artefact("gone", "fp32", each.checkpoint).job == job.id
    assert catalogue.artefact("gone", "fp32").job == made[other].id
    known = catalogue.model("gone")
    assert [artefact.checkpoint for artefact in known.artefacts] == ["gone-ab", "gone.pt"] * 2
    assert {artefact.job for artefact in known.newest} == {made[other].id}
    with pytest.raises(UnknownError, match=r"nothing of gone with x\.pt was exported yet"):
        catalogue.artefact("gone", "fp32", "x.pt")
    # a page that is loaded anew goes on with the checkpoint that ran last
    assert sent.current() == ("gone", other.key, None)


def test_a_job_of_the_manifests_own_checkpoint_is_found_with_it(sent: Desk, jobs: Jobs):
    job = jobs.submit("gate", "gone")
    own, other = sorted(sent.offer("gone").weights, key=lambda it: it.uploaded)
    assert sent.look(own, "").jobs == (job,)
    assert sent.look(other, "").jobs == ()
    gate = PANE["Compare variants"]
    assert sent.shown(gate, sent.look(own, "")).job == job.id
    assert sent.shown(gate, sent.look(other, "")).job is None


def test_what_was_offered_once_is_known_by_its_key(desk: Desk, manifest: Path):
    key = weights(desk, "net-last").key
    anew = Desk(Catalogue(manifest, open_jobs(manifest)), open_jobs(manifest))
    found = anew.weights("net", key)
    assert found == weights(desk, "net-last")
    (manifest.parent / "runs" / "last.pt").unlink()
    assert anew.weights("net", key) == found
    assert anew.weights("net", "x") is anew.weights("net", None) is None
    with pytest.raises(OnnxCheckError, match="no model 'net-last'"):
        anew.look(found, "")


def judged(desk: Desk, jobs: Jobs, kind: str, record: Record) -> None:
    """A job that left a record."""
    job = ended(jobs, started(desk, jobs, kind), result={"verdict": "fail"})
    folder = jobs.folder(job.id)
    folder.mkdir(parents=True)
    write(record.to_json(), folder / "record.json")


def of_net(made: Callable[..., Any]) -> Record:
    entries = [dataclasses.replace(each, model="net-last") for each in made()]
    return runs.record(*entries)


def test_validate_shows_verdict_floor_worst_elements_and_the_guilty_layer(desk: Desk, jobs: Jobs):
    judged(desk, jobs, "validate", of_net(lambda: runs.model(fails=True)))
    found = shown(desk, "Validate")
    assert "Failed: 1 of 8 checks failed" in found
    assert "rel_rms" in found
    assert "0.5, pass is at most 0.15" in found
    assert "layer1.conv (Conv) 12.5 dB" in found
    assert "error in floors" in found
    assert "Elements that differ most" in found


def test_benchmark_shows_both_sides_with_the_interval(desk: Desk, jobs: Jobs):
    judged(desk, jobs, "benchmark", of_net(runs.model))
    found = desk.shown(PANE["Benchmark"], seen(desk)).body
    assert "times as fast as PyTorch [" in words(found)
    assert found.count('class="strip"') == 4
    assert "Nothing is validated yet" in shown(desk, "Validate")


def test_compare_shows_the_frontier_as_a_picture_and_the_report_is_linked(desk: Desk, jobs: Jobs):
    judged(desk, jobs, "gate", of_net(runs.model))
    found = desk.shown(PANE["Compare variants"], seen(desk)).body
    assert 'class="scatter"' in found
    assert "What each variant costs and loses" in found
    job = jobs.all()[0]
    assert f"../api/jobs/{job.id}/files/report.html" in desk.shown(PANE["Report"], seen(desk)).body


def test_compare_says_why_nothing_is_proposed_and_what_the_warnings_are(
    desk: Desk, jobs: Jobs, manifest: Path
):
    text = MANIFEST.replace("[18]", "[20]").replace('["fp32", "fp16"]', '["fp32", "int8-static"]')
    manifest.write_text(text)
    made = runs.model()
    judged(desk, jobs, "gate", of_net(lambda: [it for it in made if "int8" not in it.variant]))
    found = shown(desk, "Compare variants")
    assert (
        "Nothing is proposed: this run left out dynamo-op20-int8-static. Tick their precisions;"
        in found
    )
    judged(desk, jobs, "gate", of_net(lambda: made))
    found = shown(desk, "Compare variants")
    assert "this run left out checks of dynamo-op20-int8-static." in found
    assert "Passed: 1 with warnings," in found
    assert "slower here" in found
    last = made[-1]
    variant = {"variant": last.variant, "precision": last.precision, "position": last.position}
    made += [
        dataclasses.replace(it, **variant) for it in made if it.check in ("export", "structure")
    ]
    judged(desk, jobs, "gate", of_net(lambda: made))
    found = shown(desk, "Compare variants")
    assert "Nothing is proposed" not in found
    assert "To release: net-last:" in found


@pytest.mark.parametrize("name", ["Validate", "Benchmark", "Compare variants", "Report"])
def test_no_text_of_a_record_is_taken_for_markup(desk: Desk, jobs: Jobs, name: str):
    record = runs.evil()
    entries = [dataclasses.replace(each, model="net-last") for each in record.checks]
    judged(desk, jobs, "gate", dataclasses.replace(record, checks=tuple(entries)))
    found = desk.shown(PANE[name], seen(desk)).body
    assert "<img" not in found
    assert "<script" not in found


def test_the_history_has_the_jobs_of_all_models_and_their_logs(desk: Desk, jobs: Jobs):
    ended(jobs, started(desk, jobs, "export"), "failed", error="no")
    job = started(desk, jobs, "validate", weights=desk.offer("seeded").weights[0])
    found = shown(desk, "History")
    assert found.index("validate seeded waits in the queue") < found.index("export net-last failed")
    (newest, _) = desk.titles(seen(desk).history)
    assert newest[1] == job.id
    assert newest[0].startswith("validate of seeded, 20")
    assert desk.job(job.id).runs
    assert "no job has the id" in desk.job("x").status
    assert desk.job(None).status == ""


def test_a_look_reads_no_more_of_the_store_with_many_jobs_that_have_ended(
    desk: Desk, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
):
    keys: list[str] = []
    peek = jobs._peek

    def spied(wanted: list[str]) -> dict[str, Any]:
        keys.extend(wanted)
        return peek(wanted)

    last = weights(desk, "net-last")

    def read() -> int:
        for _ in range(2):  # the first has to read them
            keys.clear()
            desk.stamp()
            desk.look(last, "")
            desk.offer("net")
        return len(keys)

    ended(jobs, started(desk, jobs, "export"), result=exported())
    monkeypatch.setattr(jobs, "_peek", spied)
    few = read()
    for _ in range(120):
        ended(jobs, started(desk, jobs, "export"), result=exported())
    assert read() == few


def test_jobs_that_are_not_reached_are_told(manifest: Path, monkeypatch: pytest.MonkeyPatch):
    jobs = open_jobs(manifest)

    def away(*_: Any, **__: Any) -> list[Job]:
        raise StoreError("redis://x:1/0: not reached")

    monkeypatch.setattr(jobs, "all", away)
    desk = Desk(Catalogue(manifest, jobs), jobs)
    assert desk.current() == ("net", None, None)
    assert desk.stamp() == ("redis://x:1/0: not reached",)
    monkeypatch.setattr(jobs, "get", away)
    assert desk.cancel("1-x") == "redis://x:1/0: not reached"
