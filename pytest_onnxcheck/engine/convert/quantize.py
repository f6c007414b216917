"""From the fp32 artefact to another precision: one function a precision, and its options.

The conversions are those of ONNX Runtime's own tools. `half` is none: the module itself is cast
and exported. The options are the manifest's (`sections.Quantization`).
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.artefact import Notes
from pytest_onnxcheck.engine.convert.export import export
from pytest_onnxcheck.engine.convert.int4 import INT4_OPERATORS, to_int4_weight
from pytest_onnxcheck.engine.convert.int8 import (
    DYNAMIC_OPERATORS,
    to_int8_dynamic,
    to_int8_static,
)
from pytest_onnxcheck.engine.convert.prepare import OptionError, graph_of
from pytest_onnxcheck.engine.convert.sixteen_bits import to_bfloat16, to_float16
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import import_onnxruntime
from pytest_onnxcheck.errors import QuantizeError, StageError
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.manifest.sections import BUILTIN_QUANTIZATION, Quantization
from pytest_onnxcheck.wording import one_line

__all__ = ["quantize", "resolved_options"]

#: precision -> the operators that it is applied to when none are named
_OPERATORS = {"int8-dynamic": DYNAMIC_OPERATORS, "int4-weight": INT4_OPERATORS}


def quantize(
    reference: Reference,
    variant: Variant,
    source: Path,
    path: Path,
    calibration: CalibrationData | None = None,
) -> Notes:
    """Writes the fp32 artefact `source` in the variant's precision to `path`.

    Args:
        reference: The PyTorch model; `half` is exported from it.
        variant: The precision and its options.
        source: The fp32 artefact.
        path: The file to write.
        calibration: What int8-static takes its ranges from; the others need none.

    Returns:
        Notes: options, narrowed inputs and outputs and, for int8-static, calibration data; for
        `half` also those of its export.

    Raises:
        QuantizeError: The tool failed on this graph, or an option does not fit it.
        ExportError: `half` cannot be exported.
    """
    notes = Notes()
    if variant.traits.casts_module:
        notes = export(reference, variant, path, half=True)
    else:
        _convert(reference, variant, source, path, calibration)
    return dataclasses.replace(
        notes,
        options=resolved_options(variant),
        narrowed=_narrowed(path, reference.model),
        calibration=None if calibration is None else calibration.measured,
    )


def _convert(
    reference: Reference,
    variant: Variant,
    source: Path,
    path: Path,
    calibration: CalibrationData | None,
) -> None:
    import_onnxruntime()
    name = f"{reference.model.name}: {variant.precision}"
    try:
        with quiet(logging.WARNING):
            _converter(reference, variant, calibration)(source, path, _filled(variant))
    except StageError:
        raise
    except OptionError as error:
        raise QuantizeError(f"{name}: {error}") from None
    except Exception as error:
        raise QuantizeError(
            f"{name} of {source} failed: {type(error).__name__}: {one_line(error)[:600]}"
        ) from error


def _converter(
    reference: Reference, variant: Variant, calibration: CalibrationData | None
) -> Callable[[Path, Path, Quantization], None]:
    """What writes an artefact in the variant's precision: from source, to path, with options."""
    libraries = reference.model.operator_libraries
    if variant.precision == "int8-dynamic":
        return functools.partial(to_int8_dynamic, libraries=libraries)
    if variant.precision == "int8-static":
        assert calibration is not None
        return functools.partial(to_int8_static, libraries=libraries, calibration=calibration)
    if variant.precision == "int4-weight":
        return functools.partial(to_int4_weight, libraries=libraries)
    own = reference.model.own_quantization(variant).op_block_list is not None
    sixteen_bits = {"fp16": to_float16, "bf16": to_bfloat16}[variant.precision]
    return functools.partial(sixteen_bits, own=own)


def resolved_options(variant: Variant) -> dict[str, object]:
    """The options a variant is made with, by name, as JSON has them."""
    options = _filled(variant)
    if options.operators is None and variant.precision in _OPERATORS:
        options = options.model_copy(update={"operators": _OPERATORS[variant.precision]})
    values = {name: getattr(options, name) for name in sorted(_names(variant))}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def _filled(variant: Variant) -> Quantization:
    """The variant's options with what follows from the CPUs it is made for filled in."""
    if "reduce_range" not in _names(variant):
        return variant.quantization
    return variant.quantization.model_copy(update={"reduce_range": variant.reduces_range})


def _names(variant: Variant) -> set[str]:
    """The options a precision has."""
    return BUILTIN_QUANTIZATION[variant.precision].model_fields_set


def _narrowed(path: Path, model: Model) -> tuple[str, ...]:
    """Inputs and outputs that have 16 bits in the artefact and are declared as float32."""
    from onnx import TensorProto

    graph = graph_of(path)
    declared = {name: entry.dtype for name, entry in model.inputs.items()}
    declared |= {name: entry.dtype for name, entry in model.outputs.items()}
    return tuple(
        value.name
        for value in (*graph.input, *graph.output)
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        and declared.get(value.name) == "float32"
    )
