"""Inputs, outputs and dynamic dims of a module, found by running it on what it may take."""

from __future__ import annotations

import copy
import inspect
import itertools
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, get_args

from pytest_onnxcheck.engine.guess.layers import BATCH, STEPS, TIME, Spec, candidates
from pytest_onnxcheck.engine.reference.tensors import flatten, output_paths
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest.terms import Dtype
from pytest_onnxcheck.wording import one_line, several

if TYPE_CHECKING:
    import torch

__all__ = ["Interface", "guess_interface", "observe"]

#: seconds that trying may take
_SECONDS = 30.0
#: combinations of several inputs that are tried
_MOST = 2000
#: steps that are tried besides `STEPS`
_OTHER_STEPS = (5, 11)


@dataclass(frozen=True)
class Interface:
    """What a module takes and returns.

    Attributes:
        inputs: By name, in `forward`'s order.
        outputs: Likewise.
        dims: Symbolic dims and the sizes it was run at; empty where the batch is fixed.
        arguments: Constant arguments of `forward`.
        notes: How it was found, for people.
    """

    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    dims: Mapping[str, tuple[int, ...]]
    notes: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)


def guess_interface(
    module: torch.nn.Module, given: Mapping[str, tuple[int | str, ...]] | None = None
) -> Interface:
    """Looks for inputs that a module runs on.

    Args:
        module: The module; a copy of it is run, in eval mode.
        given: Shapes that are known, by input; `batch` in them counts examples.

    Raises:
        InputError: It ran on nothing that was tried.
    """
    module = copy.deepcopy(module).eval()
    names = _names(module)
    found = candidates(module)
    until = time.monotonic() + _SECONDS
    tried, last = 0, "it has no layers from whose weights an input could be told"
    for specs in itertools.islice(_combinations(names, found, given or {}), _MOST):
        problem = _problem(module, specs)
        if problem is None:
            return observe(module, dict(specs))
        tried, last = tried + 1, problem
        if time.monotonic() > until:
            break
    raise InputError(
        f"PyTorch ran on none of {tried} inputs that were tried for "
        f"{several(names)}; the last said: {one_line(last, 200)}. Say which shape they have: "
        "--input NAME=batch,3,224,224"
    )


def _names(module: torch.nn.Module) -> list[str]:
    """The inputs that `forward` needs."""
    schema = getattr(module.forward, "schema", None)
    if schema is not None:  # TorchScript
        needed = [a.name for a in schema.arguments[1:] if not a.has_default_value()]
        return needed or ["x"]
    parameters = _parameters(module).values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [p.name for p in parameters if p.kind in positional and p.default is p.empty]
    return needed or [p.name for p in parameters if p.kind in positional][:1] or ["x"]


def _parameters(module: torch.nn.Module) -> Mapping[str, inspect.Parameter]:
    """The parameters of `forward`, as far as Python knows them."""
    try:
        return inspect.signature(module.forward).parameters
    except (TypeError, ValueError):
        return {}


def _combinations(
    names: Sequence[str],
    found: Sequence[Spec],
    given: Mapping[str, tuple[int | str, ...]],
) -> Iterator[dict[str, Spec]]:
    """What the inputs may be together: the first decides what others are likely to be."""
    if given and set(names) - given.keys():
        names = [name for name in names if name in given] or list(given)
    firsts = _given(names[0], given[names[0]], found) if names[0] in given else list(found)
    if _counts(names[0]):
        firsts.sort(key=lambda spec: spec.dtype == "float32")
    for first in firsts:
        others = [
            _given(name, given[name], found) if name in given else list(_beside(name, first, found))
            for name in names[1:]
        ]
        for rest in itertools.product(*others):
            yield dict(zip(names, (first, *rest), strict=True))


def _given(name: str, shape: tuple[int | str, ...], found: Sequence[Spec]) -> list[Spec]:
    """An input of a known shape: its type is still open."""
    why = "the shape was given"
    floats = [Spec(shape, why=why)]
    words = [
        replace(spec, shape=shape, why=f"the shape was given; {spec.why}")
        for spec in found
        if spec.dtype == "int64"
    ]
    flags = [Spec(shape, "int64", (0, 1), why)]
    return [*words, *flags, *floats] if _counts(name) else [*floats, *words, *flags]


