"""Which variants a job's options choose, and the manifest that is written for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from working import project, work

from pytest_onnxcheck.manifest import Model, load_manifest
from pytest_onnxcheck.record.record import load
from pytest_onnxcheck.serve.catalogue import Catalogue
from pytest_onnxcheck.serve.jobs.job import JobError, Options
from pytest_onnxcheck.serve.jobs.manifests import find_model, node_ids, write_manifest
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs

MANIFEST = """
schema = 1

[models.given]
factory = "nets.py:mlp"
onnx = { fp32 = "given.onnx", fp16 = "half.onnx" }
opsets = [17]
inputs.x.shape = ["batch", "seq", 8]
outputs.y.shape = ["batch", "seq", 4]
dims = { seq = { from = 1, to = 4 }, batch = [1, 3] }

[defaults]
opsets = [18]

[models.fold]
factory = "nets.py:mlp"
checkpoint = "runs/*/best.pt"
precisions = ["fp32", "fp16"]
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]

[[models.fold.skip]]
reason = "not \\"yet\\""
checks = ["latency"]
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Files that are given, and a glob of checkpoints."""
    for name in ("runs/a=1/best.pt", "runs/b/best.pt", "other.pt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    path = tmp_path / "models.toml"
    path.write_text(MANIFEST)
    return path


def model(manifest: Path, name: str) -> Model:
    read = load_manifest(manifest)
    read.check()
    return read.models[name]


def written(manifest: Path, name: str, **options: Any) -> Model:
    """The model of a manifest that was written for a job."""
    known, path = model(manifest, name), manifest.with_name("job.toml")
    assert node_ids(manifest, known, Options(**options)) is None
    write_manifest(path, manifest, known, Options(**options))
    read = load_manifest(path)
    read.check()
    (found,) = read.models.values()
    return found


@pytest.mark.parametrize(
    ("name", "options", "ids"),
    [
        ("given", {}, ["given"]),
        ("given", {"precisions": ("fp32",)}, ["given::file-fp32"]),
        ("given", {"precisions": ("fp16", "fp32")}, ["given::file-fp32", "given::file-fp16"]),
        ("fold-b", {"checkpoint": "runs/b/best.pt"}, ["fold-b"]),
        ("fold-b", {"precisions": ("fp16",)}, ["fold-b::dynamo-op18-fp16"]),
        (
            "fold-b",
            {"exporter": "dynamo", "opset": 18},
            ["fold-b::dynamo-op18-fp32", "fold-b::dyn"],
        ),
    ],
)
def test_variants_of_the_manifest_are_checked_there(manifest: Path, name, options, ids):
    found = node_ids(manifest, model(manifest, name), Options(**options))
    assert found is not None
    for nodeid, expected in zip(found, ids, strict=True):
        assert nodeid.startswith(f"models.toml::{expected}")


def test_a_file_that_is_given_is_held_against_another_checkpoint(manifest: Path):
    found = written(manifest, "given", checkpoint="other.pt", precisions=("fp16",))
    assert [variant.name for variant in found.variants] == ["file-fp16"]
    assert found.variants[0].file == manifest.parent / "half.onnx"
    assert found.checkpoint == manifest.parent / "other.pt"
    assert found.variants[0].allowed_opsets == (17,)
    assert list(found.dims) == ["seq", "batch"]  # the first is swept


@pytest.mark.parametrize("options", [{"exporter": "dynamo"}, {"precisions": ("int8-dynamic",)}])
def test_what_is_not_given_is_exported(manifest: Path, options):
    found = written(manifest, "given", **options)
    (precision,) = options.get("precisions", ["fp32"])
    assert [variant.name for variant in found.variants] == [f"dynamo-op18-{precision}"]


def test_given_files_and_others_at_once_are_refused(manifest: Path):
    options = Options(precisions=("fp32", "int8-dynamic"))
    with pytest.raises(JobError) as refused:
        find_model(manifest, "validate", "given", options)
    assert str(refused.value).startswith(
        "precisions: models.toml gives the files of given for fp32, and none for int8-dynamic: ask "
    )
    assert find_model(manifest, "export", "given", options).name == "given"


@pytest.mark.parametrize("name", ["fold-a_1", "fold-b"])
def test_a_model_of_a_glob_keeps_its_name(manifest: Path, name: str):
    found = written(manifest, name, exporter="torchscript", precisions=("fp32",))
    assert (found.name, found.checkpoint) == (name, model(manifest, name).checkpoint)
    assert [variant.name for variant in found.variants] == ["torchscript-op18-fp32"]
    assert found.skip[0].reason == 'not "yet"'
    sent = written(manifest, name, checkpoint="other.pt")
    assert (sent.name, sent.checkpoint) == (name, manifest.parent / "other.pt")
    assert [variant.precision for variant in sent.variants] == ["fp32", "fp16"]


CHOICES = """
schema = 1

