"""One contract for three kinds of store, and what each kind does when things go wrong."""

from __future__ import annotations

import errno
import http.server
import io
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from moto import mock_aws

from insetgan_batch.data.storage import (
    LocalStorage,
    MemoryStorage,
    Storage,
    conditional_writes_work,
    local_path,
    locate,
    open_storage,
    read_uri,
)
from insetgan_batch.errors import NotFoundError, RefusedError, StorageError

BUCKET = "results"


@pytest.fixture(params=["local", "memory", "s3"])
def uri(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "local":
        yield (tmp_path / "a b" / "run").as_uri()
    elif request.param == "memory":
        yield f"memory://{uuid.uuid4().hex}/team/run"
    else:
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
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
    calls += [read_into, put, put_if_absent, list_below]
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
    """Keeps the first object and tells nobody."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        super().put_if_absent(key, data)
        return False


class Forgetter(MemoryStorage):
    """Tells the first that it won, and writes over its bytes all the same."""

    def put_if_absent(self, key: str, data: bytes) -> bool:
        won = super().put_if_absent(key, data)
        self.put(key, data)
        return won


@pytest.mark.parametrize("kind", [Flatterer, Grump, Forgetter])
def test_stores_that_do_not_decide_races_fail_the_probe(kind: type[MemoryStorage]) -> None:
    storage = kind(uuid.uuid4().hex)
    assert not conditional_writes_work(storage)
    assert list(storage.list("")) == []


# Racing writers


def test_racing_threads_have_one_winner(tmp_path: Path) -> None:
    for storage in (open_storage(str(tmp_path)), MemoryStorage(uuid.uuid4().hex)):
        for n in range(10):
            won = _race(storage, f"commits/{n}", writers=8)
            assert won.count(True) == 1
            assert storage.get(f"commits/{n}") == b"%d" % won.index(True)


def test_racing_processes_have_one_winner(tmp_path: Path) -> None:
    code = (
        "for n in range(40):\n"
        "    if s.put_if_absent(str(n), sys.argv[2].encode()):\n"
        "        print(n)\n"
    )
    writers = {name: _start(code, tmp_path, name) for name in "abcd"}
    for writer in writers.values():
        _go(writer)
    wins = {name: writer.communicate()[0].split() for name, writer in writers.items()}
    assert sorted(key for won in wins.values() for key in won) == sorted(map(str, range(40)))
    storage = open_storage(str(tmp_path))
    assert all(storage.get(key) == name.encode() for name, won in wins.items() for key in won)


def _race(storage: Storage, key: str, *, writers: int) -> list[bool]:
    start = threading.Barrier(writers)

    def write(n: int) -> bool:
        start.wait()
        return storage.put_if_absent(key, b"%d" % n)

    with ThreadPoolExecutor(writers) as pool:
        return list(pool.map(write, range(writers)))


def _start(code: str, root: Path, name: str = "") -> subprocess.Popen[str]:
    """A process that runs the code on the store `s` once it is told to go."""
    setup = (
        "import resource, sys\n"
        "from insetgan_batch.data.storage import open_storage\n"
        "s = open_storage(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
    )
    arguments = [sys.executable, "-c", setup + code, str(root), name]
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


# The local directory


PARTS = st.text("ab-_", min_size=1, max_size=3)
KEYS = st.tuples(st.lists(PARTS, max_size=3), PARTS).map(lambda k: "/".join([*k[0], k[1] + ".x"]))


@given(keys=st.sets(KEYS, max_size=12))
@settings(
    max_examples=20,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_directory_lists_like_a_sorted_set_of_keys(tmp_path: Path, keys: set[str]) -> None:
    storage = open_storage(str(tmp_path / uuid.uuid4().hex))
    for key in keys:
        storage.put(key, b"")
    assert list(storage.list("")) == sorted(keys)


def test_reader_sees_all_of_one_write(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.put("a", b"0" * 400_000)
    done = threading.Event()

    def rewrite() -> None:
        for n in range(30):
            storage.put("a", b"%d" % (n % 10) * 400_000)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(rewrite)
        while not done.is_set() and not writer.done():
            data = storage.get("a")
            assert len(data) == 400_000
            assert len(set(data)) == 1
        writer.result()


def test_killed_writer_leaves_whole_objects_only(tmp_path: Path) -> None:
    code = (
        "for n in range(10**9):\n"
        "    s.put('a', bytes([n % 256]) * 3_000_000)\n"
        "    print(n, flush=True)\n"
    )
    writer = _start(code, tmp_path)
    _go(writer)
    assert writer.stdout is not None
    for _ in range(3):
        writer.stdout.readline()
    writer.kill()
    writer.communicate()
    storage = open_storage(str(tmp_path))
    data = storage.get("a")
    assert len(data) == 3_000_000
    assert len(set(data)) == 1
    (tmp_path / ".insetgan-tmp-left").write_bytes(b"half")  # what a kill inside the write leaves
    assert list(storage.list("")) == ["a"]


def test_full_disk_is_an_error_and_keeps_the_old_object(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.put("a", b"old")
    code = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, resource.RLIM_INFINITY))\n"
        "s.put('a', b'x' * 100_000)"
    )
    _, errors = _start(code, tmp_path).communicate("go\n")
    assert errors.splitlines()[-1].startswith("insetgan_batch.errors.StorageError: file:///")
    assert "a: cannot write: File too large" in errors.splitlines()[-1]
    assert storage.get("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path))
    storage.put("a", b"")
    for write in (storage.put, storage.put_if_absent):
        with pytest.raises(StorageError, match=r"a/b: cannot write: .*move it away"):
            write("a/b", b"")
    with pytest.raises(StorageError, match=r"cannot write"):
        open_storage(str(tmp_path / "a")).put("b", b"")


def test_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    storage = open_storage(str(tmp_path))
    for read in (lambda: storage.get("a"), lambda: storage.read_into("a", io.BytesIO())):
        with pytest.raises(StorageError, match=r"/a: cannot read: Too many levels"):
            read()


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


# S3: what its answers become


class Server(http.server.ThreadingHTTPServer):
    """A store that gives prepared answers: (status, error code), the last one again and again."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("If-None-Match")))
        answers = self.server.answers
        status, code = answers.pop(0) if len(answers) > 1 else answers[0]
        body = f"<Error><Code>{code}</Code><Message>two\nlines</Message></Error>".encode()
        if not code:
            body = b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (10 if code == "Cut" else 0)))
        if code == "Cut":
            self.close_connection = True
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_PUT = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAKEY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return monkeypatch


