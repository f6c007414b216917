"""Reproduces a mismatch that pytest-onnxcheck found, with numpy, torch and onnxruntime alone.

    python repro.py [PROJECT]

Runs `inputs.npz` through the artefact and through PyTorch, and compares. PyTorch is rebuilt from
the project it was found in (or from PROJECT); where that fails, `pytorch.npz` holds what it gave.
`repro.json` says how all this is called. Exits with 1 when they differ by more than was allowed,
0 when they agree, and 2 when the artefact cannot be run here.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SHOWN = 5
#: how nested arguments are made and results taken apart, copied from the package
STRUCTURES = "onnxcheck_structures.py"
#: what wrappers and prefixes make of the names of weights, copied likewise
NAMES = "onnxcheck_names.py"


def main() -> int:
    """Compares, prints, and returns the exit status."""
    try:
        about = json.loads((HERE / "repro.json").read_text(encoding="utf-8"))
        if len(sys.argv) > 1:
            about["project"] = sys.argv[1]
        agree = reproduce(about)
    except Exception as error:
        print(f"cannot run: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    print("\nthey agree" if agree else "\nthey differ")
    return 0 if agree else 1


def reproduce(about: Mapping[str, Any]) -> bool:
    """Runs both sides and tells how they differ; True when they agree."""
    print(f"{about['model']} {about['variant']} on {about['target']}, case {about['case']}")
    print(f"found: {about['finding']}\n")
    inputs = load("inputs.npz")
    expected = run_pytorch(about, inputs)
    try:
        actual = run_onnx(about, inputs)
    except RefusedError as error:
        if (HERE / "onnx.npz").is_file():
            raise  # it ran when this was recorded
        print(f"ONNX Runtime fails where PyTorch does not: {error}")
        return False
    run_node(about)
    agree = [
        compare(name, expected[name], actual.get(name), about["allowed"].get(name, 0.0))
        for name in about["outputs"]
    ]
    return all(agree)


def load(name: str) -> dict[str, Any]:
    """The arrays of an `.npz` in this folder, by name."""
    import numpy as np

    with np.load(HERE / name, allow_pickle=False) as held:
        return {key: held[key] for key in held.files}


# ONNX Runtime


class RefusedError(Exception):
    """ONNX Runtime does not load the file, or fails while it runs it."""


def run_onnx(about: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The artefact's outputs: from the copy here, from its own path, or as recorded."""
    places = [HERE / "model.onnx", Path(about["artefact"])]
    path = next((path for path in places if path.is_file()), None)
    if about.get("elsewhere") and (HERE / "onnx.npz").is_file():
        versions = ", ".join(f"{name} {version}" for name, version in about["elsewhere"].items())
        print(f"target {about['target']} is another environment ({versions}): what it gave")
        return load("onnx.npz")
    if path is not None:
        return run_file(path, about, inputs, about["narrowed"])
    print(f"ONNX Runtime: {about['artefact']} is gone; what it gave is in onnx.npz")
    return load("onnx.npz")


def run_file(
    path: Path,
    about: Mapping[str, Any],
    inputs: Mapping[str, Any],
    narrowed: Sequence[str] = (),
) -> dict[str, Any]:
    """Runs a file on the target, and on no other; `narrowed` are float16 there, float32 here."""
    import numpy as np

    session, needed, names = opened(path, about)
    feed = {name: inputs[name] for name in needed}
    feed |= {name: feed[name].astype(np.float16) for name in narrowed if name in feed}
    try:
        outputs = dict(zip(names, session.run(None, feed), strict=True))
    except Exception as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    return outputs | {
        name: outputs[name].astype(np.float32) for name in narrowed if name in outputs
    }


def opened(path: Path, about: Mapping[str, Any]) -> tuple[Any, list[str], list[str]]:
    """A session with the target's provider and options, and the names of inputs and outputs."""
    provider = about["provider"]
    if provider == "ReferenceEvaluator":
        import onnx
        from onnx.reference import ReferenceEvaluator

        print(f"onnx {onnx.__version__}: {path} on its reference evaluator")
        evaluator = ReferenceEvaluator(str(path))
        return evaluator, list(evaluator.input_names), list(evaluator.output_names)
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise RuntimeError(f"this onnxruntime {onnxruntime.__version__} has no {provider}")
    options = {name: str(value) for name, value in about["provider_options"].items()}
    try:
        session = onnxruntime.InferenceSession(
            str(path), session_options(about), providers=[(provider, options)], enable_fallback=0
        )
    except Exception as error:
        raise RefusedError(f"{type(error).__name__}: {error}") from error
    if session.get_providers()[0] != provider:
        raise RuntimeError(f"onnxruntime fell back to {session.get_providers()[0]}")
    print(f"ONNX Runtime {onnxruntime.__version__}: {path} on {provider}")
    given, made = session.get_inputs(), session.get_outputs()
    return session, [value.name for value in given], [value.name for value in made]


