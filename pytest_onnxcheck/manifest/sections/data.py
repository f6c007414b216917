"""The arrays a model is fed with, gives and is judged by: shapes, files, labels."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from pytest_onnxcheck.manifest.sections.base import Array, Section, Size, invalid, numbers_by
from pytest_onnxcheck.manifest.terms import Dtype, Fill, Metric

__all__ = ["Accuracy", "Calibration", "CaseFile", "Input", "Output"]


def _range_of(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise invalid(f"expected two numbers [lowest, highest], got {value!r}")
    return value


Shape = Annotated[tuple[int | str, ...], Array]
Number = int | float
Range = Annotated[tuple[Number, Number], Array, BeforeValidator(_range_of)]
Drop = Annotated[float, Field(ge=0)]
Drops = Annotated[
    dict[str, Drop],
    Field(min_length=1),
    BeforeValidator(numbers_by("*"), json_schema_input_type=Drop | dict[str, Drop]),
]
ImportPath = Annotated[str, WithJsonSchema({"type": "string", "pattern": ":"})]


class Input(Section):
    """One input of the model, in the order `forward` takes them."""

    shape: Shape | None = Field(
        None,
        description="Sizes; a string is a symbolic dim listed in `dims`. May be left out when "
        "the model has `shapes`.",
    )
    dtype: Dtype = Field("float32", description="Element type.")
    fill: Fill | None = Field(
        None,
        description="How cases fill it: `normal` (floats, the default), `uniform` and `integers` "
        "(in `range`; integers include both ends), `constant` (`value`) or `file` (`file`).",
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


class Output(Section):
    """One output of the model, in the order `forward` returns them."""

    shape: Shape = Field(description="Sizes; a string is a symbolic dim.")
    dtype: Dtype = Field("float32", description="Element type.")
    range: Range | None = Field(
        None, description="Every element must lie in it, in PyTorch and in the artefact."
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
