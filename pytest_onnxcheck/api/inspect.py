"""What an `.onnx` holds."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.artefacts.contents import Contents, contents
from pytest_onnxcheck.engine.graph.runtimes import runtimes

__all__ = ["Inspection", "inspect"]


@dataclass(frozen=True)
class Inspection:
    """What an artefact holds.

    Attributes:
        contents: All of it.
        newest_onnxruntime: The newest that the table of releases has.
    """

    contents: Contents
    newest_onnxruntime: str

    def to_json(self, *, graph: bool = False) -> dict[str, Any]:
        """The same as JSON has it.

        Args:
            graph: Whether the nodes are to be in it.
        """
        found = {**dataclasses.asdict(self.contents), "path": str(self.contents.path)}
        if not graph:
            del found["nodes"]
        return found


def inspect(path: Path | str) -> Inspection:
    """Looks into an `.onnx`, without opening a session.

    Raises:
        ExportError: It is not there, or no ONNX file.
    """
    return Inspection(contents(Path(path)), runtimes()[-1].version)
