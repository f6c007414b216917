"""Peak memory: what one session and one run add to the host's, in the sandbox's child, and a GPU's.

Python's own tools see nothing of what native code allocates, and the peak of this process has
PyTorch in it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.runtime import sandbox
from pytest_onnxcheck.engine.runtime.libraries import opening_of
from pytest_onnxcheck.engine.runtime.worker import write_arrays

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.artefacts.artefact import Artefact
    from pytest_onnxcheck.engine.runtime.session import Session

__all__ = ["device_added", "peak"]


def peak(artefact: Artefact, session: Session, threads: int, inputs: dict[str, Any]) -> int | None:
    """Bytes that opening an artefact and one run add to the peak of resident memory.

    It repeats within about 15%: allocators keep and reuse pages as they like.

    Args:
        artefact: The artefact.
        session: An open session of it, which says how to open another.
        threads: Intra-op threads.
        inputs: Input name -> array.

    Returns:
        None where it cannot be measured: not on Linux, or the run failed.
    """
    if session.target.engine is not None:  # the sandbox knows ONNX Runtime alone
        return None
    arrays = session.cast_inputs(inputs)
    if session.target.elsewhere:
        measured: int | None = session.handle.added_peak(arrays, threads)
        return measured
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "inputs")
        write_arrays(str(file), (arrays[name] for name in session.inputs))
        return sandbox.added_peak(artefact.path, opening_of(session.target), threads, file)


def device_added(run: Callable[[], Any], device: str) -> int:
    """Bytes of a GPU's memory that a call takes; never run on a GPU so far.

    What is free is counted for all processes on it: another one that begins or ends meanwhile is
    counted too. ONNX Runtime keeps what it once took, so that this is its peak.

    Args:
        run: The call; what it returns lives until the memory was read.
        device: torch's name of the GPU.
    """
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.empty_cache()
    before, _ = torch.cuda.mem_get_info(device)
    kept = run()
    torch.cuda.synchronize(device)
    after, _ = torch.cuda.mem_get_info(device)
    del kept
    return max(before - after, 0)
