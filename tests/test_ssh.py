"""Workers on two machines over ssh: `tox run -e ssh`, with Debian's openssh-server and rsync.

The machines are two servers on this one, each with a work folder, keys and a port of its own.
"""

from __future__ import annotations

import getpass
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import Project, mlps

import pytest_onnxcheck
from pytest_onnxcheck.cli import main

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
from records import check, differences

#: what the environment `ssh` of tox sets: there nothing is skipped
REQUIRED = os.environ.get("ONNXCHECK_SSH") == "required"
SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

if not REQUIRED and (SSHD is None or shutil.which("rsync") is None or os.geteuid() != 0):
    pytest.skip("tox run -e ssh: needs openssh-server, rsync, and root", allow_module_level=True)

SERVER = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
"""
CLIENT = """
Host {name}
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known
  StrictHostKeyChecking accept-new
"""
NAMES = ("one", "two")
SPREAD = ("--dist=loadscope", "--max-worker-restart=0")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """Name -> folder of each machine; the folder holds `config`, which ssh is given."""
    running, found = [], {}
    Path("/run/sshd").mkdir(exist_ok=True)
    for name in NAMES:
        folder = found[name] = tmp_path_factory.mktemp(name)
        for key in ("host", "key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
            subprocess.run(command, check=True)
        facts = {"folder": folder, "port": free_port(), "user": getpass.getuser(), "name": name}
        (folder / "sshd_config").write_text(SERVER.format(**facts))
        (folder / "config").write_text(CLIENT.format(**facts))
        running.append(subprocess.Popen([str(SSHD), "-D", "-e", "-f", folder / "sshd_config"]))
        for _ in range(100):
            answer = subprocess.run(
                ["ssh", "-F", folder / "config", name, "true"], capture_output=True, check=False
            )
            if answer.returncode == 0:
                break
            time.sleep(0.1)
        assert answer.returncode == 0, answer.stderr
    yield found
    for server in running:
        server.terminate()
        server.wait()


def test_two_machines_and_a_serial_step_are_one_run(hosts: dict[str, Path], project: Project):
    project.on_clock()
    project.manifest(
        mlps("first", "second", "third", "fourth")
        + "tolerance.fp32 = { policy = 'fixed', max_abs = 1e-12 }\n",
        "[defaults.latency]\nseconds = 0.1",
    )
    assert project.pytest("--onnxcheck", "--onnxcheck-json=serial.json").ret == 1
    shutil.rmtree(project.path / ".onnxcheck")
    for name, folder in hosts.items():
        ssh = f"ssh -F {folder / 'config'}"
        to = f"{name}:{folder}/gate"
        command = ["rsync", "-a", "--exclude=.*", "-e", ssh, f"{project.path}/", to]
        subprocess.run(command, check=True)
    package = Path(pytest_onnxcheck.__file__).parent.parent
    # sshd hands no environment on, and other kernels give other last bits
    kernels = " ".join(f"{key}={value}" for key, value in os.environ.items() if "BLAS_" in key)
    python = f"env PYTHONPATH={package} OMP_NUM_THREADS=1 {kernels} {sys.executable}"
    tx = [
        f"--tx=ssh={name}//ssh_config={folder / 'config'}//python={python}//chdir={folder / 'gate'}"
        for name, folder in hosts.items()
    ]
    checks = ("-m", "not latency", "--onnxcheck-json=checks.json")
    result = project.pytest("--onnxcheck", *checks, *SPREAD, *tx)
    assert result.ret == 1
    for folder in hosts.values():  # each had a part
        assert list(folder.glob("gate/.onnxcheck/*/*/*/model.onnx"))
    assert [path.name for path in (project.path / ".onnxcheck").iterdir()] == ["repro"]
    repro = project.path / ".onnxcheck/repro/fourth/torchscript-op17-fp32-cpu/repro.py"
    again = subprocess.run([sys.executable, repro], cwd=project.path, check=False)
    assert again.returncode == 1
    speed = project.pytest("--onnxcheck", "-m", "latency", "--onnxcheck-json=speed.json")
    assert speed.ret == 0

    paths = [str(project.path / name) for name in ("checks.json", "speed.json")]
    to = project.path / "merged"
    assert main(["merge", *paths, f"--expect={project.path / 'models.toml'}", f"--to={to}"]) == 0
    serial = json.loads((project.path / "serial.json").read_text())
    merged = json.loads((to / "record.json").read_text())
    pairs = [
        {entry["nodeid"]: check(entry) for entry in record["checks"]} for record in (serial, merged)
    ]
    assert list(differences(*pairs)) == []
    assert merged["exitstatus"] == serial["exitstatus"]
    assert merged["manifests"] == serial["manifests"]
