"""What a published bundle is called: from a pattern, and what is known of the bundle."""

from __future__ import annotations

from datetime import UTC, datetime
from string import Formatter

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.manifest.terms import NAME
from pytest_onnxcheck.release.metadata import Metadata
from pytest_onnxcheck.wording import listed, meant

__all__ = ["PATTERN", "version_of"]

PATTERN = "v{UTC:%Y%m%d_%H%M%S}-{sha256:12}"
#: how many digits of the hash keep two bundles apart
_FEWEST = 12


class _Digits(str):
    """A hash, of which `{sha256:12}` gives the first twelve digits."""

    __slots__ = ()

    def __format__(self, spec: str) -> str:
        return self[: int(spec)] if spec else str(self)


def version_of(pattern: str, known: Metadata, sha256: str) -> str:
    """The name of the folder that a bundle is published in.

    It follows from the bundle alone, whenever and by whom it is published: so the same bundle finds
    itself there, and no other one ever does, since the hash is in it.

    Args:
        pattern: A text with `{sha256:12}` (of the bundle; twelve digits or more), and, as far as
            wanted, `{UTC:%Y%m%d}` (when the run of the gate ended), `{name}`, `{version}`,
            `{model}`, `{variant}`, `{precision}`, `{opset}`.
        known: The bundle's metadata.
        sha256: The bundle's hash.

    Raises:
        ReleaseError: It is no such pattern.
    """
    fields: dict[str, object] = {
        "UTC": datetime.fromisoformat(known.run.date).astimezone(UTC),
        "sha256": _Digits(sha256),
        "name": known.name,
        "version": known.version,
        "model": known.model,
        "variant": known.variant,
        "precision": known.precision,
        "opset": known.opset,
    }
    try:
        used = [name for _, name, _, _ in Formatter().parse(pattern) if name is not None]
        for name in used:
            if name not in fields:
                there = listed([f"{{{field}}}" for field in fields])
                raise _wrong(pattern, f"there is no {{{name}}}{meant(name, fields)}: {there}")
        made = pattern.format(**fields)
    except ValueError as error:
        raise _wrong(pattern, f"{error}: write it as {PATTERN}") from error
    if sha256[:_FEWEST] not in made:
        raise _wrong(
            pattern,
            f"two bundles would share a folder: put {{sha256:{_FEWEST}}} into it, or more digits",
        )
    if not NAME.fullmatch(made):
        raise _wrong(
            pattern,
            f"it gives {made!r}: one folder's name may hold letters, digits and . _ + - only, and "
            "starts with a letter, a digit or _",
        )
    return made


def _wrong(pattern: str, why: str) -> ReleaseError:
    return ReleaseError(f"the pattern {pattern!r} cannot be used", [why])