def session_options(about: Mapping[str, Any]) -> Any:
    """The target's session options; names of config entries have a dot."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    for name, value in about["session_options"].items():
        if name == "graph_optimization_level":
            level = "DISABLE_ALL" if value == "disable" else f"ENABLE_{value.upper()}"
            value = getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{level}")
        if "." in name:
            value = int(value) if isinstance(value, bool) else value
            options.add_session_config_entry(name, str(value))
        else:
            setattr(options, name, value)
    for library in about["libraries"]:
        print(f"custom operators: {library}")
        options.register_custom_ops_library(library)
    return options


def run_node(about: Mapping[str, Any]) -> None:
    """Runs the guilty node alone, where the artefact was too large to be copied."""
    if (HERE / "node.onnx").is_file():
        outputs = run_file(HERE / "node.onnx", about, load("node_inputs.npz"))
        for name, value in outputs.items():
            print(f"  node {about['node']}, {name}: {shown(value)} = {value.ravel()[:SHOWN]} …")


# PyTorch


def run_pytorch(about: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """PyTorch's outputs: of the model rebuilt, or as recorded."""
    recorded = load("pytorch.npz")
    origin = f"{about['factory'] or about['checkpoint']} in {about['project']}"
    try:
        outputs = dict(zip(about["outputs"], call(about, inputs), strict=True))
    except (Exception, SystemExit) as error:
        print(f"PyTorch: {origin} cannot be rebuilt ({type(error).__name__}: {error});")
        print("  what it gave is in pytorch.npz")
        return recorded
    print(f"PyTorch: rebuilt from {origin}")
    for name, output in outputs.items():
        largest = difference(recorded[name], output).max(initial=0)
        if largest > about["allowed"].get(name, 0.0):
            print(f"  it no longer gives what is in pytorch.npz: {name} is {largest:.6g} away")
    return outputs


def call(about: Mapping[str, Any], inputs: Mapping[str, Any]) -> list[Any]:
    """Rebuilds the model and calls it."""
    import torch

    project = Path(about["project"]).resolve()
    module = rebuild(about, project)
    build, leaves = (find(f"{STRUCTURES}:{name}", HERE) for name in ("build", "leaves"))
    tensors = {name: torch.tensor(inputs[name]) for name in about["inputs"]}

    def made(plan: Any) -> Any:
        return build(plan, tensors, lambda path: find(path, project))

    args = map(made, about["call"]["args"])
    kwargs = {name: made(plan) for name, plan in about["call"]["kwargs"].items()}
    with torch.inference_mode():
        returned = module(*args, **kwargs)
    held = {path or "0": torch.as_tensor(leaf) for path, leaf in leaves(returned)}
    outputs = [held[path] for path in about["paths"] or held]
    # numpy has no bfloat16
    outputs = [o.float() if o.dtype is torch.bfloat16 else o for o in outputs]
    return [output.cpu().numpy() for output in outputs]


