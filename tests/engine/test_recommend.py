"""Recommendations: what is tried, what is chosen, and the TOML of it."""

from __future__ import annotations

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine import recommend
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.errors import TargetAbsent
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.measurement import (
    CoverageMeasurement,
    FileCheck,
    LatencyMeasurement,
    QuantizationMeasurement,
    RecipeTrial,
    RecommendMeasurement,
    Timing,
)
from pytest_onnxcheck.preference import preferred
from pytest_onnxcheck.verdict import Grade

NETS = """
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 8)).eval()


def conv():
    import torch
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(3, 16, 3, padding=1)
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


@pytest.fixture
def tried(tmp_path, monkeypatch):
    """Tries some recipes on a model of this file."""

    def measure(text, recipes=None, seconds=600.0, target="cpu"):
        (tmp_path / "nets_recommend.py").write_text(NETS, encoding="utf-8")
        (tmp_path / "models.toml").write_text(text, encoding="utf-8")
        manifest = load_manifest(tmp_path / "models.toml")
        manifest.check()
        model = manifest.models["net"]
        if recipes is not None:
            monkeypatch.setattr(recommend, "RECIPES", recipes)
        monkeypatch.setattr(recommend, "_TIMED_SECONDS", 0.01)
        builds = Builds(tmp_path / "artefacts")
        oracle = builds.oracle(builds.reference(model))
        return recommend.measure(builds, oracle, model.variants[0], target, seconds, judge.fault)

    return measure


def test_every_recipe_is_tried_and_measured(tried):
    found = tried(MLP)
    names = [(trial.precision, trial.options) for trial in found.tried]
    assert names == [
        ("fp16", {}),
        ("int8-dynamic", {}),
        ("int8-static", {}),
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
    assert best.speedup * 1.05 >= max(trial.speedup or 0 for trial in found.tried)
    assert found.toml.startswith('[models.net]\nprecisions = ["fp32", "')


def test_a_recipe_that_loses_too_much_names_the_tolerance_and_is_not_timed(tried):
    text = f"{MLP}precisions = ['fp32', 'int8-static']\ntolerance.int8-static.rel_rms = 1e-6\n"
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
    assert "none of 2 recipes meets its tolerance and budget" in verdict.reason


def test_a_recipe_that_quantizes_nothing_is_recorded_as_its_problem(tried):
    (found,) = tried(CONV, (("int4-weight", {}),)).tried
    assert "nothing" in found.problem
    assert found.speedup is None


def test_recipes_the_manifest_makes_the_same_are_tried_once(tried):
    text = MLP + 'precisions = ["fp32", "int8-static"]\n'
    text += '[models.net.quantization.int8-static]\nmethod = "entropy"\n'
    found = tried(text, (("int8-static", {}), ("int8-static", {"method": "entropy"})))
    (trial,) = found.tried
    assert trial.options == {"method": "entropy"}
    assert found.toml == (
        '[models.net]\nprecisions = ["fp32", "int8-static"]\n'
        '[models.net.quantization.int8-static]\nmethod = "entropy"\n'
        "# its ranges come from random draws: name real data in calibration"
    )


def test_where_no_int8_static_will_do_its_worst_nodes_are_left_in_float(tried):
    text = CONV + 'precisions = ["fp32", "int8-static"]\ntolerance.int8-static.rel_rms = 0.02\n'
    found = tried(text, (("int8-static", {}),))
    first, last = found.tried
    assert first.problem is not None
    assert last.problem is None
    assert set(last.options["exclude_nodes"]) == {"/second/Conv", "/third/Conv"}
    assert found.best == 1
    assert "[models.net.quantization.int8-static]\nexclude_nodes = [" in found.toml


def test_what_there_is_no_time_for_is_counted(tried):
    found = tried(MLP, seconds=0.0)
    assert (found.tried, found.untried, found.best) == ((), 8, None)
    verdict = judge.recommend(found)
    assert verdict.grade is Grade.WARN
    assert "no time to try any of 8 recipes in 0 s" in verdict.reason
    assert "--onnxcheck-recommend=SECONDS" in verdict.reason
    some = tried(MLP, seconds=0.05)
    assert len(some.tried) + some.untried == 8
    assert some.untried


def test_a_target_that_is_absent_is_told_at_once(tried):
    with pytest.raises(TargetAbsent, match="openvino"):
        tried(MLP, target="openvino")


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
    ],
)
def test_the_fastest_then_the_smallest_is_preferred(costs, best):
    assert preferred(costs) == best


def test_the_verdict_says_what_it_gains_and_loses():
    trial = RecipeTrial(
        "int8-static",
        {"method": "entropy"},
        size_bytes=100,
        size_ratio=0.26,
        speedup=2.5,
        speedup_over_fp32=1.7,
        rel_rms=0.012,
    )
    verdict = judge.recommend(RecommendMeasurement("cpu", 60.0, (trial,), untried=3, best=0))
    assert verdict.grade is Grade.PASS
    assert verdict.reason == (
        "recommended: int8-static (method entropy): 0.26 of the fp32 bytes, 2.50 times PyTorch, "
        "1.70 times fp32, rel_rms 0.012; the best of 1 recipes, 3 were not tried for lack of time"
    )


def test_each_measurement_is_judged_as_its_own_check_would(tmp_path):
    (tmp_path / "models.toml").write_text(
        MLP + 'precisions = ["int8-static"]\nbudget.int8-static.max_size_ratio = 0.2\n'
        "budget.int8-static.min_speedup = 2.0\n"
    )
    variant = load_manifest(tmp_path / "models.toml").models["net"].variants[0]
    file = QuantizationMeasurement(
        FileCheck("m.onnx", "0", 30, None, None),
        "int8-static",
        100,
        converted=2,
        converted_kinds={"Gemm": 2},
        remaining={},
        calibration=None,
        seconds=1.0,
        coverage=CoverageMeasurement(1.0, 1.0),
    )
    assert "0.300 of the fp32" in judge.fault(file, variant)
    timing = Timing("torch", (1.0,)), Timing("onnxruntime", (1.0,))
    speed = LatencyMeasurement("cpu", "CPU", {}, 1, "host to host", *timing, 1.0, 0.1)
    assert "budget.min_speedup" in judge.fault(speed, variant)
