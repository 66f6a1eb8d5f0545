"""One contract for all kinds of store, and what is built on it: names, the probe, patience."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from insetgan_batch.data.storage import (
    LocalStorage,
    MemoryStorage,
    Storage,
    conditional_writes_work,
    local_path,
    locate,
    open_storage,
    patiently,
    read_uri,
)
from insetgan_batch.errors import NotFoundError, RefusedError, StorageError
from tests.servers.fixtures import new_bucket
from tests.servers.s3_server import S3Server

BUCKET = "results"


@pytest.fixture(params=["local", "memory", "moto", "swift"])
def uri(request: pytest.FixtureRequest, tmp_path: Path, aws: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "local":
        yield (tmp_path / "a b" / "run").as_uri()
    elif request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/team/run"
    elif request.param == "swift":
        server: S3Server = request.getfixturevalue("swift")
        server.log_in(aws)
        yield f"s3://{new_bucket(server)}/team/run"
    else:
        with mock_aws():
            boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
            yield f"s3://{BUCKET}/team/run"


@pytest.fixture
def storage(uri: str) -> Storage:
    return open_storage(uri)


# The contract


@pytest.mark.parametrize("data", [b"", b"\x00\xff\n", b"x" * 300_000])
def test_what_is_put_is_read_back(storage: Storage, data: bytes) -> None:
    storage.put("items/ab/image.png", data)
    assert storage.get("items/ab/image.png") == data


def test_what_is_put_from_a_file_begins_where_the_file_stands(storage: Storage) -> None:
    data = bytes(range(251)) * 80_000
    file = io.BytesIO(b"before" + data)
    file.seek(6)
    storage.put_from("dataset/part.tar", file)
    assert storage.get("dataset/part.tar") == data
    storage.put_from("dataset/part.tar", io.BytesIO(b"new"))
    assert storage.get("dataset/part.tar") == b"new"


def test_put_replaces(storage: Storage) -> None:
    storage.put("a", b"long old bytes")
    storage.put("a", b"new")
    assert storage.get("a") == b"new"


@pytest.mark.parametrize("key", ["a", "a/b", "there/below"])
def test_missing_key_is_not_found(storage: Storage, key: str) -> None:
    storage.put("there", b"")
    file = io.BytesIO()
    for read in (lambda: storage.get(key), lambda: storage.read_into(key, file)):
        with pytest.raises(NotFoundError, match=key):
            read()
    assert not storage.exists(key)
    assert file.getvalue() == b""


class Onward(io.BytesIO):
    """Could seek, but does not like to."""

    def seek(self, *_: int) -> int:
        raise AssertionError("the bytes do not come in their order")


@pytest.mark.parametrize("data", [b"", b"\x00\xff\n", bytes(range(251)) * 80_000])
def test_object_of_any_size_is_read_into_a_file_from_first_to_last(
    storage: Storage, data: bytes
) -> None:
    storage.put("weights/body.safetensors", data)
    file = Onward()
    storage.read_into("weights/body.safetensors", file)
    assert file.getvalue() == data


class Full:
    """A file on a disk without space."""

    def write(self, data: bytes, /) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_error_of_the_file_is_not_blamed_on_the_store(storage: Storage) -> None:
    storage.put("a", b"1")
    with pytest.raises(OSError, match="No space left"):
        storage.read_into("a", Full())


def test_folder_is_not_an_object(storage: Storage) -> None:
    storage.put("a/b", b"")
    assert not storage.exists("a")
    storage.delete("a")
    with pytest.raises(NotFoundError):
        storage.get("a")


def test_second_put_if_absent_loses_and_changes_nothing(storage: Storage) -> None:
    assert storage.put_if_absent("commits/a", b"first")
    assert not storage.put_if_absent("commits/a", b"second")
    assert storage.get("commits/a") == b"first"


def test_put_if_absent_loses_against_a_plain_put(storage: Storage) -> None:
    storage.put("a", b"first")
    assert not storage.put_if_absent("a", b"second")
    assert storage.get("a") == b"first"


def test_deleted_key_can_be_created_again(storage: Storage) -> None:
    storage.put("a", b"1")
    storage.delete("a")
    storage.delete("a")
    assert not storage.exists("a")
    assert storage.put_if_absent("a", b"2")


def test_list_holds_all_keys_below_a_folder_in_order(storage: Storage) -> None:
    keys = ["a-b/x", "a/b.json", "a/b/c", "a/b/d", "aa/x", "z"]
    for key in reversed(keys):
        storage.put(key, b"")
    assert list(storage.list("")) == keys
    assert list(storage.list("a")) == list(storage.list("a/")) == ["a/b.json", "a/b/c", "a/b/d"]
    assert list(storage.list("a/b")) == ["a/b/c", "a/b/d"]
    assert list(storage.list("nothing")) == list(storage.list("z")) == []


def test_store_never_shows_its_neighbours(uri: str) -> None:
    storage, neighbour = open_storage(uri), open_storage(uri + "2")
    neighbour.put("a", b"")
    assert list(storage.list("")) == []
    assert not storage.exists("a")


def test_uri_opens_the_same_store_again(storage: Storage) -> None:
    storage.put("a", b"1")
    assert open_storage(storage.uri).get("a") == b"1"


def test_uri_of_an_object_is_read_and_located(storage: Storage) -> None:
    storage.put("in/m.parquet", b"1")
    there, key = locate(f"{storage.uri}/in/m.parquet")
    assert (there.get(key), key) == (b"1", "m.parquet")
    assert read_uri(f"{storage.uri}/in/m.parquet") == b"1"


def test_key_that_could_leave_the_root_is_refused(storage: Storage) -> None:
    def read_into(key: str) -> None:
        storage.read_into(key, io.BytesIO())

    def put(key: str) -> None:
        storage.put(key, b"")

    def put_if_absent(key: str) -> None:
        storage.put_if_absent(key, b"")

    def list_below(key: str) -> None:
        list(storage.list(f"{key}/.."))

    calls: list[Callable[[str], object]] = [storage.get, storage.exists, storage.delete]

    def put_from(key: str) -> None:
        storage.put_from(key, io.BytesIO())

    calls += [read_into, put, put_from, put_if_absent, list_below]
    for key in ("", ".", "..", "/a", "a/", "a//b", "../a", "a/../../b", "a\0b"):
        for call in calls:
            with pytest.raises(StorageError, match="is not a key"):
                call(key)
    assert list(storage.list("")) == []


def test_stores_that_decide_races_pass_the_probe(tmp_path: Path) -> None:
    for storage in (open_storage(str(tmp_path)), MemoryStorage(uuid.uuid4().hex)):
        assert conditional_writes_work(storage)
        assert list(storage.list("")) == []


class Flatterer(MemoryStorage):
    """Keeps the first object and tells everybody that it was theirs."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        super().put_if_absent(key, data)
        return True


