"""From a case of the corpus to the manifests that someone who knows the model would write.

What the plugin can export it exports; artefacts that a release script made otherwise
(`post_export`, `raw_dynamic_axes`, `training`, ...) are made here in the same way and handed over
as files.

Usage, in a process of its own: python benchmarks/corpus_manifests.py CASE.py FOLDER
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import resource
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import torch

from pytest_onnxcheck.engine.reference.tensors import flatten
from pytest_onnxcheck.manifest.sizes import dim_values
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS

#: keys of EXPORT that the plugin's own export honours; with any other, the artefact is made here
PLAIN = {"exporter", "opset", "input_names", "output_names", "dynamic", "providers"}
MAX_SIZES = 5
#: what one trial run of PyTorch may take: processor seconds, seconds, bytes beyond what is there
TRIAL = (2, 20, 2**30)
_COSTLY = 3  # exit status of a trial that ran out of memory

Tensors = tuple[torch.Tensor, ...]
Dims = dict[str, int]
Specs = list[tuple[list[int], str] | None]  # shape and dtype of each output; None is None


# ------------------------------------------------------- what a user of the model would know


def trial(module: torch.nn.Module, inputs: Tensors) -> Specs | None:
    """What PyTorch gives; None when it fails, nothing when it takes too much time or memory.

    It runs in a forked child, which may die, and changes neither the module nor the inputs.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            processor, seconds, more = TRIAL
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (processor, processor))
            signal.alarm(seconds)
            with torch.inference_mode():
                value = module(*inputs)
            parts = [[o] if o is None else flatten(o) for o in _listed(value)]
            specs = [o if o is None else (list(o.shape), _dtype(o)) for o in chain(*parts)]
            os.write(writer, json.dumps(specs).encode())
            os._exit(0)
        except (MemoryError, RuntimeError) as error:
            os._exit(_COSTLY if "alloc" in repr(error).lower() else 1)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        found = stream.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    costly = status in (_COSTLY, -signal.SIGXCPU, -signal.SIGALRM, -signal.SIGKILL)
    return json.loads(found) if status == 0 else [] if costly else None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


@dataclass
class Input:
    """An input: its example, its shape with symbols and, for integers, the range of its values.

    `only_example` says that random values in the example's own range do not run.
    """

    name: str
    example: torch.Tensor
    shape: list[int | str]
    range: tuple[int, int] | None = None
    only_example: bool = False

    @cached_property
    def span(self) -> tuple[int, int]:
        """Least and greatest value of the example."""
        values = self.example if self.example.numel() else torch.zeros(1)
        return int(values.min()), int(values.max())

    @cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and deviation of the example's finite values, as roughly as one would write them."""
        finite = self.example[self.example.isfinite()].double()
        mean = finite.mean().item() if finite.numel() else 0.0
        std = finite.std().item() if finite.numel() > 1 else 0.0
        if std <= 1e-6 * abs(mean):
            return float(f"{mean:.3g}"), 1.0
        return round(mean, 1 - math.floor(math.log10(std))) + 0.0, float(f"{std:.2g}")

    def draw(self, seed: int, dims: Dims) -> torch.Tensor:
        """Random values as the plugin draws them."""
        shape = tuple(dims[size] if isinstance(size, str) else size for size in self.shape)
        if self.only_example:
            rows = self.example[torch.arange(shape[0]) % len(self.example)] if shape else None
            return (self.example if rows is None else rows).reshape(shape)
        rng = np.random.default_rng(seed)
        if self.range is not None:
            return torch.tensor(rng.integers(*self.range, shape, endpoint=True)).to(self.example)
        if _dtype(self.example) == "bool":
            return torch.tensor(rng.integers(0, 2, shape)).to(self.example)
        return torch.tensor(rng.normal(*self.moments, shape)).to(self.example)

    def table(self, folder: Path) -> dict[str, Any]:
        """The input's table in the manifest."""
        table: dict[str, Any] = {"shape": self.shape, "dtype": _dtype(self.example)}
        if self.only_example:
            batched = self.shape and isinstance(self.shape[0], str)
            save(folder / f"{self.name}.npz", [self.name], (self.example[() if batched else None],))
            return {**table, "fill": "file", "file": f"{self.name}.npz"}
        if self.range is not None:
            return {**table, "range": self.range}
        if table["dtype"] == "bool":
            # a mask for each query: those of padding may attend to nothing
            per_query = len(self.shape) > 2 and self.shape[-1] == self.shape[-2]
            return {**table, "fill": "mask", "empty_rows": True} if per_query else table
        mean, std = self.moments
        return {**table, "fill": "normal", "mean": mean, "std": std}


