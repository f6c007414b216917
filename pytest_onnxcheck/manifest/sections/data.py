"""The arrays a model is fed with, gives and is judged by: shapes, files, labels."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema

from pytest_onnxcheck.manifest.sections.base import (
    Array,
    DimSize,
    Section,
    Size,
    invalid,
    numbers_by,
)
from pytest_onnxcheck.manifest.sizes import ANY
from pytest_onnxcheck.manifest.terms import Dtype, Fill, Metric

__all__ = ["Accuracy", "Calibration", "CaseFile", "Input", "Output", "Sizes", "Span", "is_path"]


def _range_of(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise invalid(f"expected two numbers [lowest, highest], got {value!r}")
    return value


def _shape_of(value: object) -> object:
    """None where nothing is declared."""
    if isinstance(value, str) and value != ANY:
        raise invalid(f"expected an array of sizes, or {ANY!r}, got {value!r}")
    return None if value == ANY else value


def is_path(text: str) -> bool:
    """Whether a text is a path: names and numbers between dots."""
    return all(text.split("."))


def _path_of(text: str) -> str:
    if not is_path(text):
        raise invalid("expected names and numbers between dots")
    return text


Shape = Annotated[tuple[int | str, ...], Array]
ShapeOrAny = Annotated[
    Shape | None,
    BeforeValidator(_shape_of, json_schema_input_type=tuple[int | str, ...] | Literal["any"]),
]
Number = int | float
Range = Annotated[tuple[Number, Number], Array, BeforeValidator(_range_of)]
Drop = Annotated[float, Field(ge=0)]
Drops = Annotated[
    dict[str, Drop],
    Field(min_length=1),
    BeforeValidator(numbers_by("*"), json_schema_input_type=Drop | dict[str, Drop]),
]
#: what masks are called of which true masks, as in PyTorch's own modules
_PADDED = ("padding_mask", "pad_mask")
Path = Annotated[str, AfterValidator(_path_of)]
ImportPath = Annotated[str, WithJsonSchema({"type": "string", "pattern": ":"})]


class Span(Section):
    """Sizes of a symbolic dim from one to another."""

    from_: DimSize = Field(alias="from", description="The smallest size.")
    to: DimSize = Field(description="The largest size.")
    step: Size = Field(
        1, description="How far apart the sizes are that the model takes, e.g. 32; default: 1."
    )

    @property
    def sizes(self) -> range:
        """All sizes, both ends included."""
        return range(self.from_, self.to + 1, self.step)


def _form(value: Any) -> str:
    return "range" if isinstance(value, dict | Span) else "list"


Sizes = Annotated[
    Annotated[Span, Tag("range")]
    | Annotated[tuple[DimSize, ...], Array, Field(min_length=1), Tag("list")],
    Discriminator(_form),
]


class Input(Section):
    """One input of the model, in the order `forward` takes them."""

    shape: Shape | None = Field(
        None,
        description="Sizes; a string is a symbolic dim listed in `dims`, or an expression of "
        "such, e.g. `past + sequence`. May be left out when the model has `shapes`.",
    )
    dtype: Dtype = Field("float32", description="Element type.")
    fill: Fill | None = Field(
        None,
        description="How cases fill it: `normal` (floats, the default), `uniform` and `integers` "
        "(in `range`; integers include both ends), `mask` (rows padded as tokenizers pad them; the "
        "default of what is 0 or 1 and has `mask` in its name), `constant` (`value`) or `file` "
        "(`file`).",
    )
    range: Range | None = Field(None, description="Lowest and highest value the model is made for.")
    mean: float = Field(0.0, description="Mean of `normal`.")
    std: float = Field(1.0, gt=0, description="Standard deviation of `normal`.")
    value: float | None = Field(
        None, allow_inf_nan=True, description="The value of `constant`; `inf` and `nan` too."
    )
    file: str | None = Field(
        None, description="`.npy` or `.npz` with real examples; the first axis counts examples."
    )
    key: str | None = Field(None, description="The array in the `.npz`; default: the input's name.")
    nonfinite: bool = Field(
        False, description="NaN and infinity may occur in it: probes try them too."
    )
    masked: bool | Annotated[float, Field(allow_inf_nan=True)] | None = Field(
        None,
        description="Of a `mask`: the value that masks: 0 (the default), 1 where true masks (the "
        "default of what has `padding_mask` or `pad_mask` in its name), or `-inf` where the mask "
        "is added. What is not masked is 1 where 0 masks, else 0.",
    )
    padding: Literal["right", "left", "any", "causal"] | None = Field(
        None,
        description="Of a `mask`: where rows (along the last axis) are masked: at their end, at "
        "their beginning, anywhere, or at their end and behind the place of the axis before "
        "(`causal`). Default: `any`, but what differs where rows are not padded right only warns.",
    )
    empty_rows: bool = Field(
        False,
        description="Of a `mask`: rows that mask everything occur: probes try them too. PyTorch "
        "and ONNX mostly differ there.",
    )
    path: Path | None = Field(
        None,
        description="Where `forward` takes it: a parameter, and after dots the place inside, e.g. "
        "`cache.0.key` or `features.1`. Default: its name.",
    )

    @property
    def binary(self) -> bool:
        """Whether it is 0 or 1, whatever fills it."""
        if self.dtype == "bool":
            return self.range in (None, (0, 1))
        return not self.dtype.startswith("float") and self.range == (0, 1)

    def named(self, name: str) -> Input:
        """The input as its name lets it be filled: what is 0 or 1 and called a mask is one."""
        called = self.fill is None and self.binary and "mask" in name.lower()
        if not called and self.fill != "mask":
            return self
        masked = self.masked
        if masked is None:
            exact = not self.dtype.startswith("float")
            masked = exact and any(word in name.lower() for word in _PADDED)
        return self.model_copy(update={"fill": "mask", "masked": float(masked)})


class Output(Section):
    """One output of the model, in the order `forward` returns them."""

    shape: ShapeOrAny = Field(
        description="Sizes; a string is a symbolic dim, an expression of such, e.g. `ceil(height / "
        "32)`, or `any`: a size that nobody chooses, such as a number of detections. `any` in "
        "place of the array: not even the number of axes is declared."
    )
    dtype: Dtype = Field("float32", description="Element type.")
    range: Range | None = Field(
        None, description="Every element must lie in it, in PyTorch and in the artefact."
    )
    path: Path | None = Field(
        None,
        description="Where in what `forward` returns it stands, e.g. `logits`, `1.0` or "
        "`cache.0.key`. Where an output has this key, all are found by their paths (default: the "
        "name), and what is left over is not exported; else all tensors are outputs, in order.",
    )


class CaseFile(Section):
    """Inputs of your own, compared as they are."""

    file: str | None = Field(None, description="`.npz` with one array per input, in full shape.")
    source: str | None = Field(
        None,
        description="`module:callable` giving `{input: array}`, or an iterable of several.",
    )
    outside_range: bool = Field(
        False,
        description="The model is not made for these inputs: what differs warns and never fails.",
    )


class Calibration(Section):
    """Where int8-static takes the value ranges of the activations from.

    Without file, folder or source: random draws, which is warned about.
    """

    file: str | None = Field(
        None, description="`.npz` with one array per input; the first axis counts examples."
    )
    folder: str | None = Field(
        None,
        description="Folder of such files (or `.npy`, for a single input), taken in the order of "
        "their names.",
    )
    source: str | None = Field(
        None,
        description="`module:callable` giving an iterable of `{input: array}` batches, or "
        "`module:name` of one.",
    )
    count: Size | None = Field(
        None,
        description="How many examples (file, folder, draws) or batches (source); fewer than "
        "that are an error. Default: up to 64, and 16 draws.",
    )
    batch: Size = Field(1, description="Examples put into one run (file, folder, draws).")
    seed: int | None = Field(
        None,
        description="Takes the examples of file or folder at random; default: the first ones.",
    )


class Accuracy(Section):
    """A task metric on labelled data, for PyTorch and for every variant."""

    file: str | None = Field(
        None,
        description="`.npz` with one array per input and one of labels; the first axis counts "
        "samples.",
    )
    source: str | None = Field(
        None, description="`module:callable` giving an iterable of `({input: array}, labels)`."
    )
    labels: str = Field("labels", description="Name of the labels' array in the file.")
    metric: Metric | ImportPath = Field(
        "accuracy",
        description="`accuracy`, `precision`, `recall`, `f1` (of the largest element along "
        "`axis`), `mse`, or `module:callable` taking labels and outputs, larger being better.",
    )
    average: Literal["binary", "macro", "micro", "weighted"] = Field(
        "macro",
        description="How precision, recall and f1 are averaged over the classes; `binary`: class 1 "
        "of two.",
    )
    axis: int | None = Field(
        None,
        description="Axis of the output along which the classes lie, e.g. 1 for `[batch, classes, "
        "height, width]`. Default: the last, unless the labels fit another as well.",
    )
    output: str | None = Field(None, description="The output to judge; default: the first.")
    count: Size | None = Field(None, description="Use only the first samples; default: all.")
    batch: Size = Field(32, description="Samples in one run (file).")
    max_drop: Drops | None = Field(
        None,
        description="How much worse than PyTorch's the metric may be, in its own units (0.005 is "
        "half a point of accuracy): a number, or one per precision or glob over variant names. "
        "Default: any; the drop is only told.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="Confidence of the interval of the drop."
    )
