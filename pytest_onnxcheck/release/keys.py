"""Keys to sign and to verify with: elliptic ones in PEM. Nothing of a private one is ever told."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.files import not_found

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

__all__ = [
    "PASSWORD",
    "SigningKey",
    "fingerprint",
    "needs_model_signing",
    "public_key",
    "signing_key",
]

#: the environment variable that holds the password of an encrypted key
PASSWORD = "ONNXCHECK_SIGN_PASSWORD"

#: curves that model-signing takes, as cryptography and as people call them
_CURVES = {"secp256r1": "P-256", "secp384r1": "P-384", "secp521r1": "P-521"}

_MAKE = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem"
_PUBLIC = "openssl pkey -in key.pem -pubout -out key.pub"


@dataclass(frozen=True)
class SigningKey:
    """A private key that was opened once.

    Attributes:
        path: Its file.
        public: The public key that belongs to it, in PEM.
        password: What opens the file; None where it is not encrypted.
    """

    path: Path
    public: bytes
    password: bytes | None = field(default=None, repr=False)


def fingerprint(public: bytes) -> str:
    """Hex SHA-256 of a public key in PEM, as `openssl pkey -pubout` writes it."""
    return hashlib.sha256(public).hexdigest()


def signing_key(path: Path) -> SigningKey:
    """Opens a private key, with the password in `ONNXCHECK_SIGN_PASSWORD` where it needs one.

    Args:
        path: A private key in PEM, on the curve P-256, P-384 or P-521.

    Raises:
        ReleaseError: It is none that can sign, or model-signing is missing.
    """
    needs_model_signing()
    try:
        return _opened(path)
    except ValueError as error:
        raise ReleaseError("nothing is signed", [str(error)]) from None


def public_key(path: Path) -> bytes:
    """Reads a public key; gives it in PEM.

    Raises:
        ValueError: It is none that a bundle is signed with.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    content = _content(path)
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        if b"PRIVATE KEY" in content:
            raise ValueError(
                f"{path} holds a private key: verify with the public one, made by `{_PUBLIC}`, "
                "and give the private one to nobody"
            ) from None
        raise ValueError(
            f"{path} holds no public key in PEM: verify with one made by `{_PUBLIC}`"
        ) from None
    return _pem(_elliptic(path, key))


def needs_model_signing() -> None:
    """Raises a ReleaseError that says what to install where model-signing is missing."""
    try:
        import model_signing.signing  # noqa: F401 - for what it imports, pyOpenSSL too
    except ImportError as error:
        raise ReleaseError(
            "nothing is signed, or verified with a key",
            [f"it needs model-signing ({error}): pip install 'pytest-onnxcheck[sign]'"],
        ) from None


def _opened(path: Path) -> SigningKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, given, password = _content(path), os.environ.get(PASSWORD), None
    try:
        key = load_pem_private_key(content, None)
    except TypeError:  # it is encrypted
        if not given:
            raise ValueError(
                f"{path} is encrypted: put its password into the environment variable {PASSWORD}"
            ) from None
        password = given.encode()
        try:
            key = load_pem_private_key(content, password)
        except (TypeError, ValueError, UnsupportedAlgorithm):
            raise ValueError(
                f"{path} is encrypted, and the password in {PASSWORD} does not open it"
            ) from None
    except (ValueError, UnsupportedAlgorithm):
        what = "holds a public key" if b"PUBLIC KEY" in content else "holds no private key in PEM"
        raise ValueError(f"{path} {what}: sign with a private one, made by `{_MAKE}`") from None
    return SigningKey(path, _pem(_elliptic(path, key.public_key())), password)


def _elliptic(path: Path, public: object) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    curves = ", ".join(_CURVES.values())
    if not isinstance(public, EllipticCurvePublicKey):
        kind = type(public).__name__.removesuffix("PublicKey")
        raise ValueError(
            f"{path} is a key of type {kind}: it must be an elliptic one ({curves}), made by "
            f"`{_MAKE}`"
        )
    if public.curve.name not in _CURVES:
        raise ValueError(
            f"{path} is a key on the curve {public.curve.name}: it must be on one of {curves}, "
            f"made by `{_MAKE}`"
        )
    return public


def _pem(public: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ValueError(not_found(path)) from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
