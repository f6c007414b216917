"""What passed leaves the gate as a bundle: a folder with its files, their hashes, and why."""

from pytest_onnxcheck.release.bundle import Bundle, bundle, released_models
from pytest_onnxcheck.release.fetch import fetch
from pytest_onnxcheck.release.metadata import Metadata
from pytest_onnxcheck.release.publish import Published, publish
from pytest_onnxcheck.release.published import ReleaseFile
from pytest_onnxcheck.release.registry import Registered, refuse_names, register
from pytest_onnxcheck.release.releases import Releases, releases, rollback
from pytest_onnxcheck.release.verify import verify

__all__ = [
    "Bundle",
    "Metadata",
    "Published",
    "Registered",
    "ReleaseFile",
    "Releases",
    "bundle",
    "fetch",
    "publish",
    "refuse_names",
    "register",
    "released_models",
    "releases",
    "rollback",
    "verify",
]
