"""What an artefact is held to: how many cases and probes, and what thresholds mean on a probe."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from small_models import save

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.checks.equivalence import measure
from pytest_onnxcheck.engine.oracle.expected import DRAWS
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import HeldTo, SkippedProbes
from pytest_onnxcheck.report.text import held_to
from pytest_onnxcheck.verdict import Grade

NETS = """
from torch import nn


class Third(nn.Module):
    def forward(self, x):
        return x * (1 / 3)


class NotTwo(Third):
    def forward(self, x):
        assert len(x) != 2
        return super().forward(x)
"""

#: right to within a rounding, and right for positive values only
RIGHT, WRONG = "y = Div(x, c)", "p = Abs(x)\n y = Div(p, c)"

WIDE = 'fill = "normal"\nmean = 5.0\nrange = [-1000.0, 1000.0]'
CONSTANT = 'fill = "constant"\nvalue = 1.0'
#: far above the rounding of draws near 5, and far below that of values near 1000
MAX_ABS = "tolerance.'*'.max_abs = 4e-6"


@pytest.fixture
def subject(tmp_path):
    """Makes a subject of nodes in ONNX's syntax, of an input's keys and of a model's."""

    def make(
        nodes, entry, keys="", *, precision="fp32", factory="Third", rows="[4]", constants=None
    ):
        (tmp_path / "nets.py").write_text(NETS)
        file = save(
            tmp_path / "net.onnx",
            f"(float[N,8] x) => (float[N,8] y) {{ {nodes} }}",
            c=np.float32(3),
            **(constants or {}),
        )
        path = tmp_path / "models.toml"
        path.write_text(
            f'schema = 1\n[models.net]\nfactory = "nets.py:{factory}"\n'
            f'onnx = {{ {precision} = "net.onnx" }}\ndims = {{ rows = {rows} }}\n{keys}\n'
            f'outputs.y.shape = ["rows", 8]\n[models.net.inputs.x]\nshape = ["rows", 8]\n{entry}\n'
        )
        manifest = load_manifest(path)
        manifest.check()
        (variant,) = manifest.models["net"].variants
        oracle = Oracle(load_reference(manifest.models["net"]))
        artefact = Artefact.given(file)
        return Subject(artefact, artefact, oracle, variant, CPU)

    return make


def probes(measured):
    return [case for case in measured.cases if case.probe]


def test_what_an_artefact_was_held_to_is_counted(subject):
    measured = measure(subject(RIGHT, WIDE, rows="[1, 4]"))
    held = measured.held_to
    assert (held.cases, held.perturbed_runs, held.unprobed) == (2, 0, "")
    assert held.probes == len(probes(measured)) > 5
    assert held.sizes == 4


def test_what_sizes_that_are_off_take_is_counted_and_they_are_no_probes(subject):
    few = measure(subject(RIGHT, WIDE, rows="[1, 4]"))
    # what is in row 2 stays as it is
    tail = "h = Slice(x, z, t)\n d = Div(h, c)\n r = Slice(x, t, e)\n y = Concat <axis = 0> (d, r)"
    constants = {"z": np.int64([0]), "t": np.int64([2]), "e": np.int64([9])}
    measured = measure(subject(tail, WIDE, "draws = 1", rows="[1, 4]", constants=constants))
    sizes = [case.size for case in measured.cases if case.dim]
    assert sizes == [3, 4]
    held = measured.held_to
    assert (held.cases, held.probes, held.sizes) == (2, few.held_to.probes, 4)
    (sweep,) = measured.sweeps
    assert sweep.perturbed_runs == 2 * DRAWS
    counted = [case for case in measured.cases if not case.dim and ", again" not in case.case]
    assert held.perturbed_runs == sum(case.perturbed_runs for case in counted) + 2 * DRAWS


def test_a_fixed_tolerance_is_held_to_the_same_probes_as_a_noise_floor(subject):
    found = measure(subject(RIGHT, WIDE, MAX_ABS))
    assert found.held_to == measure(subject(RIGHT, WIDE)).held_to


def test_a_fixed_tolerance_does_not_hide_what_a_probe_finds(subject):
    wrong = subject(WRONG, WIDE, MAX_ABS)
    measured = measure(wrong)
    verdict = judge.equivalence(measured, wrong.variant.tolerance)
    assert verdict.grade is Grade.FAIL
    assert all(finding.where.startswith("probe:") for finding in verdict.findings)
    assert verdict.reason.startswith("output 'y' max_abs [probe:low end/rows=4]: 666.667, pass is")
    assert "; rounding does not explain it: " in verdict.reason
    assert verdict.reason.endswith(" noise floors, allowed 8")
    assert measured.held_to.perturbed_runs >= DRAWS


def test_rounding_of_large_values_is_no_fault_under_a_threshold_for_usual_ones(subject):
    healthy = subject(RIGHT, WIDE, MAX_ABS)
    measured = measure(healthy)
    beyond = [case for case in measured.cases if case.outputs[0].max_abs > 4e-6]
    assert beyond
    assert all(case.probe for case in beyond)
    assert judge.equivalence(measured, healthy.variant.tolerance).findings == ()


