"""Processes that open sessions, run and time them: this side of `worker`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.environments import clean_environment
from pytest_onnxcheck.engine.runtime import worker
from pytest_onnxcheck.processes import ANSWER_SECONDS, Child, CrashError, NoAnswerError

__all__ = ["Refused", "added_peak", "ask", "child", "failure"]

_FILE = str(Path(worker.__file__).resolve())


class Refused(Exception):  # noqa: N818 - it is an answer
    """What a worker was asked for raised an error there.

    Attributes:
        kind: `import` where numpy or onnxruntime is missing, `library` where one of custom
            operators does not load, else `run`.
    """

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(text)
        self.kind = kind


def child(python: str | None = None) -> Child:
    """A worker, which starts when it is first asked.

    Args:
        python: Another interpreter than this one, which must not find this one's packages.
    """
    if python is None:
        return Child(_FILE)
    return Child(_FILE, program=python, environment=clean_environment())


def ask(process: Child, do: str, *, timeout: float = ANSWER_SECONDS, **arguments: Any) -> Any:
    """What a worker answers to a question.

    Args:
        process: The worker.
        do: The question: a method of `worker.Worker`.
        timeout: Seconds it may take.
        **arguments: The question's arguments.

    Raises:
        Refused: It raised an error.
        NoAnswerError: The worker crashed, hung, or sent what is no answer; it is gone.
        OSError: It cannot be started.
    """
    answer = process.ask({"do": do, **arguments}, timeout=timeout)
    if isinstance(answer, Mapping):
        if "value" in answer:
            return answer["value"]
        if "error" in answer:
            raise Refused(str(answer["error"]), str(answer.get("kind")))
    raise process.refuse("it wrote what is no answer")


def added_peak(
    process: Child, path: Path, opening: Mapping[str, object], inputs: Path
) -> int | None:
    """Bytes that opening a session and one run add to a worker's peak of memory.

    Args:
        process: The worker.
        path: The artefact.
        opening: The arguments of `worker.open_handle`.
        inputs: A file of inputs in the artefact's order (`worker.write_arrays`).

    Returns:
        None when they cannot be told, and when it does not run there, crashes or hangs: the check
        itself meets that too.
    """
    try:
        found: int | None = ask(
            process, "peak", path=str(path), opening=opening, inputs=str(inputs)
        )
    except (Refused, NoAnswerError):
        return None
    return found


def failure(error: NoAnswerError, *, ran: bool = False) -> str:
    """What became of a worker that opened a session, or ran one on an empty input; what to do."""
    if ran:
        return (
            f"ONNX Runtime {error} while it ran this artefact on an empty input: keep the size 0 "
            "away from it (out of `dims` and cases), or leave what it runs on empty inputs in float"
        )
    doing = f"ONNX Runtime {error} while it opened a session on this artefact"
    if isinstance(error, CrashError):
        text = (
            f"{doing}. The file may be valid and the runtime at fault; an earlier opset, another "
            "exporter or other session options may avoid it"
        )
    else:
        text = (
            f"{doing}, and was ended. The provider or its driver may hang: see whether "
            "the file opens outside of pytest, update the driver, or try other provider or session "
            "options. A provider that compiles for longer than that (TensorRT) has to find its "
            "work in a cache (trt_engine_cache_enable in the target's provider_options)"
        )
    return text + "".join(f"\n  {line}" for line in error.stderr_tail)
