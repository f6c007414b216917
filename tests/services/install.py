"""Installs what the servers of these tests are made of, where it is missing (Debian)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from services.ceph import PROGRAMS

INSTALL = ("apt-get", "install", "--yes", "--no-install-recommends")
PACKAGES = ("radosgw", "ceph-mon", "ceph-osd", "ceph-common")

if __name__ == "__main__" and not all(map(shutil.which, PROGRAMS)):
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit(f"Ceph is missing: as root, {' '.join((*INSTALL, *PACKAGES))}")
    subprocess.run(["apt-get", "update"], check=True)
    subprocess.run(
        [*INSTALL, *PACKAGES], check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    )
