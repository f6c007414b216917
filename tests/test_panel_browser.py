"""The panel in a browser, by `onnxcheck serve`: `python -m tox run -e panel`, with Chromium."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import small_project

from pytest_onnxcheck.serve.jobs.queue import open_jobs

#: what the environment `panel` of tox sets: there nothing is skipped
REQUIRED = os.environ.get("ONNXCHECK_PANEL") == "required"

#: a folder for screenshots of every tab
SHOTS = os.environ.get("ONNXCHECK_SHOTS")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)

if not REQUIRED:
    pytest.importorskip("playwright.sync_api", reason="no playwright: tox run -e panel")
    pytest.importorskip("gradio", reason="no Gradio: tox run -e panel")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine", allow_module_level=True)

#: it must look up nothing by itself: a machine without network waits for that
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

REPOSITORY = Path(__file__).parent.parent
TABS = ("Export", "Validate", "Benchmark", "Compare variants", "Download", "Report", "History")
TOKEN = "a token of a decent length"

#: seconds that a job may take on a machine that has other work too
LONG = 600

#: a name that would run a script, were it taken for markup
EVIL = "<img src=x onerror=window.taken=1>"


class Server:
    """`onnxcheck serve` in a folder, on a free port unless one is named."""

    def __init__(
        self, folder: Path, *options: str, port: str = "0", token: str | None = None
    ) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        if token is not None:
            env["ONNXCHECK_TOKEN"] = token
        command = [sys.executable, "-m", "pytest_onnxcheck.cli", "serve", f"--port={port}"]
        command += options
        self._process = subprocess.Popen(
            command, cwd=folder, env=env, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"http://\S+:\d+", line):
                self.url = found[0]
                return
        raise AssertionError("the server did not start")

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.stderr is not None
        with self._process.stderr as stderr:
            said = stderr.read()
        assert self._process.wait(30) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
        assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of a copy of the zoo."""
    folder = tmp_path_factory.mktemp("zoo")
    shutil.copy(REPOSITORY / "models.toml", folder)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "conformance", folder / "conformance", ignore=ignored)
    server = Server(folder)
    yield server.url
    server.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small models, checkpoints by a glob with an evil name and an evil pickle, and none."""
    folder = tmp_path_factory.mktemp("project")
    path = small_project(folder)
    (folder / "runs").mkdir()
    shutil.copy(folder / "mlp.pt", folder / "runs" / f"{EVIL}.pt")
    (folder / "runs" / "pickle.pt").write_bytes(pickle.dumps(Payload(folder / "taken")))
    os.utime(folder / "runs" / "pickle.pt", (1e9, 1e9))
    (folder / "given.onnx").write_bytes(b"onnx")
    shared = 'factory = "nets:mlp"\ndims = {{ batch = [1] }}\ncheckpoint = "{}"\n'
    weights = {"trained": "runs/*.pt", "untrained": "none/*.pt", "given": "mlp.pt"}
    for name, pattern in weights.items():
        table = f"\n[models.{name}]\n{shared.format(pattern)}"
        table += 'onnx = "given.onnx"\n' if name == "given" else ""
        table += f'[models.{name}.inputs.x]\nshape = ["batch", 8]\n'
        table += f'[models.{name}.outputs.y]\nshape = ["batch", 4]\n'
        path.write_text(path.read_text() + table)
    return folder


class Payload:
    """What a pickle of a stranger does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


@pytest.fixture(scope="module")
def small(project: Path) -> Iterator[str]:
    server = Server(project)
    yield server.url
    server.close()


class Visit:
    """A page of the panel, and all that it said and asked for."""

    def __init__(self, chromium: Any, url: str, width: int = 1280, scheme: str = "light") -> None:
        size = {"width": width, "height": 900}
        self.context = chromium.new_context(viewport=size, color_scheme=scheme)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.url = url
        self.said: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._request)

    def open(self) -> Visit:
        self.page.goto(self.url)
        self.page.get_by_role("tab", name="Export", exact=True).wait_for()
        self.page.get_by_role("combobox", name="Model").wait_for()
        self.page.wait_for_function(
            "document.querySelector('input[aria-label=Model]').value !== ''"
        )
        return self

    def tab(self, name: str) -> Any:
        """Goes to a tab; gives what it shows."""
        found = self.page.get_by_role("tab", name=name, exact=True)
        if not found.is_visible():  # on a phone some are behind a button
            self.page.locator(".overflow-menu > button").click()
            found = self.page.locator(".overflow-dropdown").get_by_text(name, exact=True)
        found.click()
        return self.page.get_by_role("tabpanel").locator("visible=true")

    def choose(self, what: str, option: str) -> None:
        """Chooses an option whose text begins so."""
        self.page.get_by_role("combobox", name=what).click()
        self.page.get_by_role("option").filter(has_text=option).first.click()

    def run(self, tab: str, button: str) -> Any:
        """Presses a button, and waits for its job; gives what the tab shows."""
        panel = self.tab(tab)
        panel.get_by_role("button", name=button, exact=True).click()
        panel.get_by_role("button", name="Cancel").wait_for()
        panel.get_by_role("button", name="Cancel").wait_for(state="hidden", timeout=LONG * 1000)
        return panel

    def close(self) -> None:
        """Nothing was wrong, and nothing left the machine."""
        self.page.wait_for_timeout(1200)  # one more look at the jobs
        self.context.close()
        assert self.said == []
        assert self.foreign == []

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"{message.type}: {message.text}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:", "about:")):
            self.foreign.append(request.url)


