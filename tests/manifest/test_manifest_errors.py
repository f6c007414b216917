"""Every mistake in a manifest gives the message frozen beside it in `bad/`."""

import re
from pathlib import Path

import pytest

from pytest_onnxcheck.errors import ManifestError
from pytest_onnxcheck.manifest import load_manifest

BAD = Path(__file__).parent / "bad"

GOOD_MODEL = """
[models.good]
factory = "zoo:net"

[models.good.inputs.x]
shape = [1, 4]

[models.good.outputs.y]
shape = [1, 2]
"""


def messages(path):
    with pytest.raises(ManifestError) as caught:
        load_manifest(path).check()
    return str(caught.value).replace(str(path.parent), "{folder}")


def load(folder, *, model="", x="", end="", start="", x_name="x", shape="[1, 4]"):
    """One model `net` with lines put at its top, into its input and at the end of the file."""
    path = folder / "models.toml"
    path.write_text(
        f"schema = 1\n{start}\n[models.net]\n"
        + ("" if "checkpoint" in model else 'factory = "zoo:net"\n')
        + f"{model}\n[models.net.inputs.{x_name}]\nshape = {shape}\n{x}\n"
        + f"[models.net.outputs.y]\nshape = [1, 2]\n{end}\n",
        encoding="utf-8",
    )
    return load_manifest(path)


def line_of(manifest, problem):
    return manifest.path.read_text(encoding="utf-8").splitlines()[problem.line - 1]


def texts(manifest):
    return [problem.text for problem in manifest.problems]


def test_every_bad_manifest_has_its_messages_and_the_other_way_round():
    manifests = {path.stem for path in BAD.glob("*.toml")}
    assert len(manifests) >= 20
    assert manifests == {path.stem for path in BAD.glob("*.txt")}


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD.glob("*.toml")))
def test_bad_manifest_gives_exactly_these_messages(name):
    expected = (BAD / f"{name}.txt").read_text(encoding="utf-8")
    assert messages(BAD / f"{name}.toml") + "\n" == expected


@pytest.mark.parametrize("name", sorted(path.stem for path in BAD.glob("*.toml")))
def test_messages_speak_of_toml_and_not_of_python(name):
    found = re.findall(
        r"(?<!')tuple|dictionary|instance of|after validation|ModelSection|NoneType|pydantic",
        messages(BAD / f"{name}.toml"),
    )
    assert found == []


POINTS_IN_A_TABLE = (
    'accuracy = { file = "test.npz", metric = "f1", max_drop = { fp32 = 0.499, "*" = 1.5 } }'
)

#: manifest -> the text of the line that each of its problems must point at, in order
POINTS_AT = {
    "accuracy_max_drop_in_points": ["max_drop = 0.5", POINTS_IN_A_TABLE],
    "accuracy_max_drop_key": ["int8-statc = 0.005", '"*-fp16" = 0.001'],
    "bad_factory_path": ['factory = "zoo.net"', 'shapes = "zoo:1st"'],
    "bad_model_name": ['[models."resnet[18]"]', '[models."a::b"]', '[models."-net"]'],
    "budget_of_fp32": [
        "min_coverage = 0.9",
        "min_speedup_over_fp32 = 1.5",
        "max_size_ratio = 0.5",
        "min_speedup_over_fp32 = { cuda = 1.5 }",
    ],
    "case_file_and_source": ["[models.net.cases.both]", "[models.net.cases.neither]"],
    "checkpoint_glob_without_match": ['checkpoint = "checkpoints/*.pt"'],
    "empty_range": ["range = [1, -1]", "range = [1.0, 0.0]"],
    "glob_matches_no_variant": [
        '[models.net.tolerance."torchscript-*"]',
        "[models.net.budget.dynamo-op21-fp32]",
        'variants = ["*-fp16"]',
    ],
    "integer_without_range": ["[models.net.inputs.x]"],
    "missing_key": ["[models.no-outputs]", "[models.no-shapes.outputs.y]", "[models.neither]"],
    "noise_floor_for_int8": ['policy = "noise-floor"'] * 2,
    "noise_floor_glob_for_int8": ['policy = "noise-floor"', "safety = 3"],
    "noise_floor_glob_in_defaults": ['policy = "noise-floor"', "safety = 3"],
    "onnx_beside_exporters": ['exporters = ["dynamo"]', 'precisions = ["fp32"]'],
    "safety_where_policy_is_inherited": ["safety = 4"],
    "safety_without_floor": ["safety = 4"] * 3,
    "option_glob": ["block_size = 64", "keep_io_types = false", "keep_io_types = true"],
    "percentile_without_method": ["percentile = 99.99"],
    "quantization_beside_onnx": [
        "[models.net.quantization.int8-static]",
        "[models.net.calibration]",
    ],
    "same_name_in_and_out": ["[models.net.outputs.x]"],
    "tolerance_key": ["[defaults.tolerance.int8]", "[defaults.budget.fp8]"],
    "tolerance_pair_reversed": ["max_abs = [1e-3, 1e-5]", "cosine = [0.99, 0.999]"],
    "undeclared_dim": [
        '    "bacth",  # a typo',
        '    "time",',
        "dims = [{ batch = 1 }, { frames = 4 }]",
    ],
    "unknown_key": ["shpae = [1, 3, 8, 8]"],
    "unknown_key_nested": ["max_error = 1e-3", "max_abz = 1e-2", 'variant = ["*"]'],
    "unknown_top_level_key": ["seeds = 3"],
    "unused_dim": ["batch = [1, 2]"],
    "wrong_schema_version": ["schema = 2"],
    "xfail_without_reason": ["[[models.net.xfail]]", 'reason = ""', 'checks = ["equivalance"]'],
}


