"""What passed leaves the gate as a bundle: a folder with its files, their hashes, and why."""

from pytest_onnxcheck.release.bundle import Bundle, bundle, released_models
from pytest_onnxcheck.release.metadata import Metadata
from pytest_onnxcheck.release.registry import Registered, register
from pytest_onnxcheck.release.verify import verify

__all__ = ["Bundle", "Metadata", "Registered", "bundle", "register", "released_models", "verify"]
