"""What a valid manifest becomes: inheritance, variants, checkpoints, points to measure."""

from typing import get_args

import pytest
from manifests import IO, load

from pytest_onnxcheck.manifest.sections import (
    BUILTIN_QUANTIZATION,
    BUILTIN_TOLERANCE,
    FIXED_TOLERANCE,
    METRICS,
    NOISE_FLOOR,
    Bounds,
    Quantization,
    Tolerance,
)
from pytest_onnxcheck.manifest.terms import Precision


def net(folder, *, start="", model="", end="", reference='factory = "zoo:net"'):
    """The one model of a manifest with lines put at its start, into the model and at its end."""
    text = f"schema = 1\n{start}\n[models.net]\n{reference}\n{model}\n{IO}\n{end}\n"
    return load(folder, text).models["net"]


def test_what_is_not_written_is_built_in(tmp_path):
    model = net(tmp_path)
    assert [variant.name for variant in model.variants] == ["dynamo-op20-fp32"]
    assert (model.targets, model.required_targets, model.draws) == (("cpu",), (), 1)
    assert (model.probe_seconds, model.example) == (2.0, None)
    latency = model.latency
    assert (model.marks, latency.threads, latency.boundary) == ((), 1, "host")
    assert (latency.seconds, latency.longest) == (2.0, 6.0)
    assert model.variants[0].tolerance == BUILTIN_TOLERANCE["fp32"]
    assert model.variants[0].budget.written() == {}
    assert (model.inputs["x"].dtype, model.inputs["x"].nonfinite) == ("float32", False)


def test_defaults_beat_what_is_built_in(tmp_path):
    model = net(
        tmp_path,
        start='[defaults]\nopsets = [18]\ntargets = ["cpu", "cuda"]\ndraws = 5\nmarks = ["slow"]',
    )
    assert [variant.opset for variant in model.variants] == [18]
    assert (model.targets, model.draws, model.marks) == (("cpu", "cuda"), 5, ("slow",))


def test_the_model_beats_defaults_key_by_key(tmp_path):
    model = net(
        tmp_path,
        start='[defaults]\nopsets = [18]\ndraws = 5\nmarks = ["slow"]\ntargets = ["cuda"]',
        model='draws = 1\nmarks = []\ntargets = ["cpu"]',
    )
    assert (model.draws, model.marks, model.targets) == (1, (), ("cpu",))
    assert [variant.opset for variant in model.variants] == [18]


def test_latency_is_inherited_key_by_key(tmp_path):
    model = net(
        tmp_path,
        start="[defaults.latency]\nseconds = 0.25\nthreads = 4",
        end="[models.net.latency]\nthreads = 2",
    )
    assert (model.latency.seconds, model.latency.threads) == (0.25, 2)


def tolerance(folder, text, *, variant="dynamo-op20-fp32", start=""):
    model = net(folder, start=start, model='precisions = ["fp32", "fp16"]', end=text)
    return next(entry for entry in model.variants if entry.name == variant).tolerance


def test_floats_are_judged_by_the_noise_floor_and_the_others_by_thresholds(tmp_path):
    model = net(tmp_path, model=f"precisions = {list(get_args(Precision))}")
    found = {variant.precision: variant.tolerance for variant in model.variants}
    for precision in ("fp32", "fp16", "half"):
        assert found[precision] == NOISE_FLOOR
        assert (found[precision].policy, found[precision].safety) == ("noise-floor", 8.0)
        assert [getattr(found[precision], metric) for metric in METRICS] == [None] * len(METRICS)
    for precision in ("bf16", "int8-dynamic", "int8-static", "int4-weight"):
        assert found[precision] == FIXED_TOLERANCE[precision]
        assert (found[precision].policy, found[precision].safety) == ("fixed", None)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "half"])
def test_the_fixed_policy_alone_brings_the_fixed_thresholds(tmp_path, precision):
    text = f'[models.net.tolerance.{precision}]\npolicy = "fixed"'
    (variant,) = net(tmp_path, model=f'precisions = ["{precision}"]', end=text).variants
    assert variant.tolerance == FIXED_TOLERANCE[precision]


def in_force(found):
    """The metrics a tolerance bounds; `rtol` stands for both numbers of allclose."""
    bounded = {name for name in METRICS if isinstance(getattr(found, name), Bounds)}
    return bounded | ({"rtol"} if found.rtol is not None else set())