class Grump(MemoryStorage):
    """Keeps the first object, and does not tell the first so many winners."""

    silent = 10**6

    def put_if_absent(self, key: str, data: bytes) -> bool:
        won = super().put_if_absent(key, data)
        self.silent -= won
        return won and self.silent < 0


class Forgetter(MemoryStorage):
    """Tells the first that it won, and writes over its bytes all the same."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        won = super().put_if_absent(key, data)
        self.put(key, data)
        return won


@pytest.mark.parametrize("kind", [Flatterer, Forgetter])
def test_stores_that_do_not_decide_races_fail_the_probe(kind: type[MemoryStorage]) -> None:
    storage = kind(uuid.uuid4().hex)
    assert not conditional_writes_work(storage)
    assert list(storage.list("")) == []


def test_a_race_whose_winner_was_not_told_is_run_again() -> None:
    storage = Grump(uuid.uuid4().hex)
    storage.silent = 3  # a flaky store: done as asked, and the answer lost
    assert conditional_writes_work(storage)
    assert list(storage.list("")) == []


def test_a_store_that_never_tells_a_winner_cannot_be_judged() -> None:
    storage = Grump(uuid.uuid4().hex)
    with pytest.raises(StorageError, match="nobody wins a race"):
        conditional_writes_work(storage)
    assert list(storage.list("")) == []


# Racing writers


def test_racing_threads_have_one_winner(tmp_path: Path) -> None:
    for storage in (open_storage(str(tmp_path)), MemoryStorage(uuid.uuid4().hex)):
        for n in range(10):
            won = _race(storage, f"commits/{n}", writers=8)
            assert won.count(True) == 1
            assert storage.get(f"commits/{n}") == b"%d" % won.index(True)


def _race(storage: Storage, key: str, *, writers: int) -> list[bool]:
    start = threading.Barrier(writers)

    def write(n: int) -> bool:
        start.wait()
        return storage.put_if_absent(key, b"%d" % n)

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(write, range(writers)))


# The names of stores


def test_paths_and_file_uris_name_the_same_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a b#c", f"{tmp_path}/a b#c", f"file://{tmp_path}/a%20b%23c"):
        storage = open_storage(name)
        assert isinstance(storage, LocalStorage)
        assert storage.root == tmp_path / "a b#c"
        assert storage.uri == f"file://{tmp_path}/a%20b%23c"


def test_only_what_is_on_this_disk_has_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("a b#c", "~/a b#c", f"{tmp_path}/a b#c", f"file://{tmp_path}/a%20b%23c"):
        assert local_path(name) == tmp_path / "a b#c"
    assert local_path("s3://bucket/a") is None
    assert local_path("memory://name/a") is None


def test_opening_a_directory_creates_nothing(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "new"))
    assert list(storage.list("")) == []
    assert not storage.exists("a")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "gs://bucket/x",
        "https://user:hunter2@example.org/x",
        "s3:/bucket/x",
        "s3://",
        "s3:///x",
        "s3://AKIAKEY:hunter2@bucket/x",
        "memory://",
        "file://relative/x",
    ],
)
def test_unknown_place_is_refused_with_the_known_schemes(uri: str) -> None:
    with pytest.raises(StorageError, match=r"expected .*file:///abs") as caught:
        open_storage(uri)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["s3://bucket", "s3://bucket/", "memory://name", "/", "a/.."])
def test_place_without_an_object_cannot_be_located(uri: str) -> None:
    with pytest.raises(StorageError, match=r"names no object|is not a key"):
        locate(uri)


def test_boto3_is_not_imported_before_s3_is_asked_for() -> None:
    code = (
        "import sys, insetgan_batch.data.commits as c, insetgan_batch.data.storage as s\n"
        "s.open_storage('memory://a').put('k', b'')\n"
        "sys.exit('boto3' in sys.modules or 'pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Patience


class Outage:
    """A call that fails for a while."""

    def __init__(self, error: StorageError, times: int) -> None:
        self.error, self.times, self.calls = error, times, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


def test_an_outage_shorter_than_the_patience_is_not_seen() -> None:
    outage = Outage(StorageError("down"), times=3)
    assert patiently(outage, 60.0) == "done"
    assert outage.calls == 4


def test_an_outage_longer_than_the_patience_is_seen_at_its_end_and_not_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outage, now_s = Outage(StorageError("down"), times=10**9), 100.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        now_s += seconds

    monkeypatch.setattr("insetgan_batch.data.storage.time.monotonic", lambda: now_s)
    monkeypatch.setattr("insetgan_batch.data.storage.time.sleep", sleep)
    with pytest.raises(StorageError, match="down"):
        patiently(outage, 0.5)
    assert now_s == pytest.approx(100.5)
    assert 3 <= outage.calls <= 6


def test_without_patience_there_is_one_call() -> None:
    outage = Outage(StorageError("down"), times=1)
    with pytest.raises(StorageError, match="down"):
        patiently(outage, 0.0)
    assert outage.calls == 1


@pytest.mark.parametrize("error", [NotFoundError("none"), RefusedError("no")])
def test_what_would_be_said_again_is_not_asked_again(error: StorageError) -> None:
    outage = Outage(error, times=1)
    with pytest.raises(type(error)):
        patiently(outage, 60.0)
    assert outage.calls == 1


def test_patience_ends_when_all_is_over() -> None:
    outage = Outage(StorageError("down"), times=10**9)
    with pytest.raises(StorageError, match="down"):
        patiently(outage, 60.0, is_over=lambda: outage.calls == 2)
    assert outage.calls == 2


@pytest.mark.parametrize("key", ["a//b.png", "/b.png", "a/../b.png", "./b.png"])
def test_a_key_with_an_empty_part_is_no_other_object(key: str) -> None:
    """`a//b.png` is not `a/b.png`: who asks for one must not be given the other."""
    store = MemoryStorage(uuid.uuid4().hex)
    store.put("a/b.png", b"1")
    store.put("b.png", b"2")
    with pytest.raises(RefusedError, match="is not a key"):
        read_uri(f"{store.uri}/{key}")
