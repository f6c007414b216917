"""The HTML report in a browser: `python -m tox run -e browser`, with Chromium on the machine."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import runs

from pytest_onnxcheck.report.html import page as report

#: what the environment `browser` of tox sets: there nothing is skipped
REQUIRED = os.environ.get("ONNXCHECK_BROWSER") == "required"

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)

if not REQUIRED:
    pytest.importorskip("playwright.sync_api", reason="no playwright: tox run -e browser")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine", allow_module_level=True)

#: it must look up nothing by itself: a machine without network waits for that
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

MODELS = 200


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 models: every tenth fails; each has two variants."""
    entries = [
        entry
        for number in range(MODELS)
        for entry in runs.model(f"model-{number:03}", fails=number % 10 == 7, line=number)
    ]
    found = tmp_path_factory.mktemp("browser") / "report.html"
    found.write_text(report([runs.failing(), runs.record(*entries)]), encoding="utf-8")
    return found


class Visit:
    """A page, and all that it said and asked for."""

    def __init__(self, chromium: Any, path: Path, **options: Any) -> None:
        self.context = chromium.new_context(**options)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def search(self, text: str) -> None:
        """Types it, and waits for what it finds: the page does for the end of a word."""
        self.page.locator("#search").fill(text)
        self.page.locator("#filter[aria-busy=false]").wait_for()

    def shown(self) -> int:
        return int(self.page.locator("details.model:visible").count())


@pytest.fixture
def visit(chromium: Any, path: Path) -> Iterator[Visit]:
    found = Visit(chromium, path)
    yield found
    assert found.said == []
    assert found.requests == [path.as_uri()]
    found.context.close()


def test_a_search_shows_the_models_that_have_all_its_words(visit: Visit):
    assert visit.shown() == MODELS
    visit.search("MODEL-01")
    assert visit.shown() == 10
    assert visit.page.get_by_role("status").inner_text() == f"10 of {MODELS} models shown"
    assert visit.page.locator(".models tbody tr:visible").count() == 10
    visit.search("rel_rms model-01")
    assert visit.shown() == 1
    visit.search("nothing is called so")
    assert visit.shown() == 0
    assert visit.page.get_by_text("No model matches.").is_visible()


def test_a_filter_shows_the_models_of_a_verdict(visit: Visit):
    visit.page.get_by_role("checkbox", name="warn").uncheck()
    assert visit.shown() == MODELS // 10
    visit.page.get_by_role("checkbox", name="fail").uncheck()
    assert visit.shown() == 0
    visit.page.get_by_role("checkbox", name="warn").check()
    assert visit.shown() == MODELS - MODELS // 10


def test_models_open_by_click_by_keyboard_and_all_at_once(visit: Visit):
    first = visit.page.locator("#model-1")
    assert not first.get_by_text("Size on disk").is_visible()
    first.locator("summary").first.click()
    assert first.get_by_text("Size on disk").is_visible()
    second = visit.page.locator("#model-2")
    second.locator("summary").first.focus()
    visit.page.keyboard.press("Enter")
    assert second.get_by_text("Size on disk").is_visible()
    visit.page.get_by_role("button", name="Close all").click()
    assert visit.page.locator("details.model[open]").count() == 0
    visit.page.get_by_role("button", name="Open all").click()
    assert visit.page.locator("details.model[open]").count() == MODELS


def test_a_link_to_a_failure_opens_its_model_even_where_it_was_filtered_out(visit: Visit):
    visit.page.get_by_role("button", name="Close all").click()
    visit.search("model-000")
    visit.page.locator(".failed-list a").first.click()
    failure = visit.page.locator("#model-8-failure-1")
    failure.wait_for(state="visible")
    assert "layers that lose most" in failure.inner_text()
    assert visit.shown() == MODELS


def test_the_keyboard_comes_to_the_models_first(visit: Visit):
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the models"


def test_it_is_read_without_a_script(chromium: Any, path: Path):
    visit = Visit(chromium, path, java_script_enabled=False)
    assert visit.shown() == MODELS
    assert not visit.page.get_by_role("searchbox").is_visible()
    assert visit.page.locator("#model-8-failure-1 pre").first.is_visible()
    visit.page.locator("#model-1 summary").first.click()
    assert visit.page.locator("#model-1").get_by_text("Size on disk").is_visible()
    visit.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(chromium: Any, path: Path, width: int, scheme: str):
    visit = Visit(chromium, path, viewport={"width": width, "height": 844}, color_scheme=scheme)
    visit.page.locator("#model-8").wait_for(state="visible")
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= width
    visit.context.close()


def test_a_hostile_record_runs_nothing(chromium: Any, tmp_path: Path):
    path = tmp_path / "evil.html"
    path.write_text(report([runs.record(), runs.evil()]), encoding="utf-8")
    visit = Visit(chromium, path)
    visit.page.on("dialog", lambda dialog: visit.said.append(dialog.message))
    visit.page.get_by_role("button", name="Open all").click()
    visit.page.wait_for_timeout(100)
    assert visit.said == []
    assert visit.requests == [path.as_uri()]
    visit.context.close()


def test_two_hundred_models_are_painted_soon(visit: Visit, path: Path):
    painted = visit.page.evaluate(
        "new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0]"
        ".startTime)).observe({ type: 'paint', buffered: true }))"
    )
    print(f"first paint of {MODELS} models, {path.stat().st_size / 1e6:.1f} MB: {painted:.0f} ms")
    assert painted < 10_000  # 2 s are asked for; a machine that is busy takes longer
