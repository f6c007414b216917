"""Recommendations: what is tried, what is chosen, and the TOML of it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
from clock import paced
from entries import ratios

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.advice import pace, recommend
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.errors import InputError, TargetAbsent
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU, Target
from pytest_onnxcheck.measurement import (
    RecipeTrial,
    RecommendMeasurement,
)
from pytest_onnxcheck.preference import preferred
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.recommend import recommendations
from pytest_onnxcheck.verdict import Grade

timed = recommend.timed

NETS = """
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).eval()


def conv():
    import torch
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 16, 9, padding=4)
            self.second = nn.Conv2d(16, 16, 3, padding=1)
            self.third = nn.Conv2d(16, 16, 3, padding=1)
            with torch.no_grad():
                self.second.weight[0] *= 3000
                self.third.weight[:, 0] *= 0.0003
        def forward(self, x):
            for layer in (self.first, self.second, self.third):
                x = layer(x).relu()
            return x.mean((2, 3))
    return Net()
"""
HEAD = """
schema = 1
[defaults]
exporters = ["torchscript"]
opsets = [17]
[models.net]
factory = "nets_recommend.py:{factory}"
dims = {{ batch = [1, 4] }}
inputs.x.shape = {shape}
outputs.y.shape = {output}
latency.seconds = 0.01
"""
MLP = HEAD.format(factory="mlp", shape='["batch", 64]', output='["batch", 8]')
CONV = HEAD.format(factory="conv", shape='["batch", 3, 12, 12]', output='["batch", 16]')


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Where the models are, and what is built once for all tests."""
    root = tmp_path_factory.mktemp("recommend")
    (root / "nets_recommend.py").write_text(NETS, encoding="utf-8")
    return root


@pytest.fixture
def tried(root, monkeypatch):
    """Tries some recipes on a model of this file; `over_fp32` is how fast each is said to be."""

    def measure(text, recipes=None, seconds=600.0, target=CPU, over_fp32=1.5):
        (root / "models.toml").write_text(text, encoding="utf-8")
        manifest = load_manifest(root / "models.toml")
        manifest.check()
        model = manifest.models["net"]
        if recipes is not None:
            monkeypatch.setattr(recommend, "RECIPES", recipes)
        monkeypatch.setattr(recommend, "_TIMED_SECONDS", 0.01)
        paced(monkeypatch)
        monkeypatch.setattr(recommend, "timed", lambda *args: said(timed(*args), over_fp32))
        builds = Builds(root / "artefacts")
        fp32 = model.variants[0]
        return recommend.measure(
            builds, builds.reference(model), fp32, target, seconds, judge.failure
        )

    return measure


def said(measured, over_fp32):
    faked = {**measured.ratios, **ratios(fp32=over_fp32)}
    return dataclasses.replace(measured, ratios=faked)


def test_every_recipe_is_tried_and_measured(tried):
    found = tried(MLP)
    names = [(trial.precision, trial.options) for trial in found.tried]
    assert names == [
        ("int8-dynamic", {}),
        ("int8-static", {}),
        ("fp16", {}),
        ("int8-static", {"method": "percentile", "percentile": 99.99}),
        ("int8-static", {"activation_type": "int8", "symmetric": True}),
        ("int8-static", {"method": "entropy"}),
        ("int4-weight", {}),
        ("int4-weight", {"block_size": 128}),
    ]
    assert found.untried == 0
    for trial in found.tried:
        assert 0.1 < trial.size_ratio < 0.9
        assert trial.size_bytes > 1000
        assert 0 < trial.rel_rms < 1
        assert trial.seconds > 0
        # speed is measured of what meets the rest
        assert (trial.speedup is None) == (trial.problem is not None)
    best = found.tried[found.best]
    assert best.problem is None
    # all are said to be as fast
    least = min(trial.size_bytes for trial in found.tried if trial.problem is None)
    assert best.size_bytes <= 1.01 * least
    assert found.toml.startswith(f'# in [models.net] set precisions = ["fp32", "{best.precision}"]')


def test_a_recipe_that_loses_too_much_names_the_tolerance_and_is_not_timed(tried):
    text = f"{MLP}tolerance.int8-static.rel_rms = 1e-6\n"  # which is not listed
    found = tried(text, (("int8-static", {}), ("fp16", {})))
    first, second, *_ = found.tried
    assert "rel_rms" in first.problem
    assert "1e-06" in first.problem
    assert first.speedup is None
    assert first.rel_rms > 1e-6
    assert second.problem is None
    assert found.best == 1