def test_a_threshold_without_a_policy_is_fixed_and_the_only_one_in_force(tmp_path):
    found = tolerance(tmp_path, "[models.net.tolerance.fp32]\nmax_abs = 1e-3")
    assert (found.policy, found.safety) == ("fixed", None)
    assert found.max_abs == Bounds(passes=1e-3, fails=1e-3)
    assert in_force(found) == {"max_abs"}


BUILT_IN = {"int8-static": {"rel_rms", "cosine"}, "fp32": {"max_abs", "mse", "cosine"}}

#: precision and tables, the weakest first -> the metrics in force
IN_FORCE = {
    ("fp32", "max_abs = 0.05"): {"max_abs"},
    ("fp32", 'policy = "fixed"\nmax_abs = 0.05'): {"max_abs"},
    ("fp32", 'max_abs = 0.05 / policy = "fixed"'): {"max_abs"},
    ("fp32", 'policy = "fixed" / max_abs = 0.05 / min_mutation_score = 0.5'): {"max_abs"},
    ("fp32", "rtol = 1e-3\natol = 1e-5"): {"rtol"},
    ("fp32", "mse = 1 / max_abs = 0.05"): {"mse", "max_abs"},
    ("fp32", 'mse = "off" / max_abs = 0.05'): {"max_abs"},
    ("int8-static", "max_abs = 0.05"): {"max_abs"},
    ("int8-static", "sqnr_db = 8"): {"sqnr_db"},
    ("int8-static", "cosine = 0.9"): {"cosine"},
    ("int8-static", "top1 = 0.9 / sqnr_db = 8"): {"top1", "sqnr_db"},
    # none that bounds the size of an error is in force: the built-in ones hold
    ("fp32", 'policy = "fixed"'): BUILT_IN["fp32"],
    ("fp32", 'policy = "fixed"\nmin_mutation_score = 0.5'): BUILT_IN["fp32"],
    ("fp32", 'policy = "fixed"\ntop1 = 0.9'): BUILT_IN["fp32"] | {"top1"},
    ("fp32", 'mse = "off"'): BUILT_IN["fp32"] - {"mse"},
    ("fp32", 'max_abs = 0.05 / max_abs = "off"'): BUILT_IN["fp32"] - {"max_abs"},
    ("int8-static", "top1 = 0.9"): BUILT_IN["int8-static"] | {"top1"},
    ("int8-static", "min_mutation_score = 0.2"): BUILT_IN["int8-static"],
    ("int8-static", 'sqnr_db = 8 / sqnr_db = "off"'): BUILT_IN["int8-static"],
}


@pytest.mark.parametrize(("precision", "written"), IN_FORCE)
def test_a_threshold_of_ones_own_replaces_all_that_are_built_in(tmp_path, precision, written):
    start, *models = written.split(" / ")
    tables = [f"[models.net.tolerance.{precision}]", '[models.net.tolerance."dynamo-*"]']
    (variant,) = net(
        tmp_path,
        start=f"[defaults.tolerance.{precision}]\n{start}",
        model=f'precisions = ["{precision}"]',
        end="\n".join(f"{table}\n{text}" for table, text in zip(tables, models, strict=False)),
    ).variants
    assert variant.tolerance.policy == "fixed"
    assert in_force(variant.tolerance) == IN_FORCE[precision, written]


def test_thresholds_beside_the_noise_floor_hold_as_well_and_bring_no_others(tmp_path):
    found = tolerance(
        tmp_path, '[models.net.tolerance.fp32]\npolicy = "noise-floor"\nmax_abs = 1e-3'
    )
    assert (found.policy, found.safety) == ("noise-floor", 8.0)
    assert found.max_abs == Bounds(passes=1e-3, fails=1e-3)
    assert (found.mse, found.cosine) == (None, None)


@pytest.mark.parametrize("key", ["safety = 4", "min_mutation_score = 0.9"])
def test_what_is_no_threshold_keeps_the_noise_floor(tmp_path, key):
    found = tolerance(tmp_path, f"[models.net.tolerance.fp32]\n{key}")
    name, _, value = key.partition(" = ")
    assert found.policy == "noise-floor"
    assert getattr(found, name) == float(value)


