"""What the models of a glob of checkpoints are called."""

import pytest

from pytest_onnxcheck.errors import ManifestError
from pytest_onnxcheck.manifest import load_manifest

IO = "[models.net.inputs.x]\nshape = [1]\n[models.net.outputs.y]\nshape = [1]\n"


@pytest.fixture
def names(tmp_path):
    """Names of the models of a glob, by the files that there are."""

    def run(glob, *files, more=""):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        text = f'schema = 1\n[models.net]\nfactory = "zoo:net"\ncheckpoint = "{glob}"\n{IO}{more}'
        (tmp_path / "models.toml").write_text(text, encoding="utf-8")
        manifest = load_manifest(tmp_path / "models.toml")
        manifest.check()
        assert {model.section for model in manifest.models.values()} == {"net"}
        root = tmp_path.as_posix()
        return {
            name: model.checkpoint.as_posix().removeprefix(f"{root}/")
            for name, model in manifest.models.items()
        }

    return run


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("runs/*/best.pt", {"net-fold1": "runs/fold1/best.pt", "net-fold2": "runs/fold2/best.pt"}),
        ("runs/fold[12]/best.pt", {"net-fold1": "runs/fold1/best.pt", "net-fold2": None}),
        ("runs/fold?/best.pt", {"net-fold1": "runs/fold1/best.pt", "net-fold2": None}),
        ("runs/fold1/*.pt", {"net-best": "runs/fold1/best.pt", "net-last": None}),
        (
            "runs/*/*.pt",
            {
                "net-fold1-best": "runs/fold1/best.pt",
                "net-fold1-last": None,
                "net-fold2-best": None,
            },
        ),
        ("runs/**/last.pt", {"net-fold1": "runs/fold1/last.pt"}),
        ("**/best.pt", {"net-runs-fold1": "runs/fold1/best.pt", "net-runs-fold2": None}),
        ("r*/**/l*.pt", {"net-runs-fold1-last": "runs/fold1/last.pt"}),
        ("**/*fold1/**/*.pt", {"net-runs-fold1-best": None, "net-runs-fold1-last": None}),
    ],
)
def test_a_model_is_named_by_what_the_glob_leaves_open(names, glob, found):
    files = ("runs/fold1/best.pt", "runs/fold1/last.pt", "runs/fold2/best.pt")
    named = names(glob, *files)
    assert named.keys() == found.keys()
    assert all(path is None or named[name] == path for name, path in found.items())


def test_one_match_is_called_as_it_is_among_many(names):
    assert names("runs/*/best.pt", "runs/fold1/best.pt") == {"net-fold1": "runs/fold1/best.pt"}


def test_a_folder_keeps_what_looks_like_a_suffix(names):
    assert names("v*/net.pt", "v1.0/net.pt", "v1.1/net.pt").keys() == {"net-v1.0", "net-v1.1"}
    assert names("v*/net.pt", "v2.5/net.pt").keys() == {"net-v1.0", "net-v1.1", "net-v2.5"}
    assert names("v*", "v1.0/model.safetensors").keys() == {"net-v1.0", "net-v1.1", "net-v2.5"}


def test_names_are_distinct(names):
    assert names("*.p*", "a.pt", "a.pth", "b.pt").keys() == {"net-a.pt", "net-a.pth", "net-b"}
    files = ("x/a-b/c/n.pt", "x/a/b-c/n.pt", "x/d/e/n.pt")
    assert names("x/*/*/n.pt", *files).keys() == {"net-a-b+c", "net-a+b-c", "net-d-e"}


def test_what_no_name_may_hold_is_replaced(names):
    files = ("runs/epoch=3-step=100.ckpt", "runs/best of all.ckpt")
    assert names("runs/*.ckpt", *files).keys() == {"net-epoch_3-step_100", "net-best_of_all"}


def test_an_absolute_glob(names, tmp_path):
    (tmp_path / "far" / "1").mkdir(parents=True)
    (tmp_path / "far" / "1" / "n.pt").touch()
    assert names(f"{tmp_path.as_posix()}/far/*/n.pt").keys() == {"net-1"}


def test_one_name_for_the_bundles_of_many_models_is_refused(names):
    files = ("runs/a/best.pt", "runs/b/best.pt")
    with pytest.raises(ManifestError) as raised:
        names("runs/*/best.pt", *files, more='[models.net.release]\nname = "detector"\n')
    assert (
        "'detector' is the name of each of the models that the glob in `checkpoint` makes"
        in str(raised.value)
    )
    with pytest.raises(ManifestError) as raised:
        names("runs/*/best.pt", *files, more='[models.net.release]\nregistered_model = "all"\n')
    assert "'all' holds versions of one model, and the glob in `checkpoint`" in str(raised.value)
    assert len(names("runs/*/best.pt", *files, more='[models.net.release]\nversion = "1"\n')) == 2
