"""A diagnosis never raises: what cannot be found out is noted."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.diagnosis import diagnose as module
from pytest_onnxcheck.engine.diagnosis.diagnose import diagnose
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest.sections import Tolerance
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import CaseMeasurement, EquivalenceMeasurement

AGAIN = "first, again after the others"


@pytest.fixture
def diagnosed(tmp_path):
    """Diagnoses a measurement of one case, of an artefact that nobody can run."""
    (tmp_path / "model.onnx").write_bytes(b"")
    artefact = Artefact.given(tmp_path / "model.onnx")
    case = Case("first", {})
    oracle = SimpleNamespace(
        case=lambda name: case if name.startswith("first") else None,
        reference=SimpleNamespace(model=SimpleNamespace(name="net")),
    )
    variant = SimpleNamespace(
        name="v", tolerance=Tolerance(policy="fixed"), precision="fp32", file=None
    )
    subject = Subject(artefact, artefact, oracle, variant, CPU)

    def found(measured, failing=AGAIN):
        return diagnose(
            EquivalenceMeasurement("cpu", "CPUExecutionProvider", (measured,)),
            subject,
            failing,
            "error is too large",
            root=Path(tmp_path),
            manifest=tmp_path / "models.toml",
            build=lambda variant: artefact,
            failure=lambda measured, variant: None,
        )

    return found


def test_what_fails_is_noted_in_one_line_and_the_rest_is_told(diagnosed, monkeypatch):
    def broken(*args, **keys):
        raise ValueError("no\n such" + 400 * "x")

    for name in ("blame", "localise"):
        monkeypatch.setattr(module, name, broken)
    monkeypatch.setattr(module, "write_repro", lambda *args, **keys: Path("folder"))
    found = diagnosed(CaseMeasurement(AGAIN))
    assert found.case == AGAIN
    assert (found.stage, found.steps, found.divergence) == (None, (), None)
    text = ("no such" + 400 * "x")[:300]
    assert found.notes == (
        f"guilty stage: ValueError: {text}",
        f"first divergence: ValueError: {text}",
    )
    assert found.repro == "python folder/repro.py"


def test_a_failure_of_no_case_has_no_diagnosis(diagnosed):
    assert diagnosed(CaseMeasurement(AGAIN), failing="outputs") is None


def test_what_is_known_already_is_not_looked_into(diagnosed, monkeypatch):
    monkeypatch.setattr(module, "blame", None)
    found = diagnosed(CaseMeasurement(AGAIN, overflowed=("a", "b")))
    assert found.stage == "quantization"
    assert found.notes[0].startswith("float16 stores a, b as infinity")
    found = diagnosed(CaseMeasurement(AGAIN, cpu="x86-vnni"))
    assert found.notes == ("computed as x86-vnni does; this machine's own CPU is another",)