@pytest.mark.parametrize(("metric", "bound"), [("top1", 0.99), ("sqnr_db", 60.0)])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "half"])
def test_top1_and_sqnr_keep_the_noise_floor(tmp_path, precision, metric, bound):
    text = f"[models.net.tolerance.{precision}]\n{metric} = {bound}\nsafety = 4"
    (variant,) = net(tmp_path, model=f'precisions = ["{precision}"]', end=text).variants
    found = variant.tolerance
    assert (found.policy, found.safety) == ("noise-floor", 4)
    assert {name for name in METRICS if getattr(found, name) is not None} == {metric}
    assert getattr(found, metric) == Bounds(passes=bound, fails=bound)


#: tables of int8-static, the weakest first -> what holds of rel_rms and sqnr_db
SAME_QUANTITY = {
    "sqnr_db = 8": (None, 8),
    "rel_rms = 0.4": (0.4, None),
    "sqnr_db = 8 / rel_rms = 0.4": (0.4, None),
    "rel_rms = 0.4 / sqnr_db = 8": (None, 8),
    "rel_rms = 0.4 / sqnr_db = 8 / top1 = 0.9": (None, 8),
    "rel_rms = 0.4\nsqnr_db = 8": (0.4, 8),
    'sqnr_db = "off"': (0.15, "off"),
}


@pytest.mark.parametrize("written", SAME_QUANTITY)
def test_sqnr_and_rel_rms_bound_the_same_quantity_and_the_stronger_level_counts(tmp_path, written):
    start, *models = written.split(" / ")
    tables = ["[models.net.tolerance.int8-static]", '[models.net.tolerance."dynamo-*"]']
    (variant,) = net(
        tmp_path,
        start=f"[defaults.tolerance.int8-static]\n{start}",
        model='precisions = ["int8-static"]',
        end="\n".join(f"{table}\n{text}" for table, text in zip(tables, models, strict=False)),
    ).variants
    found = variant.tolerance
    shown = (getattr(bound, "passes", bound) for bound in (found.rel_rms, found.sqnr_db))
    assert tuple(shown) == SAME_QUANTITY[written]
    assert found.policy == "fixed"


#: tables, the weakest first -> the policy of fp32 that follows
POLICIES = {
    'max_abs = 1 / policy = "noise-floor"': "noise-floor",
    'policy = "noise-floor" / max_abs = 1': "fixed",
    'policy = "fixed" / safety = 4 / policy = "noise-floor"': "noise-floor",
    "max_abs = 1 / min_mutation_score = 0.5": "fixed",
    "max_abs = 1 / top1 = 0.5": "fixed",
    "top1 = 0.5 / max_abs = 1": "fixed",
}


@pytest.mark.parametrize("written", POLICIES)
def test_the_strongest_level_that_speaks_of_it_chooses_the_policy(tmp_path, written):
    start, *models = written.split(" / ")
    tables = ["[models.net.tolerance.fp32]", '[models.net.tolerance."dynamo-*-fp32"]']
    found = tolerance(
        tmp_path,
        "\n".join(f"{table}\n{text}" for table, text in zip(tables, models, strict=False)),
        start=f"[defaults.tolerance.fp32]\n{start}",
    )
    assert found.policy == POLICIES[written]


def test_probe_seconds_are_inherited_and_zero_is_a_value(tmp_path):
    start = "[defaults]\nprobe_seconds = 7"
    assert net(tmp_path, start=start).probe_seconds == 7.0
    assert net(tmp_path, start=start, model="probe_seconds = 0").probe_seconds == 0.0


def test_an_example_and_cases_outside_the_range_are_kept(tmp_path):
    model = net(
        tmp_path,
        model='example = "example.npz"',
        end='[models.net.cases]\na.file = "a.npz"\nb = { file = "b.npz", outside_range = true }',
    )
    assert model.example == "example.npz"
    assert [case.outside_range for case in model.cases.values()] == [False, True]


def test_a_pair_gives_both_bounds(tmp_path):
    found = tolerance(tmp_path, "[models.net.tolerance.fp32]\nmax_abs = [1e-3, 1]")
    assert found.max_abs == Bounds(passes=1e-3, fails=1.0)


def test_off_switches_one_metric_off(tmp_path):
    found = tolerance(tmp_path, '[models.net.tolerance.fp32]\nmse = "off"')
    assert found.mse == "off"
    assert found.max_abs == FIXED_TOLERANCE["fp32"].max_abs


def test_a_metric_that_defaults_switch_off_can_be_switched_on_again(tmp_path):
    start = '[defaults.tolerance.fp32]\nmse = "off"\nmax_abs = "off"'
    found = tolerance(tmp_path, "[models.net.tolerance.fp32]\nmse = 1e-4", start=start)
    assert found.mse == Bounds(passes=1e-4, fails=1e-4)
    assert found.max_abs == "off"


