"""What went wrong with a server, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

__all__ = ["code_of", "told"]

#: code of an answer -> what it means here, and what to do
_ANSWERS = {
    "NoSuchBucket": "there is no such bucket at {endpoint}: create it (aws s3 mb s3://{bucket}), "
    "or set AWS_ENDPOINT_URL_S3 to the server that has it",
    "NoSuchKey": "it is not there",
    "InvalidAccessKeyId": "{endpoint} does not know the access key: check AWS_ACCESS_KEY_ID, or "
    "the profile (AWS_PROFILE)",
    "SignatureDoesNotMatch": "{endpoint} refuses the secret key: check AWS_SECRET_ACCESS_KEY, or "
    "the profile (AWS_PROFILE)",
    "ExpiredToken": "the credentials have expired: log in again",
    "InvalidToken": "{endpoint} refuses AWS_SESSION_TOKEN: log in again, or unset it",
    "AccessDenied": "{endpoint} does not allow it to these credentials: ask for the right to "
    "read, list and write below s3://{bucket}",
    "RequestTimeTooSkewed": "this machine's clock and that of {endpoint} are too far apart: set "
    "the clock (timedatectl set-ntp true), and try again",
    "PermanentRedirect": "the bucket is in another region: set AWS_REGION to that",
    "AuthorizationHeaderMalformed": "the bucket is in another region: set AWS_REGION to that",
    "QuotaExceeded": "the quota is used up: make room, and try again",
    "BadDigest": "what arrived is not what was sent: try again",
    "XAmzContentSHA256Mismatch": "what arrived is not what was sent: try again",
    "SlowDown": "the server is overloaded: try again later",
    "ServiceUnavailable": "the server is overloaded: try again later",
    "InternalError": "the server failed: try again later",
}
#: answers to HEAD have a status and no code
_ANSWERS |= {
    "403": "{endpoint} refuses these credentials: check AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, the profile (AWS_PROFILE), the rights below s3://{bucket}, and this "
    "machine's clock",
    "404": _ANSWERS["NoSuchBucket"],
    "507": _ANSWERS["QuotaExceeded"],
}
_ANSWERS["InsufficientStorage"] = _ANSWERS["QuotaExceeded"]

#: class of an error on the way -> the same
_ON_THE_WAY = {
    "NoCredentialsError": "there are no credentials for {endpoint}: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY, or a profile (AWS_PROFILE)",
    "PartialCredentialsError": "the credentials are incomplete: set AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "there is no such profile in ~/.aws/config: check AWS_PROFILE",
    "EndpointConnectionError": "{endpoint} cannot be reached: check AWS_ENDPOINT_URL_S3 and the "
    "network, and try again",
    "ConnectTimeoutError": "{endpoint} does not answer: check AWS_ENDPOINT_URL_S3 and the network, "
    "and try again",
    "ReadTimeoutError": "{endpoint} did not answer in time: try again; what is there is not sent "
    "again",
    "SSLError": "no safe connection to {endpoint}: for a certificate of your own set AWS_CA_BUNDLE",
    "InvalidRegionError": "the region is no region: check AWS_REGION",
}
_CUT = "the connection to {endpoint} was cut: try again; what is there is not sent again"


def code_of(error: ClientError) -> str:
    """What the server said, e.g. `NoSuchKey`; the status where it said nothing."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def told(uri: str, bucket: str, client: Any) -> Iterator[None]:
    """Turns what boto3 raises into a `StorageError` that names an object."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = code_of(error)
        said = one_line(error.response.get("Error", {}).get("Message") or "", 200)
        known = _ANSWERS.get(code) or f"{{endpoint}} answered {code}: {{said}}"
        raise StorageError(_text(uri, known, bucket, client, said)) from error
    except (BotoCoreError, Boto3Error) as error:
        names = [kind.__name__ for kind in type(error).__mro__]
        known = next((_ON_THE_WAY[name] for name in names if name in _ON_THE_WAY), _CUT)
        raise StorageError(_text(uri, known, bucket, client, "")) from error
    except OSError as error:
        where = error.filename or uri
        raise StorageError(f"{where}: {error.strerror or one_line(error)}") from error


def _text(uri: str, known: str, bucket: str, client: Any, said: str) -> str:
    endpoint = "the server" if client is None else _endpoint(client)
    return f"{uri}: " + known.format(endpoint=endpoint, bucket=bucket, said=_without_secrets(said))


def _endpoint(client: Any) -> str:
    """The server's address, without a name and password that somebody wrote into it."""
    split = urlsplit(client.meta.endpoint_url)
    return f"{split.scheme}://{split.netloc.rpartition('@')[2]}"


def _without_secrets(said: str) -> str:
    """A server's message: some repeat what was sent."""
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID"):
        secret = os.environ.get(name)
        if secret:
            said = said.replace(secret, "…")
    return re.sub(r"(?i)(signature|credential)=\S+", r"\1=…", said)
