"""The model card: what people read of a bundle, with the front matter that Hugging Face reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from pytest_onnxcheck.measurement import AccuracyMeasurement, TensorSpec
from pytest_onnxcheck.release.metadata import Errors, Metadata

__all__ = ["model_card"]


def model_card(known: Metadata) -> str:
    """The card in Markdown. It has no measured time: the same sources give the same card."""
    return "\n".join([*_front_matter(known), "", *_body(known), ""])


def _front_matter(known: Metadata) -> Iterator[str]:
    yield "---"
    yield "library_name: onnx"
    yield "tags:"
    yield from (f"- {tag}" for tag in ("onnx", "onnxruntime", known.framework, known.precision))
    results = list(_results(known))
    if results:
        yield "model-index:"
        yield f"- name: {json.dumps(known.name)}"
        yield "  results:"
        yield from results
    yield "---"


def _results(known: Metadata) -> Iterator[str]:
    """What Hugging Face shows as evaluation results: a task metric of the file itself."""
    for found in known.accuracy[:1]:
        yield "  - task:"
        yield "      type: other"
        yield "    dataset:"
        yield f"      name: {found.samples} labelled samples"
        yield f"      type: sha256-{found.sha256[:12]}"
        yield "    metrics:"
        yield f"    - type: {json.dumps(found.metric)}"
        yield f"      value: {found.onnxruntime:.6g}"


def _body(known: Metadata) -> Iterator[str]:
    yield f"# {known.name} {known.version}"
    yield ""
    yield (
        f"`{known.architecture}` ({known.parameters:,} parameters) as ONNX in {known.precision}: "
        f"opset {known.opset}, IR version {known.ir_version}, written by {known.producer}. It "
        "passed pytest-onnxcheck; `record.json` is the record of that, `metadata.json` has every "
        "number, and how fast it ran on which machine."
    )
    yield ""
    yield from _table(("file", "bytes", "SHA-256"), _files(known))
    yield ""
    yield "## Inputs and outputs"
    yield ""
    yield from _table(("", "name", "type", "shape"), _values(known))
    yield ""
    yield from _use(known)
    yield ""
    yield "## How far it is from PyTorch"
    yield ""
    yield (
        "Largest difference |a - e|, relative error ||a - e|| / ||e||, and error in noise floors "
        "(how far rounding alone moves PyTorch's own output), over the cases of the manifest."
    )
    yield ""
    head = ("target", "cases", "output", "largest", "relative", "floors")
    yield from _table(head, (row for found in known.errors for row in _errors(found)))
    if known.accuracy:
        yield ""
        head = ("target", "metric", "samples", "PyTorch", "this file", "drop")
        yield from _table(head, map(_accuracy, known.accuracy))
    if known.skipped:
        yield ""
        yield "Not checked:"
        yield ""
        yield from (f"- `{skipped.check}`: {skipped.reason}" for skipped in known.skipped)
    yield ""
    yield from _origin(known)


def _use(known: Metadata) -> Iterator[str]:
    yield "## Use"
    yield ""
    if known.oldest_onnxruntime is not None:
        yield (
            f"Loads in ONNX Runtime {known.oldest_onnxruntime} and newer, by its IR version, "
            "opsets, operators and types."
        )
        yield ""
    if known.libraries:
        named = ", ".join(f"`{file.name}`" for file in known.libraries)
        yield f"Needs libraries of custom operators: {named}, with `register_custom_ops_library`."
        yield ""
    yield "```python"
    yield "import numpy as np"
    yield "import onnxruntime"
    yield ""
    yield f"session = onnxruntime.InferenceSession({known.files[0].name!r})"
    fed = ", ".join(f"{value.name!r}: {_zeros(value)}" for value in known.inputs)
    yield f"outputs = session.run(None, {{{fed}}})"
    yield "```"


def _zeros(value: TensorSpec) -> str:
    sizes = [size if isinstance(size, int) else 1 for size in value.shape or ()]
    return f"np.zeros({sizes}, {value.dtype!r})"


def _origin(known: Metadata) -> Iterator[str]:
    yield "## Where it comes from"
    yield ""
    yield f"- Model `{known.model}`, variant `{known.variant}`, manifest `{known.manifest_sha256}`"
    if known.checkpoint_sha256 is not None:
        yield f"- Checkpoint `{known.checkpoint_sha256}`"
    if known.source.commit is None:
        yield "- The sources were in no git repository"
    else:
        yield f"- Commit `{known.source.commit}`"
    if known.source.dirty:
        changed = ", ".join(f"`{name}`" for name in known.source.dirty)
        yield f"- **Not as in that commit**: {changed}"
    yield from (f"- `{file.name}` `{file.sha256}`" for file in known.sources)


def _files(known: Metadata) -> Iterator[tuple[str, ...]]:
    for file in known.files:
        yield f"`{file.name}`", f"{file.size_bytes:,}", f"`{file.sha256}`"


def _values(known: Metadata) -> Iterator[tuple[str, ...]]:
    for kind, values in (("input", known.inputs), ("output", known.outputs)):
        for value in values:
            shape = "?" if value.shape is None else ", ".join(map(_dim, value.shape))
            yield kind, f"`{value.name}`", value.dtype, f"[{shape}]"


def _dim(size: int | str | None) -> str:
    return "?" if size is None else str(size)


def _errors(found: Errors) -> Iterator[tuple[str, ...]]:
    for output in found.outputs:
        numbers = (output.max_abs, output.rel_rms, output.floors)
        yield found.target, str(found.cases), f"`{output.name}`", *map(_number, numbers)


def _accuracy(found: AccuracyMeasurement) -> tuple[str, ...]:
    numbers = (found.torch, found.onnxruntime, found.drop)
    return found.target, found.metric, str(found.samples), *map(_number, numbers)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join('---' for _ in head)} |"
    yield from (f"| {' | '.join(row)} |" for row in rows)
