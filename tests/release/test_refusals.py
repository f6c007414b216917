"""Each reason for which nothing is released goes red, with its sentence."""

from __future__ import annotations

import shutil

import pytest

from pytest_onnxcheck.errors import RecordError, ReleaseError
from pytest_onnxcheck.release import bundle, refusals, released_models, verify


def keep(record, wanted):
    record["checks"] = [one for one in record["checks"] if wanted(one)]


def test_a_red_check(gated):
    gated.each("latency", lambda one: one.update(outcome="failed", reason="speed-up: 0.8 times"))
    text = gated.refused()
    assert text.startswith("net::torchscript-op17-int8-dynamic is not released:\n  - ")
    assert "the record is red: test_latency[cpu-batch1] failed: speed-up: 0.8 times" in text


def test_an_expected_failure_is_no_pass(gated):
    gated.each(
        "equivalence",
        lambda one: one.update(outcome="xfailed", expected_failure="known", reason="3 floors"),
    )
    assert "xfailed: expected to fail, which is no pass: 3 floors" in gated.refused()


def test_a_red_fp32_artefact_that_it_was_made_from(gated):
    gated.each("equivalence", lambda one: one.update(outcome="failed"), variant="op17-fp32")
    text = gated.refused()
    assert "the record is red: equivalence of torchscript-op17-fp32, which it is made from" in text


def test_a_run_that_was_interrupted(gated):
    gated.edit(lambda record: record.update(exitstatus=2))
    assert "the run did not come to its end (pytest's exit status 2)" in gated.refused()


def test_a_manifest_that_could_not_be_collected(gated):
    error = {"nodeid": "other.toml", "error": "other.toml:3: unknown key"}
    gated.edit(lambda record: record.update(errors=[error]))
    assert "the run could not collect other.toml: other.toml:3: unknown key" in gated.refused()


def test_a_run_without_some_of_the_checks(gated):
    gated.edit(lambda record: keep(record, lambda one: one["check"] != "structure"))
    text = gated.refused()
    assert "incomplete: the run made 11 of 12 checks of torchscript-op17-int8-dynamic" in text
    assert "without -k, -m and --lf" in text


def test_a_run_before_there_was_anything_to_strip(gated):
    gated.edit(lambda record: keep(record, lambda one: one["check"] != "release"))
    assert "incomplete: no file was stripped and re-checked (test_release)" in gated.refused()


def test_a_check_that_was_skipped_everywhere(gated):
    skipped = {"outcome": "skipped", "reason": "no time", "grade": None, "measurement": None}
    gated.each("structure", lambda one: one.update(skipped))
    text = gated.refused()
    assert (
        "partly skipped: structure was made on no target, and a release needs it: no time" in text
    )


def test_a_check_that_was_skipped_on_a_required_target(gated):
    skipped = {"outcome": "skipped", "reason": "timing is off", "grade": None, "measurement": None}

    def on_the_cpu(one):
        if one["target"] == "cpu":
            one.update(skipped)

    gated.each("latency", on_the_cpu)
    text = gated.refused()
    assert (
        "partly skipped: test_latency[cpu-batch1] was not made, and the manifest requires its "
        "target (required_targets): timing is off: run it where 'cpu' is, with timing on"
    ) in text


def test_other_sources(gated):
    with (gated.root / "nets.py").open("a") as file:
        file.write("# changed\n")
    (gated.root / "net.pt").unlink()
    text = gated.refused()
    assert "made from other sources: net.pt is gone, nets.py has SHA-256 " in text


def test_another_manifest(gated):
    with (gated.root / "models.toml").open("a") as file:
        file.write("# changed\n")
    text = gated.refused()
    assert "the record was made with another manifest" in text
    assert "models.toml has SHA-256 " in text


def test_another_artefact_on_disk(gated):
    gated.stripped.write_bytes(gated.stripped.read_bytes() + b"\0")
    text = gated.refused()
    assert "is not the one that was checked: model.onnx has SHA-256 " in text
    gated.stripped.unlink()
    assert "is not the one that was checked: model.onnx is gone" in gated.refused()


def test_a_file_that_was_made_from_another_artefact_than_was_checked(gated):
    gated.each("latency", lambda one: (one.get("measurement", {})).update(sha256="ab" * 32))
    assert "that is not the one of latency: run pytest" in gated.refused()