[defaults]
precisions = ["fp32", "int8-static"]
opsets = [18]

[defaults.tolerance."torchscript-*"]
rel_rms = [0.1, 0.2]
[defaults.tolerance."*-op18-*"]
cosine = [0.9, 0.8]
[defaults.budget."*"]
max_size_ratio = 0.9
[defaults.budget.fp32]
min_speedup = { cpu = 1.5, "onnxruntime-1.17" = 1.5 }

[models.net]
factory = "nets.py:mlp"
calibration = { source = "nets.py:examples" }
required_targets = ["cpu", "onnxruntime-1.17"]
deploy = { onnxruntime = ">=1.17" }
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
baseline = { fp32 = "old.onnx", "*-int8-static" = "old-int8.onnx" }
accuracy = { source = "nets.py:labelled", max_drop = { "*-int8-*" = 0.1 } }

[models.net.tolerance.dynamo-op18-int8-static]
rel_rms = [0.1, 0.2]
[models.net.quantization."*-static"]
method = "entropy"
[models.net.budget.fp32]
max_regression = "10%"
[models.net.budget.int8-static]
max_regression = "10%"

[[models.net.xfail]]
checks = ["equivalence"]
variants = ["*-int8-static"]
reason = "static"
[[models.net.xfail]]
checks = ["equivalence"]
variants = ["*-int8-static", "*-fp32"]
reason = "both"
[[models.net.xfail]]
targets = ["onnxruntime-1.17"]
reason = "old"
[[models.net.skip]]
targets = ["cpu", "onnxruntime-1.17"]
checks = ["latency"]
reason = "slow"

[models.other]
factory = "nets.py:mlp"
exporters = ["torchscript"]
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
"""


@pytest.fixture
def choices(tmp_path: Path) -> Path:
    """A model of which much is said by variant and by target."""
    path = tmp_path / "models.toml"
    path.write_text(CHOICES)
    return path


def test_what_chooses_none_of_the_variants_is_left_out(choices: Path):
    found = written(choices, "net", opset=17, precisions=("fp32",))
    (variant,) = found.variants
    assert variant.name == "dynamo-op17-fp32"
    assert [(mark.reason, mark.variants) for mark in found.xfail] == [("both", ("*-fp32",))]
    assert variant.baseline == choices.parent / "old.onnx"
    assert variant.budget.max_regression == 0.1
    assert found.accuracy is not None
    assert found.accuracy.max_drop is None
    text = choices.with_name("job.toml").read_text()
    for key in ("torchscript-*", "*-op18-*", "max_size_ratio", "*-static", "*-int8-", "op18"):
        assert key not in text


def test_what_still_chooses_a_variant_is_kept(choices: Path):
    found = written(choices, "net", opset=17, precisions=("int8-static",))
    (variant,) = found.variants
    assert [(mark.reason, mark.variants) for mark in found.xfail] == [
        ("static", ("*-int8-static",)),
        ("both", ("*-int8-static",)),
    ]
    assert variant.baseline == choices.parent / "old-int8.onnx"
    assert (variant.max_drop, variant.quantization.method) == (0.1, "entropy")
    assert variant.budget.max_size_ratio == 0.9


@pytest.mark.parametrize(
    ("extra", "options"),
    [
        ('tolerance."dynamo-op18-*" = { rel_rms = [0.1, 0.2] }', {"opset": 17}),
        ('budget."*-fp16" = { max_size_mb = 1 }', {"precisions": ("fp32",)}),
        ('quantization."*-fp16" = { keep_io_types = false }', {"precisions": ("fp32",)}),
        ('baseline = "old.onnx"\nbudget.fp32.max_regression = 0.1', {"precisions": ("fp16",)}),
        (
            'accuracy = { source = "a.py:b", max_drop = { "*-fp16" = 0.1 } }',
            {"precisions": ("fp32",)},
        ),
        ('xfail = [{ variants = ["dynamo-op18-*"], reason = "no" }]', {"opset": 17}),
        ('skip = [{ variants = ["*-fp16"], reason = "no" }]', {"precisions": ("fp32",)}),
    ],
)
def test_each_key_that_chooses_variants_may_choose_none_of_a_job(tmp_path: Path, extra, options):
    whole = f"""
