"""The gate on int8 artefacts that saturate on some CPUs, on machines with and without VNNI."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import arrays_in

from pytest_onnxcheck import machine
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.manifest import load_manifest

DATA = Path(__file__).parent / "data" / "saturation"
ROOT = Path(__file__).parent.parent

NET = '''
import torch
from torch import nn


def net():
    """The one of `tests/data/saturation/mlp.*`: sums of equal sign, so that pairs grow large."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 8)
    )
    with torch.no_grad():
        net[2].weight.abs_()
    return net.eval()
'''

#: A mock: this machine is taken for one of the other kind. What it says of itself is replaced, and
#: where its own arithmetic is the other, what its sessions give is computed by `Emulation`, which
#: `tests/engine/runtime/test_saturation.py` holds against records of a real one.
CPU = """
import dataclasses
from pathlib import Path

from pytest_onnxcheck import machine
from pytest_onnxcheck.engine.checks import equivalence
from pytest_onnxcheck.engine.runtime.saturation import Emulation
from pytest_onnxcheck.engine.runtime.session import Session

VNNI = {vnni}
REAL = not machine.saturates()
machine.platform.machine = lambda: "x86_64"
machine._CPUINFO = Path(__file__).with_name("cpuinfo")
machine._CPUINFO.write_text("flags : avx2" + " avx512_vnni" * VNNI)

if VNNI is not REAL:
    opened = equivalence.open_session
    run = Session.run
    emulations = {{}}

    def open_session(artefact, target, **options):
        session = opened(artefact, target, **options)
        emulations[id(session.handle)] = Emulation(artefact.path, target)
        return session

    def run_there(session, inputs):
        emulation = emulations.get(id(session.handle))
        precise = "session.x64quantprecision" in session.target.session_options
        if emulation is None or not emulation.layers or precise:
            return run(session, inputs)
        return list(emulation.run(session.cast_inputs(inputs), saturating=not VNNI)[0].values())

    equivalence.open_session = open_session
    Session.run = run_there
"""

MODEL = """
[models.net]
factory = "net.py:net"
precisions = ["fp32", "int8-dynamic"]
dims = {{ batch = [2, 5] }}
inputs.x.shape = ["batch", 64]
outputs.y.shape = ["batch", 8]
[models.net.tolerance.int8-dynamic]
sqnr_db = [30, 20]
{more}
"""
EIGHT = "[models.net.quantization.int8-dynamic]\nreduce_range = false\n"
EQUIVALENCE = "net::torchscript-op17-int8-dynamic::test_equivalence[cpu]"


@pytest.fixture(params=[True, False], ids=["vnni", "no-vnni"])
def vnni(request, project):
    """A machine with or without VNNI, of which the project is gated."""
    (project.path / "net.py").write_text(NET)
    (project.path / "conftest.py").write_text(CPU.format(vnni=request.param))
    return request.param


def gate(project, *args):
    return project.run("-k", "int8 and equivalence", *args)


def check(project, nodeid=EQUIVALENCE):
    checks = {entry["nodeid"].partition("::")[2]: entry for entry in project.record["checks"]}
    return checks[nodeid]


def texts(entry):
    return [f"{found['grade']} {found['what']}: {found['text']}" for found in entry["findings"]]


def test_8_bits_fail_where_the_manifests_cpus_saturate(project, vnni):
    project.manifest(MODEL.format(more=EIGHT))
    result = gate(project)
    assert result.ret == 1
    entry = check(project)
    assert entry["outcome"] == "failed"
    (finding, *_) = entry["findings"]
    assert finding["what"] == "output 'y' sqnr_db"
    where = "batch=2/draw0, on x86 without VNNI" if vnni else "batch=2/draw0"
    assert finding["where"] == where
    (guilty,) = (text for text in texts(entry) if "saturate in" in text)
    assert guilty.startswith("fail x86 without VNNI: products of 8 bits saturate in 3 layers: ")
    assert "DynamicQuantizeMatMul, " in guilty
    assert "Quantize the weights to 7 bits (reduce_range = true" in guilty
    result.stdout.fnmatch_lines(["*FAIL x86 without VNNI: products of 8 bits saturate in 3*"])
    (case,) = [case for case in entry["measurement"]["cases"] if case["case"] == where]
    assert {row["metric"] for row in case["outputs"][0]["rows"]} == {"rel_rms", "cosine"}
    if vnni:
        result.stdout.fnmatch_lines(
            ["*note: computed as x86-avx2 does; this machine's own CPU is another*"]
        )


def test_8_bits_pass_where_the_manifest_leaves_such_cpus_out(project, vnni):
    project.manifest(MODEL.format(more=""), defaults='cpus = ["x86-vnni", "arm64"]')
    result = gate(project)
    assert result.ret == 0
    entry = check(project)
    assert (entry["outcome"], entry["grade"]) == ("passed", "warn")
    warned = [text for text in texts(entry) if "sqnr_db" in text]
    assert warned[0].startswith("warn output 'y' sqnr_db: ")
    assert warned[0].endswith("the manifest's `cpus` leave out x86 without VNNI")
    cases = {case["case"]: case for case in entry["measurement"]["cases"]}
    other = "x86-avx2" if vnni else "x86-vnni"
    assert {case["cpu"] for case in cases.values()} == {"", other}
    judged = [case for case in cases.values() if case["lenient"] is None]
    assert {case["cpu"] for case in judged} == {"" if vnni else "x86-vnni"}
    company = entry["measurement"]["company"]
    assert company["lenient"].endswith("leave out x86 without VNNI") is not vnni


def test_7_bits_are_the_default_and_what_they_cost_is_told(project, vnni):
    project.manifest(MODEL.format(more=""))
    result = gate(project)
    assert result.ret == 0
    entry = check(project)
    same, cost = texts(entry)
    assert same == "pass x86 without VNNI: gives the same: no pair of its weights can saturate"
    assert cost.startswith("pass weights of 7 bits: cost ")
    assert "dB with 8), for the sake of x86 without VNNI" in cost
    portability = entry["measurement"]["portability"]
    assert portability["sqnr_db"] < portability["eight_bits_db"] - 1
    result.stdout.fnmatch_lines(
        [
            "portable  weights of 7 bits, for x86 without VNNI, cost up to * dB "
            "(net::*: * dB, * dB with 8 bits); * cpus = *"
        ]
    )


def test_the_session_entry_prevents_it(project, vnni):
    entry = '[targets.cpu.session_options]\n"session.x64quantprecision" = "1"\n'
    project.manifest(MODEL.format(more=EIGHT + entry))
    assert gate(project).ret == 0
    (text,) = texts(check(project))
    assert text.startswith("pass x86 without VNNI: 3 layers: ")
    assert text.endswith(
        "could saturate; session.x64quantprecision prevents it, and has to be set wherever the "
        "artefact runs"
    )


@pytest.mark.parametrize("bits", ["7bit", "8bit"])
def test_a_given_artefact_is_judged_too(project, vnni, bits):
    name = f"mlp.dynamic-s8-{bits}.onnx"
    shutil.copy(DATA / name, project.path / name)
    np.savez(project.path / "x.npz", x=arrays_in(DATA / f"mlp.dynamic-s8-{bits}.npz")["x"])
    project.manifest(
        f"""
[models.net]
factory = "net.py:net"
onnx = {{ int8-dynamic = "{name}" }}
seed = 0
inputs.x = {{ shape = [5, 64], fill = "file", file = "x.npz" }}
outputs.y.shape = [5, 8]
[models.net.tolerance.int8-dynamic]
sqnr_db = 30
"""
    )
    result = gate(project)
    entry = check(project, "net::file-int8-dynamic::test_equivalence[cpu]")
    if bits == "7bit":
        assert (result.ret, entry["outcome"]) == (0, "passed")
        assert entry["measurement"]["portability"] is None
        return
    assert (result.ret, entry["outcome"]) == (1, "failed")
    worst = min(
        output["sqnr_db"] if "sqnr_db" in output else -20 * np.log10(output["rel_rms"])
        for case in entry["measurement"]["cases"]
        for output in case["outputs"]
    )
    assert worst == pytest.approx(13.8, abs=0.1)  # what the recorded CPU gave


@pytest.mark.parametrize(
    ("name", "precision"),
    [("tiny-net", "int8-static"), ("tiny-net", "int8-dynamic"), ("bert-encoder", "int8-dynamic")],
)
def test_an_artefact_of_the_zoo_has_the_same_bytes_whatever_the_cpus_flags(
    name, precision, tmp_path, monkeypatch
):
    """For all of the zoo: benchmarks/saturation.py."""
    monkeypatch.chdir(ROOT)
    model = load_manifest(ROOT / "models.toml").models[name]
    variant = model.variant("torchscript", 20, precision)
    found = {}
    for flags in ("avx2", "avx512_vnni"):
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n", encoding="utf-8")
        monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
        monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
        assert machine.saturates() is (flags == "avx2")
        builds = Builds(tmp_path / flags)
        artefact = builds.artefact(builds.reference(model), variant)
        found[flags] = artefact.sha256, artefact.path.parent.name
    assert found["avx2"] == found["avx512_vnni"]
