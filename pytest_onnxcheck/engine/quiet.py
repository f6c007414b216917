"""Keeps what libraries log, print and warn out of the report."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(logs: int = logging.CRITICAL) -> Iterator[list[warnings.WarningMessage]]:
    """Swallows standard output, all warnings, and log records up to a level.

    Args:
        logs: The highest level of the log records that are dropped; those above it get through.

    Yields:
        The warnings, as they come.
    """
    root = logging.getLogger()
    disabled, level = root.manager.disable, root.level
    logging.disable(max(disabled, logs))
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("always")
            yield warned
    finally:
        logging.disable(disabled)
        root.setLevel(level)  # onnxruntime's int4 quantizer sets it when it is imported
