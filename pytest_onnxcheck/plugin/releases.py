"""What passed is released at the end of a run: `--onnxcheck-release`."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_onnxcheck.errors import ManifestError, OnnxCheckError
from pytest_onnxcheck.plugin.settings import SETTINGS, Settings

__all__ = ["Releases", "refuse_early"]


def refuse_early(config: pytest.Config, settings: Settings) -> None:
    """Raises a UsageError for what would be refused at the end, whatever the checks find."""
    if settings.release is None:
        if settings.sign is not None:
            raise pytest.UsageError("--onnxcheck-sign does nothing without --onnxcheck-release=TO")
        return
    if (
        hasattr(config, "workerinput")
        or config.pluginmanager.has_plugin("onnxcheck-isolated")
        or config.option.collectonly
    ):
        return
    from pytest_onnxcheck.api.release import check, wanted

    folder = config.invocation_params.dir
    named = [folder / argument.partition("::")[0] for argument in config.args]
    manifests = [path for path in named if path.suffix == ".toml" and path.is_file()]
    try:
        models = wanted(manifests, settings.models or ("*",)) if manifests else []
        check(models, settings.release, settings.sign)
    except ManifestError:
        return  # it is collected, which tells every mistake
    except OnnxCheckError as error:
        raise pytest.UsageError(f"--onnxcheck-release: {error}") from None


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
        from pytest_onnxcheck.api.release import release_all, wanted
        from pytest_onnxcheck.record.record import write

        settings = self._settings
        manifests = [Path(one["path"]) for one in record["manifests"]]
        with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
            path = Path(folder) / "record.json"
            write(record, path)
            for released in release_all(
                path,
                wanted(manifests, settings.models or ("*",)),
                str(settings.release),
                kept=settings.artifacts / "bundles",
                key=settings.sign,
            ):
                self._tell(released.summary)
                for text in released.told:
                    self._tell(text)

    def _tell(self, text: str, *, problem: bool = False) -> None:
        first, *more = text.splitlines()
        self.told += [(f"release  {first}", problem), *((line, problem) for line in more)]