def test_a_verdict_that_its_measurement_does_not_bear_out(gated):
    gated.each("release", lambda one: (one.get("measurement", {})).update(leaks=["/home/someone"]))
    text = gated.refused()
    assert "test_release[cpu] passed, and what it measured does not: paths" in text


def test_a_working_tree_that_is_dirty(gated):
    gated.commit_another_state()
    text = gated.refused()
    assert "the working tree is dirty: commit " in text
    assert "does not hold nets.py as it is here: commit, and release again" in text
    allowed = gated.release(allow_dirty=True)
    assert allowed.metadata.source.dirty == ("nets.py",)
    assert any("dirty" in told for told in allowed.told)
    assert "**Not as in that commit**: `nets.py`" in (allowed.folder / "README.md").read_text()
    shutil.rmtree(allowed.folder)
    gated.git("commit", "-a", "-m", "the state that was gated")
    assert gated.release().metadata.source.dirty == ()


def test_all_reasons_are_told_at_once(gated):
    gated.each("latency", lambda one: one.update(outcome="failed", reason="slow"))
    gated.stripped.unlink()
    assert gated.refused().count("\n  - ") >= 2


def test_a_model_or_variant_that_the_record_does_not_have(gated):
    gated.edit(lambda record: keep(record, lambda one: "int8" not in one["variant"]))
    assert "the record has no check of this variant (there are: torchscript-op17-fp32)" in (
        gated.refused()
    )
    gated.edit(lambda record: keep(record, lambda one: one["model"] != "net"))
    assert "the record has no check of it: run pytest --onnxcheck --onnxcheck-model=net" in (
        gated.refused()
    )


def test_budgets_that_choose_nothing(gated):
    gated.edit(lambda record: keep(record, lambda one: one["check"] != "structure"))
    assert "the run left out checks or variants of the model" in gated.refused("free")


def test_budgets_that_no_variant_keeps(gated):
    gated.each("structure", lambda one: one.update(outcome="failed"), variant="")
    text = gated.refused("free")
    assert "no variant passes: torchscript-op17-fp32 fails structure; " in text


def test_which_model_must_be_clear(gated):
    manifest = gated.root / "models.toml"
    assert released_models(manifest) == ["net", "free"]
    with pytest.raises(ReleaseError, match=r"several models \(net, free\): say which"):
        bundle(gated.path, manifest, gated.root / "dist")
    assert "it has no table [models.tagger.release]" in gated.refused("tagger")
    for name in ("a.pt", "b.pt"):
        (gated.root / name).touch()
    manifest.write_text(
        manifest.read_text()
        + '[models.many]\nfactory = "nets.py:mlp"\ncheckpoint = "*.pt"\n'
        + "inputs.x.shape = [1, 8]\noutputs.y.shape = [1, 4]\n"
    )
    assert "it has no table [models.many.release]" in gated.refused("many-a")
    manifest.write_text(
        'schema = 1\n[models.m]\nfactory = "a:b"\ninputs.x.shape = [1]\noutputs.y.shape = [1]\n'
    )
    with pytest.raises(ReleaseError, match=r"no model has a table \[models.NAME.release\]"):
        bundle(gated.path, manifest, gated.root / "dist")


def test_a_record_that_is_written_anew_meanwhile(gated, monkeypatch):
    """What is judged is what is bundled."""
    written, judged = gated.path.read_text(), refusals.of_run

    def of_run(record):
        gated.edit(lambda other: other.update(exitstatus=2))
        return judged(record)

    monkeypatch.setattr(refusals, "of_run", of_run)
    made = gated.release()
    assert gated.path.read_text() != written
    verify(made.folder)


def test_what_is_no_record(gated):
    gated.path.write_text("{}")
    with pytest.raises(RecordError, match="not a record"):
        gated.release()


def test_another_bundle_of_that_name(gated):
    folder = gated.release().folder
    (folder / "README.md").write_text("mine")
    text = gated.refused()
    assert "exists already in README.md" in text
    assert "give it another release.version, or delete it yourself" in text
    assert (folder / "README.md").read_text() == "mine"
    (folder / "extra").touch()
    assert "exists already with other files" in gated.refused()