@pytest.fixture
def serve(aws: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*answers: tuple[int, str]) -> Server:
        server = Server(*answers)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[..., Server]


def test_page_after_page_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        storage = open_storage(f"s3://{BUCKET}/run")
        keys = [f"commits/{n:04d}" for n in range(25)]
        for key in keys:
            storage.put(key, b"")
        assert list(storage.list("commits")) == keys


def test_bucket_that_does_not_exist_is_named() -> None:
    with mock_aws():
        storage = open_storage("s3://nobody/run")
        for call in (storage.get, storage.delete, lambda _: list(storage.list(""))):
            with pytest.raises(RefusedError, match=r"s3://nobody/run.*no such bucket: create it"):
                call("a")


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "allow s3:GetObject"),
        (403, "InvalidAccessKeyId", "credentials are not accepted"),
        (403, "SignatureDoesNotMatch", "credentials are not accepted"),
        (400, "ExpiredToken", "renew them"),
    ],
)
def test_refusal_is_one_line_that_says_what_to_do(
    serve: Serve, status: int, code: str, says: str
) -> None:
    serve((status, code))
    with pytest.raises(RefusedError, match=f"s3://bucket/run/a: .*{code}: .*{says}") as caught:
        open_storage("s3://bucket/run").put("a", b"")
    assert "\n" not in str(caught.value)


def test_refusal_without_a_text_is_a_refusal(serve: Serve) -> None:
    serve((403, "AccessDenied"))
    with pytest.raises(RefusedError, match=r"HeadObject: 403: allow s3:GetObject"):
        open_storage("s3://bucket/run").exists("a")


