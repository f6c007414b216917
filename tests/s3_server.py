"""moto's server, which stands in for a real S3 server; tests/services/ has those."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import pytest

#: what nothing may ever print or write
ACCESS_KEY, SECRET_KEY = "access-7c1f93e2", "secret-b05d1e6a94c8f7"


@contextmanager
def moto_server() -> Iterator[str]:
    """The URL of a server on loopback, in a thread of this process."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@cache
def _loader(search_path: str | None = None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(search_path)


def new_bucket(endpoint: str) -> str:
    """Makes a bucket with a name of its own."""
    name = f"bucket-{secrets.token_hex(4)}"
    client(endpoint).create_bucket(Bucket=name)
    return name


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Has the standard places of AWS name a server and credentials, and nothing else."""
    # reading what AWS offers takes a tenth of a second, and every client would do it anew
    monkeypatch.setattr("botocore.session.create_loader", _loader)
    for name, value in environment(endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def environment(endpoint: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@cache
def client(endpoint: str) -> Any:
    """boto3's client, beside the code that is tested."""
    from boto3.session import Session

    return Session(ACCESS_KEY, SECRET_KEY, region_name="us-east-1").client(
        "s3", endpoint_url=endpoint
    )
