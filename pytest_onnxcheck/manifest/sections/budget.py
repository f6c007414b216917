"""What an artefact may cost."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from pytest_onnxcheck.manifest.sections.base import Positive, Section, invalid, numbers_by

__all__ = ["Budget"]

_PERCENT = r"(\d+(?:\.\d+)?) ?%"


def _share_of(value: object) -> object:
    """`"10%"` and 0.1 alike; from a half on only the former, for 1 may be meant as a percent."""
    if isinstance(value, str):
        percent = re.fullmatch(_PERCENT, value)
        if percent is None:
            raise invalid(f'expected a percentage ("10%") or a share (0.1), got {value!r}')
        return float(percent[1]) / 100
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0.5:
        meant = 100 * value if value < 1 else value
        raise invalid(f'expected a share below 0.5, got {value:g}: did you mean "{meant:g}%"?')
    return value


Speedups = Annotated[
    dict[str, Positive],
    BeforeValidator(numbers_by("cpu"), json_schema_input_type=Positive | dict[str, Positive]),
]
Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[
    dict[str, Share],
    BeforeValidator(numbers_by("*"), json_schema_input_type=Share | dict[str, Share]),
]
#: two runs of one artefact differ by half a percent: less than 1% cannot be gated on
Regression = Annotated[
    float,
    Field(ge=0.01, le=1),
    BeforeValidator(
        _share_of,
        json_schema_input_type=Annotated[float, Field(ge=0.01, lt=0.5)]
        | Annotated[str, Field(pattern=f"^{_PERCENT}$")],
    ),
]


class Budget(Section):
    """What an artefact may cost."""

    max_size_mb: Positive | None = Field(
        None, description="Bytes on disk with external data, in units of 10^6 bytes."
    )
    max_transferred_mb: Positive | None = Field(
        None,
        description="Bytes on the way to a page: the file and its external data as gzip makes "
        "them, in units of 10^6 bytes.",
    )
    max_size_ratio: Positive | None = Field(
        None, description="Bytes on disk as a share of the fp32 artefact's."
    )
    min_speedup: Speedups | None = Field(
        None,
        description="PyTorch's time / ONNX Runtime's, median over interleaved pairs, per target; "
        "a bare number means `cpu`.",
    )
    min_speedup_over_fp32: Speedups | None = Field(
        None,
        description="The fp32 artefact's time / this variant's, measured likewise. Default: 1 "
        "where `min_speedup` is given, since a variant that is slower than fp32 pays for nothing.",
    )
    max_regression: Regression | None = Field(
        None,
        description='How much slower than before it may be, `"10%"` or 0.1: than the artefact in '
        "`baseline`, else than the accepted baseline, else than the median of the last five runs "
        "(see docs/speed.md).",
    )
    max_p95_ms: Speedups | None = Field(
        None,
        description="95th percentile of the artefact's time, in ms, per target. An absolute time: "
        "it holds for one kind of machine.",
    )
    min_throughput: Speedups | None = Field(
        None,
        description="Items a second, per target: the first symbolic dim's size / median time. "
        "Absolute too.",
    )
    max_load_s: Speedups | None = Field(
        None,
        description="Seconds to open a session, the median of five, per target. Absolute too.",
    )
    max_memory_mb: Speedups | None = Field(
        None,
        description="What a session and one run add to the peak of the host's memory, or take of "
        "the GPU's where PyTorch runs on one, in units of 10^6 bytes, per target. Repeats within "
        "about 15%.",
    )
    min_coverage: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Share of the weights, and of the multiply-accumulates, that must carry the "
        "precision.",
    )
    max_cpu_fallback: Shares | None = Field(
        None,
        description="Share of the artefact's nodes, and of its multiply-accumulates, that may run "
        "on the CPU under a target of another provider, per target; a bare number means all of "
        "them. Default: no Conv, MatMul, Gemm, LSTM or other operator with weights may; the rest "
        "is warned about, since providers leave what handles shapes to the CPU on purpose.",
    )

    def speed_targets(self) -> set[str]:
        """The targets for which it limits time or memory."""
        tables = (
            *(self.min_speedup, self.min_speedup_over_fp32),
            *(self.max_p95_ms, self.min_throughput, self.max_load_s, self.max_memory_mb),
        )
        return {target for table in tables for target in table or {}}