class Knowledge:
    """What is found out about a model by running it in eval mode: ranges, sizes, outputs."""

    def __init__(self, module: torch.nn.Module, inputs: list[Input], example: Dims) -> None:
        self.module, self.inputs, self.example = module, inputs, example
        self.dims: dict[str, tuple[int, ...]] = {}
        self.outputs: list[tuple[list[int | str], str] | None] = []
        self._runs: dict[str, list[Specs]] = {}
        if not trial(module, tuple(entry.example for entry in inputs)):
            raise RuntimeError("PyTorch itself does not run on example_inputs()")
        self._find_ranges()  # first, because sizes are tried with values in them
        self._find_sizes()
        self._find_outputs()

    def run(self, dims: Dims) -> list[Specs]:
        """What three random draws at these sizes give; nothing if one of them does not run."""
        key = repr((dims, [(entry.range, entry.only_example) for entry in self.inputs]))
        if key not in self._runs:
            specs: list[Specs] = []
            for seed in range(3):
                try:
                    inputs = tuple(x.draw(seed + 10 * i, dims) for i, x in enumerate(self.inputs))
                except RuntimeError:  # the only example has other sizes
                    break
                if not (found := trial(self.module, inputs)):
                    break
                specs.append(found)
            self._runs[key] = specs if len(specs) == 3 else []
        return self._runs[key]

    def _find_ranges(self) -> None:
        integers = [x for x in self.inputs if _dtype(x.example).lstrip("u").startswith("int")]
        for entry in integers:
            entry.range = self._widest(entry)
        if not self.run(self.example):  # they depend on one another
            for entry in integers:
                entry.range = entry.span
        for group in (integers, self.inputs):
            if not self.run(self.example):
                for entry in group:
                    entry.only_example = True

    def _widest(self, entry: Input) -> tuple[int, int]:
        """The widest range that PyTorch accepts, from 0 or the example's least value up.

        Where a greater value takes more time or memory, it is twice the example's.
        """
        costly = False

        def accepted(low: int, high: int) -> bool:
            nonlocal costly
            fills = [torch.full_like(entry.example, end) for end in (low, high)]
            fills.append(replace(entry, range=(low, high)).draw(0, self.example))
            for fill in fills:
                inputs = tuple(fill if x is entry else x.example for x in self.inputs)
                if not (found := trial(self.module, inputs)):
                    costly |= found == []
                    return False
            return True

        low, high = entry.span
        if not accepted(low, high):
            entry.only_example = True
            return low, high
        if 0 <= low <= high <= 1:
            return (0, 1) if accepted(0, 1) else (low, high)
        low = 0 if low > 0 and accepted(0, high) else low
        limit = 2**30 if entry.example.dtype is torch.int32 else 2**40
        limit = min(limit, torch.iinfo(entry.example.dtype).max)
        refused = max(high, 1)
        while refused <= limit and accepted(low, refused):
            high, refused = refused, refused * 4
        refused = min(refused, limit + 1)
        while refused - high > 1 and not costly:
            middle = (high + refused) // 2
            high, refused = (middle, refused) if accepted(low, middle) else (high, middle)
        return (low, min(high, 2 * max(entry.span[1], 1))) if costly else (low, high)

    def _find_sizes(self) -> None:
        """Sizes the model takes: the example's, 1, an odd and an even one above, small ones."""
        for dim, size in self.example.items():
            others = [n for n in (1, 2 * size + 1, 2 * size, 3, 2) if n and n != size]
            taken = [n for n in dict.fromkeys(others) if self.run({**self.example, dim: n})]
            self.dims[dim] = (size, *taken)[:MAX_SIZES]
        while failing := [dims for dims in dim_values(self.dims) if not self.run(dims)]:
            sizes = chain.from_iterable(dims.items() for dims in failing)
            blamed = Counter(pair for pair in sizes if pair not in self.example.items())
            if not blamed:
                break
            dim, size = blamed.most_common(1)[0][0]
            self.dims[dim] = tuple(n for n in self.dims[dim] if n != size)

    def _find_outputs(self) -> None:
        """Output shapes: an axis is a dim if it follows it in every run, or a symbol of its own."""
        runs = [(dims, specs) for dims in dim_values(self.dims) for specs in self.run(dims)]
        example = trial(self.module, tuple(entry.example for entry in self.inputs))
        assert example is not None
        runs.append((self.example, example))
        for index, spec in enumerate(example):
            shape: list[int | str] = list(spec[0]) if spec else []
            for axis, size in enumerate(spec[0] if spec else ()):
                seen = [(dims, s[0][axis]) for dims, specs in runs if (s := specs[index])]
                follows = [dim for dim in self.example if all(d[dim] == n for d, n in seen)]
                if follows and len(self.dims[follows[0]]) > 1:
                    shape[axis] = follows[0]
                elif size == 0 or any(n != size for _, n in seen):
                    # every symbol must stand in `dims`, also one that only an output has
                    shape[axis] = f"output{index}_{axis}"
                    self.dims[f"output{index}_{axis}"] = (max(size, 1),)
            self.outputs.append((shape, spec[1]) if spec else None)


