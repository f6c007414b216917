"""A report to look at: one HTML file that needs no network, and no script to be read."""

from pytest_onnxcheck.report.html.document import page

__all__ = ["page"]
