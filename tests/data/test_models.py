"""The model store: which file a name stands for, and that a machine fetches it once."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from insetgan_batch.data import models
from insetgan_batch.data.storage import open_storage
from insetgan_batch.demo.models import MODELS
from insetgan_batch.errors import CheckpointError, ConfigError, RefusedError, StorageError

WEIGHTS = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()
WRONG = "0" * 64


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the store keeps files in a test."""
    monkeypatch.setenv("INSETGAN_BATCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def held(cache: Path) -> list[str]:
    """All files of the cache but the lock."""
    files = [str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file()]
    return sorted(name for name in files if not name.startswith("lock"))


def in_memory(data: bytes = WEIGHTS) -> str:
    """A fresh object of this process' memory."""
    name = uuid.uuid4().hex
    open_storage(f"memory://{name}").put("body.safetensors", data)
    return f"memory://{name}/body.safetensors"


# Files of this machine


@pytest.mark.parametrize("name", models.of_demo())
def test_a_demo_model_is_the_packages_own_file(name: str, cache: Path) -> None:
    model = models.fetch(f"demo:{name}")
    assert model.path.name == f"{name}.safetensors"
    assert model.sha256 == hashlib.sha256(model.path.read_bytes()).hexdigest()
    assert model.name == f"demo:{name}#sha256={model.sha256}"
    assert not cache.exists()


def test_the_demo_models_are_those_that_can_be_trained() -> None:
    assert models.of_demo().keys() == {*MODELS, "encoder", "parts"}


def test_a_local_file_is_used_where_it_is(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a b#c.safetensors"
    path.write_bytes(WEIGHTS)
    for name in (path.name, str(path), path.as_uri(), f"{path.name}#sha256={SHA256.upper()}"):
        model = models.fetch(name)
        assert (model.path, model.sha256) == (path, SHA256)
    assert not cache.exists()


def test_the_name_of_a_model_finds_the_same_file_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a b#c.safetensors").write_bytes(WEIGHTS)
    found = [models.fetch(name) for name in ("a b#c.safetensors", "demo:face", in_memory())]
    monkeypatch.chdir("/")
    assert [models.fetch(model.name) for model in found] == found


def test_a_local_file_that_is_another_names_both_hashes(tmp_path: Path) -> None:
    path = tmp_path / "body.safetensors"
    path.write_bytes(WEIGHTS)
    for model in (f"{path}#sha256={WRONG}", f"demo:canvas#sha256={WRONG}"):
        with pytest.raises(CheckpointError) as caught:
            models.fetch(model)
        found = SHA256 if str(path) in model else models.fetch("demo:canvas").sha256
        where = model.partition("#")[0]
        assert f"{where}: its sha256 is {found}, expected {WRONG}: " in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere.safetensors", "", "demo/canvas"])
def test_a_file_that_there_is_not_is_named(tmp_path: Path, name: str) -> None:
    where = str(tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{re.escape(where)}: cannot be read: .*demo:NAME"):
        models.fetch(where)


@pytest.mark.parametrize("name", ["demo:nonsense", "demo:", "x.pt#sha256=12", "s3://b/x#sha256="])
def test_a_name_that_is_none_is_one_line(name: str, cache: Path) -> None:
    with pytest.raises(ConfigError, match=f"the model is '{name}', expected") as caught:
        models.fetch(name)
    assert "\n" not in str(caught.value)
    assert not cache.exists()


@pytest.mark.parametrize("name", ["", "gs://bucket/x", "s3://bucket", "memory://a/.."])
def test_a_place_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(StorageError, match=r"expected|is not a key"):
        models.fetch(name)


# Files of a store


def test_a_fetched_file_is_called_by_its_sha256_and_its_name(cache: Path) -> None:
    where = in_memory()
    model = models.fetch(where)
    assert model.path == cache / SHA256 / "body.safetensors"
    assert model.path.read_bytes() == WEIGHTS
    assert model.sha256 == SHA256
    assert model.name == f"{where}#sha256={SHA256}"
    assert held(cache) == [f"{SHA256}/body.safetensors"]


def test_a_file_whose_sha256_is_known_is_not_asked_for_again(cache: Path) -> None:
    where = in_memory()
    known = models.fetch(where)
    storage, _, key = where.rpartition("/")
    open_storage(storage).delete(key)
    assert models.fetch(known.name) == known
    with pytest.raises(CheckpointError, match="there is no such object"):
        models.fetch(where)


def flip(path: Path, position: int = 1000) -> None:
    """Damage a file where it lies, as a disk does: size and time stay."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip, cut, empty])
@pytest.mark.parametrize("is_known", [True, False])
def test_what_is_damaged_in_the_cache_is_fetched_again_and_said(
    cache: Path,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
    is_known: bool,
) -> None:
    where = in_memory()
    known = models.fetch(where)
    damage(known.path)
    again = models.fetch(known.name if is_known else where)
    assert again == known
    assert again.path.read_bytes() == WEIGHTS
    assert held(cache) == [f"{SHA256}/body.safetensors"]
    (told, *_) = [record.getMessage() for record in caplog.records]
    assert f"{known.path} is damaged: its sha256 is " in told


def test_what_is_damaged_and_gone_from_the_store_is_an_error(cache: Path) -> None:
    where = in_memory()
    known = models.fetch(where)
    flip(known.path)
    storage, _, key = where.rpartition("/")
    open_storage(storage).delete(key)
    with pytest.raises(CheckpointError, match="there is no such object"):
        models.fetch(known.name)


def test_a_file_that_changes_while_it_is_loaded_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "body.safetensors"
    path.write_bytes(WEIGHTS)
    model = models.fetch(str(path))
    assert models.loaded(model, Path.read_bytes) == WEIGHTS

    def read(path: Path) -> bytes:
        flip(path)
        return path.read_bytes()

    with pytest.raises(CheckpointError) as caught:
        models.loaded(model, read)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    assert f"{path.as_uri()}: its sha256 is {found}, expected {SHA256}: " in str(caught.value)


def test_a_damaged_file_of_the_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(models.demo_path("parts"), tmp_path / "parts.safetensors")
    monkeypatch.setattr(models, "demo_path", lambda name: tmp_path / f"{name}.safetensors")
    models.of_package("parts")
    flip(tmp_path / "parts.safetensors")
    with pytest.raises(CheckpointError, match=r"parts\.safetensors: its sha256 is .* install"):
        models.of_package("parts")


def test_an_unchanged_object_stays_the_same_file_and_a_changed_one_is_another(cache: Path) -> None:
    where = in_memory()
    first = models.fetch(where)
    inode = first.path.stat().st_ino  # who has mapped it shares its pages with who maps it now
    assert models.fetch(where) == first
    assert first.path.stat().st_ino == inode
    storage, _, key = where.rpartition("/")
    open_storage(storage).put(key, b"new weights")
    second = models.fetch(where)
    assert second.path.read_bytes() == b"new weights"
    assert first.path.read_bytes() == WEIGHTS
    assert len(held(cache)) == 2


def test_another_object_than_the_name_says_leaves_nothing(cache: Path) -> None:
    where = in_memory()
    with pytest.raises(CheckpointError, match=f"its sha256 is {SHA256}, expected {WRONG}"):
        models.fetch(f"{where}#sha256={WRONG}")
    assert held(cache) == []
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_the_cache_is_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = in_memory()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("INSETGAN_BATCH_CACHE", "~/models")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    places = []
    for variable in ("INSETGAN_BATCH_CACHE", "XDG_CACHE_HOME", "HOME"):
        places.append(models.fetch(where).path.parents[1])
        monkeypatch.delenv(variable)
    assert places == [
        tmp_path / "home" / "models",
        tmp_path / "xdg" / "insetgan-batch",
        tmp_path / "home" / ".cache" / "insetgan-batch",
    ]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(RefusedError, match=r"cache \(INSETGAN_BATCH_CACHE\): cannot write") as err:
        models.fetch(in_memory())
    assert "\n" not in str(err.value)


# S3, and several processes


class Bucket(http.server.ThreadingHTTPServer):
    """An S3 of one object. sends: how many of its bytes before it ends, or hangs."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reads = 0
        self.sends = len(WEIGHTS)
        self.hangs = False
        self.closing = threading.Event()
        self.counting = threading.Lock()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Bucket

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WEIGHTS)))
        self.end_headers()

    def do_GET(self) -> None:
        server = self.server
        with server.counting:
            server.reads += 1
        time.sleep(0.3)  # so that racers meet
        self.do_HEAD()
        self.wfile.write(WEIGHTS[: server.sends])
        if server.hangs:
            server.closing.wait()
        self.close_connection = server.sends < len(WEIGHTS)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Bucket]:
    server = Bucket()
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()


