"""Line numbers of the keys in a TOML document, which `tomllib` does not give.

The scanner runs on text that `tomllib` has already accepted, so it only needs to tell keys
from values, never to judge them.
"""

from __future__ import annotations

import re
from bisect import bisect_left

__all__ = ["KeyPath", "key_lines"]

#: the keys and indices that lead to a value, from the top of the document
KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]+")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Maps the path of every table, key and array element to its line, counted from 1.

    Args:
        text: A TOML document that `tomllib.loads` accepts.

    Returns:
        For example ``{("models", "vit"): 3, ("models", "vit", "inputs", "x", "shape"): 7}``.
    """
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self._arrays: dict[KeyPath, int] = {}

    def document(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                table = self._header(2)
            elif self.text.startswith("[", self.at):
                table = self._header(1)
            else:
                self._key_value(table)
            self._skip(_BLANK)

    def _header(self, brackets: int) -> KeyPath:
        start = self.at
        self.at += brackets
        keys = self._dotted_key()
        self._skip(_BLANK)
        self.at += brackets
        path = self._in_arrays(keys[:-1])
        if brackets == 2:
            array = (*path, keys[-1])
            index = self._arrays.get(array, -1) + 1
            self._arrays[array] = index
            path = (*array, index)
        else:
            path = self._in_arrays(keys)
        self._mark(path, start)
        return path

    def _in_arrays(self, keys: KeyPath) -> KeyPath:
        """Inserts the index of the current element after each key that is an array of tables."""
        path: KeyPath = ()
        for key in keys:
            path = (*path, key)
            if path in self._arrays:
                path = (*path, self._arrays[path])
        return path

    def _key_value(self, table: KeyPath) -> None:
        start = self.at
        path = (*table, *self._dotted_key())
        self._mark(path, start)
        self._skip(_BLANK)
        self.at += 1  # the equals sign
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip(_BLANK)
        char = self.text[self.at]
        if char == "[":
            self._elements(path, "]", keyed=False)
        elif char == "{":
            self._elements(path, "}", keyed=True)
        elif char in "\"'":
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _elements(self, path: KeyPath, closing: str, *, keyed: bool) -> None:
        self.at += 1
        index = 0
        self._skip(_BLANK)
        while self.text[self.at] != closing:
            if keyed:
                self._key_value(path)
            else:
                self._mark((*path, index), self.at)
                self._value((*path, index))
                index += 1
            self._skip(_BLANK)
            if self.text[self.at] == ",":
                self.at += 1
                self._skip(_BLANK)
        self.at += 1

    def _dotted_key(self) -> KeyPath:
        keys: list[str] = []
        while True:
            self._skip(_BLANK)
            if self.text[self.at] in "\"'":
                keys.append(_unquote(self._skip(_STRING)))
            else:
                keys.append(self._skip(_BARE_KEY))
            self._skip(_BLANK)
            if self.text[self.at] != ".":
                return tuple(keys)
            self.at += 1

    def _mark(self, path: KeyPath, position: int) -> None:
        line = bisect_left(self._newlines, position) + 1
        for end in range(1, len(path) + 1):
            self.lines.setdefault(path[:end], line)
        self.lines[path] = line

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not TOML at offset {self.at}")
        self.at = match.end()
        return match.group()


def _unquote(quoted: str) -> str:
    body = quoted[1:-1]
    if quoted[0] == "'":
        return body
    names = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", "e": "\x1b"}

    def char(match: re.Match[str]) -> str:
        code = match.group(1)
        return chr(int(code[1:], 16)) if code[0] in "uU" else names.get(code, code)

    return _ESCAPE.sub(char, body)