@pytest.fixture
def visit(chromium: Any, small: str) -> Iterator[Visit]:
    found = Visit(chromium, small).open()
    yield found
    found.close()


def test_the_wake_word_is_exported_checked_timed_compared_and_downloaded(
    chromium: Any, zoo: str, tmp_path: Path
):
    visit = Visit(chromium, zoo).open()
    page = visit.page
    visit.choose("Model", "wakeword-resnet18")
    visit.choose("Checkpoint", "conformance/checkpoints/wakeword.pt (")
    page.get_by_label("File name").fill("hey.onnx")
    for name in ("fp32", "fp16", "int8-static"):
        page.get_by_label(name, exact=True).check()

    panel = visit.tab("Export")
    panel.get_by_role("button", name="Export").click()
    panel.get_by_role("button", name="Cancel").wait_for()
    visit.open()  # a page that is loaded anew finds the job that runs
    panel = visit.tab("Export")
    panel.get_by_role("button", name="Cancel").wait_for()
    panel.get_by_text("Exported at").wait_for(timeout=LONG * 1000)
    assert re.search(
        r"\d\d:\d\d:\d\d  export wakeword-resnet18", panel.get_by_label("Log").input_value()
    )
    said = panel.inner_text()
    assert re.search(r"dynamo-op20-fp16\s+[\d.]+ MB, 4\d% smaller than fp32\s+max", said), said
    assert re.search(r"dynamo-op20-int8-static\s+[\d.]+ MB, 6\d% smaller than fp32\s+max", said), (
        said
    )

    page.get_by_label("File name").fill("hey.onnx")
    panel = visit.run("Validate", "Validate")
    assert "Passed:" in panel.inner_text()
    panel.get_by_text("dynamo-op20-fp32 [cpu]: output 'logits'").click()
    assert panel.get_by_text("error in floors").first.is_visible()

    panel = visit.run("Benchmark", "Benchmark")
    assert panel.locator("svg.strip").count() >= 16
    assert re.search(r"times as fast as PyTorch \[[\d.]+, [\d.]+\]", panel.inner_text())

    panel = visit.run("Compare variants", "Compare")
    assert panel.locator("svg.scatter circle").count() == 3

    panel = visit.tab("Download")
    with page.expect_download() as started:
        panel.get_by_role("link", name="hey-int8-static.onnx").click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    assert path.name == "hey-int8-static.onnx"
    assert hashlib.sha256(path.read_bytes()).hexdigest() in panel.inner_text()
    assert _runs(path) == (3, 2)

    panel = visit.run("Download", "Make the bundle")
    with page.expect_download() as started:
        panel.get_by_role("link", name="wakeword-1.0.0.zip").click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path)
    verify = [sys.executable, "-m", "pytest_onnxcheck.cli", "verify", "wakeword-1.0.0"]
    done = subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr

    visit.tab("Report")
    report = page.frame_locator("iframe.report")
    report.get_by_role("heading", name="Passed:").wait_for()
    panel = visit.tab("History")
    for kind in ("export", "validate", "benchmark", "gate", "release"):
        assert panel.get_by_role("rowheader", name=kind, exact=True).is_visible()
    visit.close()


