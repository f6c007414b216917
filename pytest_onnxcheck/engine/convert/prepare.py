"""An artefact as the quantizers need it, and the manifest's options set against its graph."""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.artefacts.writing import is_large, save
from pytest_onnxcheck.engine.graph.operators import WEIGHTED
from pytest_onnxcheck.engine.graph.walk import nodes_of
from pytest_onnxcheck.engine.runtime.libraries import cpu_opening
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.manifest.sections import Quantization

if TYPE_CHECKING:
    import onnx

__all__ = [
    "AS_PREPARED",
    "OptionError",
    "check_operators",
    "drop_shapes_of_initializers",
    "excluded",
    "graph_of",
    "known_operators",
    "matching",
    "prepared",
    "quantizable",
]

#: the graph whose nodes `exclude_nodes` names
AS_PREPARED = "{} as onnxruntime's quant_pre_process leaves it, which folds and fuses some"

#: so many nodes are listed where a pattern matches none of them
_FEW = 20


class OptionError(Exception):
    """An option of the manifest does not fit the graph; the text says which, and how to mend it."""


@contextlib.contextmanager
def prepared(
    source: Path, libraries: tuple[str, ...] = (), *, without_gemm: bool = False
) -> Iterator[Path]:
    """A copy of a file as the quantizers need it: shapes inferred, no shared weights.

    Args:
        source: The fp32 artefact; ONNX Runtime's basic optimisations fold and fuse its nodes.
        libraries: Its custom operators, which the tool does not take; see `Target`.
        without_gemm: Whether every Gemm becomes a MatMul (its name with `_MatMul` behind it) and
            an Add.
    """
    import onnx
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        unshared, path = Path(folder) / "unshared.onnx", Path(folder) / "prepared.onnx"
        model = onnx.load(source)
        large = is_large(model)
        _unshare_initializers(model.graph)
        save(model, unshared)
        del model  # of many GB, maybe
        # symbolic shape inference fails on some healthy graphs, and needs sympy
        # the tool takes no libraries, and holds a model in memory beside its session
        own = large or bool(libraries)
        optimised = _optimised(unshared, libraries, large=large) if own else unshared
        quant_pre_process(
            optimised,
            path,
            skip_symbolic_shape=True,
            skip_optimization=own,
            save_as_external_data=large,
            all_tensors_to_one_file=True,
            external_data_location="prepared.data",
        )
        unshared.with_name("unshared.onnx.data").unlink(missing_ok=True)
        model = onnx.load(path)
        if without_gemm:
            ONNXModel(model).replace_gemm_with_matmul()
        drop_shapes_of_initializers(model.graph)
        path.with_name("prepared.data").unlink(missing_ok=True)
        save(model, path)
        del model
        yield path


def _optimised(source: Path, libraries: tuple[str, ...], *, large: bool) -> Path:
    """The file as `quant_pre_process` optimises it, by a session that knows the operators."""
    path = source.with_name("optimised.onnx")
    options = {"graph_optimization_level": "basic", "optimized_model_filepath": str(path)}
    if large:
        options["session.optimized_model_external_initializers_file_name"] = f"{path.name}.data"
    open_handle(str(source), **{**cpu_opening(libraries), "session_options": options})
    return path


def _unshare_initializers(graph: onnx.GraphProto) -> None:
    """Gives every node its own copy of a weight: on shared ones the quantizer is silently wrong."""
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    seen: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in WEIGHTED and node.op_type != "Gather":
            continue
        for index, name in enumerate(node.input):
            if name in tensors:
                seen[name] += 1
                if seen[name] > 1:
                    copied = onnx.TensorProto()
                    copied.CopyFrom(tensors[name])
                    copied.name = f"{name}.{seen[name]}"
                    graph.initializer.append(copied)
                    node.input[index] = copied.name


def drop_shapes_of_initializers(graph: onnx.GraphProto) -> None:
    """Drops shapes and types that are recorded twice: converters change weights, not these."""
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in names]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def graph_of(path: Path) -> onnx.GraphProto:
    """The graph of a file, without external data."""
    import onnx

    return onnx.load(path, load_external_data=False).graph


def excluded(options: Quantization, graph: onnx.GraphProto, seen: str) -> list[str]:
    """Names of the nodes that `exclude_nodes` selects.

    Raises:
        OptionError: A pattern selects none.
    """
    names = [node.name for node in nodes_of(graph) if node.name]
    for pattern in options.exclude_nodes or ():
        if not matching([pattern], names):
            listed = f": {', '.join(names)}" if len(names) <= _FEW else ""
            raise OptionError(
                f"exclude_nodes: {pattern!r} matches no node{_close(pattern, names)} The "
                f"{len(names)} named nodes are those of {seen}{listed}"
            )
    return matching(options.exclude_nodes or (), names)


def matching(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names equal to a pattern or matched by it, also without the suffix of a former Gemm."""
    patterns = list(patterns)
    return [
        name
        for name in names
        if any(
            form == pattern or fnmatch.fnmatchcase(form, pattern)
            for form in (name, name.removesuffix("_MatMul"))
            for pattern in patterns
        )
    ]


def known_operators(options: Quantization, graph: onnx.GraphProto, *, own: bool) -> list[str]:
    """The `op_block_list`.

    Args:
        options: The variant's.
        graph: The fp32 artefact's.
        own: Whether the list is the model's own. A list in `[defaults]` is for many models, of
            which some may have none of its operators.

    Raises:
        OptionError: It names what is no operator, neither of ONNX nor in the graph, or it is the
            model's own and blocks nothing.
    """
    import onnx

    blocked = options.op_block_list or ()
    have = sorted({node.op_type for node in nodes_of(graph)})
    for operator in blocked:
        if operator not in have and not onnx.defs.has(operator):
            raise OptionError(
                f"op_block_list: there is no operator {operator!r}{_close(operator, have)} "
                f"The graph has {', '.join(have)}"
            )
    if own and blocked and not set(blocked) & set(have):
        raise OptionError(
            f"op_block_list: the graph has no {' and no '.join(blocked)}: nothing is left in "
            f"float32{_close(blocked[0], have)} It has {', '.join(have)}"
        )
    return list(blocked)


def quantizable(operators: Iterable[str], graph: onnx.GraphProto) -> list[str]:
    """The operators, without Attention where it is ONNX's own (opset 23).

    The tools know operators by their names alone and take it for com.microsoft's, which has
    weights: what they make of it is no valid graph (onnxruntime 1.31).
    """
    own = {node.op_type for node in nodes_of(graph) if node.domain in ("", "ai.onnx")}
    return [name for name in operators if name != "Attention" or name not in own]


def check_operators(
    options: Quantization, graph: onnx.GraphProto, supported: Iterable[str]
) -> None:
    """Raises an OptionError if `operators` names one that is not supported, or not there."""
    have = {node.op_type for node in nodes_of(graph)}
    known = set(quantizable(supported, graph))
    for operator in options.operators or ():
        if operator in known and operator in have:
            continue
        problem = "the graph has none" if operator in known else "ONNX Runtime does not quantize it"
        raise OptionError(
            f"operators: {operator!r}: {problem}{_close(operator, sorted(have & known))} "
            f"Supported: {', '.join(sorted(known))}. "
            f"In the graph, of these: {', '.join(sorted(have & known)) or 'none'}"
        )


def _close(word: str, words: Sequence[str]) -> str:
    """The end of a sentence: with the words that are close, where any are."""
    close = difflib.get_close_matches(word, words, cutoff=0.4)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else "."