@pytest.mark.parametrize("name", POINTS_AT)
def test_each_problem_points_at_the_line_of_the_offending_key(name):
    path = BAD / f"{name}.toml"
    lines = path.read_text(encoding="utf-8").splitlines()
    problems = load_manifest(path).problems
    assert [lines[problem.line - 1] for problem in problems] == POINTS_AT[name]
    for problem in problems:
        assert problem.text.startswith(f"{path.name}:{problem.line}: ")


def test_one_bad_model_leaves_the_others_usable():
    manifest = load_manifest(BAD / "several_problems.toml")
    assert list(manifest.models) == ["good"]
    assert {problem.model for problem in manifest.problems} == {"first", "second"}
    assert manifest.lines == {"first": 3, "good": 14, "second": 23}


def test_problems_come_in_the_order_of_the_file():
    lines = [problem.line for problem in load_manifest(BAD / "several_problems.toml").problems]
    assert lines == sorted(lines)


def test_check_is_silent_when_nothing_is_wrong(tmp_path):
    assert load(tmp_path).check() is None


def test_messages_name_the_file_as_they_are_told_to():
    path = BAD / "unknown_key.toml"
    (problem,) = load_manifest(path, shown="ci/models.toml").problems
    assert problem.text.startswith("ci/models.toml:7: [models.vit.inputs.pixels] ")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"none\.toml: cannot be read: .*No such file"):
        load_manifest(tmp_path / "none.toml")


def test_a_file_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "models.toml"
    path.write_bytes(b"schema = 1 # \xff\n")
    with pytest.raises(ManifestError, match=r"models\.toml: cannot be read: .*utf-8"):
        load_manifest(path)


def test_crlf_does_not_move_the_lines(tmp_path):
    path = tmp_path / "models.toml"
    text = (BAD / "unknown_key.toml").read_text(encoding="utf-8")
    path.write_bytes(text.replace("\n", "\r\n").encode())
    (problem,) = load_manifest(path).problems
    assert problem.line == 7


@pytest.mark.parametrize("key", ["sha pe", "int", "str", "dict", "shape[0]"])
def test_an_unknown_key_of_any_spelling_is_named(tmp_path, key):
    manifest = load(tmp_path, x=f'"{key}" = 3', end=GOOD_MODEL)
    (problem,) = manifest.problems
    assert f"[models.net.inputs.x] unknown key {key!r}" in problem.text
    assert line_of(manifest, problem) == f'"{key}" = 3'
    assert list(manifest.models) == ["good"]


@pytest.mark.parametrize("name", ["dict", "int", "input ids", "x(1)"])
def test_an_input_of_any_name_is_found_in_the_file(tmp_path, name):
    manifest = load(tmp_path, x_name=f'"{name}"', x='dtype = "flaot32"')
    (problem,) = manifest.problems
    assert line_of(manifest, problem) == 'dtype = "flaot32"'
    assert "dtype: 'flaot32' is not one of" in problem.text


@pytest.mark.parametrize("bound", ["nan", "[nan, 1.0]", "[1e-5, nan]"])
def test_a_bound_that_nothing_can_exceed_is_refused(tmp_path, bound):
    manifest = load(tmp_path, end=f"[models.net.tolerance.fp32]\nmax_abs = {bound}")
    (problem,) = manifest.problems
    assert line_of(manifest, problem) == f"max_abs = {bound}"
    assert "max_abs" in problem.text