schema = 1
[models.net]
factory = "nets.py:mlp"
opsets = [18]
precisions = ["fp32", "fp16"]
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
{extra}
"""
    (tmp_path / "models.toml").write_text(whole)
    found = written(tmp_path / "models.toml", "net", exporter="torchscript", **options)
    assert {variant.exporter for variant in found.variants} == {"torchscript"}
    assert (found.xfail, found.skip) == ((), ())


def test_keys_of_defaults_that_another_model_needs_are_left_out(choices: Path):
    found = written(choices, "net", exporter="dynamo", opset=17, precisions=("fp32",))
    assert "torchscript-*" not in choices.with_name("job.toml").read_text()
    assert found.variants[0].tolerance.cosine is None
    kept = written(choices, "net", exporter="torchscript", precisions=("fp32",))
    assert kept.variants[0].tolerance.rel_rms is not None
    assert '"torchscript-*"' in choices.with_name("job.toml").read_text()


def test_the_target_that_deploy_asks_for_is_left_out(choices: Path):
    found = written(choices, "net", opset=17)
    assert (found.deploy, found.required_targets) == (None, ("cpu",))
    assert [mark.reason for mark in found.xfail] == ["static", "both"]
    assert [(mark.reason, mark.targets) for mark in found.skip] == [("slow", ("cpu",))]
    assert found.variants[0].budget.min_speedup == {"cpu": 1.5}


def test_a_target_of_deploy_alone_leaves_nothing_behind(choices: Path):
    text = choices.read_text().replace('["cpu", "onnxruntime-1.17"]', '["onnxruntime-1.17"]')
    text = text.replace("opsets = [18]", 'opsets = [18]\nrequired_targets = ["cpu"]', 1)
    choices.write_text(text)
    found = written(choices, "net", opset=17)
    assert (found.required_targets, found.skip) == ((), ())  # none, and not those of [defaults]


def test_what_is_wrong_in_the_manifest_is_wrong_in_that_of_a_job(choices: Path):
    choices.write_text(CHOICES.replace('"torchscript-*"', '"torchskript-*"'))
    known, path = load_manifest(choices).models["net"], choices.with_name("job.toml")
    write_manifest(path, choices, known, Options(opset=17, precisions=("fp32",)))
    (problem,) = load_manifest(path).problems
    assert problem.text.endswith("'torchskript-*' matches no variant of any model")


def test_a_policy_that_holds_for_some_of_the_variants_is_not_left_out(choices: Path):
    text = """
[models.lone]
factory = "nets.py:mlp"
precisions = ["fp32"]
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
tolerance."*" = { policy = "noise-floor", cosine = [0.9, 0.8] }
"""
    choices.write_text(CHOICES + text)
    path = choices.with_name("job.toml")
    options = Options(precisions=("fp32", "int8-dynamic"))
    write_manifest(path, choices, model(choices, "lone"), options)
    (problem,) = load_manifest(path).problems
    assert 'policy "noise-floor" is not for dynamo-op18-int8-dynamic' in problem.text


def test_a_model_of_the_zoo_is_checked_without_the_precision_it_is_known_to_lose(tmp_path: Path):
    zoo = tmp_path / "models.toml"
    zoo.write_text((Path(__file__).parents[2] / "models.toml").read_text())
    known = load_manifest(zoo).models["audio-head"]
    for precision, reasons in (("fp32", 0), ("int8-static", 1)):
        options = Options(opset=17, precisions=(precision,))
        write_manifest(tmp_path / "job.toml", zoo, known, options)
        read = load_manifest(tmp_path / "job.toml")
        read.check()
        assert len(read.models["audio-head"].xfail) == reasons


GLOB = """
[models.fold]
factory = "nets.py:mlp"
checkpoint = "runs/*.pt"
exporters = ["torchscript"]
opsets = [17]
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