def dynamic_axes(export: Mapping[str, Any], name: str) -> Mapping[int, str | None]:
    """Axis -> symbol of one input; a bare list of axes has no names."""
    axes = (export.get("dynamic") or {}).get(name) or {}
    return axes if isinstance(axes, Mapping) else {axis: f"{name}_{axis}" for axis in axes}


def symbolic_inputs(export: Mapping[str, Any], example: Tensors) -> tuple[list[Input], Dims]:
    """The inputs and their dims; one symbol with two sizes in the example is two dims."""
    dims: Dims = {}
    inputs = []
    for name, tensor in zip(export["input_names"], example, strict=True):
        shape: list[int | str] = list(tensor.shape)
        for axis, symbol in dynamic_axes(export, name).items():
            if symbol is not None:
                size = tensor.shape[axis]
                shape[axis] = symbol if dims.get(symbol, size) == size else f"{symbol}_{name}"
                dims[str(shape[axis])] = size
        inputs.append(Input(name, tensor, shape))
    return inputs, dims


# ------------------------------------------------------------- from a case to its manifests


def make_artefact(case: ModuleType, folder: Path) -> dict[str, str]:
    """Exports as the case says, with plain `torch.onnx.export`; gives the files by precision."""
    export, path, out = case.EXPORT, folder / "float.onnx", folder / "out.onnx"
    dynamo, dynamic = export["exporter"] == "dynamo", export.get("dynamic")
    known = inspect.signature(torch.onnx.export).parameters
    options = {key: value for key, value in export.items() if key in known}
    if "training" in export:
        options["training"] = getattr(torch.onnx.TrainingMode, export["training"].upper())
    if "raw_dynamic_axes" in export:
        options["dynamic_axes"] = export["raw_dynamic_axes"]
    elif dynamo and dynamic:
        kind = getattr(torch.export.Dim, export["dim"]) if export.get("dim") else None
        options["dynamic_shapes"] = tuple(
            {
                axis: symbol and (kind or symbol)
                for axis, symbol in dynamic_axes(export, name).items()
            }
            for name in export["input_names"]
        )
    elif dynamic:
        options["dynamic_axes"] = dynamic
    options |= {"dynamo": dynamo, "opset_version": export.get("opset")}
    torch.onnx.export(case.build(), case.example_inputs(), str(path), **options)
    if hasattr(case, "post_export"):
        case.post_export(str(path), str(out))
    made = out if out.exists() else path
    if export.get("half"):
        precision = "fp16"
    elif export.get("quantized"):  # static leaves these nodes; dynamic others or, gone wrong, none
        kinds = {node.op_type for node in onnx.load(made, load_external_data=False).graph.node}
        static = "QuantizeLinear" in kinds and "DynamicQuantizeLinear" not in kinds
        precision = "int8-static" if static else "int8-dynamic"
    else:
        return {"fp32": made.name}
    return {precision: made.name} if made == path else {"fp32": path.name, precision: made.name}


