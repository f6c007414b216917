"""The site: it builds without a warning, a broken link is one, and no page loads from elsewhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    find_spec("zensical") is None, reason="needs zensical: tox run -e docs"
)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with what the site is made of."""
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    return tmp_path


def built(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_page_is_built_and_loads_nothing_from_elsewhere(copied: Path):
    done = built(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = sorted((copied / ".site").rglob("*.html"))
    assert len(pages) > len(list((copied / "docs").rglob("*.md")))
    loads = r"<(?:script|img|iframe|source)[^>]+src=.?https?:|<link[^>]+stylesheet[^>]+https?:"
    assert [page.name for page in pages if re.search(loads, page.read_text())] == []


def test_a_link_that_leads_nowhere_is_an_error(copied: Path):
    with (copied / "docs" / "index.md").open("a") as page:
        page.write("\n[gone](gone.md)\n")
    assert built(copied).returncode != 0
