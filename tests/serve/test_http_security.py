"""Who may ask, and what: tokens, names, pages of other sites, bodies, hostile checkpoints."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import save_file
from served import problem, serving, small_project

from pytest_onnxcheck.serve.http.limits import Limits
from pytest_onnxcheck.serve.http.security import Access, is_loopback
from pytest_onnxcheck.serve.jobs.queue import open_jobs

TOKEN = "a-token-of-a-decent-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
BYTES = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def guarded(manifest: Path) -> Iterator[httpx.Client]:
    """A server with a token that takes uploads."""
    access = Access.of("127.0.0.1", TOKEN, ("onnx.example.com",))
    limits = Limits(requests=4, body_bytes=1000, upload_bytes=100_000)
    folder = manifest.parent / "uploads"
    with serving(
        manifest, open_jobs(manifest), access=access, limits=limits, uploads_folder=folder
    ) as client:
        yield client


@pytest.fixture(scope="module")
def open_door(manifest: Path) -> Iterator[httpx.Client]:
    """A server without a token, and without uploads."""
    with serving(manifest, open_jobs(manifest)) as client:
        yield client


def session(client: httpx.Client) -> str:
    """The name of the cookie of a server."""
    return f"onnxcheck_session_{client.base_url.port}"


PATHS = ("/api/models", "/api/openapi.json", "/metrics", "/", "/api/jobs/x/events", "/nothing")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": b"Bearer \xff\xfe"},
        {"Cookie": f"onnxcheck_session={TOKEN}"},
        {"Cookie": 'x="'},
    ],
    ids=["none", "wrong", "bare", "basic", "longer", "bytes", "cookie", "damaged"],
)
def test_without_the_token_nothing_is_told(guarded: httpx.Client, path: str, headers):
    answer = guarded.get(path, headers=headers)
    problem(answer, 401, "token")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert TOKEN not in answer.text


def test_no_operation_is_open_without_the_token(guarded: httpx.Client):
    described = guarded.get("/api/openapi.json", headers=BEARER).json()
    paths = described["paths"].items()
    asked = [(method.upper(), path) for path, methods in paths for method in methods]
    assert len(asked) > 15
    jobs = guarded.app.state.door.jobs  # type: ignore[attr-defined]
    before = jobs.all()
    for method, path in asked:
        path = "/api" + path.format(name="mlp", id="1-0", variant="fp32", file="mlp.onnx")
        problem(guarded.request(method, path), 401, "token")
    assert jobs.all() == before


def test_the_token_opens_and_so_does_the_cookie_made_of_it(guarded: httpx.Client):
    assert guarded.get("/api/models", headers=BEARER).status_code == 200
    cookie = guarded.app.state.access.cookie()  # type: ignore[attr-defined]
    assert TOKEN not in cookie
    named = {"Cookie": f"other=1; {session(guarded)}={cookie}"}
    assert guarded.get("/api/models", headers=named).status_code == 200
    wrong = {"Cookie": f"{session(guarded)}={TOKEN}"}
    problem(guarded.get("/api/models", headers=wrong), 401, "token")


@pytest.mark.parametrize(
    "foreign", ['pref={"a": 1, "b"}', "[odd]=1", 'x="open', "a b=c", "=", "\xff=\xfe"]
)
def test_a_cookie_of_another_app_keeps_nobody_out(guarded: httpx.Client, foreign: str):
    mine = f"{session(guarded)}={guarded.app.state.access.cookie()}"  # type: ignore[attr-defined]
    for both in (f"{foreign}; {mine}", f"{mine}; {foreign}"):
        sent = {"Cookie": both.encode("latin-1")}
        assert guarded.get("/api/models", headers=sent).status_code == 200, both


def test_a_cookie_is_of_one_server_of_a_host(guarded: httpx.Client, manifest: Path):
    mine = f"{session(guarded)}={guarded.app.state.access.cookie()}"  # type: ignore[attr-defined]
    access = Access.of("127.0.0.1", "another-token-of-a-decent-length")
    with serving(manifest, open_jobs(manifest), access=access) as other:
        both = {"Cookie": f"{session(other)}={access.cookie()}; {mine}"}
        for client in (guarded, other):
            assert client.get("/api/models", headers=both).status_code == 200


def test_a_page_to_log_in_is_open_and_browsers_are_sent_there(manifest: Path):
    access = Access.of("127.0.0.1", TOKEN)
    access.login = "/login"
    with serving(manifest, open_jobs(manifest), access=access) as client:
        page = client.get("/anything", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        problem(client.get("/login"), 404, "not-found")  # nobody has put a page there
        problem(client.get("/api/models", headers={"Accept": "text/html"}), 401, "token")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "", "localhost.evil", "[::2]"]
)
def test_a_name_that_is_not_the_servers_is_refused(open_door: httpx.Client, host: str):
    told = problem(open_door.get("/api/models", headers={"Host": host}), 421, "unknown-host")
    assert "--allowed-host" in told


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "LOCALHOST:80", "[::1]:8000"])
def test_names_of_this_machine_are_the_servers(open_door: httpx.Client, host: str):
    assert open_door.get("/api/models", headers={"Host": host}).status_code == 200


def test_a_proxys_name_is_allowed_by_name(guarded: httpx.Client):
    headers = {**BEARER, "Host": "ONNX.example.com"}
    assert guarded.get("/api/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_a_page_of_another_site_cannot_send_anything(open_door: httpx.Client, headers):
    for method, path in (("POST", "/api/models/mlp/export-onnx"), ("DELETE", "/api/jobs/x")):
        problem(open_door.request(method, path, headers=headers), 403, "foreign-page")


def test_its_own_page_can(open_door: httpx.Client):
    own = {"Origin": str(open_door.base_url), "Sec-Fetch-Site": "same-origin"}
    answer = open_door.delete("/api/jobs/none", headers=own)
    problem(answer, 404, "no-such-job")


def test_no_other_site_may_read_an_answer(open_door: httpx.Client):
    answer = open_door.get("/api/models", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


TRAVERSAL = [
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e%2f%2e%2e%2fmodels.toml",
    "....//models.toml",
    "..%5c..%5cmodels.toml",
    "%2fetc%2fpasswd",
    "mlp%00.pt",
    "~root",
    "%F0%9F%92%A9",
    "a" * 5000,
]


@pytest.mark.parametrize("name", TRAVERSAL, ids=lambda name: name[:30])
def test_a_name_is_looked_up_and_never_part_of_a_path(open_door: httpx.Client, name: str):
    for path in (
        f"/api/models/{name}",
        f"/api/models/{name}/artefact/fp32",
        f"/api/models/mlp/artefact/{name}",
        f"/api/models/mlp/artefact/fp32/{name}",
        f"/api/jobs/{name}",
        f"/api/jobs/{name}/log",
        f"/api/jobs/{name}/events",
        f"/api/jobs/{name}/files",
        f"/api/jobs/{name}/files/record.json",
    ):
        answer = open_door.get(path)
        assert answer.status_code == 404, (path, answer.text)
        assert "schema = 1" not in answer.text
    for path in (f"/api/models/{name}/export-onnx", f"/api/models/{name}/release"):
        assert open_door.post(path).status_code == 404
    assert open_door.delete(f"/api/jobs/{name}").status_code == 404


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "models.toml", "mlp.pt\0"])
def test_a_checkpoint_is_one_of_those_that_are_listed(open_door: httpx.Client, name: str):
    answer = open_door.post("/api/models/mlp/export-onnx", json={"checkpoint": name})
    assert "there is mlp.pt" in problem(answer, 404, "no-such-checkpoint")


def test_files_of_a_job_are_those_in_its_folder(open_door: httpx.Client, tmp_path: Path):
    job = open_door.post("/api/models/seeded/export-onnx").json()["id"]
    folder = open_door.app.state.door.jobs.folder(job)  # type: ignore[attr-defined]
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<p>all is well</p>")
    (folder / ".hidden").write_text("not told")
    (folder / "link.txt").symlink_to("/etc/passwd")
    listed = open_door.get(f"/api/jobs/{job}/files").json()["files"]
    assert "report.html" in [file["name"] for file in listed]
    assert not {"link.txt", ".hidden"} & {file["name"] for file in listed}
    page = open_door.get(f"/api/jobs/{job}/files/report.html")
    assert page.text == "<p>all is well</p>"
    assert page.headers["content-security-policy"].startswith("sandbox ")
    for name in ("link.txt", ".hidden", "..%2f..%2f..%2fmodels.toml"):
        problem(open_door.get(f"/api/jobs/{job}/files/{name}"), 404, "no-such-file")


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(guarded: httpx.Client):
    path = "/api/models/mlp/export-onnx"
    json_type = {**BEARER, "Content-Type": "application/json"}
    told = problem(
        guarded.post(path, content=b" " * 1001, headers=json_type), 413, "body-too-large"
    )
    assert "1,000 bytes" in told
    refused = guarded.post("/api/models/mlp/checkpoints", content=b"x" * 2_000_000, headers=BYTES)
    problem(refused, 401, "token")
    pieces = (b" " * 300 for _ in range(20))
    problem(guarded.post(path, content=pieces, headers=json_type), 413, "body-too-large")
    upload = guarded.post(
        "/api/models/mlp/checkpoints",
        content=(b"x" * 50_000 for _ in range(4)),
        headers={**BEARER, **BYTES},
    )
    problem(upload, 413, "body-too-large")
    assert [*Path(guarded.app.state.door.catalogue.uploads.folder).glob(".*")] == []  # type: ignore[attr-defined]


def test_one_request_too_many_is_told_to_come_later(manifest: Path):
    limits = Limits(requests=1)
    with serving(manifest, open_jobs(manifest), limits=limits) as client:
        job = client.post("/api/models/mlp/export-onnx").json()["id"]
        with client.stream("GET", f"/api/jobs/{job}/events") as first:
            assert first.status_code == 200
            late = client.get("/api/models")
        problem(late, 429, "busy")
        assert late.headers["retry-after"] == "1"


def test_one_stream_too_many_is_told_to_come_later(manifest: Path):
    with serving(manifest, open_jobs(manifest), limits=Limits(streams=1)) as client:
        job = client.post("/api/models/mlp/export-onnx").json()["id"]
        with client.stream("GET", f"/api/jobs/{job}/events") as first:
            lines = first.iter_lines()
            next(lines)
            problem(client.get(f"/api/jobs/{job}/events"), 429, "busy")


def test_a_full_queue_takes_no_more(tmp_path: Path):
    manifest = small_project(tmp_path)
    jobs = open_jobs(manifest, most_waiting=2)
    with serving(manifest, jobs) as client:
        path = "/api/models/mlp/export-onnx"
        assert [client.post(path).status_code for _ in range(2)] == [202, 202]
        full = client.post(path)
        assert "the queue is full (2 of 2 places)" in problem(full, 429, "busy")
        assert full.headers["retry-after"] == "30"
        assert len(jobs.all()) == 2
        jobs.cancel(jobs.all()[0].id)
        assert client.post(path).status_code == 202


class Code:
    """What a hostile pickle does."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def send(client: httpx.Client, content: bytes) -> httpx.Response:
    return client.post(
        "/api/models/mlp/checkpoints", content=content, headers={**BEARER, **BYTES}, timeout=120
    )