def test_tolerances_of_another_precision_do_not_apply(tmp_path):
    found = tolerance(tmp_path, "[models.net.tolerance.fp16]\nmax_abs = 3")
    assert found == BUILTIN_TOLERANCE["fp32"]


LEVELS = {
    'policy = "fixed"': 1e-5,
    '[defaults.tolerance."*"]': 0.1,
    "[defaults.tolerance.fp32]": 0.2,
    '[defaults.tolerance."*-fp32"]': 0.3,
    '[models.net.tolerance."*"]': 0.4,
    "[models.net.tolerance.fp32]": 0.5,
    '[models.net.tolerance."dynamo-*"]': 0.6,
}


@pytest.mark.parametrize("count", range(1, len(LEVELS) + 1))
def test_the_strongest_level_wins_whatever_the_order_in_the_file(tmp_path, count):
    written = [f"{table}\nmax_abs = {value}" for table, value in LEVELS.items()][1:count]
    strongest = list(LEVELS.values())[count - 1]
    backwards = "\n".join(reversed(written))
    backwards += '\n[models.net.tolerance."*fp*"]\npolicy = "fixed"'
    assert tolerance(tmp_path, backwards).max_abs.passes == strongest


def test_every_level_adds_its_own_metrics(tmp_path):
    found = tolerance(
        tmp_path,
        "[models.net.tolerance.fp32]\nmean_abs = 2\n"
        '[models.net.tolerance."*-op20-*"]\nmax_rel = 3\nmax_abs = "off"',
        start="[defaults.tolerance.fp32]\nmse = 1\n",
    )
    assert [getattr(found, name).passes for name in ("mse", "mean_abs", "max_rel")] == [1, 2, 3]
    assert found.max_abs == "off"
    assert in_force(found) == {"mse", "mean_abs", "max_rel"}


def test_budgets_are_inherited_like_tolerances(tmp_path):
    model = net(
        tmp_path,
        start="[defaults.budget.fp16]\nmax_size_ratio = 0.6\nmax_size_mb = 9",
        model='precisions = ["fp32", "fp16"]',
        end="[models.net.budget.fp16]\nmax_size_ratio = 0.5\n"
        '[models.net.budget."*-fp16"]\nmin_speedup = 1.5',
    )
    fp32, fp16 = model.variants
    assert fp32.budget.written() == {}
    assert fp16.budget.written() == {
        "max_size_ratio": 0.5,
        "max_size_mb": 9.0,
        "min_speedup": {"cpu": 1.5},
    }


@pytest.mark.parametrize("precision", get_args(Precision))
def test_the_options_of_a_precision_are_built_in(tmp_path, precision):
    (variant,) = net(tmp_path, model=f'precisions = ["{precision}"]').variants
    assert variant.quantization == BUILTIN_QUANTIZATION[precision]


#: table -> the block size and the accuracy level it gives; the weakest first
OPTIONS = {
    "built in": (32, 0),
    "[defaults.quantization.int4-weight]": (16, None),
    '[defaults.quantization."*-int4-*"]': (64, 1),
    "[models.net.quantization.int4-weight]": (128, None),
    '[models.net.quantization."dynamo-*"]': (256, 4),
}


@pytest.mark.parametrize("count", range(1, len(OPTIONS) + 1))
def test_options_are_inherited_key_by_key_whatever_the_order_in_the_file(tmp_path, count):
    written = [
        f"{table}\nblock_size = {size}" + (f"\naccuracy_level = {level}" if level else "")
        for table, (size, level) in OPTIONS.items()
    ]
    tables = "\n".join(reversed(written[1:count]))
    (variant,) = net(tmp_path, start=tables, model='precisions = ["int4-weight"]').variants
    sizes, levels = zip(*list(OPTIONS.values())[:count], strict=True)
    assert variant.quantization.block_size == sizes[-1]
    assert (
        variant.quantization.accuracy_level == [level for level in levels if level is not None][-1]
    )
    assert variant.quantization.symmetric is True


def test_a_list_of_options_replaces_the_one_it_inherits(tmp_path):
    model = net(
        tmp_path,
        start='[defaults.quantization.fp16]\nop_block_list = ["Softmax"]\nexclude_nodes = ["a"]',
        model='precisions = ["fp16"]',
        end="[models.net.quantization.fp16]\nop_block_list = []",
    )
    quantization = model.variants[0].quantization
    assert (quantization.op_block_list, quantization.exclude_nodes) == ((), ("a",))


