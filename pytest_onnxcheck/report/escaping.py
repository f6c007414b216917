"""What comes from a manifest or a file, made harmless for where it is shown.

Names of outputs, layers and files, reasons and errors may hold anything: markup, control sequences
of terminals, line breaks, commands of a CI's log. HTML escapes by itself (jinja2's `autoescape`);
`visible` is applied there too.
"""

from __future__ import annotations

import re
import unicodedata

__all__ = [
    *("cell", "code", "fenced", "inline", "terminal", "visible"),
    *("markdown", "workflow_data", "workflow_property"),
]

#: what GitHub's runner takes for a command: `::` at the start of a line, `##[` anywhere
_COMMAND = re.compile(r"^([^\S\n]*)::", re.MULTILINE)
_OLD_COMMAND = re.compile(r"##(?=\[)")

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#!|~&$])")

#: what GitHub and GitLab make links of that notify: `@name`, `#12`, `!12`
_MENTION = re.compile(r"(?:@|\\[#!])(?=\w)")
_NOTHING = "\u200b"

#: the cells of our own tables
_PLAIN = re.compile(r"[\w .+\-:%,/()]*")


def visible(text: object) -> str:
    """A text whose control and formatting characters are shown as escapes; lines stay lines.

    These are the control characters of terminals, those that turn the direction of writing, and
    halves of surrogate pairs, which no file can hold.
    """
    return "".join(
        char if char in "\n\t" or not _hidden(char) else _escape(char) for char in str(text)
    )


def _hidden(char: str) -> bool:
    kind = unicodedata.category(char)
    return kind in ("Cc", "Cf", "Cs", "Zl", "Zp") and char != "\u200d"  # joins emoji


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"


def terminal(text: object) -> str:
    """A text for a terminal, also the one that GitHub's runner reads as a log."""
    return _OLD_COMMAND.sub("# #", _COMMAND.sub(r"\1: :", visible(text)))


def inline(text: object) -> str:
    """A text on one line."""
    return visible(" ".join(str(text).split()))


def markdown(text: object) -> str:
    """A text on one line as Markdown that shows it as it is, in the cell of a table too.

    Nobody is notified by it: a character of no width stands behind `@` and `#`.
    """
    escaped = _MARKDOWN.sub(r"\\\1", inline(text))
    return _MENTION.sub(lambda found: found[0] + _NOTHING, escaped)


def cell(text: object) -> str:
    """The same, and as it is where it holds nothing that Markdown might take for its own."""
    return str(text) if _PLAIN.fullmatch(str(text)) else markdown(text)


def code(text: object) -> str:
    """A text on one line as Markdown's code, in the cell of a table too."""
    shown = inline(text)
    if not shown:
        return ""
    fence = "`" * (_longest_run(shown) + 1)
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}".replace("|", "\\|")


def fenced(text: object, language: str = "text") -> str:
    """Lines as a block of Markdown's code."""
    shown = visible(text)
    fence = "`" * max(3, _longest_run(shown) + 1)
    return f"{fence}{language}\n{shown}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def workflow_data(text: object) -> str:
    """The message of a workflow command of GitHub's."""
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def workflow_property(text: object) -> str:
    """A property of a workflow command of GitHub's."""
    return workflow_data(text).replace(":", "%3A").replace(",", "%2C")