def toml(value: Any) -> str:
    """A value in TOML; JSON is the same but for tables."""
    if isinstance(value, Mapping):
        return f"{{ {', '.join(f'{json.dumps(k)} = {toml(v)}' for k, v in value.items())} }}"
    return json.dumps(value)


def manifest(model: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a manifest of one model."""
    lines = ["schema = 1", "", "[models.case]"]
    lines += [f"{key} = {toml(value)}" for key, value in model.items() if value]
    for kind, entries in tables.items():
        for name, table in entries.items():
            lines += ["", f"[models.case.{kind}.{json.dumps(name)}]"]
            lines += [f"{key} = {toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def save(path: Path, names: list[str], tensors: Tensors) -> str:
    arrays = {name: t.detach().numpy() for name, t in zip(names, tensors, strict=True)}
    np.savez(path, **arrays)
    return path.name


def prepare(source: Path, folder: Path) -> None:
    """Writes everything the gate needs for a case; runs in a process of its own."""
    torch.set_num_threads(1)  # forked children cannot use a pool of threads
    spec = importlib.util.spec_from_file_location(source.stem, shutil.copy(source, folder))
    assert spec is not None
    assert spec.loader is not None
    case = sys.modules[source.stem] = importlib.util.module_from_spec(spec)
    about: dict[str, Any] = {}
    try:
        spec.loader.exec_module(case)
        about = {"expected": case.EXPECT, "kind": case.FAULT_KIND, "evidence": case.EVIDENCE}
        (folder / "case.json").write_text(json.dumps(about))
        write_manifests(case, source.name, folder)
    except ModuleNotFoundError as error:
        (folder / "case.json").write_text(json.dumps({**about, "not_run": f"needs {error.name}"}))


def write_manifests(case: ModuleType, file: str, folder: Path) -> None:
    """Two manifests of one model: `without.toml`, and `with.toml` if the case has probes."""
    export = case.EXPORT
    inputs, dims = symbolic_inputs(export, case.example_inputs())
    known = Knowledge(case.build().eval(), inputs, dims)
    names = [*export["output_names"]]
    if len(names) != len(known.outputs):  # names of all outputs, or of those that are not None
        known.outputs = [output for output in known.outputs if output]
    names += [f"output_{index}" for index in range(len(names), len(known.outputs))]
    declared = {n: output for n, output in zip(names, known.outputs, strict=False) if output}
    model: dict[str, Any] = {"factory": f"{file}:build"}
    post = hasattr(case, "post_export")
    if set(export) - PLAIN or not set(export["output_names"]) <= set(declared) or post:
        model["onnx"] = make_artefact(case, folder)
        if export.get("quantized"):  # whether it is healthy was found out on CPUs that have VNNI
            model["cpus"] = ["x86-vnni", "arm64"]
    else:
        default = torch.onnx._constants.ONNX_DEFAULT_OPSET  # of both exporters
        model |= {"exporters": [export["exporter"]], "opsets": [export.get("opset") or default]}
    targets = {target.provider: name for name, target in BUILTIN_TARGETS.items()}
    wanted = [targets[provider] for provider in export.get("providers", ())[:1]]
    if wanted and wanted != ["cpu"]:
        model |= {"targets": wanted, "required_targets": wanted}
    model["example"] = save(folder / "example.npz", export["input_names"], case.example_inputs())
    model["dims"] = known.dims
    tables: dict[str, dict[str, Any]] = {
        "inputs": {entry.name: entry.table(folder) for entry in inputs},
        "outputs": {name: {"shape": o[0], "dtype": o[1]} for name, o in declared.items()},
    }
    (folder / "without.toml").write_text(manifest(model, tables))
    given = {"probe": "probe_inputs", "step": "sequence_inputs"}
    tables["cases"] = {
        f"{kind}{index}": {
            "file": save(folder / f"{kind}{index}.npz", export["input_names"], given)
        }
        for kind, function in given.items()
        for index, given in enumerate(getattr(case, function, list)())
    }
    if tables["cases"]:
        (folder / "with.toml").write_text(manifest(model, tables))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), Path(sys.argv[2]))
