"""The store in a directory: races between processes, kills, full disks."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from insetgan_batch.data.storage import disk_error, open_storage
from insetgan_batch.errors import RefusedError, StorageError


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


PARTS = st.text("ab-_", min_size=1, max_size=3)
KEYS = st.tuples(st.lists(PARTS, max_size=3), PARTS).map(lambda k: "/".join([*k[0], k[1] + ".x"]))


@given(keys=st.sets(KEYS, max_size=12))
@settings(
    max_examples=20,
    database=None,
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


def test_disk_without_space_is_refused_and_keeps_the_old_object(tmp_path: Path) -> None:
    """A real one: 64 kB in memory, mounted where only this test sees it."""
    code = (
        "import sys\n"
        "from insetgan_batch.data.storage import open_storage\n"
        "s = open_storage(sys.argv[1])\n"
        "s.put('a', b'old')\n"
        "try:\n"
        "    s.put('a', b'x' * 1_000_000)\n"
        "finally:\n"
        "    print(s.get('a'), list(s.list('')), flush=True)\n"
    )
    mount = f"mount -t tmpfs -o size=64k none {tmp_path}"
    alone = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*alone, mount], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount a file system of their own")
    ran = subprocess.run(
        [*alone, f'{mount} && "$0" -c "$1" {tmp_path}', sys.executable, code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stdout == "b'old' ['a']\n"
    last = ran.stderr.splitlines()[-1]
    assert last.startswith("insetgan_batch.errors.RefusedError: file:///")
    assert last.endswith(
        "/a: cannot write: No space left on device; free some space, or choose another place"
    )


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_a_disk_would_say_again_is_a_refusal(number: int) -> None:
    error = disk_error("file:///a", "write", OSError(number, os.strerror(number)))
    assert isinstance(error, RefusedError)
    assert "; " in str(error)


def test_what_a_disk_may_not_say_again_is_no_refusal() -> None:
    error = disk_error("file:///a", "read", OSError(errno.EIO, "Input/output error"))
    assert str(error) == "file:///a: cannot read: Input/output error; check the directory"
    assert not isinstance(error, RefusedError)
