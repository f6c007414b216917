"""Keys to sign with, made in the test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def write_key(path: Path, key: Any, password: str | None = None) -> Path:
    """Writes a private key, and its public one beside it as `.pub`."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        encryption = serialization.BestAvailableEncryption(password.encode())
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(pem, pkcs8, encryption))
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    path.with_suffix(".pub").write_bytes(key.public_key().public_bytes(pem, info))
    return path


def elliptic(
    path: Path, curve: ec.EllipticCurve | None = None, password: str | None = None
) -> Path:
    """A new elliptic key, on P-256 where no curve is given."""
    return write_key(path, ec.generate_private_key(curve or ec.SECP256R1()), password)