def test_what_could_run_code_is_never_unpickled(guarded: httpx.Client, tmp_path: Path):
    trap, file = tmp_path / "ran", tmp_path / "hostile.pt"
    torch.save({"weights": Code(trap)}, file)
    refused = problem(send(guarded, file.read_bytes()), 422, "refused-checkpoint")
    assert "could run code" in refused
    assert "model.state_dict()" in refused
    bare = send(guarded, pickle.dumps(Code(trap)))
    problem(bare, 422, "refused-checkpoint")
    assert not trap.exists()
    folder = guarded.app.state.door.catalogue.uploads.folder  # type: ignore[attr-defined]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_checkpoint_is_kept_under_a_name_of_ours(guarded: httpx.Client, tmp_path: Path):
    file = tmp_path / "x.safetensors"
    save_file({"0.weight": torch.ones(16, 8)}, file)
    answer = send(guarded, file.read_bytes())
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["name"] == f"mlp-{made['sha256'][:12]}"
    assert made["format"] == "safetensors"
    known = guarded.get("/api/models/mlp", headers=BEARER).json()["checkpoints"]
    assert known[0] == {
        "name": made["name"],
        "size_bytes": file.stat().st_size,
        "modified": known[0]["modified"],
        "uploaded": True,
    }
    other = guarded.get("/api/models/seeded", headers=BEARER).json()
    assert other["checkpoints"] == []


