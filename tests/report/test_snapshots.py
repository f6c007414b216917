"""What people read, as files; with `UPDATE_SNAPSHOTS=1` in the environment they are written.

Made from measurements that are written down here, so that nothing in them depends on a machine.
"""

import dataclasses

import pytest
from entries import (
    EXPORT,
    LATENCY,
    MUTATION,
    QUANTIZATION,
    STRUCTURE,
    entry,
    equivalence,
    output,
    ratios,
)
from project import Project
from snapshots import same

from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    Diagnosis,
    Divergence,
    Element,
    FloorMeasurement,
    HeldTo,
    RecipeTrial,
    RecommendMeasurement,
    Step,
)
from pytest_onnxcheck.report.terminal import Shown, summary
from pytest_onnxcheck.report.text import failure_text
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

LONG = "torchscript-op20-int8-dynamic"

SLOWER = Finding(
    Grade.WARN,
    "speed-up",
    "0.81 times the fp32 artefact (0.00675 ms / 0.00829 ms, median of 124 interleaved rounds): "
    "int8-dynamic makes it slower here. Set budget.min_speedup_over_fp32 to fail on it",
)
FAR_OFF = Finding(
    Grade.FAIL,
    "output 'logits' error",
    "312 noise floors, allowed 8: worst 0.0312 against 0.0001, root mean square 0.0121 against "
    "4.1e-05",
    "batch=2/draw0",
)
EVEN_FARTHER = dataclasses.replace(FAR_OFF, where="probe:negative/batch=2")


def compared(rel_rms, held, *, model="net", scale=4.0):
    case = CaseMeasurement("batch=1/draw0", (output(max_abs=rel_rms * scale, rel_rms=rel_rms),))
    return dataclasses.replace(equivalence(case), held_to=held)


def variant(model, name, line, rel_rms, speed, held, **over_fp32):
    """A variant of which all is well."""
    where = {"model": model, "variant": name, "position": (line, 0)}
    fp32 = name.endswith("-fp32")
    timed = dataclasses.replace(LATENCY, ratios=ratios(torch=speed, **over_fp32))
    found = [
        entry("export", EXPORT, **where),
        entry("structure", STRUCTURE, **where),
        entry("equivalence", compared(rel_rms, held), target="cpu", point="cpu", **where),
        entry("latency", timed, target="cpu", point="cpu-batch1", **where),
    ]
    return found if fp32 else [*found, entry("quantization", QUANTIZATION, **where)]


def changed(entries, check, **changes):
    return [dataclasses.replace(e, **changes) if e.check == check else e for e in entries]


def warned(entries, check, finding):
    return changed(entries, check, grade=finding.grade, findings=(finding,), reason=str(finding))


def failed(entries, check, *findings):
    found = {"grade": Grade.FAIL, "findings": findings, "reason": str(findings[0])}
    return changed(entries, check, outcome="failed", **found)


def green():
    fp32 = variant("tiny-net", "dynamo-op20-fp32", 3, 1e-6, 4.2, HeldTo(3, 11, 4, "", 40))
    int8 = variant("tiny-net", LONG, 3, 0.01, 2.9, HeldTo(3, 2, 0, "int8", 40), fp32=0.81)
    return [
        *fp32,
        *warned(int8, "latency", SLOWER),
        *variant("bert", "dynamo-op20-fp32", 9, 1e-6, 1.9, HeldTo(9, 0, 0, "no `range`")),
        *variant("bert", "dynamo-op20-fp16", 9, 1e-3, 1.6, HeldTo(9, 0, 0, "no `range`"), fp32=0.9),
    ]


def many():
    return [
        found
        for number in range(6)
        for name in ("dynamo-op20-fp32", "dynamo-op20-fp16", LONG)
        for found in variant(f"net-{number}", name, number, 1e-3, 2.0, HeldTo(3, 17, 4, "", 96))
    ]


def red():
    held = HeldTo(3, 17, 12, "", 40)
    bad = variant("wakeword", "dynamo-op20-fp16", 1, 0.1, 4.0, held, fp32=0.9)
    known = variant("vit", "dynamo-op20-fp32", 7, 1e-6, 1.8, held)
    lost = entry(
        "export",
        model="lost",
        position=(8, 0),
        outcome="failed",
        reason="checkpoint not found: /srv/models/lost.pt",
    )
    return [
        *green(),
        *variant("wakeword", "dynamo-op20-fp32", 1, 1e-6, 4.5, held),
        *failed(bad, "equivalence", FAR_OFF, EVEN_FARTHER),
        *changed(known, "structure", outcome="xpassed", reason="[XPASS(strict)] a static dim"),
        lost,
        entry("structure", model="lost", position=(8, 0), outcome="skipped", reason="needs it"),
    ]


