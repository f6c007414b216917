"""What is said of an export that failed: the user's line, the message, and the graph, cut."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_onnxcheck.engine.reference.imports import is_users, module_names, user_lines
from pytest_onnxcheck.wording import one_line

__all__ = ["cause", "graph_excerpt", "root_of", "users_line"]

#: how many characters of an error are repeated
_MOST_CHARACTERS = 600
#: how many lines of a graph are shown, and how many characters of each
_LINES, _WIDTH = 12, 160

#: what torch appends to its messages: advice on itself, and the place, which is said before
_ADVICE = re.compile(
    r"^(consider using |Caused by: |For more |For extended |For C\+\+ |If you suspect |"
    r"The following call raised |The error above |Original traceback|While executing |"
    r"GraphModule: |See the stack trace|\(Refer to )",
    re.MULTILINE,
)
_TRACE = re.compile(r'File "([^"]+)", line (\d+), in (\S+)')
#: torch.export's word for a dim that forward fixes
_FIXED = re.compile(r"static shape of (\d+) for dimension inputs\['(\w+)'\]\.shape\[(\d+)\]")
#: where TorchScript says that a node comes from
_SCRIPT_PLACE = re.compile(r"# (\S+\.py):(\d+):\d+$")


@dataclass(frozen=True)
class _Line:
    """A line of the user's code."""

    file: str
    number: int
    function: str | None

    def __str__(self) -> str:
        source = ""
        try:
            lines = Path(self.file).read_text(encoding="utf-8").splitlines()
            source = lines[self.number - 1].strip()
        except (OSError, IndexError, UnicodeDecodeError):
            pass
        inside = f" in {self.function}" if self.function else ""
        quoted = f": `{one_line(source, 120)}`" if source else ""
        return f"{self.file}:{self.number}{inside}{quoted}"


def root_of(error: BaseException) -> BaseException:
    """The innermost of errors that were raised from one another."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def users_line(error: BaseException, printed: str) -> str:
    """The user's line at which an export failed, and a line break; empty where none is known.

    Args:
        error: What the exporter raised.
        printed: What it wrote to stdout: TorchScript's graph.
    """
    found = next(_places(error, printed), None)
    return "" if found is None else f"{found}\n"


def cause(error: BaseException) -> str:
    """The innermost error in one line: exporters wrap it in pages of advice."""
    root = root_of(error)
    text = module_names(str(root))
    advice = _ADVICE.search(text)
    said = text[: advice.start()] if advice and advice.start() else text
    return f"{type(root).__name__}: {one_line(said, _MOST_CHARACTERS)}{_hint(root)}"


def graph_excerpt(error: BaseException, printed: str) -> str:
    """The end of the graph that an exporter shows, a line break before it; empty without one."""
    text = printed.partition("Torch IR graph at exception: ")[2]
    if not text:
        text = str(root_of(error)).partition("GraphModule: ")[2].partition("Original traceback")[0]
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    shown = [line if len(line) <= _WIDTH else f"{line[:_WIDTH]} …" for line in lines[-_LINES:]]
    title = f"the last {_LINES} of {len(lines)} lines" if len(lines) > _LINES else "as it was"
    return "\n".join([f"\nThe exporter's graph, {title}:", *shown])


def _places(error: BaseException, printed: str) -> Iterator[_Line]:
    """Lines of the user's code, the most telling first."""
    root = root_of(error)
    for file, number, function in reversed(user_lines(root)):
        yield _Line(file, number, function)
    # of a node that is being translated, and in torch's messages
    for text in (*_traces(error), str(root)):
        for file, number, function in reversed(_TRACE.findall(text)):
            if is_users(file):
                yield _Line(file, int(number), function)
    operator = re.search(r"(\w+::\w+)", str(root))
    for line in printed.splitlines():
        found = _SCRIPT_PLACE.search(line.rstrip())
        if found and is_users(found[1]) and operator and f"{operator[1]}(" in line:
            yield _Line(found[1], int(found[2]), None)


def _traces(error: BaseException) -> Iterator[str]:
    """The stack traces of the nodes that were being translated when errors were raised."""
    current: BaseException | None = error
    while current is not None:
        traceback = current.__traceback__
        while traceback is not None:
            node = traceback.tb_frame.f_locals.get("node")
            trace = getattr(node, "meta", None)
            if isinstance(trace, dict) and trace.get("stack_trace"):
                yield str(trace["stack_trace"])
            traceback = traceback.tb_next
        current = current.__cause__


def _hint(root: BaseException) -> str:
    """What to do, of what torch says in words of its own."""
    if "data-dependent" in str(root):
        return (
            ". forward takes another way for other values of its inputs, and a graph has one: "
            "compute both and choose with torch.where, or use torch.cond"
        )
    fixed = _FIXED.search(str(root))
    if fixed:
        size, name, axis = fixed.groups()
        return (
            f". forward takes no other size than {size} in dim {axis} of {name} (a size written in "
            f"view or reshape, or a weight of that size): let it follow {name}.shape, or write "
            f"{size} in inputs.{name}.shape"
        )
    return ""