def test_unknown_answer_is_passed_on_in_one_line(serve: Serve) -> None:
    serve((500, "InternalError"))
    with pytest.raises(StorageError, match=r"run/a: PutObject failed: InternalError: two lines$"):
        open_storage("s3://bucket/run").put("a", b"")


def test_slow_down_is_tried_again(serve: Serve, aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_MAX_ATTEMPTS", "2")
    server = serve((503, "SlowDown"), (200, ""))
    open_storage("s3://bucket/run").put("a", b"")
    assert len(server.asked) == 2


def test_put_if_absent_asks_for_absence_and_believes_the_answer(serve: Serve) -> None:
    server = serve((200, ""), (412, "PreconditionFailed"))
    storage = open_storage("s3://bucket/run")
    assert storage.put_if_absent("a", b"")
    assert not storage.put_if_absent("a", b"")
    assert server.asked == [("/bucket/run/a", "*")] * 2


@pytest.mark.parametrize(("last", "won"), [((200, ""), True), ((412, "PreconditionFailed"), False)])
def test_conflict_of_writers_is_asked_again(serve: Serve, last: tuple[int, str], won: bool) -> None:
    conflict = (409, "ConditionalRequestConflict")
    server = serve(conflict, conflict, last)
    assert open_storage("s3://bucket/run").put_if_absent("a", b"") is won
    assert len(server.asked) == 3


def test_endless_conflict_is_an_error(serve: Serve) -> None:
    serve((409, "ConditionalRequestConflict"))
    with pytest.raises(StorageError, match=r"run/a: other writers kept conflicting"):
        open_storage("s3://bucket/run").put_if_absent("a", b"")


@pytest.mark.parametrize("answer", [(200, ""), (501, "NotImplemented")])
def test_store_that_cannot_write_on_a_condition_fails_the_probe(
    serve: Serve, answer: tuple[int, str]
) -> None:
    serve(answer)
    assert not conditional_writes_work(open_storage("s3://bucket/run"))


def test_probe_of_a_refusing_store_is_an_error_and_not_an_answer(serve: Serve) -> None:
    serve((403, "AccessDenied"))
    with pytest.raises(RefusedError):
        conditional_writes_work(open_storage("s3://bucket/run"))


def test_object_cut_short_is_an_error(serve: Serve) -> None:
    serve((200, "Cut"))
    storage = open_storage("s3://bucket/run")
    for read in (lambda: storage.get("a"), lambda: storage.read_into("a", io.BytesIO())):
        with pytest.raises(StorageError, match=r"run/a: no answer"):
            read()


def test_object_replaced_while_it_is_read_is_an_error(serve: Serve) -> None:
    serve((200, ""), (412, "PreconditionFailed"))
    with pytest.raises(StorageError, match=r"run/a: the object was replaced while it was read"):
        open_storage("s3://bucket/run").read_into("a", io.BytesIO())


def test_reading_into_a_file_says_who_refuses(serve: Serve) -> None:
    serve((403, "AccessDenied"))
    with pytest.raises(RefusedError, match=r"run/a: HeadObject: 403: allow s3:GetObject"):
        open_storage("s3://bucket/run").read_into("a", io.BytesIO())


def test_unreachable_endpoint_is_named_without_its_password(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "http://me:hunter2@127.0.0.1:9")
    with pytest.raises(StorageError, match=r"no answer from http://127.0.0.1:9 ") as caught:
        open_storage("s3://bucket/run").put("a", b"")
    assert "hunter2" not in str(caught.value)


def test_endpoint_that_is_no_url_is_refused(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(RefusedError, match=r"AWS_ENDPOINT_URL"):
        open_storage("s3://bucket/run")


def test_missing_credentials_are_refused(aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RefusedError, match=r"no credentials found: set AWS_PROFILE"):
        open_storage("s3://bucket/run").put("a", b"")


def test_unknown_profile_is_refused(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RefusedError, match=r"AWS_PROFILE names no profile"):
        open_storage("s3://bucket/run")


def test_name_that_no_bucket_can_have_is_refused(aws: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"cannot be the name of a bucket"):
        open_storage("s3://No Bucket/run").put("a", b"")
