"""Measurements: raw numbers and facts, no opinion.

`engine` makes them, `judge` weighs them, `report` shows them, `record` keeps them.
They hold nothing heavier than Python's own types, so that every layer may import them and
`dataclasses.asdict` gives JSON. Properties that the record is to have beside the fields are named
in the class's `DERIVED`.
"""

from pytest_onnxcheck.measurement.accuracy import AccuracyMeasurement
from pytest_onnxcheck.measurement.diagnosis import (
    Diagnosis,
    Divergence,
    Exclusion,
    LayerLoss,
    SensitivityMeasurement,
    Step,
)
from pytest_onnxcheck.measurement.equivalence import (
    CaseMeasurement,
    EmptyRows,
    EquivalenceMeasurement,
    HeldTo,
    PortabilityMeasurement,
    SaturatedLayer,
    SaturationMeasurement,
    SkippedProbes,
    SweepMeasurement,
)
from pytest_onnxcheck.measurement.export import ExportMeasurement, FileCheck, HashedFile
from pytest_onnxcheck.measurement.latency import (
    LatencyMeasurement,
    PastRuns,
    Ratio,
    SpeedPoint,
    Timing,
)
from pytest_onnxcheck.measurement.mutation import MutantOutcome, MutationMeasurement
from pytest_onnxcheck.measurement.outputs import (
    Element,
    FloorMeasurement,
    OutputMeasurement,
    RowMeasurement,
    sqnr_db,
)
from pytest_onnxcheck.measurement.quantization import (
    CalibrationMeasurement,
    CoverageMeasurement,
    QuantizationMeasurement,
)
from pytest_onnxcheck.measurement.recommend import RecipeTrial, RecommendMeasurement
from pytest_onnxcheck.measurement.release import ReleaseMeasurement
from pytest_onnxcheck.measurement.structure import (
    Axis,
    MergedDims,
    RuntimeFit,
    SizeMismatch,
    StructureMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.measurement.target import FallenNode, TargetMeasurement

#: What a check measures.
Measurement = (
    ExportMeasurement
    | StructureMeasurement
    | QuantizationMeasurement
    | TargetMeasurement
    | EquivalenceMeasurement
    | AccuracyMeasurement
    | MutationMeasurement
    | LatencyMeasurement
    | RecommendMeasurement
    | ReleaseMeasurement
)

__all__ = [  # noqa: RUF022 - by check, in the order in which they run
    # any check
    "Measurement",
    # export
    "HashedFile",
    "FileCheck",
    "ExportMeasurement",
    # structure
    "TensorSpec",
    "Axis",
    "MergedDims",
    "RuntimeFit",
    "SizeMismatch",
    "StructureMeasurement",
    # quantization
    "CalibrationMeasurement",
    "CoverageMeasurement",
    "QuantizationMeasurement",
    # target
    "FallenNode",
    "TargetMeasurement",
    # equivalence
    "Element",
    "FloorMeasurement",
    "HeldTo",
    "OutputMeasurement",
    "EmptyRows",
    "CaseMeasurement",
    "SaturatedLayer",
    "SaturationMeasurement",
    "SkippedProbes",
    "sqnr_db",
    "PortabilityMeasurement",
    "SweepMeasurement",
    "EquivalenceMeasurement",
    # diagnosis
    "Step",
    "Divergence",
    "LayerLoss",
    "Exclusion",
    "SensitivityMeasurement",
    "Diagnosis",
    # accuracy
    "AccuracyMeasurement",
    # mutation
    "MutantOutcome",
    "MutationMeasurement",
    # latency
    "Timing",
    "Ratio",
    "LatencyMeasurement",
    "SpeedPoint",
    "PastRuns",
    # recommend
    "RecipeTrial",
    "RecommendMeasurement",
    # release
    "ReleaseMeasurement",
    "RowMeasurement",
]