def test_a_glob_gives_each_precision_only_the_options_it_has(tmp_path):
    model = net(
        tmp_path,
        model='precisions = ["fp32", "fp16", "half", "int8-static"]',
        end='[models.net.quantization."*"]\nkeep_io_types = false\nper_channel = false',
    )
    fp32, fp16, half, int8 = (variant.quantization for variant in model.variants)
    assert fp32 == half == Quantization()
    assert (fp16.keep_io_types, fp16.per_channel) == (False, None)
    assert (int8.keep_io_types, int8.per_channel) == (None, False)
    assert set(int8.written()) == set(BUILTIN_QUANTIZATION["int8-static"].written())


IO_DTYPES = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "half": "float16",
    "int8-dynamic": "float32",
    "int8-static": "float32",
    "int4-weight": "float32",
}


def test_inputs_and_outputs_are_16_bit_only_where_the_artefacts_are(tmp_path):
    precisions = f"precisions = {list(IO_DTYPES)}"
    written = '[models.net.quantization."*"]\nkeep_io_types = false'
    model = net(tmp_path, model=precisions, end=written)
    assert {v.precision: v.io_dtype("float32") for v in model.variants} == IO_DTYPES
    assert {v.io_dtype(dtype) for v in model.variants for dtype in ("int64", "bool")} == {
        "int64",
        "bool",
    }
    kept = net(tmp_path, model=precisions)
    found = {v.precision: v.io_dtype("float32") for v in kept.variants}
    assert found == dict.fromkeys(IO_DTYPES, "float32") | {"half": "float16"}


def test_given_files_are_taken_to_have_the_inputs_that_the_manifest_declares(tmp_path):
    start = "[defaults.quantization.fp16]\nkeep_io_types = false"
    model = net(tmp_path, start=start, model='onnx = { fp16 = "a.onnx", half = "b.onnx" }')
    assert [variant.io_dtype("float32") for variant in model.variants] == ["float32", "float32"]


#: what is written -> the drop allowed of fp32, fp16 and int8-static
DROPS = {
    "": [None, None, None],
    "max_drop = 0.01": [0.01, 0.01, 0.01],
    "max_drop = 0": [0.0, 0.0, 0.0],
    "max_drop = { int8-static = 0.02 }": [None, None, 0.02],
    'max_drop = { "*-fp*" = 0.01, fp16 = 0.02, int8-static = 0.03 }': [0.01, 0.01, 0.03],
    'max_drop = { "dynamo-*" = 0.01, "*-int8-*" = 0.02 }': [0.01, 0.01, 0.02],
    'max_drop = { fp32 = 0, "*" = 0.01, "*-fp16" = 0.02 }': [0.0, 0.02, 0.01],
}


@pytest.mark.parametrize("written", DROPS)
def test_the_drop_is_one_number_or_one_per_precision_or_glob(tmp_path, written):
    model = net(
        tmp_path,
        model='precisions = ["fp32", "fp16", "int8-static"]',
        end=f'[models.net.accuracy]\nfile = "test.npz"\n{written}',
    )
    assert [variant.max_drop for variant in model.variants] == DROPS[written]


def test_a_model_without_labelled_data_has_no_drop(tmp_path):
    model = net(tmp_path)
    assert (model.accuracy, model.variants[0].max_drop) == (None, None)


def test_speedups_over_fp32_are_per_target_too(tmp_path):
    model = net(
        tmp_path,
        model='precisions = ["int8-static"]\ntargets = ["cpu", "cuda"]',
        end="[models.net.budget.int8-static]\nmin_speedup_over_fp32 = 1.5\n"
        "min_speedup = { cuda = 2 }\nmin_coverage = 0.9",
    )
    assert model.variants[0].budget.written() == {
        "min_speedup_over_fp32": {"cpu": 1.5},
        "min_speedup": {"cuda": 2.0},
        "min_coverage": 0.9,
    }