def recommended():
    trials = (
        RecipeTrial(
            "int8-static",
            {},
            301_000,
            0.27,
            None,
            None,
            0.064,
            1.0,
            "rel_rms 0.064, pass is at most 0.02, fail beyond 0.05",
        ),
        RecipeTrial(
            "int8-static", {"method": "percentile"}, 301_000, 0.27, 7.99, 6.51, 0.0152, 1.0
        ),
    )
    toml = '# in [models.net] set precisions = ["fp32", "int8-static"]\n[models.net.x]'
    found = RecommendMeasurement("cpu", 60.0, trials, 3, best=1, toml=toml)
    return [entry("recommend", found, target="cpu", point="cpu")]


RUNS = {
    "green": green,
    "many": many,
    "red": red,
    "recommended": recommended,
    "mutants": lambda: [entry("mutation", MUTATION, target="cpu", point="cpu")],
}


def lines_of(run, width, **how):
    return list(summary(RUNS[run](), Shown(width, **how)))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("run", RUNS)
def test_the_summary_of_a_run(run, width):
    lines = [text for text, _ in lines_of(run, width)]
    assert max(map(len, lines)) <= width
    same(f"{run}-{width}.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("run", ["green", "red"])
def test_all_of_it(run, width):
    lines = [text for text, _ in lines_of(run, width, verbosity=1)]
    assert max(map(len, lines)) <= width
    same(f"{run}-{width}-v.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("run", ["green", "red"])
def test_a_line_or_two(run):
    same(f"{run}-80-q.txt", "\n".join(text for text, _ in lines_of(run, 80, verbosity=-1)) + "\n")


def test_without_colour_and_other_signs():
    text = "\n".join(text for text, _ in lines_of("red", 80, plain=True)) + "\n"
    assert text.isascii()
    same("red-80-plain.txt", text)


def test_colours():
    marked = (f"{' '.join(markup):>12} | {text}" for text, markup in lines_of("red", 80))
    same("red-80-colours.txt", "\n".join(marked) + "\n")


@pytest.mark.parametrize("width", [80, 120])
def test_the_text_of_a_failure(width):
    floor = FloorMeasurement(
        "float64, 12 perturbed runs", 312.0, *(0.0312, 0.0121, 1e-4, 4.1e-5), 5e-5, 1.0, 0, 0, 12
    )
    worst = (Element((1, 2), 4.0, 3.9688), Element((0, 0), -1.5, -1.4879))
    found = output("logits", max_abs=0.0312, rel_rms=0.0061, floor=floor, worst=worst)
    measured = dataclasses.replace(
        equivalence(CaseMeasurement("batch=2/draw0", (found,))),
        held_to=HeldTo(3, 17, 12, "", 40),
        diagnosis=Diagnosis(
            "batch=2/draw0",
            "conversion",
            (
                Step("export", "traced program", 0.7, agrees=True),
                Step("conversion", "ONNX Runtime without optimisations", 312.0, agrees=False),
            ),
            Divergence(
                "node_conv2d_3",
                "Conv",
                "conv2d_3",
                module="layers.1.conv",
                torch_operator="aten.conv2d",
                source="wakeword.py:41",
                ratio=290.0,
                inputs_inside=True,
            ),
            repro="python .onnxcheck/repro/wakeword/dynamo-op20-fp16-cpu/repro.py",
        ),
    )
    verdict = Verdict.of([FAR_OFF, EVEN_FARTHER])
    text = failure_text("wakeword", "dynamo-op20-fp16", verdict, measured, width=width)
    assert max(map(len, text.splitlines())) <= width
    same(f"failure-{width}.txt", text + "\n")


@pytest.mark.parametrize("width", [80, 120])
def test_the_help_of_the_options(project: Project, width):
    project.columns = width
    lines = project.pytest("--help").outlines
    start = lines.index("PyTorch to ONNX release gate:")
    group = lines[start : lines.index("", start)]
    assert max(map(len, group)) <= width
    same(f"help-{width}.txt", "\n".join(group) + "\n")
