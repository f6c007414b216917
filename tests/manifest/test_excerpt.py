"""What is cut out of a manifest for one model."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.excerpt import write_excerpt

OTHERS = """#:schema ./models.schema.json
# a comment on all
schema = 1

[defaults]
draws = 2

[defaults.tolerance.fp32]
safety = 4

# ---- the one before

[models.net-2]
factory = "nets.py:mlp"
inputs.x = { shape = [
    8,
] }
outputs.y.shape = [4]

# ---- ours

[models.net] # the one
factory = "nets.py:mlp"
checkpoint = "*.pt"
kwargs = { text = '''
[models.other]
''', rows = [
# of rows
[1], [2],
] }
outputs.y.shape = [4]
[models.net.inputs.x]
shape = [8]

[[models.net.xfail]]
reason = "one"
[[models.net.xfail]]
reason = "two"

# ---- the one behind
[models."behind"]
factory = "nets.py:mlp"
inputs.x.shape = [8]
outputs.y.shape = [4]

[defaults.budget.fp32]
max_size_mb = 3
"""


def excerpt(tmp_path: Path, text: str, name: str) -> str:
    path = tmp_path / "models.toml"
    path.write_text(text)
    write_excerpt(tmp_path / "excerpt.toml", path, load_manifest(path).models[name])
    return (tmp_path / "excerpt.toml").read_text()


def test_the_excerpt_has_the_model_and_the_defaults(tmp_path):
    (tmp_path / "2.pt").touch()
    (tmp_path / "x.pt").touch()
    text = OTHERS.replace("[models.net-2]", "[models.net-3]")
    cut = excerpt(tmp_path, text, "net-x")
    whole = tomllib.loads(text)
    assert tomllib.loads(cut) == {
        "schema": 1,
        "defaults": whole["defaults"],
        "models": {"net": whole["models"]["net"]},
    }
    for kept in ("# a comment on all", "# ---- ours", "# the one", "# of rows"):
        assert kept in cut
    for dropped in ("before", "behind"):
        assert dropped not in cut
    assert excerpt(tmp_path, text, "net-2") == cut


def test_the_excerpt_of_a_model_whose_name_starts_like_anothers(tmp_path):
    (tmp_path / "x.pt").touch()
    assert list(tomllib.loads(excerpt(tmp_path, OTHERS, "net-2"))["models"]) == ["net-2"]
    assert list(tomllib.loads(excerpt(tmp_path, OTHERS, "net-x"))["models"]) == ["net"]
    assert list(tomllib.loads(excerpt(tmp_path, OTHERS, "behind"))["models"]) == ["behind"]


@pytest.mark.parametrize(
    "text",
    [
        'schema = 1\nmodels.a = { factory = "n.py:m", inputs.x.shape = [1], outputs.y.shape = [1] }'
        '\nmodels.b = { factory = "n.py:m", inputs.x.shape = [1], outputs.y.shape = [1] }\n',
        "schema = 1\n[models]\n"
        'a = { factory = "n.py:m", inputs.x.shape = [1], outputs.y.shape = [1] }\n'
        'b = { factory = "n.py:m", inputs.x.shape = [1], outputs.y.shape = [1] }\n',
        "schema = 1\n[models.a]\n"
        'factory = "n.py:m"\ninputs.x.shape = [1]\noutputs.y.shape = [1]\n'
        "[models.b.inputs.x]\nshape = [1]\n"
        '[models.b]\nfactory = "n.py:m"\noutputs.y.shape = [1]\n',
    ],
)
def test_the_excerpt_parses_however_the_manifest_is_written(tmp_path, text):
    for name in ("a", "b"):
        cut = tomllib.loads(excerpt(tmp_path, text, name))
        assert cut["models"][name] == tomllib.loads(text)["models"][name]