def test_size_and_speed_are_held_to_the_budget(tried):
    text = MLP + 'precisions = ["fp32", "fp16", "int8-static"]\n'
    text += "budget.fp16.max_size_ratio = 0.2\nbudget.int8-static.min_speedup = 1e6\n"
    found = tried(text, (("fp16", {}), ("int8-static", {})))
    assert "allowed 0.2 (budget.max_size_ratio)" in found.tried[0].problem
    assert "asked for at least 1e+06 (budget.min_speedup.cpu)" in found.tried[1].problem
    assert found.tried[1].speedup > 0
    assert (found.best, found.toml) == (None, None)
    verdict = judge.recommend(found)
    assert verdict.grade is Grade.WARN
    assert "none of 2 recipes meets its tolerance and budget; least loss: " in verdict.reason


def test_a_recipe_that_quantizes_nothing_is_recorded_as_its_problem(tried):
    (found,) = tried(CONV, (("int4-weight", {}),)).tried
    assert "nothing" in found.problem
    assert found.speedup is None


def test_recipes_the_manifest_makes_the_same_are_tried_once(tried):
    text = MLP + 'precisions = ["fp32", "int8-static"]\n'
    text += '[models.net.quantization.int8-static]\nmethod = "percentile"\n'
    found = tried(text, (("int8-static", {}), ("int8-static", {"method": "percentile"})))
    (trial,) = found.tried
    assert trial.options == {"method": "percentile"}
    assert found.toml == (
        "# already in the manifest: int8-static\n"
        "# its ranges come from random draws: name real data in calibration"
    )


def test_where_no_int8_static_will_do_its_worst_nodes_are_left_in_float(tried, root):
    text = CONV + "tolerance.int8-static.rel_rms = 0.02\n"
    found = tried(text, (("int8-static", {}),))
    first, last = found.tried
    assert first.problem is not None
    assert last.problem is None
    assert set(last.options["exclude_nodes"]) == {"/second/Conv", "/third/Conv"}
    assert found.best == 1
    lines = found.toml.splitlines()
    assert lines[0] == '# in [models.net] set precisions = ["fp32", "int8-static"]'
    assert lines[1] == "[models.net.quantization.torchscript-op17-int8-static]"
    # as a reader pastes it
    pasted = root / "pasted.toml"
    pasted.write_text(f'{text}precisions = ["fp32", "int8-static"]\n{found.toml}')
    _, variant = load_manifest(pasted).models["net"].variants
    assert variant.quantization.exclude_nodes == last.options["exclude_nodes"]


def test_what_the_manifest_has_is_not_told_again(tried):
    found = tried(MLP + 'precisions = ["fp32", "fp16"]\n', (("fp16", {}),))
    assert found.toml == "# already in the manifest: fp16"


def test_where_fp32_is_preferred_none_pays(tried):
    found = tried(MLP, (("fp16", {}),), over_fp32=0.9)
    assert (found.best, found.pays, found.toml) == (0, False, None)
    verdict = judge.recommend(found)
    assert verdict.grade is Grade.WARN
    assert verdict.reason.startswith("recommended: none pays, release fp32; next is fp16: 0.5")
    (*_, last) = recommendations([entry(found)], 80)
    assert last == ("  none pays: release fp32", {})


def test_fp32_over_its_own_budget_is_no_choice(tried):
    found = tried(MLP + "budget.fp32.max_size_mb = 1e-6\n", (("fp16", {}),), over_fp32=0.9)
    assert (found.best, found.pays) == (0, True)


@pytest.fixture
def clock(monkeypatch):
    """The clock of trials, which only what a test says moves."""
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr(recommend, "time", clock)
    monkeypatch.setattr(pace, "time", clock)
    return clock


@pytest.fixture
def builds_take(clock, monkeypatch):
    """Lets builds take so many seconds, by precision or method."""
    built = Builds.artefact

    def take(**seconds):
        def artefact(self, reference, variant):
            method = variant.quantization.method or "minmax"
            kind = method if variant.precision == "int8-static" else variant.precision
            clock.now += seconds.get(kind, 0.0)
            return built(self, reference, variant)

        monkeypatch.setattr(Builds, "artefact", artefact)

    return take


def test_no_recipe_is_begun_that_takes_longer_than_is_left(tried, clock, builds_take):
    builds_take(minmax=10.0, percentile=15.0, entropy=150.0, fp16=1.0)
    found = tried(MLP, seconds=60.0)
    methods = {trial.options.get("method") for trial in found.tried}
    # entropy is known to take longer than minmax did; what is behind it is tried
    assert (len(found.tried), methods, found.untried) == (7, {None, "percentile"}, 1)
    assert 35 < clock.now < 1.25 * 60

    clock.now = 0.0
    found = tried(MLP, seconds=600.0)
    assert found.untried == 0


def test_a_trial_is_left_where_the_rest_of_it_would_take_too_long(tried, clock, monkeypatch):
    measured = recommend.measure_cases

    def slowly(*args):
        clock.now += 30.0
        return measured(*args)

    monkeypatch.setattr(recommend, "measure_cases", slowly)
    found = tried(MLP, seconds=70.0)
    assert (len(found.tried), found.untried) == (2, 6)
    assert clock.now < 1.25 * 70


