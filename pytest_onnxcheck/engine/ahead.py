"""A child process that builds artefacts before they are needed, while checks run elsewhere.

A question is `{"path", "root", "pickled", "variants"}`: Python's module path, the artefacts'
folder, the manifest's model and what opens the cache, pickled, and the names of the variants. The
answer, null, says that they are built as far as they can be: what fails here fails again, and is
told, where the check builds it.
"""

from __future__ import annotations

import base64
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.descendants import end_with_parent
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.processes import serve

__all__ = ["question"]


def question(
    model: Model, variants: Iterable[str], root: Path, cache: Callable[[], BuildCache]
) -> dict[str, Any]:
    """What asks for the artefacts of a model.

    Args:
        model: The model.
        variants: The names of those that are wanted.
        root: The artefacts' folder.
        cache: Opens where they are kept.
    """
    pickled = base64.b64encode(pickle.dumps((model, cache))).decode("ascii")
    return {"path": sys.path, "root": str(root), "pickled": pickled, "variants": list(variants)}


def _answer(question: dict[str, Any]) -> None:
    sys.path[:] = question["path"]
    model: Model
    model, cache = pickle.loads(base64.b64decode(question["pickled"]))  # our parent's
    builds = Builds(Path(question["root"]), cache(), opened=False)
    with contextlib.suppress(Exception):
        reference = builds.reference(model)
        for variant in model.variants:
            if variant.name in question["variants"] and variant.file is None:
                with contextlib.suppress(Exception):
                    builds.artefact(reference, variant)


def _prepare() -> None:
    """Imports what every export needs."""
    import onnxscript  # noqa: F401
    import torch.onnx  # noqa: F401


if __name__ == "__main__":
    if sys.platform == "linux":
        end_with_parent(signal.SIGKILL)  # be it stopped or busy
    if os.getppid() != int(sys.argv[1]):
        sys.exit()  # it ended before that
    serve(_answer, _prepare)