def test_a_variant_that_the_manifest_does_not_list_is_as_it_would_be(tmp_path):
    text = (
        "[defaults.tolerance.int8-static]\nsqnr_db = 25\n[defaults.quantization.int8-static]\n"
        'method = "entropy"\n[defaults.budget.int8-static]\nmin_coverage = 0.9'
    )
    accuracy = '[models.net.accuracy]\nfile = "test.npz"\nmax_drop = 0.01'
    unlisted = net(tmp_path, start=text, end=accuracy).variant("dynamo", 18, "int8-static")
    listed = net(
        tmp_path, start=text, model='opsets = [18]\nprecisions = ["int8-static"]', end=accuracy
    )
    assert listed.variants == (unlisted,)
    assert unlisted.name == "dynamo-op18-int8-static"
    assert (unlisted.quantization.method, unlisted.quantization.per_channel) == ("entropy", True)
    assert (unlisted.tolerance.sqnr_db, unlisted.max_drop) == (Bounds(passes=25, fails=25), 0.01)
    assert unlisted.budget.min_coverage == 0.9


def test_tables_of_a_model_may_name_a_precision_that_it_does_not_list(tmp_path):
    tables = (
        "[models.net.tolerance.int8-static]\ntop1 = 0.9\n"
        "[models.net.budget.int8-static]\nmax_size_ratio = 0.4\n"
        "[models.net.quantization.int8-static]\nsymmetric = true\n"
    )
    accuracy = '[models.net.accuracy]\nfile = "test.npz"\nmax_drop = { int8-static = 0.01 }'
    model = net(tmp_path, end=tables + accuracy)
    assert [variant.precision for variant in model.variants] == ["fp32"]
    unlisted = model.variant("dynamo", 20, "int8-static")
    assert (unlisted.tolerance.top1, unlisted.max_drop) == (Bounds(passes=0.9, fails=0.9), 0.01)
    assert (unlisted.budget.max_size_ratio, unlisted.quantization.symmetric) == (0.4, True)


def test_variants_are_exporter_then_opset_then_precision_in_the_order_written(tmp_path):
    model = net(
        tmp_path,
        model='exporters = ["torchscript", "dynamo"]\nopsets = [20, 18]\n'
        'precisions = ["int8-static", "fp32"]',
    )
    assert [variant.name for variant in model.variants] == [
        "torchscript-op20-int8-static",
        "torchscript-op20-fp32",
        "torchscript-op18-int8-static",
        "torchscript-op18-fp32",
        "dynamo-op20-int8-static",
        "dynamo-op20-fp32",
        "dynamo-op18-int8-static",
        "dynamo-op18-fp32",
    ]
    first = model.variants[0]
    assert (first.exporter, first.opset, first.precision) == ("torchscript", 20, "int8-static")
    assert first.file is None


def test_onnx_as_a_string_is_one_fp32_artefact(tmp_path):
    (variant,) = net(tmp_path, model='onnx = "given/net.onnx"').variants
    assert (variant.name, variant.exporter, variant.opset) == ("file-fp32", "file", None)
    assert variant.file == tmp_path / "given" / "net.onnx"


def test_onnx_as_a_table_is_one_artefact_per_precision(tmp_path):
    variants = net(tmp_path, model='onnx = { fp32 = "a.onnx", int8-dynamic = "b.onnx" }').variants
    assert {variant.name: variant.file for variant in variants} == {
        "file-fp32": tmp_path / "a.onnx",
        "file-int8-dynamic": tmp_path / "b.onnx",
    }
    assert variants[1].tolerance == BUILTIN_TOLERANCE["int8-dynamic"]


def test_a_glob_can_select_given_artefacts(tmp_path):
    model = net(
        tmp_path, model='onnx = "a.onnx"', end='[models.net.tolerance."file-*"]\nmax_abs = 7'
    )
    assert model.variants[0].tolerance.max_abs.passes == 7


def test_one_checkpoint_is_relative_to_the_manifest(tmp_path):
    model = net(tmp_path, model='checkpoint = "weights/net.pt"')
    assert model.checkpoint == tmp_path / "weights" / "net.pt"
    assert model.root == tmp_path


def test_a_checkpoint_glob_makes_one_model_per_match(tmp_path):
    (tmp_path / "weights").mkdir()
    for name in ("b.pt", "a.pt", "readme.md"):
        (tmp_path / "weights" / name).touch()
    text = f'schema = 1\n[models.net]\nfactory = "zoo:net"\ncheckpoint = "weights/*.pt"\n{IO}'
    manifest = load(tmp_path, text)
    assert {model.section for model in manifest.models.values()} == {"net"}
    assert {name: model.checkpoint for name, model in manifest.models.items()} == {
        "net-a": tmp_path / "weights" / "a.pt",
        "net-b": tmp_path / "weights" / "b.pt",
    }
    assert {model.line for model in manifest.models.values()} == {2}
    assert [model.name for model in manifest.models.values()] == ["net-a", "net-b"]


