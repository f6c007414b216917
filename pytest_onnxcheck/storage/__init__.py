"""Objects kept by key: in a folder, or in a bucket of an S3 server; nothing is ever half there."""

from pytest_onnxcheck.storage.address import Address, parse
from pytest_onnxcheck.storage.opening import open_store
from pytest_onnxcheck.storage.store import Content, Store, Stored

__all__ = ["Address", "Content", "Store", "Stored", "open_store", "parse"]
