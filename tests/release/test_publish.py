"""Publishing, listing, going back, downloading: in a folder, and on moto's server, which stands in
for a real one (tests/services/ has those)."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import s3_server
from gated import Gated

from pytest_onnxcheck.errors import OnnxCheckError, ReleaseError, StorageError
from pytest_onnxcheck.release import Bundle, fetch, publish, releases, rollback
from pytest_onnxcheck.release.pattern import PATTERN, version_of
from pytest_onnxcheck.release.published import bundle_sha256, hashed_files
from pytest_onnxcheck.storage import open_store

FILES = ["README.md", "SHA256SUMS", "metadata.json", "model.onnx", "record.json"]


@pytest.fixture(params=["folder", "bucket"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch) -> str:
    if request.param == "folder":
        return (tmp_path / "published").as_uri()
    server = request.getfixturevalue("server")
    s3_server.use(monkeypatch, server)
    return f"s3://{s3_server.new_bucket(server)}/models"


@pytest.fixture
def made(gated: Gated) -> Bundle:
    return gated.release()


@pytest.fixture
def another(gated: Gated, tmp_path: Path) -> Bundle:
    """A bundle of another run of the gate."""
    gated.edit(lambda record: record.update(created="2027-01-02T03:04:05+00:00"))
    (gated.root / "dist").rename(tmp_path / "before")
    return gated.release()


def keys(uri: str) -> list[str]:
    return [one.key for one in open_store(uri).listed()]


def test_a_bundle_is_published_and_current(made: Bundle, uri: str):
    found = publish(made.folder, uri)
    known, sha256 = made.metadata, bundle_sha256(hashed_files(made.folder, made.files))
    date = known.run.date
    digits = f"{date[:10].replace('-', '')}_{date[11:19].replace(':', '')}"
    assert found.version == f"v{digits}-{sha256[:12]}"
    assert found.uri == f"{uri}/net/{found.version}"
    assert (found.already, found.current, found.name) == (False, found.version, "net")
    assert (found.release.sha256, found.release.model_sha256) == (sha256, known.sha256)
    assert (found.release.run_id, found.release.bundle_version) == (known.run.id, "1.0")
    base = f"net/{found.version}"
    assert keys(uri) == [
        ".onnxcheck-probe",
        "net/current.json",
        *(f"{base}/{name}" for name in sorted([*FILES, "release.json"])),
    ]
    for name in FILES:
        assert open_store(uri).read(f"{base}/{name}").data == (made.folder / name).read_bytes()


def test_what_is_known_of_it_stands_in_headers(made: Bundle, server: str, monkeypatch):
    s3_server.use(monkeypatch, server)
    uri = f"s3://{s3_server.new_bucket(server)}"
    found, known = publish(made.folder, uri), made.metadata
    headers = open_store(found.uri).head("model.onnx").metadata
    assert headers == {
        "bundle": "net 1.0",
        "sha256": known.files[0].sha256,
        "model-sha256": known.sha256,
        "opset": "17",
        "precision": "int8-dynamic",
        "run-id": known.run.id,
        "date": known.run.date,
        "model-type": "Sequential",
        "size": str(known.size_bytes),
    }


def test_the_same_bundle_finds_itself(made: Bundle, uri: str):
    first = publish(made.folder, uri)
    before = {one.key: one.modified for one in open_store(uri).listed()}
    again = publish(made.folder, uri)
    assert again.already
    assert (again.uri, again.release, again.current) == (first.uri, first.release, first.version)
    assert {one.key: one.modified for one in open_store(uri).listed()} == before
    assert list(again.told) == [
        "not signed: nobody can tell who made it, nor whether all of it was replaced (onnxcheck "
        "release RECORD --sign KEY, or --onnxcheck-sign=KEY)",
        f"published already, {first.release.published}, by publisher {first.release.publisher}: "
        "left as it is",
    ]


def test_another_bundle_is_another_version_and_one_can_go_back(made, another, uri, tmp_path):
    first = publish(tmp_path / "before/net-1.0", uri)
    second = publish(another.folder, uri)
    assert second.version.startswith("v20270102_030405-")
    found = releases(uri)
    assert [one.version for one in found.released] == sorted([first.version, second.version])
    assert found.current == {"net": second.version}
    assert (found.unfinished, found.problems) == ((), ())
    assert rollback(uri, first.version).version == first.version
    assert releases(uri, "net").current == {"net": first.version}
    again = publish(another.folder, uri)
    assert again.current == first.version, "publishing again does not undo going back"
    assert f"current is {first.version}: this one was current before" in list(again.told)[2]
    moves = rollback(uri, second.version, "net").moves
    assert [(move.version, move.why) for move in moves] == [
        *((first.version, "published"), (second.version, "published")),
        *((first.version, "rollback"), (second.version, "rollback")),
    ]


def test_what_is_not_there_cannot_be_gone_back_to(made: Bundle, uri: str):
    version = publish(made.folder, uri).version
    with pytest.raises(StorageError, match=rf"has no release {version}x \(did you mean '{version}"):
        rollback(uri, f"{version}x")
    with pytest.raises(StorageError, match=r"/other has no release"):
        rollback(uri, version, "other")


def at_once(*acts: Callable[[], object]) -> list[object]:
    barrier, found = threading.Barrier(len(acts)), {}

    def run(number: int) -> None:
        barrier.wait()
        try:
            found[number] = acts[number]()
        except OnnxCheckError as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(acts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[number] for number in range(len(acts))]


def test_of_several_publishers_of_one_bundle_one_wins(made: Bundle, uri: str):
    found = at_once(*[lambda: publish(made.folder, uri)] * 4)
    assert [one.already for one in found].count(False) == 1
    assert len({one.release.publisher for one in found}) == 1, "all are told who"
    assert len(releases(uri).released) == 1


def test_publishers_of_two_bundles_both_succeed(made, another, uri, tmp_path):
    found = at_once(
        lambda: publish(tmp_path / "before/net-1.0", uri), lambda: publish(another.folder, uri)
    )
    assert [one.already for one in found] == [False, False]
    listed = releases(uri)
    assert {one.version for one in listed.released} == {one.version for one in found}
    assert listed.current["net"] in {one.version for one in found}


@pytest.mark.parametrize("last", [1, 4, 6])
def test_a_publisher_that_fails_leaves_nothing_that_is_listed(made, uri, last, monkeypatch):
    """At a file, and at release.json; the next call completes it."""
    kind, stored = type(open_store(uri)), []

    def failing(act):
        def call(self, key: str, *arguments: object):
            if key.startswith("net/"):
                stored.append(key)
                if len(stored) == last:
                    raise StorageError("cut")
            return act(self, key, *arguments)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(kind, "put", failing(kind.put))
        patch.setattr(kind, "put_if_absent", failing(kind.put_if_absent))
        with pytest.raises(StorageError, match="cut"):
            publish(made.folder, uri)
    found = releases(uri)
    assert found.released == ()
    assert len(found.unfinished) == (last > 1)
    assert not publish(made.folder, uri).already
    found = releases(uri)
    assert (len(found.released), found.unfinished) == (1, ())


def cut(*_: object, **__: object) -> None:
    raise StorageError("cut")


def test_a_publisher_that_fails_at_the_pointer_is_completed(made, uri, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules[publish.__module__], "move", cut)
        with pytest.raises(StorageError, match="cut"):
            publish(made.folder, uri)
    assert releases(uri).current == {}
    found = publish(made.folder, uri)
    assert (found.already, found.current) == (True, found.version)


def test_a_server_that_overwrites_silently_is_refused(made, uri, monkeypatch):
    kind = type(open_store(uri))

    def overwrite(self, key: str, content: bytes) -> bool:
        self.put(key, content)
        return True

    monkeypatch.setattr(kind, "put_if_absent", overwrite)
    with pytest.raises(StorageError, match=r"this server overwrites what is there although"):
        publish(made.folder, uri)
    assert keys(uri) == [".onnxcheck-probe"]


def test_a_server_that_overwrites_at_the_end_alone_is_found_out(made, uri, monkeypatch):
    kind = type(open_store(uri))
    put_if_absent = kind.put_if_absent

    def overwritten(self, key: str, content: bytes) -> bool:
        stored = put_if_absent(self, key, content)
        if key.endswith("release.json"):
            self.put(key, content.replace(b'"publisher": "', b'"publisher": "other'))
        return stored

    monkeypatch.setattr(kind, "put_if_absent", overwritten)
    with pytest.raises(StorageError, match=r"was stored, and something else is there"):
        publish(made.folder, uri)


def test_a_download_is_on_the_disk_before_it_has_its_name(made, uri, tmp_path, monkeypatch):
    found, to = publish(made.folder, uri), tmp_path / "to"
    flushed: list[Path] = []

    def fsync(opened: int) -> None:
        path = Path(f"/proc/self/fd/{opened}").readlink()
        flushed.append(path)
        assert (path == to) == (to / f"net-{found.version}").exists()

    monkeypatch.setattr(os, "fsync", fsync)
    fetch(found.uri, to)
    *inside, folder, last = flushed[-len(FILES) - 2 :]
    assert sorted(path.name for path in inside) == FILES
    assert (folder.name, last) == (f"net-{found.version}", to)


def test_what_is_no_bundle_is_not_published(made: Bundle, uri: str):
    (made.folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(ReleaseError, match=r"is not the bundle that was made"):
        publish(made.folder, uri)
    assert keys(uri) == []


def test_a_release_is_downloaded_and_verified(made: Bundle, uri: str, tmp_path: Path):
    found = publish(made.folder, uri)
    for number, address in enumerate((found.uri, f"{uri}/net")):
        back = fetch(address, tmp_path / str(number))
        assert back.folder == tmp_path / str(number) / f"net-{found.version}"
        assert back.metadata == made.metadata
        for name in FILES:
            assert (back.folder / name).read_bytes() == (made.folder / name).read_bytes()
    with pytest.raises(ReleaseError, match=r"exists already:\n  - remove it, or download elsewhe"):
        fetch(found.uri, tmp_path / "0")
    with pytest.raises(StorageError, match=r"is no release: it has no release.json, and no curren"):
        fetch(f"{uri}/other", tmp_path / "2")


@pytest.mark.parametrize("name", ["model.onnx", "SHA256SUMS"])
def test_what_was_changed_where_it_is_published_is_told(made, uri, tmp_path, name):
    store = open_store(publish(made.folder, uri).uri)
    store.put(name, b"another")
    with pytest.raises(
        StorageError, match=rf"{name} was changed: it has SHA-256 [0-9a-f]{{12}}…, "
    ):
        fetch(store.uri(), tmp_path / "back")
    assert list((tmp_path / "back").iterdir()) == []


def test_a_pointer_does_not_lead_out(made: Bundle, uri: str, tmp_path: Path):
    publish(made.folder, uri)
    store = open_store(uri)
    written = json.loads(store.read("net/current.json").data)
    for version in ("../net", "%2e%2e", ""):
        store.put("net/current.json", json.dumps({**written, "version": version}).encode())
        with pytest.raises(StorageError, match=r"current.json was changed.*is no name: move it"):
            fetch(f"{uri}/net", tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_release_file_of_another_bundle_is_told(made, uri, tmp_path):
    store = open_store(publish(made.folder, uri).uri)
    known = json.loads(store.read("release.json").data)
    for change, message in (
        ({"run_id": "another"}, r"release.json is of another bundle"),
        ({"sha256": "0" * 64}, r"release.json lists other files than its own hash is of"),
        ({"format": 2}, r"release.json: format 2, and this version reads 1: use the version"),
        ({"files": 1}, r"release.json was changed, or is of something else: files: "),
        ({"name": "../up"}, r"release.json was changed, .*: '../up' is no name: move it away"),
        ({"version": "/tmp/v"}, r"'/tmp/v' is no name"),
        (
            {"files": [{"name": "../../up", "size_bytes": 1, "sha256": "0"}]},
            r"files: '../../up' cannot be stored",
        ),
    ):
        store.put("release.json", json.dumps({**known, **change}).encode())
        with pytest.raises(OnnxCheckError, match=message):
            fetch(store.uri(), tmp_path / "back")


def test_a_release_file_that_cannot_be_read_does_not_hide_the_others(made, another, uri, tmp_path):
    first = publish(tmp_path / "before/net-1.0", uri)
    second = publish(another.folder, uri)
    open_store(first.uri).put("release.json", b"{")
    open_store(uri).put("net/current.json", b"[]")
    found = releases(uri)
    assert [one.version for one in found.released] == [second.version]
    assert len(found.problems) == 2
    assert "current.json was changed" in found.problems[1]


def test_a_release_that_was_copied_is_none(made: Bundle, uri: str):
    found, store = publish(made.folder, uri), open_store(uri)
    store.put("net/copy/release.json", store.read(f"net/{found.version}/release.json").data)
    listed = releases(uri)
    assert listed.released == (found.release,)
    assert listed.problems == (
        f"{uri}/net/copy/release.json is of net/{found.version}: a release that was copied or "
        "renamed is none: publish the bundle there",
    )


def test_the_pattern_names_the_folder(made: Bundle, uri: str):
    found = publish(made.folder, uri, "{version}_{precision}_{sha256:16}")
    assert found.version == f"1.0_int8-dynamic_{found.release.sha256[:16]}"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("v{UTC:%Y}", r"two bundles would share a folder: put \{sha256:12\} into it"),
        ("v{sha256:8}", r"two bundles would share a folder"),
        ("{shas256:12}", r"there is no \{shas256\} \(did you mean 'sha256'\?\): \{UTC\}, "),
        ("{UTC.year}{sha256:12}", r"there is no \{UTC.year\}"),
        ("{sha256:x}", r"invalid literal .*: write it as v\{UTC"),
        ("{sha256", r"write it as v\{UTC"),
        ("a/{sha256:12}", r"it gives 'a/[0-9a-f]{12}': one folder's name may hold"),
        ("-{sha256:12}", r"it gives '-[0-9a-f]{12}'"),
    ],
)
def test_what_is_no_pattern_is_told(made: Bundle, pattern, message):
    with pytest.raises(ReleaseError, match=message) as raised:
        version_of(pattern, made.metadata, "0123456789abcdef" * 4)
    assert str(raised.value).startswith(f"the pattern {pattern!r} cannot be used:\n  - ")


def test_the_time_in_a_name_is_utc(made: Bundle):
    from dataclasses import replace

    known = replace(made.metadata, run=replace(made.metadata.run, date="2026-11-30T23:30:00-02:00"))
    assert version_of(PATTERN, known, "0123456789abcdef" * 4) == "v20261201_013000-0123456789ab"


def test_the_commands(made: Bundle, uri: str, command, tmp_path: Path):
    status, said, told = command("publish", "dist/net-1.0", "--to", uri)
    size = made.metadata.size_bytes
    what = f"net::torchscript-op17-int8-dynamic, {size:,} bytes"
    (release,) = releases(uri).released
    where = f"{uri}/net/{release.version}"
    assert (status, said) == (0, f"{where}  {what}, 5 files\n")
    assert told.startswith("not signed: nobody can tell who made it")
    status, said, told = command("publish", "dist/net-1.0", "--to", uri, "--json")
    assert (status, json.loads(said)["uri"]) == (0, where)
    assert "\npublished already, " in told
    line = f"* net/{release.version}  {what}, gated {release.date}\n"
    assert command("releases", uri) == (0, line, "")
    assert command("releases", uri, "--rollback", release.version) == (0, line, "")
    status, said, _ = command("releases", uri, "--json")
    assert json.loads(said)["current"] == {"net": release.version}
    status, said, told = command("verify", where)
    assert (status, said, told) == (
        0,
        f"{where}  {what}, 5 files: as it was made; not signed\n",
        "",
    )
    status, said, _ = command("verify", f"{uri}/net", "--to", "back", "--json")
    assert (status, json.loads(said)["folder"]) == (0, f"back/net-{release.version}")
    assert Path("back", f"net-{release.version}", "model.onnx").is_file()
    status, said, told = command("releases", uri, "--rollback", "v0")
    assert (status, said) == (1, "")
    assert "has no release v0" in told
    assert command("publish", "dist/net-1.0", "--to", "gs://x")[0] == 1
    open_store(where).delete("release.json")
    status, said, told = command("releases", uri)
    assert (status, said) == (0, f"{uri}: nothing is published there\n")
    assert "is not released: its publishing goes on, or was cut off" in told


def test_what_is_here_is_not_downloaded(made: Bundle, command):
    status, _, told = command("verify", "dist/net-1.0", "--to", "kept")
    assert status == 2
    assert "--to keeps what is downloaded, and dist/net-1.0 is here" in told
    assert not Path("kept").exists()


def test_a_folder_of_releases_is_known_as_such(made: Bundle, command):
    assert command("publish", "dist/net-1.0", "--to", "published")[0] == 0
    status, said, _ = command("verify", "published/net")
    assert status == 0
    assert said.startswith("published/net  net::torch")


def test_no_secret_is_printed_or_written(made: Bundle, server, monkeypatch, command, tmp_path):
    s3_server.use(monkeypatch, server)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-58c0e91f")
    uri = f"s3://{s3_server.new_bucket(server)}/models"
    said = [
        command("publish", "dist/net-1.0", "--to", uri),
        command("releases", uri, "--json"),
        command("verify", f"{uri}/net", "--to", str(tmp_path / "back")),
        command("publish", "dist/net-1.0", "--to", "s3://no-such-bucket"),
        command("releases", f"s3://{s3_server.SECRET_KEY}:{s3_server.ACCESS_KEY}@bucket"),
    ]
    assert [status for status, _, _ in said] == [0, 0, 0, 1, 1]
    store = open_store(uri)
    found = [one.key for one in store.listed()]
    everything = [repr(said), repr([store.head(key) for key in found])]
    everything += [store.read(key).data.decode("latin-1") for key in found]
    everything += [path.read_text("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    for secret in (s3_server.SECRET_KEY, s3_server.ACCESS_KEY, "token-58c0e91f"):
        assert not any(secret in text for text in everything)