#: what would be accepted and then never do what it says -> the lines put into the manifest
SILENT = {
    "precision with a typo in defaults": {
        "start": "[defaults.tolerance.int8-dynamc]\ncosine = 0.5\n"
    },
    "glob in defaults that no model has": {
        "start": '[defaults.budget."*-int8-sttaic"]\nmax_size_ratio = 0.5\n'
    },
    "value without constant": {"x": "value = 3.0"},
    "range beyond the dtype": {"x": 'dtype = "uint8"\nrange = [0, 300]'},
    "range between two integers": {"x": 'dtype = "int64"\nrange = [0.2, 0.8]'},
    "required target that is no target": {
        "model": 'targets = ["cpu"]\nrequired_targets = ["cuda"]'
    },
    "no variants": {"model": "onnx = {}"},
    "a variant twice": {"model": 'precisions = ["fp32", "fp32"]'},
    "safety of a fixed policy through a glob": {
        "end": '[models.net.tolerance."dynamo-*"]\nsafety = 4\n'
        '[models.net.tolerance.dynamo-op20-fp32]\npolicy = "fixed"'
    },
    "safety that is no number of floors": {"end": "[models.net.tolerance.fp32]\nsafety = 0"},
    "score beyond one": {"end": "[models.net.tolerance.fp32]\nmin_mutation_score = 90"},
    "negative time": {"model": "probe_seconds = -1"},
    "options of a glob without variants": {
        "end": '[models.net.quantization."*-fp16"]\nkeep_io_types = false'
    },
    "a budget of fp32 through a glob of defaults": {
        "start": '[defaults.budget."dynamo-*"]\nmin_coverage = 0.9\n'
    },
    "coverage of a glob without variants": {
        "end": '[models.net.budget."*-fp16"]\nmin_coverage = 0.9'
    },
    "a percentile where no ranges are calibrated": {
        "end": '[models.net.quantization."*-fp32"]\npercentile = 99.9'
    },
    "no drop": {"end": '[models.net.accuracy]\nfile = "a.npz"\nmax_drop = {}'},
    "a truth value for a number": {
        "end": "[models.net.quantization.fp32]\naccuracy_level = true",
    },
}


@pytest.mark.parametrize("name", SILENT)
def test_what_would_silently_not_be_checked_is_refused(tmp_path, name):
    assert len(load(tmp_path, **SILENT[name]).problems) == 1


#: a noise floor where there is one, whatever else is selected
FLOORS = {
    "safety of precisions and globs": "[models.net.tolerance.fp32]\nsafety = 4\n"
    '[models.net.tolerance."*-fp16"]\nsafety = 32',
    "safety of all, also of an int8 that has none": '[models.net.tolerance."*"]\nsafety = 4',
    "a policy that a glob takes back": "[models.net.tolerance.fp32]\nmax_abs = 1\n"
    '[models.net.tolerance."*-fp32"]\npolicy = "noise-floor"\nsafety = 2',
    "a score of int8": "[models.net.tolerance.int8-static]\nmin_mutation_score = 0.5",
}


@pytest.mark.parametrize("name", FLOORS)
def test_noise_floors_are_allowed_where_they_hold(tmp_path, name):
    model = 'precisions = ["fp32", "fp16", "int8-static"]'
    assert texts(load(tmp_path, model=model, end=FLOORS[name])) == []


#: options and bounds that some of what they select has
HELD = {
    "options of all through a glob": '[models.net.quantization."*"]\n'
    "keep_io_types = false\nper_channel = false",
    "no nodes excluded": "[models.net.quantization.int8-static]\nexclude_nodes = []",
    "percentile of a glob, method of the precision": "[models.net.quantization.int8-static]\n"
    'method = "percentile"\n[models.net.quantization."*-int8-*"]\npercentile = 99.9',
    "coverage of all, also of fp32": '[models.net.budget."*"]\nmin_coverage = 0.9\n'
    "max_size_ratio = 0.6\nmin_speedup_over_fp32 = 1",
    "calibration with draws": "[models.net.calibration]\ncount = 8\nbatch = 2",
    "calibration at random from a folder": "[models.net.calibration]\n"
    'folder = "real"\nseed = 0\nbatch = 4',
    "a metric of one's own": "[models.net.accuracy]\n"
    'source = "zoo:test"\nmetric = "metrics.py:word_error_rate"\nmax_drop = 2.5',
    "an average where there is one": "[models.net.accuracy]\n"
    'file = "a.npz"\nmetric = "recall"\naverage = "binary"\noutput = "y"\nlabels = "digit"',
    "drops": '[models.net.accuracy]\nfile = "a.npz"\n'
    'max_drop = { int8-static = 0.01, "*-fp16" = 0, dynamo-op20-fp32 = 0 }',
}


