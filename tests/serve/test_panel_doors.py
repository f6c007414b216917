"""Who reaches the panel, and what of Gradio they reach; an app of our own answers for Gradio."""

from __future__ import annotations

import asyncio
import re
import socket
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from html import unescape
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save
from served import exported_job, problem, running, small_project
from starlette.responses import PlainTextResponse, StreamingResponse

from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.serve.http import downloads
from pytest_onnxcheck.serve.http.app import create_app
from pytest_onnxcheck.serve.http.limits import Limits
from pytest_onnxcheck.serve.http.security import Access
from pytest_onnxcheck.serve.jobs.job import Options
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.panel import login
from pytest_onnxcheck.serve.panel.desk import PANES, Desk
from pytest_onnxcheck.serve.panel.mount import add_routes

TOKEN = "a token of a decent length"
ASKS = {"follow_redirects": False, "headers": {"Accept": "text/html"}}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def jobs(manifest: Path) -> Jobs:
    return open_jobs(manifest)


@contextmanager
def panel(
    manifest: Path, jobs: Jobs, token: str | None, limits: Limits | None = None
) -> Iterator[httpx.Client]:
    app = create_app(manifest, jobs, access=Access.of("127.0.0.1", token), limits=limits)
    add_routes(app)
    app.mount("/panel", PlainTextResponse("Gradio"))
    with running(app) as client:
        client.follow_redirects = True
        yield client


@pytest.fixture
def guarded(manifest: Path, jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx.Client]:
    monkeypatch.setattr(login, "_PATIENCE", 0.0)
    with panel(manifest, jobs, TOKEN) as found:
        yield found


@pytest.fixture
def free(manifest: Path, jobs: Jobs) -> Iterator[httpx.Client]:
    with panel(manifest, jobs, None) as found:
        yield found


