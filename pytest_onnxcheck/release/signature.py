"""The signature of a bundle: OpenSSF model-signing's, made with an elliptic key, offline.

It is a file of its own in the bundle, and covers all others by their hashes. model-signing's own
command line accepts the folder too.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.release.contents import SIGNATURE
from pytest_onnxcheck.release.keys import SigningKey, fingerprint, needs_model_signing, public_key
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    from model_signing.hashing import Config

__all__ = ["Statement", "faults", "sign", "statement"]

_AGAIN = "get the bundle again from where it was released"


@dataclass(frozen=True)
class Statement:
    """What a signature says, whether it is right or not.

    Attributes:
        key: Fingerprint of the public key; empty where the signature names none.
        hashes: Hex digest of each file that it covers, by the file's path in the bundle.
    """

    key: str
    hashes: Mapping[str, str]


def sign(folder: Path, key: SigningKey) -> None:
    """Writes the signature of all files in a folder, under the folder's name, into it."""
    from model_signing import signing

    config = signing.Config().use_elliptic_key_signer(
        private_key=key.path,
        password=key.password,  # it says str, and hands on what needs bytes
    )
    config.set_hashing_config(_covering()).sign(folder, folder / SIGNATURE)


def statement(folder: Path) -> Statement | None:
    """What the signature in a folder says; None where there is none.

    Raises:
        ValueError: The file is no such signature, or not all of it.
    """
    path = folder / SIGNATURE
    if not (path.exists() or path.is_symlink()):
        return None
    try:
        written: Any = json.loads(path.read_text(encoding="utf-8"))
        hint = written["verificationMaterial"]["publicKey"].get("hint")
        payload = json.loads(base64.b64decode(written["dsseEnvelope"]["payload"]))
        resources = payload["predicate"]["resources"]
        hashes = {str(each["name"]): str(each["digest"]) for each in resources}
    except (OSError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{SIGNATURE}: cut short, or no signature of model-signing with a key "
            f"({type(error).__name__}: {one_line(error, 100)}): {_AGAIN}"
        ) from None
    return Statement(str(hint or ""), hashes)


def faults(folder: Path, hashes: Mapping[str, str], key: Path | None = None) -> Iterator[str]:
    """What is wrong with the signature of a folder, a sentence each.

    Args:
        folder: The bundle.
        hashes: Hex SHA-256 of each file that is in it.
        key: The public key that it must be signed with, in PEM. Without, an unsigned folder is
            fine, and of a signed one it is only looked at whether it covers these files.

    Raises:
        ReleaseError: There is a key, and model-signing is missing.
    """
    try:
        said = statement(folder)
        public = None if key is None else _public_key(key)
    except ValueError as error:
        yield str(error)
        return
    if said is None:
        if key is not None:
            yield (
                f"not signed ({SIGNATURE} is missing), and must be with the key in {key}: take a "
                "bundle that was made with --sign, or verify without a key"
            )
        return
    other = list(_other_files(said.hashes, hashes))
    yield from other
    if key is None or public is None:
        return
    if said.key and said.key != fingerprint(public):
        yield (
            f"{SIGNATURE}: signed with another key ({said.key[:12]}…) than the one in {key} "
            f"({fingerprint(public)[:12]}…): ask whoever released it for their public key, and "
            "leave the bundle alone until one that you trust fits"
        )
        return
    refused = _refused(folder, key)
    if refused is not None and not other:
        yield f"{SIGNATURE}: not made with the key in {key}{refused}: {_AGAIN}"


def _public_key(path: Path) -> bytes:
    needs_model_signing()
    return public_key(path)


def _covering() -> Config:
    """All files but the signature itself; git's too, which model-signing leaves out by itself."""
    from model_signing.hashing import Config

    return Config().set_ignored_paths(paths=[SIGNATURE], ignore_git_paths=False)


def _other_files(signed: Mapping[str, str], found: Mapping[str, str]) -> Iterator[str]:
    for name in sorted({*signed, *found} - {SIGNATURE}):
        if name not in found:
            yield f"{name}: missing, and it was signed: {_AGAIN}"
        elif name not in signed:
            yield f"{name}: not signed: it was added after the bundle was made: delete it"
        elif signed[name] != found[name]:
            yield (
                f"{name}: changed since it was signed: SHA-256 {found[name][:12]}…, signed "
                f"{signed[name][:12]}…: {_AGAIN}"
            )


def _refused(folder: Path, key: Path) -> str | None:
    """What model-signing has against a folder: a text to go behind a sentence; None for nothing."""
    from model_signing import verifying

    config = verifying.Config().use_elliptic_key_verifier(public_key=key)
    config.set_hashing_config(_covering())
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints a warning of old signatures
            config.verify(folder, folder / SIGNATURE)
    except Exception as error:  # whatever comes of a file that somebody wrote by hand
        text = one_line(error, 200)
        return f" ({text})" if text else ""
    return None
