"""Rules for the options of precisions."""

from __future__ import annotations

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.model import Variant
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.rules.base import Found

__all__ = ["check_known_options", "check_options"]


def check_known_options(key: str, options: s.Quantization, precisions: set[str]) -> Found:
    """Options that none of the precisions has."""
    for option in s.Quantization.model_fields:
        have = [name for name, known in s.BUILTIN_QUANTIZATION.items() if option in known.written()]
        if option in options.written() and precisions and precisions.isdisjoint(have):
            without = ", ".join(name for name in PRECISIONS if name in precisions)
            text = f"{option} has no effect on {without}: it is an option of {', '.join(have)}"
            yield ("quantization", key, option), text


def check_options(key: str, options: s.Quantization, chosen: list[Variant]) -> Found:
    """What is wrong with options, once inheritance is known."""
    built = [variant for variant in chosen if variant.file is None]
    if key not in PRECISIONS:  # those are told by `written`, whether a variant has them or not
        if chosen and not built:
            names = ", ".join(dict.fromkeys(variant.name for variant in chosen))
            yield ("quantization", key), f"{key!r} selects only files that exist already: {names}"
        yield from check_known_options(key, options, {variant.precision for variant in built})
    methods = {variant.quantization.method for variant in built} - {None}
    if options.percentile is not None and methods and "percentile" not in methods:
        yield (
            ("quantization", key, "percentile"),
            'percentile has no effect without method = "percentile"',
        )