OBJECT = "s3://weights/real/body.safetensors"


def start(model: str) -> subprocess.Popen[str]:
    """A process that fetches the model once it is told to go, and prints the path."""
    code = (
        "import boto3, sys\n"
        "from insetgan_batch.data import models\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(models.fetch(sys.argv[1]).path)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, model],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def wait_until(happened: Callable[[], object]) -> None:
    end = time.monotonic() + 250
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_racing_processes_fetch_once(bucket: Bucket, cache: Path) -> None:
    racers = [start(f"{OBJECT}#sha256={SHA256}") for _ in range(3)]
    for racer in racers:
        let_go(racer)
    paths = {racer.communicate(timeout=250)[0] for racer in racers}
    assert paths == {f"{cache / SHA256 / 'body.safetensors'}\n"}
    assert bucket.reads == 1
    assert held(cache) == [f"{SHA256}/body.safetensors"]


def test_racing_threads_fetch_once(bucket: Bucket, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(models.fetch, [f"{OBJECT}#sha256={SHA256}"] * 4))
    assert len(set(found)) == 1
    assert bucket.reads == 1


def test_a_fetched_file_needs_no_network(
    bucket: Bucket, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = models.fetch(OBJECT)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    assert models.fetch(known.name) == known
    assert bucket.reads == 1


def test_a_download_cut_short_leaves_nothing(bucket: Bucket, cache: Path) -> None:
    bucket.sends = 100_000
    for model in (OBJECT, f"{OBJECT}#sha256={SHA256}"):
        with pytest.raises(StorageError, match=r"real/body\.safetensors: the endpoint .* broke"):
            models.fetch(model)
        assert held(cache) == []
    bucket.sends = len(WEIGHTS)
    assert models.fetch(OBJECT).path.read_bytes() == WEIGHTS


def test_what_a_killed_process_left_is_never_seen_and_goes_away(
    bucket: Bucket, cache: Path
) -> None:
    bucket.sends, bucket.hangs = 100_000, True
    victim = start(f"{OBJECT}#sha256={SHA256}")
    let_go(victim)
    wait_until(lambda: held(cache))
    victim.kill()
    victim.communicate()
    (left,) = held(cache)
    assert left.startswith("part-")
    bucket.sends, bucket.hangs = len(WEIGHTS), False
    model = models.fetch(f"{OBJECT}#sha256={SHA256}")
    assert model.path.read_bytes() == WEIGHTS
    assert held(cache) == [f"{SHA256}/body.safetensors"]
