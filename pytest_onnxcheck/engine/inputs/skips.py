"""Probes and sizes that the manifest leaves out by name, with a reason: `skip_probes`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.inputs.probes import probes
from pytest_onnxcheck.engine.inputs.sizes import sweep_names, swept
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.wording import meant

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.reference.reference import Reference
    from pytest_onnxcheck.manifest import Model

__all__ = ["check_skips", "is_skipped"]


def is_skipped(model: Model, name: str) -> bool:
    """Whether the manifest leaves out the probe or swept size of this name."""
    return any(_matches(entry.name, name) for entry in model.skip_probes)


def check_skips(reference: Reference) -> None:
    """Sees that every entry of `skip_probes` leaves something out, be there time to run it or not.

    Raises:
        InputError: One of them matches no probe of the model, and no size of its dims.
    """
    model = reference.model
    if not model.skip_probes:
        return
    names = [probe.name for probe in probes(reference)]
    for entry in model.skip_probes:
        every = (name for part in (names, sweep_names(reference)) for name in part)
        if not any(_matches(entry.name, name) for name in every):
            raise InputError(
                f"{model.name}: skip_probes: {entry.name!r} matches no probe of this model"
                f"{_hint(entry.name, reference, names)}"
            )


def _matches(pattern: str, name: str) -> bool:
    """Whether a glob, or a name as a check prints it, means a probe, with its kind or without."""
    bare = name.partition(":")[2]
    return pattern in (name, bare) or any(fnmatch.fnmatchcase(it, pattern) for it in (name, bare))


def _hint(pattern: str, reference: Reference, names: list[str]) -> str:
    """The probe that is meant, or all there are: their kinds, which sizes follow."""
    kinds = list(dict.fromkeys(_kind(name) for name in names))
    kinds += [f"sweep:{dim}=*" for dim in swept(reference)]
    asked = _kind(pattern)
    hint = "" if asked in kinds else meant(asked, kinds)
    sizes = next(_with_sizes(names), "")
    example = f"; a name goes on with sizes, as {sizes!r}" if sizes else ""
    return f"{hint}. There are: {', '.join(kinds)}{example}"


def _kind(name: str) -> str:
    return name.removeprefix("probe:").partition("/")[0].rstrip("*")


def _with_sizes(names: list[str]) -> Iterator[str]:
    return (name.removeprefix("probe:") for name in names if "/" in name)
