"""Publishing to a real Ceph, and to a folder, while everything goes wrong."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from services.ceph import Ceph
from services.proxy import Proxy
from services.tally import Tally

import pytest_onnxcheck.storage.s3
from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.release import Bundle, Published, fetch, publish, releases, rollback

KILLS = 20
COMMAND = (sys.executable, "-c", "from pytest_onnxcheck.cli import main; raise SystemExit(main())")


def done(made: Bundle, uri: str, tally: Tally) -> Published:
    found = publish(made.folder, uri)
    tally.publishes += 1
    return found


def uploads(server: Ceph, uri: str) -> list[str]:
    """Keys of the uploads in parts that nobody has ended."""
    _, _, bucket, prefix = uri.split("/", 3)
    found = server.client().list_multipart_uploads(Bucket=bucket, Prefix=prefix)
    return [upload["Key"] for upload in found.get("Uploads", ())]


def refused(made: Bundle, uri: str, tally: Tally, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        publish(made.folder, uri)
    tally.refused += 1


def test_a_bundle_is_published_and_comes_back(made, uri, server, tally, tmp_path):
    found = done(made, uri, tally)
    assert (found.already, found.current) == (False, found.version)
    again = done(made, uri, tally)
    assert (again.already, again.release) == (True, found.release)
    tally.check(uri, [found, again], tmp_path)
    assert uploads(server, uri) == []
    assert (tmp_path / "0" / f"net-{found.version}" / "model.onnx").read_bytes() == (
        made.folder / "model.onnx"
    ).read_bytes()
    client, key = server.client(), f"{found.uri.split('/', 3)[3]}/model.onnx"
    known = client.head_object(Bucket=uri.split("/")[2], Key=key)
    assert known["ETag"].endswith('-3"'), "it went in parts"
    assert known["Metadata"]["sha256"] == made.metadata.files[0].sha256


def test_one_goes_back_and_forth(made, another, uri, tally, tmp_path):
    found = [done(one, uri, tally) for one in (made, another)]
    assert releases(uri).current == {"net": found[1].version}
    rollback(uri, found[0].version)
    assert releases(uri).current == {"net": found[0].version}
    assert done(another, uri, tally).current == found[0].version
    tally.check(uri, found, tmp_path)


@pytest.mark.parametrize("way_cut", ["sent", "answered"])
@pytest.mark.parametrize("share", [0, 0.00002, 0.0002, 0.3, 0.6, 0.9, 0.995, 0.9999, 1])
def test_a_connection_that_is_cut_once(
    made, uri, server, way, tally, tmp_path, monkeypatch, share, way_cut
):
    """boto3 sends the request again, and what was lost on the way has no effect."""
    total = whole(made, server, way, monkeypatch)
    way.reset(way=way_cut, cut_after=int(share * total[way_cut]))
    told = []
    try:
        told.append(done(made, uri, tally))
    except StorageError as error:
        tally.refused += 1
        assert "try again" in str(error)  # noqa: PT017 - only some cuts are an error
    tally.cuts += way.cuts
    way.reset()
    told.append(done(made, uri, tally))
    found = tally.check(uri, told, tmp_path)
    assert (len(found.released), found.unfinished, uploads(server, uri)) == (1, (), [])


@pytest.mark.parametrize("share", [0, 0.0002, 0.3, 0.6, 0.995, 0.9999])
def test_a_connection_that_stays_cut(made, uri, server, way, tally, tmp_path, monkeypatch, share):
    total = whole(made, server, way, monkeypatch)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    way.reset(cut_after=int(share * total["sent"]), for_good=True)
    refused(made, uri, tally, rf"^{uri}.*http://127.*(was cut|cannot be reached).*try again")
    tally.cuts += way.cuts
    way.reset()
    assert len(releases(uri).released) <= 1
    found = [done(made, uri, tally)]
    listed = tally.check(uri, found, tmp_path)
    assert (len(listed.released), listed.unfinished, uploads(server, uri)) == (1, (), [])


_WHOLE: dict[str, int] = {}


def whole(made: Bundle, server: Ceph, way: Proxy, monkeypatch) -> dict[str, int]:
    """Sends through the proxy from now on; the bytes of a whole publish, each way."""
    for name, value in server.environment(way.url).items():
        monkeypatch.setenv(name, value)
    if not _WHOLE:
        (bucket,) = (one["Name"] for one in server.client().list_buckets()["Buckets"])
        way.reset()
        publish(made.folder, f"s3://{bucket}/measured")
        _WHOLE.update(sent=way.sent, answered=way.answered)
    return _WHOLE


def test_a_slow_server(made, uri, server, way, tally, tmp_path, monkeypatch):
    whole(made, server, way, monkeypatch)
    way.reset(bytes_per_second=20e6)
    tally.check(uri, [done(made, uri, tally)], tmp_path)


def test_a_server_that_does_not_answer(made, uri, server, way, tally, monkeypatch):
    whole(made, server, way, monkeypatch)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(pytest_onnxcheck.storage.s3, "ANSWER_SECONDS", 1)
    way.reset(mute=True)
    refused(made, uri, tally, r"http://127.* did not answer in time: try again")


def test_wrong_credentials(made, uri, tally, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
        refused(made, uri, tally, r"refuses the secret key: check AWS_SECRET_ACCESS_KEY")
        patch.setenv("AWS_ACCESS_KEY_ID", "wrong-access")
        refused(made, uri, tally, r"does not know the access key: check AWS_ACCESS_KEY_ID")
    assert releases(uri).released == ()


def test_a_bucket_that_is_not_there(made, uri, tally):
    refused(
        made, "s3://no-such-bucket/x", tally, r"there is no such bucket at http://127.*s3 mb s3"
    )


def test_a_clock_that_is_wrong(made, uri, tally, monkeypatch):
    import botocore.auth

    now = botocore.auth.get_current_datetime

    def skewed() -> object:
        return now() + timedelta(hours=2)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", skewed)
    refused(made, uri, tally, r"this machine's clock and that of http://127.* are too far apart")


def test_a_quota_that_is_used_up(made, uri, server, tally, tmp_path):
    server.limit(1)
    try:
        refused(made, uri, tally, r"the quota is used up: make room")
    finally:
        server.limit(None)
    tally.check(uri, [done(made, uri, tally)], tmp_path)


def test_a_disk_that_is_full(made, tally, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = made.metadata.size_bytes // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], check=True)
    try:
        refused(made, disk.as_uri(), tally, r"No space left on device: make room there")
        assert releases(disk).released == ()
        assert list(disk.rglob(".incoming-*")) == []
        subprocess.run(["mount", "-o", f"remount,size={size * 4}", disk], check=True)
        tally.check(disk.as_uri(), [done(made, disk.as_uri(), tally)], tmp_path / "back")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_server_that_overwrites_silently_is_refused(made, uri, rclone, tally, monkeypatch):
    import s3_server

    url, folder = rclone
    s3_server.use(monkeypatch, url)
    refused(made, "s3://bucket/models", tally, r"this server overwrites what is there although")
    refused(made, "s3://bucket/models", tally, r"this server overwrites what is there although")
    found = sorted(path.name for path in folder.rglob("*") if path.is_file())
    assert found == [".onnxcheck-probe"]


@pytest.fixture(params=["ceph", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """On Ceph, or a folder."""
    if request.param == "ceph":
        return request.getfixturevalue("uri")
    return (tmp_path / "published").as_uri()


def at_once(acts: list[Callable[[], Published]]) -> Iterator[Published]:
    barrier, found = threading.Barrier(len(acts)), []

    def run(act: Callable[[], Published]) -> None:
        barrier.wait()
        found.append(act())

    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(acts)
    yield from found


@pytest.mark.parametrize("number", range(8))
def test_publishers_of_one_bundle_at_once(made, place, server, tally, tmp_path, number):
    found = list(at_once([lambda: done(made, place, tally)] * 3))
    tally.races += 1
    assert [one.already for one in found].count(False) == 1, "one wins"
    assert len({one.release.publisher for one in found}) == 1, "and all are told which"
    listed = tally.check(place, found, tmp_path / "back")
    assert (len(listed.released), listed.unfinished) == (1, ())
    assert listed.current == {"net": found[0].version}
    if place.startswith("s3:"):
        assert uploads(server, place) == []


@pytest.mark.parametrize("number", range(4))
def test_publishers_of_two_bundles_at_once(made, another, place, tally, tmp_path, number):
    acts = [lambda: done(made, place, tally), lambda: done(another, place, tally)]
    found = list(at_once(acts))
    tally.races += 1
    listed = tally.check(place, found, tmp_path / "back")
    assert len(listed.released) == 2
    assert listed.current["net"] in {one.version for one in found}


def test_a_publisher_that_is_killed(made, place, server, tally, tmp_path, monkeypatch):
    """At random moments after it began to write; then another call completes it."""
    chance, seconds = random.Random(0), writing_seconds(made, f"{place}/measured")
    for number in range(KILLS):
        uri = f"{place}/{number}"
        process = started(made, uri)
        wait_until_writing(uri, process)
        time.sleep(chance.uniform(0, 1.1 * seconds))
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.kills += 1
        before = tally.check(uri, [], tmp_path / f"before-{number}")
        tally.kills_before += not before.released
        found = done(made, uri, tally)
        assert found.already == bool(before.released)
        listed = tally.check(uri, [found], tmp_path / f"after-{number}")
        assert (len(listed.released), listed.unfinished) == (1, ())
        assert listed.current == {"net": found.version}
        assert left_behind(server, uri) == []


def started(made: Bundle, uri: str) -> subprocess.Popen[bytes]:
    """A publisher in a process of its own."""
    command = [*COMMAND, "publish", str(made.folder), "--to", uri]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def wait_until_writing(uri: str, process: subprocess.Popen[bytes]) -> None:
    """Until the first object is there."""
    from pytest_onnxcheck.storage import open_store

    store = open_store(uri)
    while process.poll() is None and not list(store.listed()):
        time.sleep(0.01)


def writing_seconds(made: Bundle, uri: str) -> float:
    process = started(made, uri)
    wait_until_writing(uri, process)
    start = time.monotonic()
    assert process.wait() == 0
    return time.monotonic() - start


def left_behind(server: Ceph, uri: str) -> list[str]:
    """What is unfinished at an address."""
    if uri.startswith("s3:"):
        return uploads(server, uri)
    return [str(path) for path in Path(uri.removeprefix("file://")).rglob(".incoming-*")]


def test_a_download_that_is_cut(made, uri, server, way, tally, tmp_path, monkeypatch):
    whole(made, server, way, monkeypatch)
    where = done(made, uri, tally).uri
    way.reset(way="answered", cut_after=10_000_000)
    fetch(where, tmp_path / "once")
    assert way.cuts == 1
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    way.reset(way="answered", cut_after=10_000_000, for_good=True)
    with pytest.raises(StorageError, match=r"http://127.*try again"):
        fetch(where, tmp_path / "never")
    assert list((tmp_path / "never").iterdir()) == []
    tally.cuts += way.cuts + 1
    way.reset()
    fetch(where, tmp_path / "never")
    tally.downloads += 2
