"""MLflow as it is talked to here: within bounded time, quietly, its errors in our words."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.record.origin import without_secrets
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

__all__ = ["code_of", "registry", "registry_uri"]

#: What MLflow is set to where the environment does not say otherwise. Its own defaults are seven
#: retries of 120 s each, a line with the server's address (and what credentials are in it) for
#: every run that ends, and a report of what was called to its makers.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}

_INSTALL = "pip install 'pytest-onnxcheck[mlflow]'"
_CREDENTIALS = (
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, or the file "
    "~/.mlflow/credentials"
)


@contextmanager
def registry(what: str) -> Iterator[MlflowClient]:
    """A client of the registry that MLflow's own settings name.

    Args:
        what: What is not done where it fails.

    Raises:
        ReleaseError: MLflow is not installed or set up, its server is not reached within about a
            minute, or refuses; without any credentials in the text.
    """
    with _settings(), warnings.catch_warnings():
        # stages are deprecated, which is said by whoever asks for one
        warnings.simplefilter("ignore")
        try:
            import mlflow
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            why = f"MLflow cannot be imported ({one_line(error, 200)}): {_INSTALL}"
            raise ReleaseError(what, [why]) from error
        if not mlflow.is_tracking_uri_set():
            why = (
                "no server is named: set MLFLOW_TRACKING_URI, e.g. to https://mlflow.example.org "
                f"(credentials: {_CREDENTIALS})"
            )
            raise ReleaseError(what, [why])
        try:
            yield mlflow.MlflowClient()
        except MlflowException as error:
            raise ReleaseError(what, [_told(error, registry_uri())]) from None
        except ReleaseError:
            raise
        except ImportError as error:
            why = f"what keeps MLflow's data needs a package: {_safe(error)}: install it"
            raise ReleaseError(what, [why]) from None
        except Exception as error:  # of the libraries that MLflow keeps artefacts and databases by
            raise ReleaseError(what, [_safe(f"{type(error).__name__}: {error}")]) from None


def registry_uri() -> str:
    """Where the registry is; it may have credentials in it."""
    import mlflow

    return str(mlflow.get_registry_uri())


def code_of(error: MlflowException) -> str:
    """What kind of error it is, e.g. `RESOURCE_DOES_NOT_EXIST`."""
    return str(error.error_code)


@contextmanager
def _settings() -> Iterator[None]:
    ours = {name: value for name, value in _SETTINGS.items() if name not in os.environ}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name in ours:
            os.environ.pop(name, None)


def _told(error: MlflowException, uri: str) -> str:
    """What went wrong, and how to mend it."""
    server, code = _safe(uri), code_of(error)
    request = _request_error(error)
    if request is not None:
        return _of_request(request, server)
    if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return f"{server} does not take the credentials (401): set {_CREDENTIALS}"
    if code == "PERMISSION_DENIED":
        return (
            f"{server} does not allow it (403): {_safe(error.message)}: ask for the right to "
            "register, or use other credentials"
        )
    if "valid JSON" in error.message or (
        code == "ENDPOINT_NOT_FOUND" and "Response body" in error.message
    ):
        return f"what answers at {server} is no MLflow server: look at MLFLOW_TRACKING_URI"
    return f"{server}: {_safe(error.message)} ({code})"


def _of_request(error: Exception, server: str) -> str:
    from requests import exceptions

    seconds = os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    if any(isinstance(one, (TimeoutError, exceptions.Timeout)) for one in _chain(error)):
        return (
            f"{server} does not answer within {seconds} s: is it up? (a slow one: "
            "MLFLOW_HTTP_REQUEST_TIMEOUT, MLFLOW_HTTP_REQUEST_MAX_RETRIES)"
        )
    if isinstance(error, exceptions.SSLError):
        return (
            f"{server}: the certificate is not trusted: {_safe(error)} "
            "(MLFLOW_TRACKING_SERVER_CERT_PATH names the authority)"
        )
    if isinstance(error, exceptions.RetryError):
        return f"{server} answers with errors: {_safe(error)}: look into its log, then try again"
    return (
        f"{server} is not reached ({_safe(_innermost(error))}): is it up, and does "
        "MLFLOW_TRACKING_URI name it?"
    )


def _innermost(error: BaseException) -> str:
    """What the system said, without the layers above it; e.g. `Connection refused`."""
    said = [one.strerror for one in _chain(error) if isinstance(one, OSError) and one.strerror]
    return said[-1] if said else str(error)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what led to it, the last first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _request_error(error: BaseException) -> Exception | None:
    """The error of the request in it; None where the server has answered."""
    from requests.exceptions import RequestException

    return next((one for one in _chain(error) if isinstance(one, RequestException)), None)


def _safe(text: object) -> str:
    return without_secrets(one_line(text, 300))