def test_trust_and_prefix_are_inherited_and_the_prefix_only_with_a_checkpoint(tmp_path):
    defaults = '[defaults]\ntrust = true\nprefix = "model."'
    model = net(tmp_path, start=defaults, model='checkpoint = "net.pt"')
    assert (model.trust, model.prefix) == (True, "model.")
    model = net(tmp_path, start=defaults, model='checkpoint = "net.pt"\ntrust = false\nprefix = ""')
    assert (model.trust, model.prefix) == (False, "")
    model = net(tmp_path, start=defaults)
    assert (model.trust, model.prefix) == (True, None)
    assert net(tmp_path).trust is False


DYNAMIC_IO = """
[models.net.inputs.x]
shape = ["batch", "time"]

[models.net.outputs.y]
shape = ["batch", 2]
"""


def points(folder, latency=""):
    text = (
        'schema = 1\n[models.net]\nfactory = "zoo:net"\n'
        f"dims = {{ batch = [2, 8], time = [50, 100] }}\n{DYNAMIC_IO}\n{latency}"
    )
    return load(folder, text).models["net"].latency_points()


def test_speed_is_measured_at_each_value_of_the_first_dim(tmp_path):
    assert points(tmp_path) == {
        "batch2": {"batch": 2, "time": 50},
        "batch8": {"batch": 8, "time": 50},
    }


def test_speed_is_measured_where_the_manifest_says(tmp_path):
    written = "[models.net.latency]\ndims = [{ time = 70 }, { batch = 1, time = 100 }]"
    assert points(tmp_path, written) == {
        "time70": {"batch": 2, "time": 70},
        "batch1-time100": {"batch": 1, "time": 100},
    }


def test_speed_of_a_static_model_is_measured_at_one_point_without_a_name(tmp_path):
    assert net(tmp_path).latency_points() == {"": {}}


@pytest.mark.parametrize(
    ("file", "model", "expected"),
    [("", "", 0), ("seed = 7", "", 7), ("seed = 7", "seed = 3", 3), ("seed = 7", "seed = 0", 0)],
)
def test_the_seed_of_a_model_is_its_own_or_the_files(tmp_path, file, model, expected):
    assert net(tmp_path, start=file, model=model).seed == expected


def test_int8_is_made_for_every_cpu_unless_the_manifest_says_otherwise(tmp_path):
    every = net(tmp_path)
    assert every.cpus == ("x86-vnni", "x86-avx2", "arm64")
    assert every.variant("dynamo", 20, "int8-static").reduces_range
    own = net(tmp_path, start='[defaults]\ncpus = ["arm64"]', model='cpus = ["x86-vnni"]')
    assert own.cpus == own.variants[0].cpus == ("x86-vnni",)
    assert not own.variant("dynamo", 20, "int8-static").reduces_range
    written = "[models.net.quantization.int8-static]\nreduce_range = true"
    assert (
        net(tmp_path, model='cpus = ["arm64"]', end=written)
        .variant("dynamo", 20, "int8-static")
        .reduces_range
    )
    unsigned = '[models.net.quantization.int8-static]\nweight_type = "uint8"'
    assert not net(tmp_path, end=unsigned).variant("dynamo", 20, "int8-static").reduces_range


def test_the_twin_of_8_bits_is_of_those_that_have_7_for_the_cpus_alone(tmp_path):
    twin = net(tmp_path).variant("dynamo", 20, "int8-static").eight_bits
    assert twin.quantization.reduce_range is False
    assert twin.eight_bits is None
    assert net(tmp_path).variant("dynamo", 20, "fp16").eight_bits is None
    written = "[models.net.quantization.int8-static]\nreduce_range = true"
    assert net(tmp_path, end=written).variant("dynamo", 20, "int8-static").eight_bits is None
    assert (
        net(tmp_path, model='cpus = ["arm64"]').variant("dynamo", 20, "int8-static").eight_bits
        is None
    )


