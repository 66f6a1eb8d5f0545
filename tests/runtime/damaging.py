"""Damage to a finished run, and what every command has to make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from insetgan_batch.cli.main import app
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.storage import LocalStorage
from tests.bench import Bench


def commit_key(item_id: str) -> str:
    return f"commits/{hh(item_id)}/{item_id}.json"


def file(
    item_id: str, name: str, change: Callable[[bytes], bytes | None]
) -> Callable[[RunStore], str]:
    """A file of the item changed, or removed where the change gives None."""

    def damage_it(store: RunStore) -> str:
        key = store.read_commit(item_id)["files"][name]["key"]
        data = change(store.storage.get(key))
        store.storage.delete(key)
        if data is not None:
            store.storage.put(key, data)
        return key

    return damage_it


def picture_of(store: RunStore, item_id: str) -> str:
    return store.read_commit(item_id)["files"]["image"]["key"]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def call(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert "Traceback" not in result.output
    assert all(line.isprintable() for line in result.output.splitlines()), result.output
    return result


def run(place: Bench) -> Result:
    config = str(Path(place.manifest).with_name("run.yaml"))
    return call("run", config, "--manifest", place.manifest, "--out", place.out)


def files_in(directory: str) -> set[Path]:
    return {path for path in Path(directory, "items").rglob("*") if path.is_file()}


def check_that_every_command_leaves_it_out(
    place: Bench, way: Callable[[RunStore], str], *, is_seen_by_status: bool
) -> None:
    """One of four items is damaged in this way: each command says so, and `retry` mends it."""
    store = RunStore(LocalStorage(Path(place.out)))
    key = way(store)
    before = files_in(place.out)

    status = call("status", place.out)
    if not is_seen_by_status:
        assert status.exit_code == 0
    else:
        assert (status.exit_code, "damaged      1" in status.output) == (1, True), status.output
        assert "committed    3" in status.output
        assert key in status.output
    for command in (call("report", place.out), run(place)):
        assert command.exit_code == 1, command.output
        assert "1 item is damaged and left out" in command.output
        assert key in command.output
        assert "--damaged" in command.output
    verify = call("verify", place.out)
    assert verify.exit_code == 1
    assert key in verify.output
    assert call("clean", place.out).exit_code == 0
    assert files_in(place.out) == before

    mended = call("retry", place.out, "--damaged")
    assert mended.exit_code == 0, mended.output
    assert "1 damaged items moved to" in mended.output
    assert "all as it was" in call("verify", place.out).output
    status = call("status", place.out)
    assert (status.exit_code, "left         1" in status.output) == (0, True)
