"""How inputs become the arguments of `forward`: by position, by name, inside structures."""

import sys

import pytest
import torch

from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import CheckpointError, InputError
from pytest_onnxcheck.manifest import load_manifest

NETS = """
from __future__ import annotations

import collections
import dataclasses
import typing
from typing import Optional, Union

import torch

if typing.TYPE_CHECKING:
    from nowhere import Unknown


@dataclasses.dataclass
class State:
    hidden: torch.Tensor
    pair: tuple[torch.Tensor, torch.Tensor]
    more: Optional[dict[str, torch.Tensor]] = None


Pair = collections.namedtuple("Pair", ["left", "right"])


class Options(typing.TypedDict):
    bias: list[torch.Tensor]


class Net(torch.nn.Module):
    \"\"\"Keeps how it was called.\"\"\"

    def keep(self, **given):
        self.given = given
        return torch.zeros(2)


def net(text):
    space = {}
    body = "return self.keep(**{k: v for k, v in locals().items() if k != 'self'})"
    exec(f"class Made(Net):\\n  def forward(self, {text}):\\n    {body}", globals(), space)
    return space["Made"]()
"""


@pytest.fixture
def called(tmp_path, monkeypatch):
    """Calls a `forward` of these parameters with inputs of these names; gives what it got.

    Tensors are replaced by the names of their inputs.
    """
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")

    def run(parameters, *inputs, more=""):
        lines = [f'{more}\nkwargs = {{ text = "{parameters}" }}']
        for index, name in enumerate(inputs):
            key, _, path = name.partition(" = ")
            lines.append(f'inputs."{key}" = {{ shape = [1], fill = "constant", value = {index} }}')
            if path:
                lines[-1] = lines[-1].replace("{ ", f'{{ path = "{path}", ')
        (tmp_path / "models.toml").write_text(
            'schema = 1\n[models.net]\nfactory = "nets.py:net"\n'
            + "\n".join(lines)
            + "\noutputs.out.shape = [2]\n",
            encoding="utf-8",
        )
        model = load_manifest(tmp_path / "models.toml").models["net"]
        reference = load_reference(model)
        module = reference.copy()
        names = list(model.inputs)
        reference.run({name: torch.tensor([float(at)]) for at, name in enumerate(names)}, module)

        def shown(value):
            if isinstance(value, torch.Tensor):
                return names[int(value)]
            if isinstance(value, dict):
                return {key: shown(entry) for key, entry in value.items()}
            if type(value) in (list, tuple):
                return type(value)(map(shown, value))
            if hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__"):
                fields = getattr(value, "_fields", None) or value.__dataclass_fields__
                held = {field: shown(getattr(value, field)) for field in fields}
                return type(value).__name__, held
            return value

        given = {key: shown(value) for key, value in module.given.items()}
        return {key: value for key, value in given.items() if value is not None}

    return run


PLACES = {
    "by position": ("x, y", ["a", "b"], {"x": "a", "y": "b"}),
    "by name": ("x, y", ["y", "x"], {"x": "x", "y": "y"}),
    "optional ones left out": ("x, m=None, y=None", ["x", "y"], {"x": "x", "y": "y"}),
    "keyword-only": ("*, x, y", ["y", "x"], {"x": "x", "y": "y"}),
    "by position, and keyword-only": ("x, *, y", ["a", "y"], {"x": "a", "y": "y"}),
    "positional-only": ("x, /, y", ["y", "x"], {"x": "x", "y": "y"}),
    "star": ("*x", ["a", "b"], {"x": ("a", "b")}),
    "star, by path": ("x, *y", ["y.1", "y.0", "x"], {"x": "x", "y": ("y.0", "y.1")}),
    "star, and its own name": ("*x", ["x"], {"x": ("x",)}),
    "keywords": ("x, **kw", ["x", "y"], {"x": "x", "kw": {"y": "y"}}),
    "keywords alone": ("**kw", ["a", "b"], {"kw": {"a": "a", "b": "b"}}),
    "keywords, by path": ("x, **kw", ["x", "y = kw.z"], {"x": "x", "kw": {"z": "y"}}),
    "keywords, structures": (
        "x, **kw",
        ["x", "y.0", "y.1.a"],
        {"x": "x", "kw": {"y": ["y.0", {"a": "y.1.a"}]}},
    ),
    "enough parameters beside keywords": ("x, y, **kw", ["a", "b"], {"x": "a", "y": "b", "kw": {}}),
    "a plain name with dots": ("x, y", ["a.0", "a.1"], {"x": "a.0", "y": "a.1"}),
    "a path": ("x", ["a = x.0", "b = x.1"], {"x": ["a", "b"]}),
}


