"""Artefacts that children build ahead: the same run, whatever becomes of the children."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from project import LEAN, Project, mlps

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.plugin.ahead import Ahead

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="processes cannot pause")

#: has the first check wait for something that a child does; the end of the wait is no verdict
CONFTEST = """
import time
from pathlib import Path

import pytest

waited = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    until = time.monotonic() + 60
    while not waited and not {done} and time.monotonic() < until:
        time.sleep(0.05)
    waited.append(item)
    return (yield)
"""

#: a factory that does something else in a child
NETS = """
import os
import signal
import sys
import time
from pathlib import Path

from nets import mlp


def net():
    if sys.argv[0].endswith("ahead.py"):
        Path(f"child.{{os.getpid()}}").touch()
        {inside}
    return mlp()
"""


def run(project: Project, *args: str) -> dict[str, str]:
    """Outcomes of a run without timing, with nothing built before."""
    folder = f"--onnxcheck-artifacts=built{len(list(project.path.glob('built*')))}"
    project.run("--benchmark-disable", folder, *args)
    return project.outcomes()


def test_what_a_child_builds_is_what_the_checks_build(project: Project):
    bad = mlps("bad").replace("nets.py:mlp", "nets.py:no")
    project.manifest(mlps("net", "third") + bad, 'precisions = ["fp32", "int8-static"]')
    built = ("-m", "export or quantization")
    outcomes, hashes = run(project, *built), project.hashes()
    waiting = CONFTEST.format(done="[*Path('built1').glob('third/*-fp32/*/build.json')]")
    (project.path / "conftest.py").write_text(waiting)
    assert run(project, "--onnxcheck-ahead=1", *built) == outcomes
    assert project.hashes() == hashes
    failed = [name for name, outcome in outcomes.items() if outcome == "failed"]
    assert failed == ["bad::torchscript-op17-fp32::test_export"]
    cached = {
        check["model"]: check["measurement"]["cached"]
        for check in project.record["checks"]
        if check["check"] == "export" and check["precision"] == "fp32" and "measurement" in check
    }
    assert (cached["net"], cached["third"]) == (False, True)


def test_a_child_that_dies_is_nobodys_failure(project: Project):
    project.manifest(mlps("net", "other").replace("nets.py:mlp", "odd.py:net"))
    (project.path / "odd.py").write_text(NETS.format(inside="os.abort()"))
    (project.path / "conftest.py").write_text(CONFTEST.format(done="[*Path().glob('child.*')]"))
    outcomes = run(project, "--onnxcheck-ahead=1", "-m", "export")
    assert children(project.path)
    assert set(outcomes.values()) == {"passed"}
    assert project.record["exitstatus"] == 0


def test_under_xdist_there_are_none(project: Project):
    project.manifest(mlps("net", "other"))
    (project.path / "conftest.py").write_text(
        "def pytest_sessionstart(session):\n"
        "    assert not session.config.pluginmanager.has_plugin('onnxcheck-ahead')\n"
    )
    result = project.pytest("--onnxcheck", "--onnxcheck-ahead=1", "-n", "1", "-k", "nothing")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    without = project.pytest("--onnxcheck", "--onnxcheck-ahead=1", "-k", "nothing")
    assert without.ret == pytest.ExitCode.INTERNAL_ERROR  # or the above would say nothing


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone ends children with their parent")
def test_children_end_with_a_run_that_is_killed_also_those_that_are_stopped(project: Project):
    project.manifest(mlps("net", "other", "third").replace("nets.py:mlp", "odd.py:net"))
    (project.path / "odd.py").write_text(NETS.format(inside="time.sleep(600)"))
    (project.path / "conftest.py").write_text(CONFTEST.format(done="False"))
    command = [sys.executable, "-m", "pytest", "--onnxcheck", "--onnxcheck-ahead=2", *LEAN]
    with subprocess.Popen(command, cwd=project.path, stdout=subprocess.DEVNULL) as process:
        try:
            assert wait(lambda: len(children(project.path)) == 2)
            stopped, other = children(project.path)
            os.kill(stopped, signal.SIGSTOP)
        finally:
            process.kill()
    assert wait(lambda: state(stopped) in ("", "Z"))
    assert wait(lambda: state(other) in ("", "Z"))


def children(folder: Path) -> list[int]:
    """The processes that have said that they are at a model."""
    return [int(path.suffix[1:]) for path in folder.glob("child.*")]


def wait(found):
    """What a function gives as soon as it gives something."""
    until = time.monotonic() + 60
    while not (it := found()) and time.monotonic() < until:
        time.sleep(0.02)
    return it


def state(pid: int) -> str:
    """A process's state as Linux writes it: `R`, `S`, `T` (stopped), `Z`; empty without one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture
def busy():
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


def checked(check: str, *, isolated: bool = False) -> SimpleNamespace:
    """A check of a model, in a process of its own or not."""
    isolation = SimpleNamespace(limits_of=lambda item: object() if isolated else None)
    plugins = SimpleNamespace(getplugin=lambda name: isolation)
    config = SimpleNamespace(pluginmanager=plugins)
    return SimpleNamespace(check=check, nodeid="models.toml::net::v::test_it", config=config)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("hook", "item", "during"),
    [
        ("pytest_runtest_call", checked("latency"), "T"),
        ("pytest_runtest_call", checked("recommend"), "T"),
        ("pytest_runtest_call", checked("equivalence"), "R"),
        ("pytest_runtest_protocol", checked("latency", isolated=True), "T"),
        ("pytest_runtest_protocol", checked("latency"), "R"),
        ("pytest_runtest_protocol", checked("equivalence", isolated=True), "R"),
    ],
)
def test_children_are_stopped_while_something_is_timed(busy, hook, item, during):
    ahead = Ahead(1, Path(), partial(BuildCache, Path()))
    ahead._running.add(busy)
    call = getattr(ahead, hook)(item)
    assert wait(lambda: state(busy.pid) == "R")
    next(call)
    assert wait(lambda: state(busy.pid) == during)
    with pytest.raises(StopIteration):
        call.send(None)
    assert wait(lambda: state(busy.pid) == "R")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone isolates")
@pytest.mark.parametrize(("args", "children"), [((), 1), (("--onnxcheck-isolate",), 0)])
def test_a_model_that_is_isolated_is_left_to_its_own_process(project: Project, args, children):
    project.manifest(mlps("net", "other"))
    (project.path / "conftest.py").write_text(
        "import pytest\n\n\n"
        "@pytest.hookimpl(trylast=True)\n"
        "def pytest_collection_finish(session):\n"
        "    ahead = session.config.pluginmanager.get_plugin('onnxcheck-ahead')\n"
        "    pytest.exit(f'{len(ahead._threads)} children', 0)\n"
    )
    result = project.pytest("--onnxcheck", "--onnxcheck-ahead=1", *args)
    result.stdout.fnmatch_lines(f"*Exit: {children} children*")


def test_a_model_that_a_child_is_at_is_waited_for_before_it_is_timed():
    ahead, order = Ahead(1, Path(), partial(BuildCache, Path())), []
    job = SimpleNamespace(done=threading.Event())
    ahead._taken["models.toml::net"] = job
    item = SimpleNamespace(check="latency", nodeid="models.toml::net::v::test_latency[cpu]")
    timed = threading.Thread(
        target=lambda: (next(ahead.pytest_runtest_call(item)), order.append("timed"))
    )
    timed.start()
    order.append("built")
    job.done.set()
    timed.join()
    assert order == ["built", "timed"]
