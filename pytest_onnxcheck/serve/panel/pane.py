"""What a tab is: what its button starts, and what it shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pytest_onnxcheck.serve.panel.view import View

__all__ = ["Pane"]


@dataclass(frozen=True)
class Pane:
    """One tab.

    Attributes:
        name: What stands on the tab.
        about: What it is for, in a sentence.
        show: What it shows of a model, as HTML.
        kind: The kind of job that its button starts; None where it has no button.
        button: What stands on the button.
    """

    name: str
    about: str
    show: Callable[[View], str]
    kind: str | None = None
    button: str = ""
