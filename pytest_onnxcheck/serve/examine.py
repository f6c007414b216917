"""The process that opens what somebody sent, with limits of memory and time.

    python -m pytest_onnxcheck.serve.examine FILE

It prints JSON: what the file is, or `error`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

from pytest_onnxcheck.processes import own_output

__all__ = ["main"]

#: bytes that torch itself takes, without any file
_OWN = 2 * 10**9
#: how many times a file's bytes are held while it is read
_COPIES = 3
#: seconds of processor time
_SECONDS = 120


def _limit(path: Path) -> None:
    """Bounds this process: the kernel refuses it memory, and ends it after its time."""
    try:
        import resource
    except ImportError:  # Windows: the parent's time limit is left
        return
    size = _OWN + _COPIES * path.stat().st_size
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(path: Path) -> None:
    """Opens the file and prints what it is."""
    messages = own_output()
    os.environ["OMP_NUM_THREADS"] = "1"
    _limit(path)
    from pytest_onnxcheck.api.received import examine
    from pytest_onnxcheck.errors import OnnxCheckError

    try:
        answer = dataclasses.asdict(examine(path))
    except OnnxCheckError as error:
        answer = {"error": str(error).replace(f"{path}: ", "")}
    except MemoryError:
        answer = {"error": "refused: it takes far more memory than a file of its size should"}
    print(json.dumps(answer), file=messages, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