def test_time_counts_from_the_start(tried, clock, monkeypatch):
    opened = recommend.open_session

    def slowly(*args):
        clock.now += 100.0
        return opened(*args)

    monkeypatch.setattr(recommend, "open_session", slowly)
    found = tried(MLP, seconds=100.0)
    assert (found.tried, found.untried, found.best) == ((), 8, None)
    verdict = judge.recommend(found)
    assert verdict.grade is Grade.WARN
    assert "no time to try any of 8 recipes in 100 s" in verdict.reason
    assert "--onnxcheck-recommend=SECONDS" in verdict.reason


def test_nodes_are_not_ranked_where_there_is_no_time_for_it(tried, clock, builds_take):
    builds_take(minmax=10.0)
    found = tried(CONV + "tolerance.int8-static.rel_rms = 0.02\n", (("int8-static", {}),), 25.0)
    assert [trial.options for trial in found.tried] == [{}]
    assert clock.now == 10.0


def test_labelled_data_that_is_no_good_is_told_at_once(tried):
    with pytest.raises(InputError, match=r"absent\.npz"):
        tried(f'{MLP}accuracy.file = "absent.npz"\n', (("fp16", {}),))


def test_a_target_that_is_absent_is_told_at_once(tried):
    with pytest.raises(TargetAbsent, match="npu"):
        tried(MLP, target=Target("npu", "QNNExecutionProvider"))


@pytest.mark.parametrize(
    ("costs", "best"),
    [
        ([], None),
        ([None, None], None),
        ([(2.0, 10, 0.1), (1.0, 90, 0.9)], 1),  # the fastest
        ([(1.04, 50, 0.1), (1.0, 90, 0.9)], 0),  # within 5%: the smallest
        ([(1.0, 1000, 0.5), (1.0, 1005, 0.1)], 1),  # within 1%: what loses least
        ([(1.0, 1000, 0.1), (1.0, 1000, 0.095)], 0),  # within 10%: the first
        ([None, (5.0, 10, 0.1)], 1),
        ([(1.0, 1000, 0.0), (1 / 1.02, 1020, 0.1)], 0),  # a little faster, a little larger
    ],
)
def test_the_fastest_then_the_smallest_is_preferred(costs, best):
    assert preferred(costs) == best


TRIAL = RecipeTrial(
    "int8-static",
    {"method": "entropy"},
    size_bytes=1000,
    size_ratio=0.26,
    speedup=2.5,
    speedup_over_fp32=1.7,
    rel_rms=0.012,
)


def entry(measured):
    """As the record has it."""
    names = {"nodeid": "net::v", "manifest": "models.toml", "model": "net", "variant": "v"}
    return Entry(**names, check="recommend", target="cpu", outcome="passed", measurement=measured)


@pytest.mark.parametrize(("untried", "grade"), [(0, Grade.PASS), (1, Grade.PASS), (2, Grade.WARN)])
def test_the_verdict_says_what_it_gains_and_loses(untried, grade):
    verdict = judge.recommend(RecommendMeasurement("cpu", 60.0, (TRIAL,), untried, best=0))
    assert verdict.grade is grade
    text = (
        "recommended: int8-static (method entropy): 0.26 of the fp32 bytes, 2.50 times PyTorch, "
        "1.70 times fp32, rel_rms 0.012; the best of 1 recipes"
    )
    late = f"; {untried} were not tried for lack of time (--onnxcheck-recommend=SECONDS)"
    assert verdict.reason == text + (late if untried else "")


def test_the_table_marks_the_best_and_says_what_was_not_tried():
    measured = RecommendMeasurement("cpu", 60.0, (TRIAL,), 3, best=0, toml="# a\n[b]")
    lines = [text for text, _ in recommendations([entry(measured)], 80)]
    assert lines == [
        "recommend  net::v [cpu]",
        "    recipe                         size  of fp32  x PyTorch  x fp32  rel_rms",
        "  * int8-static method=entropy  1.00 kB     0.26       2.50    1.70    0.012",
        "  3 more were not tried: 60 s were over (--onnxcheck-recommend=SECONDS)",
        "  to put in the manifest, a table at its end:",
        "    # a",
        "    [b]",
    ]
    none = dataclasses.replace(measured, best=None, pays=False, toml=None, untried=0)
    (*_, last) = recommendations([entry(none)], 80)
    assert last == ("  none meets its tolerance and budget", {})


def test_why_a_recipe_will_not_do_follows_below_where_there_is_no_room_beside_it():
    bad = dataclasses.replace(TRIAL, problem="output 'y' rel_rms: " + "too much " * 10)
    measured = RecommendMeasurement("cpu", 60.0, (bad,), 0)
    lines = [text for text, _ in recommendations([entry(measured)], 80)]
    assert lines[3].startswith("        problem output 'y' rel_rms: too much")
    assert max(map(len, lines)) <= 80