def _runs(path: Path) -> tuple[int, ...]:
    """The shape of what ONNX Runtime makes of three inputs."""
    import numpy
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    mel = numpy.random.default_rng(0).normal(size=(3, 1, 64, 101)).astype("float32")
    (logits,) = session.run(None, {"mel": mel})
    assert numpy.isfinite(logits).all()
    return tuple(logits.shape)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_tab_is_accessible_and_as_wide_as_the_screen(
    chromium: Any, zoo: str, width: int, scheme: str
):
    from axe_playwright_python.sync_playwright import Axe

    visit = Visit(chromium, zoo, width, scheme).open()
    for name in TABS:
        visit.tab(name)
        visit.page.wait_for_timeout(1500)
        found = Axe().run(visit.page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == [], name
        wide = visit.page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, name
        if SHOTS:
            path = Path(SHOTS) / f"{name.lower().replace(' ', '-')}-{width}-{scheme}.png"
            visit.page.screenshot(path=path, full_page=True)
    visit.close()


def test_the_main_path_needs_no_mouse(visit: Visit):
    page = visit.page
    page.get_by_role("combobox", name="Model").focus()
    page.keyboard.type("mlp")
    page.keyboard.press("Enter")
    for _ in range(40):  # to the first tab
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "tab":
            break
    assert page.evaluate("document.activeElement.textContent").strip() == "Export"
    while page.evaluate("document.activeElement.textContent").strip() != "Export" or (
        page.evaluate("document.activeElement.getAttribute('role')") == "tab"
    ):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_text("Exported at").wait_for(timeout=LONG * 1000)
    assert visit.tab("Download").get_by_role("link", name="mlp.onnx").is_visible()


def test_a_job_is_cancelled_where_it_was_started_and_from_the_history(visit: Visit):
    visit.choose("Model", "seeded")
    panel = visit.tab("Validate")
    for tab in ("Validate", "History"):
        visit.tab("Validate").get_by_role("button", name="Validate").click()
        panel = visit.tab(tab)
        if tab == "History":
            visit.choose("Job", "validate of seeded")
        panel.get_by_role("button", name=re.compile("^Cancel")).click()
        panel.get_by_text("It was cancelled").wait_for()
        panel.get_by_role("button", name=re.compile("^Cancel")).wait_for(state="hidden")


def test_cancel_ends_no_other_job_than_the_page_shows(chromium: Any, tmp_path: Path):
    manifest = small_project(tmp_path)
    jobs = open_jobs(manifest)
    server = Server(tmp_path, "--no-worker")
    first = jobs.submit("validate", "mlp")
    visit = Visit(chromium, server.url).open()
    cancel = visit.tab("Validate").get_by_role("button", name="Cancel")
    cancel.wait_for()
    held: list[Any] = []

    def hold(route: Any) -> None:
        """Keeps back every look at the jobs, which has more to say than a press of Cancel."""
        if len(route.request.post_data_json["data"]) > 1:
            held.append(route)
        else:
            route.continue_()

    visit.page.route("**/gradio_api/run/**", hold)
    visit.page.wait_for_timeout(1500)  # a look that was on its way
    assert held
    jobs.begin(1, {"name": "here:1", "host": "here", "token": "t"})
    jobs.end(1, "done", result={"verdict": "pass"})
    second = jobs.submit("validate", "mlp")
    cancel.click()
    visit.page.get_by_role("alert").get_by_text("it has ended meanwhile").wait_for()
    assert jobs.get(first.id).state == "done"
    assert jobs.get(second.id).state == "queued"
    visit.page.unroute("**/gradio_api/run/**")
    visit.close()
    server.close()


def test_the_log_shows_its_newest_lines(visit: Visit):
    visit.choose("Model", "mlp")
    log = visit.run("Validate", "Validate").get_by_label("Log")
    for _ in range(2):
        visit.page.wait_for_timeout(500)
        assert log.evaluate("log => log.scrollHeight > log.clientHeight + 20")
        assert log.evaluate("log => log.scrollHeight - log.clientHeight - log.scrollTop") < 20
        visit.tab("Export")
        visit.tab("Validate")


def test_of_a_file_that_is_given_nothing_is_to_be_exported(visit: Visit):
    page = visit.page
    visit.choose("Model", "mlp")
    assert page.get_by_label("Opset").is_visible()
    visit.choose("Model", "given")
    export = visit.tab("Export")
    export.get_by_text("Nothing is exported: the manifest gives the file of given").wait_for()
    for what in ("Opset", "File name", "Dynamic sizes", "fp32", "dynamo"):
        assert not page.get_by_label(what, exact=True).is_visible(), what
    assert not export.get_by_role("button", name="Export").is_visible()
    page.get_by_role("button", name="Refresh").click()
    assert visit.tab("Validate").get_by_role("button", name="Validate").is_visible()
    assert not page.get_by_label("Opset").is_visible()
    visit.choose("Model", "mlp")
    page.get_by_label("Opset").wait_for()
    visit.tab("Export").get_by_role("button", name="Export").wait_for()


def test_without_a_checkpoint_the_page_says_what_to_do(visit: Visit):
    visit.choose("Model", "untrained")
    alert = visit.page.get_by_role("alert")
    alert.get_by_text("no file matches checkpoint 'none/*.pt'").wait_for()
    assert "press Refresh" in alert.inner_text()
    visit.tab("Export").get_by_role("button", name="Export").click()
    alert.get_by_text("There is no checkpoint").wait_for()
    visit.choose("Model", "mlp")
    alert.get_by_text("There is no checkpoint").wait_for(state="detached")


def test_a_pickle_is_refused_in_words_and_not_run(visit: Visit, project: Path):
    visit.choose("Model", "trained")
    visit.choose("Checkpoint", "runs/pickle.pt")
    panel = visit.run("Export", "Export")
    assert "refused" in panel.inner_text()
    assert "Mend what the message says" in panel.inner_text()
    assert not (project / "taken").exists()


def test_names_are_never_taken_for_markup(visit: Visit):
    page = visit.page
    visit.choose("Model", "trained")
    visit.choose("Checkpoint", EVIL)
    page.get_by_label("File name").fill(f"{EVIL}.onnx")
    panel = visit.run("Export", "Export")
    assert EVIL in panel.get_by_label("Log").input_value() + panel.inner_text()
    for name in TABS:
        visit.tab(name)
        page.wait_for_timeout(500)
    assert page.evaluate("window.taken") is None
    assert page.locator("img[src=x]").count() == 0
    link = visit.tab("Download").get_by_role("link")
    with page.expect_download() as started:
        link.first.click()
    assert started.value.suggested_filename == "_img src=x onerror=window.taken=1_.onnx"


def test_a_page_goes_on_when_its_server_is_started_again(chromium: Any, tmp_path: Path):
    small_project(tmp_path)
    server = Server(tmp_path)
    visit = Visit(chromium, server.url).open()
    visit.tab("Export").get_by_role("button", name="Export").click()
    visit.tab("Export").get_by_role("button", name="Cancel").wait_for()
    server.close()
    visit.page.get_by_text("Connection to the server was lost.").wait_for()
    visit.said.clear()
    server = Server(tmp_path, port=server.url.rpartition(":")[2])
    state = visit.tab("Export").locator(".job .state")
    state.get_by_text(re.compile("done|cut off")).wait_for(timeout=LONG * 1000)
    visit.page.get_by_text("Connection to the server was lost.").wait_for(state="detached")
    visit.said.clear()
    visit.close()
    server.close()


def test_refresh_shows_what_a_mended_manifest_has(chromium: Any, tmp_path: Path):
    manifest = small_project(tmp_path)
    text = manifest.read_text()
    server = Server(tmp_path)
    visit = Visit(chromium, server.url).open()
    panel = visit.tab("Export")
    panel.get_by_text("Nothing is exported yet").wait_for()
    manifest.write_text("schema = ")
    visit.page.get_by_label("File name").fill("other.onnx")
    panel.get_by_text("not TOML").wait_for()
    manifest.write_text(text)
    visit.page.get_by_role("button", name="Refresh").click()
    panel.get_by_text("Nothing is exported yet").wait_for()
    visit.close()
    server.close()


@pytest.fixture(scope="module")
def guarded(project: Path) -> Iterator[str]:
    server = Server(project, token=TOKEN)
    yield server.url
    server.close()


def test_the_token_opens_the_page_and_nothing_is_there_without(chromium: Any, guarded: str):
    visit = Visit(chromium, guarded)
    page = visit.page
    page.goto(guarded)
    assert page.url == f"{guarded}/login"
    for path in (
        "/panel/config",
        "/panel/theme.css",
        "/download/artefact/mlp/x/y.onnx",
        "/api/models",
    ):
        assert page.request.get(guarded + path).status == 401
    asked = page.request.post(f"{guarded}/panel/gradio_api/run/predict", data={"data": []})
    assert asked.status == 401
    page.get_by_label("Token").fill("another token altogether")
    page.get_by_role("button", name="Open the panel").click()
    page.get_by_role("alert").get_by_text("This is not the token.").wait_for()
    assert visit.said.pop().startswith(
        "error: Failed to load resource: the server responded with a status of 401"
    )
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.get_by_role("tab", name="Export", exact=True).wait_for()
    (cookie,) = visit.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert TOKEN not in cookie["value"]
    assert TOKEN not in page.content()
    assert page.evaluate("document.cookie") == ""
    visit.open()
    visit.close()


def test_what_else_gradio_would_answer_is_closed(chromium: Any, small: str):
    visit = Visit(chromium, small)
    ask = visit.page.request
    for path in (
        "gradio_api/file=models.toml",
        "gradio_api/proxy=http://x",
        "gradio_api/info",
        "login",
        "monitoring",
    ):
        assert ask.get(f"{small}/panel/{path}").status == 404, path
    for path in (
        "gradio_api/upload",
        "gradio_api/reset",
        "gradio_api/vibe-edit",
        "gradio_api/component_server",
    ):
        assert ask.post(f"{small}/panel/{path}").status == 404, path
    visit.close()