def rebuild(about: Mapping[str, Any], project: Path) -> Any:
    """The model: factory, weights, eval mode."""
    import torch

    sys.path.insert(0, str(project))
    if about["factory"] is None:
        module = load_program(project / about["checkpoint"], about["trust"])
    else:
        arguments = dict(about["kwargs"])
        if about["config_key"] is not None:
            arguments["config"] = entry(about, project, about["config_key"])
        torch.manual_seed(about["seed"])
        made = find(about["factory"], project)
        if about["pretrained"] is not None:
            module = made.from_pretrained(str(project / about["pretrained"]), **arguments)
            module = module if {"dtype", "torch_dtype"} & arguments.keys() else module.float()
        else:
            module = made(**arguments)
    if (HERE / "state.pt").is_file():
        state = torch.load(HERE / "state.pt", map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    elif about["factory"] is not None and about["checkpoint"] is not None:
        state = entry(about, project, about["state_dict"])
        if about["prefix"]:
            state = find(f"{NAMES}:entries_under", HERE)(state, about["prefix"])
        # tied weights may have one name; what is missing else shows in the outputs
        module.load_state_dict(named(module, state), strict=False)
    with contextlib.suppress(NotImplementedError):  # .pt2 programs have one mode only
        module.eval()
    return module


def find(path: str, project: Path) -> Any:
    """What stands behind `module:callable` or `path.py:callable`."""
    location, _, names = path.rpartition(":")
    if location.endswith(".py"):
        name = f"_project_{location}"
        found: Any = sys.modules.get(name)
        if found is None:
            sys.path.insert(0, str((project / location).parent))
            spec = importlib.util.spec_from_file_location(name, project / location)
            assert spec is not None
            assert spec.loader is not None
            found = importlib.util.module_from_spec(spec)
            sys.modules[name] = found
            spec.loader.exec_module(found)
    else:
        found = importlib.import_module(location)
    for name in names.split("."):
        found = getattr(found, name)
    return found


def load_program(path: Path, trust: bool) -> Any:
    """A checkpoint that holds the whole model."""
    import torch

    if path.suffix == ".pt2":
        return torch.export.load(path).module()
    if trust:
        return torch.load(path, map_location="cpu", weights_only=False)
    return torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]


def entry(about: Mapping[str, Any], project: Path, dotted: str | None) -> Any:
    """The entry of the checkpoint under a dotted key, whose rest may be a prefix of names."""
    entries_under = find(f"{NAMES}:entries_under", HERE)
    path = project / about["checkpoint"]
    files = [path]
    if path.is_dir():  # of save_pretrained
        files = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    content: Any = {}
    for file in files:
        content |= load_file(file, about["trust"])
    keys = dotted.split(".") if dotted else []
    for depth, key in enumerate(keys):
        if key not in content:
            return entries_under(content, ".".join(keys[depth:]))
        content = content[key]
    return content


def load_file(path: Path, trust: bool) -> Any:
    """What is in a file of weights."""
    import torch

    with path.open("rb") as file:
        if file.read(9)[8:] == b"{":
            return importlib.import_module("safetensors.torch").load_file(path)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=not trust)


def named(module: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Entries by the module's own names; those whose first name it does not have are left out."""
    bare = find(f"{NAMES}:bare_name", HERE)
    own = {bare(name): name for name in module.state_dict()}
    tops = {name.split(".")[0] for name in own}
    held = {bare(name): value for name, value in state.items()}
    return {own.get(n, n): value for n, value in held.items() if n.split(".")[0] in tops}


# comparison


def compare(name: str, expected: Any, actual: Any, allowed: float) -> bool:
    """Prints how an output differs; True when it agrees."""
    import numpy as np

    print(f"\noutput {name}: PyTorch {shown(expected)}")
    if actual is None:
        print("  ONNX Runtime does not give it")
        return False
    print(f"  ONNX Runtime {shown(actual)}")
    if expected.shape != actual.shape:
        return False
    apart = difference(expected, actual)
    largest = apart.max(initial=0)
    beyond = int((apart > allowed).sum())
    print(f"  max |difference| {largest:.6g}, allowed {allowed:.6g}, beyond it: {beyond}")
    for flat in np.argsort(-apart, axis=None, kind="stable")[:SHOWN]:
        index = np.unravel_index(flat, apart.shape)
        if apart[index]:
            place = [int(i) for i in index]
            print(f"  {place} PyTorch {expected[index]!s} ONNX Runtime {actual[index]!s}")
    return not beyond and expected.dtype == actual.dtype


def difference(expected: Any, actual: Any) -> Any:
    """|a - b|, infinite where only one is NaN or infinite, or where shapes differ."""
    import numpy as np

    if expected.shape != actual.shape:
        return np.array([np.inf])
    if expected.dtype.kind in "biu" and actual.dtype.kind in "biu":
        apart = np.zeros(expected.shape)
        differs = expected != actual
        # Python's integers do not overflow
        exact = np.abs(expected[differs].astype(object) - actual[differs].astype(object))
        apart[differs] = exact.astype(float)
        return apart
    left, right = expected.astype(float), actual.astype(float)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.abs(left - right)
    return np.where(same, 0, np.where(np.isnan(apart), np.inf, apart))


def shown(array: Any) -> str:
    """Shape and dtype."""
    return f"{list(array.shape)} {array.dtype}"


if __name__ == "__main__":
    sys.exit(main())