@pytest.mark.parametrize(
    ("written", "drawn", "sizes"),
    [
        ("[8, 2, 5]", (8, 2, 5), range(2, 9)),
        ("{ from = 16, to = 512 }", (16, 91, 512), range(16, 513)),
        ("{ from = 1, to = 64 }", (1, 8, 64), range(1, 65)),
        ("{ from = 32, to = 512, step = 32 }", (32, 128, 512), range(32, 513, 32)),
        ("{ from = 7, to = 8 }", (7, 8), range(7, 9)),
        ("{ from = 7, to = 7 }", (7,), range(7, 8)),
    ],
)
def test_a_range_is_drawn_at_its_ends_and_once_between(tmp_path, written, drawn, sizes):
    model = net(tmp_path, model=f'inputs.z.shape = ["n"]\ndims.n = {written}')
    assert model.dims == {"n": drawn}
    assert model.sizes == {"n": sizes}


@pytest.mark.parametrize(
    ("name", "written", "masked"),
    [
        ("attention_mask", 'dtype = "int64", range = [0, 1]', 0),
        ("Mask", 'dtype = "bool"', 0),
        ("src_key_padding_mask", 'dtype = "bool"', 1),
        ("pad_mask", 'dtype = "bool", masked = false', 0),
        ("mask", 'dtype = "bool", masked = true', 1),
        ("keep", 'dtype = "bool", fill = "mask"', 0),
        ("pad_mask", 'fill = "mask", masked = -inf', float("-inf")),
    ],
)
def test_what_is_0_or_1_and_called_a_mask_is_one(tmp_path, name, written, masked):
    model = net(tmp_path, model=f"inputs.{name} = {{ shape = [1, 4], {written} }}")
    entry = model.inputs[name]
    assert (entry.fill, entry.masked) == ("mask", masked)


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("keep", 'dtype = "bool"'),
        ("token_type_ids", 'dtype = "int64", range = [0, 1]'),
        ("mask_ids", 'dtype = "int64", range = [0, 99]'),
        ("mask", 'dtype = "float32"'),
        ("mask", 'dtype = "int64", range = [0, 1], fill = "integers"'),
        ("mask", 'dtype = "int64", fill = "constant", value = 1'),
    ],
)
def test_nothing_else_is_a_mask_by_itself(tmp_path, name, written):
    model = net(tmp_path, model=f"inputs.{name} = {{ shape = [1, 4], {written} }}")
    assert model.inputs[name].fill != "mask"


@pytest.mark.parametrize(
    ("metric", "value", "passes"),
    [
        ("rel_rms", 0.1, True),
        ("rel_rms", 0.2, False),
        ("cosine", 0.98, False),
        ("cosine", float("nan"), False),
        ("cosine", None, True),  # not measured
        ("max_abs", 1e9, True),  # off
        ("top1", 0.0, True),  # not written
    ],
)
def test_a_value_passes_up_to_the_first_bound(metric, value, passes):
    tolerance = Tolerance.model_validate(
        {"rel_rms": [0.1, 0.3], "cosine": [0.99, 0.9], "max_abs": "off"}
    )
    assert tolerance.passes(metric, value) is passes


def test_a_range_from_0_draws_its_ends_and_one_between(tmp_path):
    dims = 'dims = { past = { from = 0, to = 128 } }\ninputs.c.shape = ["past"]'
    assert net(tmp_path, model=dims).dims["past"] == (0, 11, 128)


def test_speed_is_not_measured_where_there_is_nothing_to_run_unless_it_is_asked_for(tmp_path):
    dims = 'dims = { batch = [0, 1, 4], past = [0, 3] }\ninputs.c.shape = ["batch", "past"]'
    points = net(tmp_path, model=dims).latency_points()
    assert points == {"batch1": {"batch": 1, "past": 0}, "batch4": {"batch": 4, "past": 0}}
    asked = net(tmp_path, model=f"{dims}\nlatency.dims = [{{ batch = 0 }}]").latency_points()
    assert asked == {"batch0": {"batch": 0, "past": 0}}
    alone = dims.replace("[0, 1, 4]", "[0]")
    assert list(net(tmp_path, model=alone).latency_points()) == ["batch0"]


def test_with_draws_0_a_point_names_what_it_asks_for_alone(tmp_path):
    own = 'draws = 0\ncases.own.file = "own.npz"\ndims = { batch = [1, 4], past = [0, 3] }\n'
    own += 'inputs.c.shape = ["batch", "past"]'
    assert net(tmp_path, model=own).latency_points() == {"": {}}
    asked = net(tmp_path, model=f"{own}\nlatency.dims = [{{ past = 3 }}]").latency_points()
    assert asked == {"past3": {"past": 3}}