@pytest.mark.parametrize(("parameters", "inputs", "expected"), PLACES.values(), ids=PLACES)
def test_inputs_come_where_forward_takes_them(called, parameters, inputs, expected):
    assert called(parameters, *inputs) == expected


CONTAINERS = {
    "numbers": ("x", ["x.1", "x.0"], "", ["x.0", "x.1"]),
    "names": ("x", ["x.b", "x.a"], "", {"b": "x.b", "a": "x.a"}),
    "written": ("x", ["x.0"], 'containers.x = "tuple"', ("x.0",)),
    "written inside": (
        "x",
        ["x.0.0", "x.0.1"],
        'containers = { x = "tuple", "x.0" = "nets.py:Pair" }',
        (("Pair", {"left": "x.0.0", "right": "x.0.1"}),),
    ),
    "a dict of numbers": ("x", ["x.0"], 'containers.x = "dict"', {"0": "x.0"}),
    "annotated": ("x: tuple[torch.Tensor, ...]", ["x.0"], "", ("x.0",)),
    "annotated, typing's": ("x: typing.Sequence[torch.Tensor]", ["x.0"], "", ["x.0"]),
    "annotated inside": (
        "x: list[tuple[torch.Tensor, torch.Tensor]]",
        ["x.0.0", "x.0.1"],
        "",
        [("x.0.0", "x.0.1")],
    ),
    "optional": ("x: Optional[tuple[torch.Tensor]] = None", ["x.0"], "", ("x.0",)),
    "a union": ("x: torch.Tensor | tuple[torch.Tensor]", ["x.0"], "", ("x.0",)),
    "a union that fits by its keys": (
        "x: Union[tuple[torch.Tensor], dict[str, tuple]]",
        ["x.a.0"],
        "",
        {"a": ("x.a.0",)},
    ),
    "a typed dict": ("x: Options", ["x.bias.0"], "", {"bias": ["x.bias.0"]}),
    "a namedtuple": (
        "x: Pair",
        ["x.right", "x.left"],
        "",
        ("Pair", {"left": "x.left", "right": "x.right"}),
    ),
    "a dataclass": (
        "x: State",
        ["x.hidden", "x.pair.0", "x.pair.1", "x.more.a"],
        "",
        (
            "State",
            {"hidden": "x.hidden", "pair": ("x.pair.0", "x.pair.1"), "more": {"a": "x.more.a"}},
        ),
    ),
    "beside what only type checkers import": (
        "x: tuple[torch.Tensor], y: Unknown = None",
        ["x.0"],
        "",
        ("x.0",),
    ),
}


@pytest.mark.parametrize(
    ("parameters", "inputs", "more", "expected"), CONTAINERS.values(), ids=CONTAINERS
)
def test_a_structure_is_what_manifest_annotation_or_keys_say(
    called, parameters, inputs, more, expected
):
    assert called(parameters, *inputs, more=more) == {"x": expected}


CONSTANTS = {
    "behind": ("x, n, flag", "n = 2, flag = true", {"x": "a", "n": 2, "flag": True}),
    "before": ("n, x", "n = 2", {"n": 2, "x": "a"}),
    "keywords": ("x, **kw", "use_cache = false", {"x": "a", "kw": {"use_cache": False}}),
    "a list, and a tuple": ("x, n", "n = [1, 2]", {"x": "a", "n": (1, 2)}),
    "inside": ("x, n", "'n.a.b' = 1", {"x": "a", "n": {"a": {"b": 1}}}),
}


