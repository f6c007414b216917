"""What passed is released at the end of a run: `--onnxcheck-release`."""

from __future__ import annotations

import fnmatch
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.errors import ManifestError, OnnxCheckError, ReleaseError
from pytest_onnxcheck.plugin.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from pytest_onnxcheck.release import Bundle

__all__ = ["Releases", "refuse_early"]


def refuse_early(config: pytest.Config, settings: Settings) -> None:
    """Raises a UsageError for what would be refused at the end, whatever the checks find."""
    if settings.release is None:
        if settings.sign is not None:
            raise pytest.UsageError("--onnxcheck-sign does nothing without --onnxcheck-release=TO")
        return
    if hasattr(config, "workerinput") or config.option.collectonly:
        return
    from pytest_onnxcheck.api.release import ready

    folder = config.invocation_params.dir
    named = [folder / argument.partition("::")[0] for argument in config.args]
    manifests = [path for path in named if path.suffix == ".toml" and path.is_file()]
    try:
        ready(manifests, settings.sign)
    except ReleaseError as error:
        raise pytest.UsageError(f"--onnxcheck-release: {error}") from None
    except ManifestError:
        return  # it is collected, which tells every mistake


class Releases:
    """What one run releases.

    Attributes:
        told: What was released, and what was not, a line each, with whether that is a problem.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._settings: Settings = config.stash[SETTINGS]
        self.told: list[tuple[str, bool]] = []

    @property
    def wanted(self) -> bool:
        """Whether anything is to be released."""
        return self._settings.release is not None

    def make(self, record: Mapping[str, Any], exitstatus: int) -> bool:
        """Releases what the manifests say, if the whole run passed; whether all of it was released.

        Args:
            record: What the run leaves, as JSON.
            exitstatus: pytest's exit status.
        """
        if exitstatus:
            self._tell("nothing is released: the run did not pass", problem=True)
            return False
        try:
            self._release(record)
        except (OnnxCheckError, OSError) as error:
            self._tell(str(error), problem=True)
            return False
        return True

    def _release(self, record: Mapping[str, Any]) -> None:
        from pytest_onnxcheck.api.release import deliver

        for bundle in self._bundles(record):
            released = deliver(bundle)
            self._tell(released.summary)
            for text in released.told:
                self._tell(text)

    def _bundles(self, record: Mapping[str, Any]) -> list[Bundle]:
        from pytest_onnxcheck.api.release import bundle_all
        from pytest_onnxcheck.record.record import write

        manifests = [Path(one["path"]) for one in record["manifests"]]
        with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
            path = Path(folder) / "record.json"
            write(record, path)
            return bundle_all(
                path,
                {manifest: list(self._models(manifest)) for manifest in manifests},
                Path(str(self._settings.release)),
                key=self._settings.sign,
            )

    def _models(self, manifest: Path) -> Iterator[str]:
        """The models to release: those that the run was asked for."""
        from pytest_onnxcheck.release import released_models

        patterns = self._settings.models or ("*",)
        for name in released_models(manifest):
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                yield name

    def _tell(self, text: str, *, problem: bool = False) -> None:
        first, *more = text.splitlines()
        self.told += [(f"release  {first}", problem), *((line, problem) for line in more)]
