"""Probes and sizes that the manifest leaves out by name."""

import dataclasses

import pytest
import torch
from references import Function

from pytest_onnxcheck.engine.inputs.probes import probes
from pytest_onnxcheck.engine.inputs.skips import check_skips, is_skipped
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import load_manifest


@pytest.fixture
def reference(tmp_path):
    """Makes a model of one input, whose probes of these names are left out."""

    def make(*names):
        entries = ", ".join(f'{{ name = "{name}", reason = "for a test" }}' for name in names)
        (tmp_path / "models.toml").write_text(
            'schema = 1\n[models.net]\nfactory = "net.py:make"\ndims = { rows = [1, 6] }\n'
            f"skip_probes = [{entries}]\n"
            'inputs.x.shape = ["rows", 2]\noutputs.y.shape = ["rows", 2]\n'
        )
        model = load_manifest(tmp_path / "models.toml").models["net"]
        return Reference(model, Function(torch.abs), {"x": ("rows", 2)})

    return make


def names_of(reference):
    return [case.name for case in Oracle(reference).probes]


def test_a_probe_is_left_out_by_name_and_the_others_stay_as_they_are(reference):
    whole = Oracle(reference()).probes
    (name,) = (case.name for case in whole if case.name.startswith("probe:normal x1000/"))
    for pattern in ("normal x1000*", "probe:normal x1000*", name, name.removeprefix("probe:")):
        found = Oracle(reference(pattern)).probes
        assert [case.name for case in found] == [it.name for it in whole if it.name != name]
    kept = {case.name: case.inputs["x"].tolist() for case in whole}
    assert all(kept[case.name] == case.inputs["x"].tolist() for case in found)


def test_a_size_is_left_out_by_name(reference):
    net = reference("sweep:rows=3*")
    check_skips(net)
    assert is_skipped(net.model, "sweep:rows=3")
    assert is_skipped(reference("rows=3").model, "sweep:rows=3")
    assert not is_skipped(net.model, "sweep:rows=2")
    assert names_of(net) == names_of(reference())


def test_a_size_is_found_however_little_time_there_is(reference):
    net = reference("sweep:rows=5*")
    model = dataclasses.replace(net.model, probe_seconds=0.0)
    check_skips(dataclasses.replace(net, model=model))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("normla x1000*", " (did you mean 'normal x1000'?). There are: ordinary, negative, "),
        ("normal x1000/rows=77", ". There are: ordinary, negative, "),
        ("sweep:rwos=3", " (did you mean 'sweep:rows=*'?). There are: ordinary, negative, "),
    ],
)
def test_a_name_that_matches_nothing_is_an_error_that_says_what_there_is(reference, name, hint):
    net = reference("ties*", name)
    with pytest.raises(InputError) as error:
        Oracle(net)
    text = str(error.value)
    assert text.startswith(
        f"net: skip_probes: {name!r} matches no probe of this model{hint}normal x3, normal x1000, "
    )
    example = probes(net)[0].name.removeprefix("probe:")
    assert text.endswith(f", sweep:rows=*; a name goes on with sizes, as {example!r}")