def test_a_floor_is_measured_where_thresholds_are_exceeded_on_a_probe_only(subject):
    measured = measure(subject(RIGHT, WIDE, MAX_ABS))
    for case in measured.cases:
        (output,) = case.outputs
        assert (output.floor is not None) == (case.probe and output.max_abs > 4e-6)


def test_declared_cases_are_judged_by_thresholds_alone(subject):
    found = subject(RIGHT, WIDE, "tolerance.'*'.max_abs = 1e-12\nprobe_seconds = 0")
    measured = measure(found)
    assert measured.cases[0].outputs[0].floor is None
    finding = judge.equivalence(measured, found.variant.tolerance).findings[0]
    assert (finding.grade, finding.where) == (Grade.FAIL, "rows=4/draw0")
    assert finding.text.endswith("pass is at most 1e-12, fail beyond 1e-12")


@pytest.mark.parametrize(
    ("entry", "keys", "more", "held"),
    [
        (WIDE, "probe_seconds = 0", {}, HeldTo(1, 0, 0, "probe_seconds is 0")),
        (CONSTANT, "", {}, HeldTo(1, 0, 0, "there is nothing to vary")),
        (
            CONSTANT,
            "",
            {"factory": "NotTwo", "rows": "[1, 3]"},
            HeldTo(2, 0, 0, "PyTorch takes none of them", sizes=2),
        ),
        (
            WIDE,
            MAX_ABS,
            {"precision": "int8-dynamic"},
            HeldTo(
                1,
                0,
                0,
                "int8-dynamic is held to usual values only, and no size lies between declared ones",
            ),
        ),
        (
            WIDE,
            MAX_ABS,
            {"precision": "int8-dynamic", "rows": "[1, 4]"},
            HeldTo(2, 2, 0, "int8-dynamic is held to usual values only", sizes=4),
        ),
        (
            "",
            "",
            {"precision": "fp16"},
            HeldTo(
                1,
                0,
                0,
                "fp16 is probed with odd values only where every float input declares a `range`; "
                "'x' does not, and no size lies between declared ones",
            ),
        ),
    ],
)
def test_why_there_are_no_probes_or_none_of_values_is_said(subject, entry, keys, more, held):
    assert measure(subject(RIGHT, entry, keys, **more)).held_to == held


def test_a_quantized_artefact_is_held_to_sizes_that_nobody_declared(subject):
    found = subject("y = Div(x, c)", "", MAX_ABS, precision="int8-static", rows="[1, 5]")
    measured = measure(found)
    assert [case.case for case in probes(measured)] == [
        "probe:ordinary/rows=3",
        "probe:ordinary/rows=2",
    ]
    assert judge.equivalence(measured, found.variant.tolerance).grade is Grade.PASS


def test_what_is_left_out_by_name_is_told_and_not_run(subject):
    """The artefact is wrong for what is not positive."""
    found = subject(WRONG, WIDE, rows="[1, 4]")
    (name,) = {
        finding.where
        for finding in judge.equivalence(measure(found), found.variant.tolerance).findings
        if finding.where.startswith("probe:low end")
    }
    keys = f'skip_probes = [{{ name = "{name}", reason = "never" }}, '
    keys += '{ name = "sweep:rows=3", reason = "odd" }]'
    measured = measure(subject(WRONG, WIDE, keys, rows="[1, 4]"))
    held = measured.held_to
    assert held.skipped == (SkippedProbes(name, "never"), SkippedProbes("sweep:rows=3", "odd"))
    assert measured.case(name) is None
    (sweep,) = measured.sweeps
    assert (sweep.ran, sweep.skipped) == ((1, 2, 4), 1)
    assert held_to(held).startswith(
        f"held to 2 cases, {held.probes} probes and 3 sizes; without {name!r} (never), "
        "'sweep:rows=3' (odd), left out by skip_probes"
    )
    nothing = measure(subject(RIGHT, WIDE, 'skip_probes = [{ name = "*", reason = "no" }]'))
    assert nothing.held_to.unprobed == "skip_probes leaves out all of them"


def test_functions_inside_a_given_file_are_compared_like_operators(subject):
    """Functions of the model's own need no library; a wrong constant in one is found."""
    found = subject(RIGHT, WIDE, rows="[1, 4]")
    for divisor, grade in ((3.0, Grade.PASS), (3.01, Grade.FAIL)):
        text = (
            '<ir_version: 10, opset_import: ["" : 17, "my.functions" : 1]>\n'
            "net (float[N,8] x) => (float[N,8] y) { y = my.functions.Third(x) }\n"
            '<domain: "my.functions", opset_import: ["" : 17]>\n'
            f"Third (a) => (b) {{ c = Constant<value = float {{{divisor}}}>() b = Div(a, c) }}"
        )
        path = found.artefact.path.with_name(f"{divisor}.onnx")
        onnx.save(onnx.parser.parse_model(text), path)
        given = Artefact.given(path)
        assert check_file(given).checker_error is None
        measured = measure(replace(found, artefact=given, float_artefact=given))
        assert judge.equivalence(measured, found.variant.tolerance).grade is grade