@pytest.mark.parametrize(("parameters", "arguments", "expected"), CONSTANTS.values(), ids=CONSTANTS)
def test_constants_are_arguments_too(called, parameters, arguments, expected):
    more = f"arguments = {{ {arguments} }}"
    if isinstance(expected.get("n"), tuple):
        more += '\ncontainers.n = "tuple"'
    assert called(parameters, "a", more=more) == expected


def test_a_call_that_changes_a_constant_changes_its_own_alone(called, tmp_path):
    called("x, n", "x", more="arguments = { n = [1] }")
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    reference.signature.bind({"x": torch.zeros(1)})[0][1].append(2)
    assert reference.signature.bind({"x": torch.zeros(1)})[0][1] == [1]


REFUSED = {
    "an unknown argument": (
        "x, use_cache=None",
        ["x"],
        "arguments = { use_cahce = false }",
        r"arguments: forward has no parameter 'use_cahce' \(did you mean 'use_cache'\?\)",
    ),
    "an unknown path": (
        "x, features",
        ["x", "f = feature.0"],
        "",
        r"input 'f': path: forward has no parameter 'feature' \(did you mean 'features'\?\)",
    ),
    "a slip beside keywords": (
        "x, mask=None, **kw",
        ["x", "maske"],
        "",
        r"input 'maske' would be passed in \*\*kw \(did you mean 'mask'\?\); if that is meant, "
        r"give it path = \"maske\"",
    ),
    "a list with a gap": (
        "x",
        ["x.0", "x.2"],
        "",
        r"'x': a list has all numbers from 0 on, and not 0, 2; another container is named by "
        r"containers.x = \"list\", \"tuple\", \"dict\" or \"module:class\"",
    ),
    "a list with a name": (
        "x",
        ["x.0", "x.a"],
        'containers.x = "list"',
        r"'x': a list has numbers, and not 'a'",
    ),
    "a field that is none": (
        "x: State",
        ["x.hidden", "x.piar.0"],
        'containers.x = "nets.py:State"',
        r"'x': State has the fields hidden, pair, more, and not 'piar'",
    ),
    "a container of nothing": (
        "x, features",
        ["x", "features.0"],
        'containers.feature = "list"',
        r"containers: no input or argument lies in 'feature' \(did you mean 'features'\?\)",
    ),
    "in parts and as a whole": (
        "x",
        ["x", "x.0"],
        "",
        "'x.0' is a part of 'x', which is given too",
    ),
    "as a whole and in parts": (
        "x",
        ["x.0", "x"],
        "",
        "'x' is given twice, or as a whole and in parts",
    ),
    "a parameter before a star left out": (
        "x, y, *z",
        ["x", "z.0"],
        "",
        r"\*z is given, and 'y' before it is not",
    ),
    "a class that is not there": (
        "x",
        ["x.0"],
        'containers.x = "nets.py:Nothing"',
        "nets.py has no 'Nothing'",
    ),
}


@pytest.mark.parametrize(("parameters", "inputs", "more", "text"), REFUSED.values(), ids=REFUSED)
def test_what_forward_does_not_take_is_refused_when_it_is_loaded(
    called, parameters, inputs, more, text
):
    with pytest.raises(CheckpointError, match=text):
        called(parameters, *inputs, more=more)


def test_a_parameter_that_gets_nothing_is_named_with_what_to_write(called):
    with pytest.raises(
        InputError,
        match=r"net: forward\(x, mask, scale=1\) is called as forward\(x=x, scale=scale\): missing "
        r"a required argument: 'mask'; give 'mask' as an input \(inputs.mask.shape = \[...\]\) or "
        r"as a constant \(arguments = \{ mask = ... \}\)",
    ):
        called("x, mask, scale=1", "x", "scale")