def _counts(name: str) -> bool:
    return re.search(r"ids?$|token|index|indices|word|mask", name) is not None


def _beside(name: str, first: Spec, found: Sequence[Spec]) -> Iterator[Spec]:
    """What a further input may be, by its name and the first input."""
    steps = tuple(first.shape[:2])
    if "mask" in name:
        why = "it is called a mask"
        yield Spec(steps, "int64", (0, 1), why)
        yield Spec(steps, "bool", None, why)
        yield Spec(steps, "float32", (0, 1), why)
    elif "position" in name:
        yield Spec(steps, "int64", (0, _size(steps[-1], 2) - 1), "it is called a position")
    elif "type" in name or "segment" in name:
        yield Spec(steps, "int64", (0, 1), "it is called a type")
    elif "length" in name:
        yield Spec((BATCH,), "int64", (1, _size(steps[-1], 2)), "it is called a length")
    yield replace(first, why=f"as the first input; {first.why}")
    yield from found


def _problem(module: torch.nn.Module, specs: Mapping[str, Spec]) -> str | None:
    """Why the module does not run on a batch of two; None where it does."""
    try:
        outputs = _run(module, specs, 2)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if not outputs:
        return "it returns no tensors"
    return None


def _run(
    module: torch.nn.Module,
    specs: Mapping[str, Spec],
    batch: int,
    steps: int = STEPS,
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, torch.Tensor]:
    """The tensors that a module returns, by their paths in what it returns."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tensors = {name: _drawn(spec, batch, steps, generator) for name, spec in specs.items()}
    with torch.no_grad():
        parameters = list(_parameters(module))
        named = parameters[: len(tensors)] != list(tensors) and set(tensors) <= set(parameters)
        constants = arguments or {}
        if named:
            returned = module(**tensors, **constants)
        else:
            returned = module(*tensors.values(), **constants)
    return dict(zip(output_paths(returned), flatten(returned), strict=True))


def _size(size: int | str, batch: int, steps: int = STEPS) -> int:
    return size if isinstance(size, int) else {BATCH: batch, TIME: steps}[size]


def _drawn(spec: Spec, batch: int, steps: int, generator: torch.Generator) -> torch.Tensor:
    import torch

    shape = [_size(size, batch, steps) for size in spec.shape]
    if spec.dtype == "bool":
        return torch.randint(0, 2, shape, generator=generator).bool()
    if spec.dtype == "float32" and spec.range is None:
        return torch.randn(shape, generator=generator)
    low, high = spec.range or (0, 1)
    drawn = torch.randint(low, high + 1, shape, generator=generator)
    dtype: torch.dtype = getattr(torch, spec.dtype)
    return drawn.to(dtype)


def observe(
    module: torch.nn.Module,
    specs: dict[str, Spec],
    *,
    chosen: Callable[[list[str]], list[str]] = lambda paths: paths,
    arguments: Mapping[str, Any] | None = None,
) -> Interface:
    """The outputs of a module that runs on these inputs, and which dims are dynamic.

    Args:
        module: The module, in eval mode.
        specs: Its inputs.
        chosen: Which of the paths in what it returns are wanted as outputs.
        arguments: Constant arguments of `forward`.

    Raises:
        InputError: It does not run on a batch of two, nor of one.
    """
    constants = arguments or {}
    runs: dict[int, dict[str, torch.Tensor]] = {}
    errors = []
    for batch in (1, 2, 3):
        try:
            runs[batch] = _run(module, specs, batch, STEPS, constants)
        except Exception as error:
            errors.append(f"batch {batch}: {type(error).__name__}: {one_line(error, 120)}")
    if not runs:
        raise InputError(f"PyTorch does not run: {'; '.join(errors)}")
    returned = list(runs[min(runs)])
    paths = chosen(returned)
    by_path = paths if paths != returned else None
    held = {batch: [run[path] for path in paths if path in run] for batch, run in runs.items()}
    names = _output_names(paths, set(specs))
    one, other = (2, 3) if {2, 3} <= runs.keys() else (1, 2)
    batched = _following(held, one, other)
    if batched is None or not any(BATCH in spec.shape for spec in specs.values()):
        fixed = min(runs)
        inputs = {name: _fixed(spec, fixed) for name, spec in specs.items()}
        note = f"the batch is fixed at {fixed}: " + (
            "; ".join(errors) or "outputs do not follow it along one axis"
        )
        whole = [tuple(tensor.shape) for tensor in held[fixed]]
        outputs = _outputs(names, held[fixed], whole, by_path)
        return Interface(inputs, outputs, {}, (note,), constants)
    axes: dict[tuple[int, int], str] = dict.fromkeys(batched, BATCH)
    dims: dict[str, tuple[int, ...]] = {BATCH: tuple(sorted(runs))}
    found = _steps(module, specs, constants, one, held[one], paths)
    if found is None:
        specs = {name: _fixed(spec, STEPS, TIME) for name, spec in specs.items()}
    elif any(TIME in spec.shape for spec in specs.values()):
        axes |= dict.fromkeys(found, TIME)
        dims[TIME] = (STEPS, *_OTHER_STEPS)
    shapes = [
        tuple(axes.get((place, axis), size) for axis, size in enumerate(tensor.shape))
        for place, tensor in enumerate(held[one])
    ]
    outputs = _outputs(names, held[one], shapes, by_path)
    notes = tuple(f"PyTorch does not run on {error}" for error in errors)
    return Interface(dict(specs), outputs, dims, notes, constants)


def _steps(
    module: torch.nn.Module,
    specs: Mapping[str, Spec],
    arguments: Mapping[str, Any],
    batch: int,
    held: list[torch.Tensor],
    paths: Sequence[str],
) -> set[tuple[int, int]] | None:
    """Which axes of the outputs count steps, as (output, axis); None where steps are fixed."""
    if not any(TIME in spec.shape for spec in specs.values()):
        return set()
    runs = {STEPS: held}
    for steps in _OTHER_STEPS:
        try:
            run = _run(module, specs, batch, steps, arguments)
            runs[steps] = [run[path] for path in paths]
        except Exception:
            return None
    found = {steps: _following(runs, STEPS, steps) for steps in _OTHER_STEPS}
    first = found[_OTHER_STEPS[0]]
    return first if all(axes == first for axes in found.values()) else None


def _following(
    runs: Mapping[int, Sequence[torch.Tensor]], one: int, other: int
) -> set[tuple[int, int]] | None:
    """The axes of outputs that are as long as a dim, as (output, axis); None where they differ."""
    if not {one, other} <= runs.keys() or len(runs[one]) != len(runs[other]):
        return None
    found = set()
    for place, (here, there) in enumerate(zip(runs[one], runs[other], strict=True)):
        if here.ndim != there.ndim:
            return None
        for axis, (size, larger) in enumerate(zip(here.shape, there.shape, strict=True)):
            if size != larger and (size, larger) != (one, other):
                return None
            if size != larger:
                found.add((place, axis))
    return found


def _fixed(spec: Spec, size: int, dim: str | None = None) -> Spec:
    """An input with one dim at a size; with the batch at a size, and the steps at theirs."""
    if dim is None:
        return replace(spec, shape=tuple(_size(each, size) for each in spec.shape))
    sizes: Mapping[int | str, int] = {dim: size}
    return replace(spec, shape=tuple(sizes.get(each, each) for each in spec.shape))


def _outputs(
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    shapes: Sequence[tuple[int | str, ...]],
    paths: Sequence[str] | None,
) -> dict[str, Spec]:
    outputs = {}
    places: Sequence[str | None] = paths or [None] * len(names)
    for name, tensor, shape, path in zip(names, tensors, shapes, places, strict=True):
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in get_args(Dtype):
            raise InputError(
                f"output {name!r} is {dtype}, which a manifest cannot declare: cast it in forward"
            )
        outputs[name] = Spec(shape, dtype, path=path)
    return outputs


def _output_names(paths: Sequence[str], taken: set[str]) -> list[str]:
    """Names of the outputs: what `forward` calls them, else `output`, or `output_0` and so on."""
    names: list[str] = []
    for path in paths:
        name = re.sub(r"\W", "_", path)
        if path.isdigit():
            name = "output" if len(paths) == 1 else f"output_{path}"
        while name in taken or name in names:
            name += "_out"
        names.append(name)
    return names
