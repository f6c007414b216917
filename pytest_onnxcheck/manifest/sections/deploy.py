"""What artefacts will run on, beyond the machine that checks them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from pytest_onnxcheck.manifest.sections.base import Section, invalid

__all__ = ["Deploy"]

_FROM = re.compile(r">=\s*(\d+\.\d+(?:\.\d+)?)")


def _from(value: str) -> str:
    if not _FROM.fullmatch(value.strip()):
        raise invalid(f'expected ">=" and a version, e.g. ">=1.17", got {value!r}')
    return value.strip()


class Deploy(Section):
    """What the model's artefacts will run on."""

    onnxruntime: Annotated[str, AfterValidator(_from)] = Field(
        description="The oldest ONNX Runtime that has to load them, e.g. `>=1.17`: "
        "`test_structure` holds IR version, opsets, operators and types to it; an export has a "
        "lower IR version where nothing else needs the one of its exporter."
    )
    run: bool = Field(
        True,
        description="Whether `test_equivalence` also runs them there, on the target "
        "`onnxruntime-VERSION`: an environment that is made for it, with the lowest release from "
        "that version on that this Python has a wheel of.",
    )

    @property
    def oldest_onnxruntime(self) -> str:
        """The version alone: `1.17`."""
        found = _FROM.fullmatch(self.onnxruntime)
        assert found is not None
        return found[1]

    @property
    def target(self) -> str:
        """The target that runs them there: `onnxruntime-1.17`."""
        return f"onnxruntime-{self.oldest_onnxruntime}"