def test_structures_that_nothing_names_are_told_where_pytorch_does_not_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets.py").write_text(
        "import torch\n\n\nclass Net(torch.nn.Module):\n"
        "    def forward(self, x, states, z: dict):\n        return x[0][0] + states.last\n"
    )
    (tmp_path / "models.toml").write_text(
        'schema = 1\n[models.net]\nfactory = "nets.py:Net"\noutputs.out.shape = [2]\n'
        'inputs."x.0.0".shape = [2]\ninputs."states.last".shape = [2]\ninputs."z.a".shape = [2]\n'
    )
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    with pytest.raises(
        InputError,
        match=r"'dict' object has no attribute 'last'; 'x' was given as a list: another container "
        r"is named by containers.x = \"tuple\" or \"module:class\"; 'states' was given as a dict: "
        r"another container is named by containers.states = \"tuple\" or \"module:class\"\n",
    ):
        reference.run({name: torch.zeros(2) for name in reference.model.inputs})


def test_more_inputs_than_parameters_are_told(called):
    with pytest.raises(
        InputError,
        match=r"forward\(x\) is called as forward\(a, b\): too many positional arguments; "
        r"where 'x' takes several, say which is which: inputs.a.path = \"x.0\"$",
    ):
        called("x", "a", "b")


RUNS_NOT = """
import torch


class Net(torch.nn.Module):
    def forward(self, x, cache, scale=None):
        return x + cache.low
""".lstrip()


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (
            ["x", "cache.low"],
            "AttributeError: 'dict' object has no attribute 'low'; 'cache' was given as a dict: "
            'another container is named by containers.cache = "tuple" or "module:class"\n',
        ),
        (
            ["x", "cach.low"],
            "object has no attribute 'low' (forward has no parameter 'cach' (did you mean "
            "'cache'?): input 'cach.low' was passed by position)",
        ),
        (["a", "b"], "AttributeError: 'Tensor' object has no attribute 'low'\n"),
    ],
)
def test_what_forward_raises_says_what_may_be_meant(tmp_path, inputs, text):
    (tmp_path / "runs_not.py").write_text(RUNS_NOT, encoding="utf-8")
    lines = "".join(f'inputs."{name}".shape = [2]\n' for name in inputs)
    (tmp_path / "models.toml").write_text(
        f'schema = 1\n[models.net]\nfactory = "runs_not.py:Net"\n{lines}outputs.out.shape = [2]\n',
        encoding="utf-8",
    )
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    with pytest.raises(InputError) as caught:
        reference.run({name: torch.zeros(2) for name in inputs})
    assert text in str(caught.value)


def test_an_input_that_forward_takes_as_a_number_is_told_how_it_can_be_one(called, tmp_path):
    called("x, offset: int, flag: bool", "x", "offset", "flag")
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    offset, flag = reference.notes[-2:]
    assert offset == (
        "forward takes 'offset' as int, and an input is a tensor; a number or flag that is not a "
        "tensor can be given as a constant, in place of the input: arguments = { offset = 2 }"
    )
    assert "arguments = { flag = true }" in flag


def test_scripted_modules_have_their_signature_too(tmp_path):
    class Net(torch.nn.Module):
        def forward(self, x, scale, past: list[torch.Tensor]):
            return x * scale + past[0]

    torch.jit.script(Net()).save(tmp_path / "net.pt")
    (tmp_path / "models.toml").write_text(
        'schema = 1\n[models.net]\ncheckpoint = "net.pt"\n'
        'inputs."past.0".shape = [2]\ninputs.scale.shape = [2]\ninputs.x.shape = [2]\n'
        "outputs.out.shape = [2]\n"
    )
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])
    given = {"past.0": torch.ones(2), "scale": 2 * torch.ones(2), "x": 3 * torch.ones(2)}
    assert reference.run(given)[0].tolist() == [7, 7]


def test_arguments_by_position_stand_in_the_manifests_order(called, tmp_path):
    called("x, y", "a", "b")
    signature = load_reference(load_manifest(tmp_path / "models.toml").models["net"]).signature
    assert signature.plain
    assert signature.bind({"b": 2, "a": 1}) == ((1, 2), {})