def trained(folder: Path, *names: str) -> None:
    """Checkpoints of the model of `GLOB`."""
    import torch

    namespace: dict[str, Any] = {}
    exec((folder / "nets.py").read_text(), namespace)
    (folder / "runs").mkdir()
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        torch.save(namespace["mlp"]().state_dict(), folder / "runs" / name)


def checked(jobs: Jobs, job: str) -> dict[str, set[str]]:
    """Model -> variants that the record of a job has."""
    found: dict[str, set[str]] = {}
    for entry in load(jobs.folder(job) / "record.json").checks:
        found.setdefault(entry.model, set()).add(entry.variant)
    return found


@pytest.mark.filterwarnings("ignore")
def test_verdicts_of_a_globs_model_are_found_again_and_a_given_file_is_checked(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    jobs.manifest.write_text(jobs.manifest.read_text() + GLOB)
    trained(tmp_path, "a.pt", "b.pt")
    options = Options(checkpoint="runs/a.pt", opset=18, precisions=("fp32",))
    exported = jobs.submit("export", "fold-a", options)
    validated = jobs.submit("validate", "fold-a", options)
    work(jobs)
    exported, validated = jobs.get(exported.id), jobs.get(validated.id)
    assert (exported.error, validated.error) == (None, None)
    assert exported.result is not None
    assert exported.result["checkpoint"] == "runs/a.pt"
    assert checked(jobs, validated.id) == {"fold-a": {"torchscript-op18-fp32"}}
    known = Catalogue(jobs.manifest, jobs).model("fold-a")
    assert [verdict.variant for verdict in known.verdicts] == ["torchscript-op18-fp32"]
    assert known.job == validated.id

    file = jobs.folder(exported.id) / "a.onnx"
    (tmp_path / "given.onnx").write_bytes(file.read_bytes())
    text = jobs.manifest.read_text().replace('exporters = ["torchscript"]\nopsets = [17]', "")
    jobs.manifest.write_text(text.replace("[models.fold]", '[models.fold]\nonnx = "given.onnx"'))
    given = jobs.submit("validate", "fold-a", Options(precisions=("fp32",)))
    wrong = jobs.submit("validate", "fold-a", Options(checkpoint="runs/b.pt"))
    work(jobs)
    assert checked(jobs, given.id) == checked(jobs, wrong.id) == {"fold-a": {"file-fp32"}}
    results = [jobs.get(job.id).result for job in (given, wrong)]
    assert [result and result["verdict"] for result in results] == ["pass", "fail"]


def test_what_is_gone_when_a_job_begins_is_told(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    jobs.manifest.write_text(jobs.manifest.read_text() + GLOB)
    (tmp_path / "runs").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"runs/{name}.pt").write_bytes(b"")
    lost = [jobs.submit(kind, "fold-a") for kind in ("export", "validate")]
    options = Options(checkpoint="runs/a.pt")
    sent = [jobs.submit(kind, "net", options) for kind in ("export", "validate")]
    (tmp_path / "runs/a.pt").unlink()
    work(jobs)
    for job in map(jobs.get, [job.id for job in lost]):
        assert job.state == "failed"
        assert job.error == (
            "models.toml has no model 'fold-a' (did you mean 'fold-b'?): it has net, other, fold-b"
        )
    for job in map(jobs.get, [job.id for job in sent]):
        assert job.state == "failed"
        assert (
            job.error == f"checkpoint: not found: {tmp_path / 'runs/a.pt'} (did you mean 'b.pt'?)"
        )