@pytest.mark.parametrize("name", HELD)
def test_options_and_bounds_are_allowed_where_they_hold(tmp_path, name):
    model = 'precisions = ["fp32", "fp16", "int8-static"]'
    assert texts(load(tmp_path, model=model, end=HELD[name])) == []


def test_a_percentile_in_defaults_is_enough_for_the_one_model_that_takes_it(tmp_path):
    start = "[defaults.quantization.int8-static]\npercentile = 99.9"
    taken = '[models.net.quantization.int8-static]\nmethod = "percentile"'
    model = 'precisions = ["int8-static"]'
    assert texts(load(tmp_path, start=start, model=model, end=taken + GOOD_MODEL)) == []
    (text,) = texts(load(tmp_path, start=start, model=model))
    assert text.endswith('percentile has no effect without method = "percentile"')


def test_options_in_defaults_do_not_mind_a_model_of_given_files(tmp_path):
    start = "[defaults.quantization.int8-static]\nper_channel = false"
    model = 'onnx = { int8-static = "a.onnx" }'
    assert texts(load(tmp_path, start=start, model=model)) == []


def test_an_integer_input_from_a_file_is_told_what_is_missing_and_no_more(tmp_path):
    (problem,) = load(tmp_path, x='dtype = "int64"\nfile = "x.npy"').problems
    assert problem.text.endswith("fill = 'file' and file = 'PATH' go together")


def test_problems_on_one_line_come_in_the_order_of_the_file(tmp_path):
    dims = ["f", "b", "h", "a", "g", "c", "e", "d"]
    written = ", ".join(f"{dim} = [1]" for dim in dims)
    manifest = load(tmp_path, model=f"dims = {{ {written} }}")
    assert [re.findall(r"dim '(.)'", text)[0] for text in texts(manifest)] == dims


def test_a_mistake_in_defaults_blames_no_model(tmp_path):
    manifest = load(
        tmp_path,
        start='[defaults]\nprecisions = ["fp32", "fp16", "int8-statc"]\n',
        end='[models.net.tolerance."*-fp16"]\nmax_abs = 1.0',
    )
    assert [problem.model for problem in manifest.problems] == [None]


def test_a_mistake_in_a_model_of_many_checkpoints_is_told_once_and_spoils_them_all(tmp_path):
    (tmp_path / "a.pt").touch()
    (tmp_path / "b.pt").touch()
    manifest = load(
        tmp_path,
        model='factory = "zoo:net"\ncheckpoint = "*.pt"',
        end='[models.net.tolerance."*-fp16"]\nmax_abs = 1.0' + GOOD_MODEL,
    )
    assert len(texts(manifest)) == 1
    assert list(manifest.models) == ["good"]


def test_two_checkpoints_that_cannot_be_told_apart_are_refused(tmp_path):
    (tmp_path / "a b.pt").touch()
    (tmp_path / "a_b.pt").touch()
    (problem,) = load(tmp_path, model='factory = "zoo:net"\ncheckpoint = "a*"').problems
    assert "'a b.pt' and 'a_b.pt' would both be called 'net-a_b.pt', since a name" in problem.text


def test_a_match_of_a_glob_is_not_called_as_another_model_is(tmp_path):
    (tmp_path / "a.pt").touch()
    other = GOOD_MODEL.replace("[models.good", "[models.net-a")
    model = 'factory = "zoo:net"\ncheckpoint = "*.pt"'
    (problem,) = load(tmp_path, model=model, end=other).problems
    assert "another model is already called 'net-a'" in problem.text


def test_a_glob_that_takes_a_name_leaves_the_model_that_had_it(tmp_path):
    (tmp_path / "a.pt").touch()
    path = tmp_path / "models.toml"
    first = GOOD_MODEL.replace("models.good", "models.net-a")
    second = GOOD_MODEL.replace("models.good]", 'models.net]\ncheckpoint = "*.pt"')
    path.write_text(f"schema = 1\n{first}{second.replace('models.good', 'models.net')}")
    manifest = load_manifest(path)
    assert [problem.model for problem in manifest.problems] == ["net"]
    assert manifest.models["net-a"].checkpoint is None


def test_a_glob_with_an_absolute_path_does_not_crash(tmp_path):
    (tmp_path / "a.pt").touch()
    manifest = load(tmp_path, model=f'factory = "zoo:net"\ncheckpoint = "{tmp_path}/*.pt"')
    assert list(manifest.models) == ["net-a"] or len(manifest.problems) == 1
