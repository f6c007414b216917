"""Hooks and options: thin, and free of heavy imports, for every pytest run pays for them."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.heap import keep_freed
from pytest_onnxcheck.plugin import hookspecs
from pytest_onnxcheck.plugin.afar import Afar
from pytest_onnxcheck.plugin.fixtures import *  # noqa: F403 - registers them
from pytest_onnxcheck.plugin.isolation import Isolation
from pytest_onnxcheck.plugin.journaling import Journaling
from pytest_onnxcheck.plugin.releases import refuse_early
from pytest_onnxcheck.plugin.reports import SIGNS, WIDTH, has_signs, terminal_width
from pytest_onnxcheck.plugin.results import Results
from pytest_onnxcheck.plugin.resume import RESUME, Resume
from pytest_onnxcheck.plugin.schedule import divide_threads, only_models, worker_count
from pytest_onnxcheck.plugin.settings import SETTINGS, Settings, add_options, build_cache
from pytest_onnxcheck.plugin.ticker import start as start_ticker
from pytest_onnxcheck.plugin.usage import refuse

if TYPE_CHECKING:
    from pytest_onnxcheck.plugin.collection import ModelsFile

_MARKERS = {
    "onnxcheck": "every check generated from a models.toml",
    "export": "the model exports to a valid ONNX file",
    "structure": "the artefact has the declared inputs, outputs, opset and no training operators",
    "quantization": "the artefact carries its precision and stays within its size budget",
    "target": "an accelerator is there and runs the artefact itself, rather than the CPU",
    "equivalence": "the artefact computes what PyTorch computes",
    "accuracy": "the artefact is as good at its task as PyTorch, on labelled data",
    "mutation": "the checks notice faults put into the artefact",
    "latency": "the artefact is fast enough",
    "release": "the file that is released gives the artefact's outputs, bit by bit",
    "recommend": "tries precisions that the manifest does not list",
}


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Registers the extension hooks."""
    pluginmanager.add_hookspecs(hookspecs)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the options, in a group of their own, and their ini equivalents."""
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers; with `--onnxcheck`, chooses what to collect."""
    for name, text in _MARKERS.items():
        config.addinivalue_line("markers", f"{name}: {text}")
    settings = config.stash[SETTINGS] = Settings.of(config)
    refuse(config, settings)
    resume = config.stash[RESUME] = Resume.of(config)
    isolated = config.pluginmanager.has_plugin("onnxcheck-isolated")
    if not isolated:
        journaling = Journaling(config)
        config.pluginmanager.register(Results(config, journaling), "onnxcheck-results")
        if settings.wanted:
            config.pluginmanager.register(Isolation(config), "onnxcheck-isolation")
        if settings.wanted and not hasattr(config, "workerinput"):
            config.pluginmanager.register(resume, "onnxcheck-resume")
            config.pluginmanager.register(journaling, "onnxcheck-journal")
            config.pluginmanager.register(Afar(config), "onnxcheck-afar")
    if settings.wanted:
        _share_the_machine(settings, isolated=isolated)
    spread = hasattr(config, "workerinput") or config.getoption("dist", "no") != "no"
    if settings.ahead and not spread:
        _build_ahead(config, settings)
    if settings.enabled and config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args = [str(settings.manifest)]
    refuse_early(config, settings)


def _share_the_machine(settings: Settings, *, isolated: bool) -> None:
    workers = worker_count()
    if "torch" not in sys.modules:
        # its threads must not take the processor from ONNX Runtime's; read when torch is imported
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        divide_threads(workers or 1 + settings.ahead)
    if workers > 1 and not isolated and not settings.recommend_seconds:
        keep_freed()  # where no memory is counted, and nothing timed


def _build_ahead(config: pytest.Config, settings: Settings) -> None:
    from pytest_onnxcheck.plugin.ahead import Ahead

    ahead = Ahead(settings.ahead, settings.artifacts, build_cache(settings))
    config.pluginmanager.register(ahead, "onnxcheck-ahead")


def pytest_sessionstart(session: pytest.Session) -> None:
    """From here on there is a terminal, if there is one: its width, and what is done in it."""
    config = session.config
    config.stash[WIDTH], config.stash[SIGNS] = terminal_width(config), has_signs(config)
    if config.stash[SETTINGS].wanted and (ticker := start_ticker(config)) is not None:
        config.add_cleanup(ticker.close)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> ModelsFile | None:
    """Collects a manifest named on the command line, or found while `--onnxcheck` is on."""
    if file_path.suffix != ".toml":
        return None
    from pytest_onnxcheck.plugin.collection import collect_manifest

    return collect_manifest(file_path, parent)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hands models out to pytest-xdist's workers, unless `--dist` says how."""
    if config.option.dist != "load" or not only_models(config):
        return None
    from pytest_onnxcheck.plugin.workers import ModelScheduling

    return ModelScheduling(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Sends what a check found along with its report, also from an xdist worker."""
    report = yield
    complete = getattr(item, "complete", None)  # only our items have it; nothing is imported
    if complete is not None:
        complete(report)
    return report