def test_uploads_are_off_unless_asked_for(open_door: httpx.Client):
    answer = open_door.post("/api/models/mlp/checkpoints", content=b"x", headers=BYTES)
    assert "--uploads" in problem(answer, 403, "uploads-off")
    large = open_door.post("/api/models/mlp/checkpoints", content=b"x" * 1_100_000, headers=BYTES)
    assert "1,048,576 bytes" in (told := problem(large, 413, "body-too-large"))
    assert told.endswith("checkpoints are taken with --uploads alone")


def test_an_uploads_limit_is_of_uploads_alone(guarded: httpx.Client):
    sent = {"content": b" " * 2000, "headers": {**BEARER, **BYTES}}
    problem(guarded.post("/api/models/mlp/checkpoints", **sent), 422, "refused-checkpoint")
    for path in (
        "/checkpoints",
        "/api/jobs/checkpoints",
        "/api/models/checkpoints",
        "/api/models/mlp/x/checkpoints",
        "/api/models/mlp/gate/checkpoints",
    ):
        problem(guarded.post(path, **sent), 413, "body-too-large")
    beyond = guarded.post("/api/models/mlp/checkpoints", **{**sent, "content": b" " * 100_001})
    assert "--upload-limit" in problem(beyond, 413, "body-too-large")


def test_an_upload_says_that_it_is_a_file(guarded: httpx.Client):
    answer = guarded.post(
        "/api/models/mlp/checkpoints", content=b"{}", headers={**BEARER, "Content-Type": "text/x"}
    )
    problem(answer, 415, "not-a-file")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *[(name, True) for name in ("localhost", "127.0.0.1", "127.8.8.8", "::1")],
        *[(name, False) for name in ("0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.com")],
    ],
)
def test_what_is_this_machines_own(host: str, loopback: bool):
    assert is_loopback(host) is loopback


def test_requests_at_once_are_answered_side_by_side(open_door: httpx.Client):
    statuses = []

    def ask() -> None:
        statuses.append(httpx.get(f"{open_door.base_url}/api/models", timeout=30).status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 20
