"""`python -m pytest_onnxcheck.cli`, which is the command `onnxcheck`."""

from __future__ import annotations

import sys

from pytest_onnxcheck.cli import main

if __name__ == "__main__":
    sys.exit(main())