def test_the_root_leads_to_the_page(free: httpx.Client):
    for path in ("/", "/panel"):
        answer = free.get(path, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/panel/")
    page = free.get("/")
    assert page.text == "Gradio"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert free.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


NEEDED = [
    *("config", "theme.css", "assets/x.js", "static/js/x.js", "gradio_api/startup-events"),
    "gradio_api/heartbeat/x",
]
CLOSED = [
    *("gradio_api/file=/etc/passwd", "gradio_api/file/x", "gradio_api/proxy=http://x"),
    *("gradio_api/info", "gradio_api/queue/status", "login", "login_check", "monitoring"),
    *("assets/../gradio_api/info", "gradio_api/upload_progress", "gradio_api/vibe-code"),
]


def test_only_what_the_page_needs_of_gradio_is_reached(free: httpx.Client):
    assert {free.get(f"/panel/{path}").text for path in NEEDED} == {"Gradio"}
    assert free.post("/panel/gradio_api/run/predict").text == "Gradio"
    for path in CLOSED:
        assert "Gradio" not in free.get(f"/panel/{path}").text, path
    problem(free.get("/panel/gradio_api/file=/etc/passwd"), 404, "not-found")
    for path in ("upload", "reset", "vibe-edit", "component_server", "queue/join", "cancel"):
        problem(free.post(f"/panel/gradio_api/{path}"), 404, "not-found")
    problem(free.delete("/panel/config"), 404, "not-found")


def test_what_is_closed_is_behind_the_other_doors(guarded: httpx.Client):
    upload, bearer = "/panel/gradio_api/upload", {"Authorization": f"Bearer {TOKEN}"}
    problem(guarded.post(upload), 401, "token")
    foreign = guarded.post(upload, headers={**bearer, "Origin": "http://elsewhere.example"})
    problem(foreign, 403, "foreign-page")
    refused = guarded.post(upload, content=b"x" * 500_000, headers=bearer)
    problem(refused, 404, "not-found")
    assert refused.headers["x-content-type-options"] == "nosniff"


def test_a_heartbeat_ends_with_the_server(manifest: Path, jobs: Jobs):
    """Gradio's would keep a server from ending while a page is open."""
    app = create_app(manifest, jobs)
    add_routes(app)
    ended: list[str] = []

    async def heartbeat() -> AsyncIterator[bytes]:
        yield b"alive"
        app.state.door.ending = True
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")

    app.mount("/panel", lambda *asgi: StreamingResponse(heartbeat())(*asgi))
    with running(app) as asked:
        assert asked.get("/panel/gradio_api/heartbeat/x").text == "alive"
    assert ended == ["cancelled"]


def test_without_the_token_a_browser_is_sent_to_the_page_that_asks_for_it(guarded: httpx.Client):
    for path in ("/", "/panel/", "/panel/config", "/nothing"):
        answer = guarded.get(path, **ASKS)
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    for path in (
        "/panel/",
        "/panel/config",
        "/download/artefact/mlp/x/y",
        "/download/bundle/1/x.zip",
    ):
        problem(guarded.get(path, headers={"Accept": "*/*"}), 401, "token")
    problem(guarded.post("/panel/gradio_api/run/predict", json={}), 401, "token")
    page = guarded.get("/login")
    assert page.status_code == 200
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert TOKEN not in page.text


def test_the_token_is_exchanged_for_a_cookie(guarded: httpx.Client):
    wrong = guarded.post("/login", data={"token": "another"}, **ASKS)
    assert wrong.status_code == 401
    assert "This is not the token." in wrong.text
    assert "set-cookie" not in wrong.headers
    right = guarded.post("/login", data={"token": TOKEN}, **ASKS)
    assert (right.status_code, right.headers["location"]) == (303, "/")
    cookie = right.headers["set-cookie"]
    session = f"onnxcheck_session_{guarded.base_url.port}"
    assert cookie.startswith(f"{session}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert guarded.get("/").text == "Gradio"
    assert guarded.get("/api/models").status_code == 200
    guarded.cookies.clear()
    guarded.cookies.set(session, "0" * 64)
    problem(guarded.get("/panel/config", headers={"Accept": "*/*"}), 401, "token")


def test_a_form_of_another_site_is_refused(guarded: httpx.Client):
    foreign = {"Origin": "http://elsewhere.example"}
    answer = guarded.post("/login", data={"token": TOKEN}, headers=foreign, follow_redirects=False)
    problem(answer, 403, "foreign-page")


def trickled(client: httpx.Client) -> socket.socket:
    """A connection on which the token is being sent, and does not come to an end."""
    found = socket.create_connection((client.base_url.host, client.base_url.port), 30)
    found.sendall(
        b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n"
        b"Content-Type: application/x-www-form-urlencoded\r\n\r\ntoken="
    )
    return found


def test_who_sends_the_token_slowly_keeps_nobody_out(manifest: Path, jobs: Jobs):
    with panel(manifest, jobs, TOKEN, Limits(requests=1, login_seconds=60)) as client:
        slow = [trickled(client) for _ in range(3)]
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert client.get("/api/models", headers=bearer).status_code == 200
        assert client.get("/login").status_code == 200
        right = client.post("/login", data={"token": TOKEN}, follow_redirects=False)
        assert right.status_code == 303
        for connection in slow:
            connection.close()


def test_the_token_has_to_come_in_time_and_alone(manifest: Path, jobs: Jobs):
    with panel(manifest, jobs, TOKEN, Limits(login_bytes=1000, login_seconds=0.1)) as client:
        with trickled(client) as slow, slow.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
            assert b'"code":"too-slow"' in answer.read()
        told = problem(client.post("/login", data={"token": "x" * 1000}), 413, "body-too-large")
        assert "1,000 bytes that are taken: send the token alone" in told


@pytest.fixture(scope="module")
def made(jobs: Jobs) -> str:
    """A job that has exported one file, and left a bundle beside it."""
    job = exported_job(jobs)
    folder = jobs.folder(job.id)
    (folder / "bundle" / "mlp-1").mkdir(parents=True)
    (folder / "bundle" / "mlp-1" / "model.onnx").write_bytes(b"released")
    (folder / "bundle" / "link").symlink_to("/etc/passwd")
    return job.id


def test_an_artefact_is_saved_under_the_name_that_was_chosen(free: httpx.Client, made: str):
    answer = free.get("/download/artefact/mlp/torchscript-op17-fp32/hey%20you.onnx")
    assert answer.content == b"onnx"
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''hey%20you.onnx")
    assert answer.headers["etag"] == f'"{"ab" * 32}"'
    traversal = "..%2F..%2Fmodels.toml"
    for path in (
        *("artefact/other/torchscript-op17-fp32/x", "artefact/mlp/int8/x"),
        *(f"artefact/mlp/{traversal}/x", f"artefact/{traversal}/torchscript-op17-fp32/x"),
        f"artefact/mlp/torchscript-op17-fp32/{traversal}",
        *(f"bundle/{traversal}/x.zip", f"bundle/{made}%2F{traversal}/x.zip", "bundle/../x.zip"),
    ):
        answer = free.get(f"/download/{path}")
        assert answer.status_code == 404, path
        assert "schema = 1" not in answer.text


def test_a_model_without_checkpoint_gives_its_own_file_beside_that_of_one_that_was_sent(
    tmp_path: Path,
):
    jobs = open_jobs(small_project(tmp_path))
    app = create_app(jobs.manifest, jobs, uploads_folder=tmp_path / "uploads")
    add_routes(app)
    catalogue = app.state.door.catalogue
    exported_job(jobs, model="seeded", content=b"seed")
    with running(app) as client:
        sent = client.post(
            "/api/models/seeded/checkpoints",
            content=save({"0.weight": torch.ones(16, 8)}),
            headers={"Content-Type": "application/octet-stream"},
        ).json()["name"]
        path = catalogue.checkpoint("seeded", sent)
        exported_job(jobs, Options(checkpoint=path), model="seeded", content=b"sent")
        desk = Desk(catalogue, jobs)
        pane = next(pane for pane in PANES if pane.name == "Download")
        given = {}
        for weights in desk.offer("seeded").weights:
            body = desk.shown(pane, desk.look(weights, "it.onnx")).body
            (link,) = re.findall(r'href="\.\.(/download/artefact[^"]*)"', body)
            given[weights.checkpoint] = client.get(unescape(link)).content
        assert given == {None: b"seed", sent: b"sent"}
        for each in client.get("/api/models/seeded").json()["artefacts"]:
            for url in (each["url"], each["files"][0]["url"]):
                assert client.get(url).content == given[each["checkpoint"]], url
        path = "/api/models/seeded/artefact/torchscript-op17-fp32"
        assert client.get(path).content == b"sent"
        told = client.get("/api/models/mlp/artefact/fp32", params={"checkpoint": ""})
        assert "nothing of mlp without a checkpoint" in problem(told, 404, "no-such-artefact")


def test_a_bundle_is_one_archive_without_links(free: httpx.Client, made: str):
    answer = free.get(f"/download/bundle/{made}/mlp-1.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(BytesIO(answer.content)) as archive:
        assert archive.namelist() == ["mlp-1/model.onnx"]
        assert archive.read("mlp-1/model.onnx") == b"released"
    problem(free.get("/download/bundle/none/x.zip"), 404, "no-such-job")


def test_a_bundle_is_read_for_its_hash_once_and_when_it_is_another(
    free: httpx.Client, jobs: Jobs, made: str, monkeypatch: pytest.MonkeyPatch
):
    file = jobs.folder(made) / "bundle" / "mlp-1" / "model.onnx"
    file.write_bytes(b"released again")
    read: list[Path] = []

    def hashed(path: Path) -> str:
        read.append(path)
        return file_sha256(path)

    monkeypatch.setattr(downloads, "file_sha256", hashed)
    path = f"/download/bundle/{made}/mlp-1.zip"
    tag = free.get(path).headers["etag"]
    assert free.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert free.head(path).headers["etag"] == tag
    assert read == [file]
    file.write_bytes(b"released once more")
    assert free.get(path).headers["etag"] != tag
    assert read == [file] * 2


def test_what_a_browser_gets_can_be_asked_for_by_its_head(free: httpx.Client, made: str):
    for path in (
        *("/", "/panel", "/login", "/favicon.ico", "/metrics"),
        "/download/artefact/mlp/torchscript-op17-fp32/x.onnx",
        f"/download/bundle/{made}/mlp-1.zip",
    ):
        whole = free.get(path, follow_redirects=False)
        head = free.head(path, follow_redirects=False)
        assert (head.status_code, head.content) == (whole.status_code, b""), path
        same = ("location", "etag", "content-type", "content-disposition")
        for name in same:
            assert head.headers.get(name) == whole.headers.get(name), path
