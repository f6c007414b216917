"""A Ceph with an object gateway on loopback: one monitor, one store in memory, one gateway."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import s3_server

PROGRAMS = ("ceph-mon", "ceph-osd", "ceph", "monmaptool", "radosgw", "radosgw-admin")
_SECONDS = 120

_CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{monitor}]
ms bind ipv4 = true
ms bind ipv6 = false
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
mon cluster log file = {folder}/cluster.log
mon data = {folder}/mon
osd data = {folder}/osd
mon allow pool size one = true
mon max pg per osd = 5000
mon data avail crit = 1
mon data avail warn = 2
paxos propose interval = 0.01
paxos min wait = 0.01
osd objectstore = memstore
memstore device bytes = 4294967296
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
[client.rgw]
auth client required = none
ms mon client mode = crc
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 16
rgw run sync thread = false
"""


@dataclass
class Ceph:
    """One that runs.

    Attributes:
        folder: Where its files are.
        url: The gateway's address.
        access_key: Of the one user.
        secret_key: Of the one user.
    """

    folder: Path
    url: str
    access_key: str = "access-ceph-94d0c2"
    secret_key: str = "secret-ceph-51a7e88b03"
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def run(self, *command: str) -> str:
        """Runs one of Ceph's programs to its end."""
        done = subprocess.run(
            [command[0], "-c", str(self.folder / "ceph.conf"), *command[1:]],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
        return done.stdout

    def admin(self, *command: str) -> str:
        return self.run("radosgw-admin", "-n", "client.rgw", *command)

    def start(self, *command: str) -> None:
        """Starts one of Ceph's programs, in the foreground of a process of its own."""
        whole = [command[0], "-c", str(self.folder / "ceph.conf"), *command[1:], "-f"]
        with (self.folder / f"{command[0]}.out").open("wb") as output:
            self._processes.append(subprocess.Popen(whole, stdout=output, stderr=output))

    def limit(self, size: int | None) -> None:
        """A quota of the user in bytes, or none."""
        user = ("--quota-scope=user", "--uid=test")
        if size is None:
            self.admin("quota", "disable", *user)
        else:
            self.admin("quota", "set", *user, f"--max-size={size}")
            self.admin("quota", "enable", *user)

    def environment(self, url: str | None = None) -> dict[str, str]:
        """What the standard places of AWS say of it, or of a proxy before it."""
        keys = {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key}
        return {**s3_server.environment(url or self.url), **keys}

    def client(self) -> Any:
        """boto3's client, beside the code that is tested."""
        from boto3.session import Session

        session = Session(self.access_key, self.secret_key, region_name="us-east-1")
        return session.client("s3", endpoint_url=self.url)

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()


@contextlib.contextmanager
def ceph(folder: Path) -> Iterator[Ceph]:
    """Starts one, and ends it."""
    folder.mkdir(parents=True, exist_ok=True)
    monitor, gateway = free_ports(2)
    fsid, osd = str(uuid.uuid4()), str(uuid.uuid4())
    made = Ceph(folder, f"http://127.0.0.1:{gateway}")
    (folder / "ceph.conf").write_text(
        _CONF.format(fsid=fsid, folder=folder, monitor=monitor, gateway=gateway)
    )
    for name in ("mon", "osd"):
        (folder / name).mkdir()
    address, monmap = f"[v2:127.0.0.1:{monitor}]", str(folder / "monmap")
    try:
        subprocess.run(
            ["monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap],
            check=True,
            capture_output=True,
        )
        made.run("ceph-mon", "-i", "a", "--mkfs", "--monmap", monmap)
        made.start("ceph-mon", "-i", "a")
        made.run("ceph", "--connect-timeout", "60", "osd", "new", osd)
        made.run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        made.start("ceph-osd", "-i", "0")
        made.admin(
            *("user", "create", "--uid=test", "--display-name=test"),
            *(f"--access-key={made.access_key}", f"--secret-key={made.secret_key}"),
        )
        made.start("radosgw", "-n", "client.rgw")
        wait_for(made.url)
        yield made
    finally:
        made.stop()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(url: str) -> None:
    """Waits until a server answers anything."""
    end = time.monotonic() + _SECONDS
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < end, f"{url} does not answer"
            time.sleep(0.1)
        else:
            return
