"""What the command prints: nothing in it reaches the terminal as a control sequence."""

from __future__ import annotations

import unicodedata

import click

__all__ = ["echo", "shown"]

#: control and formatting characters, halves of surrogate pairs, and other ends of lines
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")


def shown(text: object) -> str:
    """A text as a terminal may have it: names of files, layers and outputs may hold anything."""
    return "".join(
        char
        if char in "\n\t" or unicodedata.category(char) not in _HIDDEN
        else ascii(char).strip("'\"")
        for char in str(text)
    )


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Prints a text, to stderr with `err`; without a line's end where not `nl`."""
    click.echo(shown(text), err=err, nl=nl)
