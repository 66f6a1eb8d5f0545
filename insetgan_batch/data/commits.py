"""What is done, failed and left of a run: policy over a `Storage`, with no other memory.

An item is done when its commit exists, and not before. A commit is written last, by put_if_absent,
and never changes; so any number of drivers and machines may die at any point, and listing the
commits is all that a resume needs. Everything here is JSON, one object per item, below the first
two hex digits of the id's sha256: S3 counts request rates per prefix, directories stay small.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from insetgan_batch.data.storage import Storage
from insetgan_batch.errors import NotFoundError, RunMismatchError, StorageError

ITEM_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", re.ASCII)
"""What an item id (and an attempt) looks like: safe in a key and as a file name."""

FOLDERS = [f"{n:02x}" for n in range(256)]
"""Every `hh` there is: what is listed side by side."""

_READERS = 16  # requests in flight: one answer of S3 takes some 20 ms, and there may be a million
_BATCH = 512  # records read ahead of the consumer
_SHOWN = 5


def hh(item_id: str) -> str:
    """The folder of an item: the first two hex digits of the id's sha256."""
    return hashlib.sha256(item_id.encode()).hexdigest()[:2]


def draw(item_ids: Iterable[str], most: int) -> list[str]:
    """So many of the ids by chance, but always the same: those whose sha256 is the lowest."""
    return heapq.nsmallest(most, item_ids, key=lambda i: hashlib.sha256(i.encode()).digest())


class RunStore:
    """One run in one storage. Raises `StorageError` when the store fails or holds broken JSON."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def open_run(self, run: dict[str, Any]) -> dict[str, Any]:
        """Start the run, or come back to it: returns run.json as it is stored.

        run: run_id, configuration, code_version, weights (name → sha256), created_at. Raises
        `RunMismatchError` if the stored configuration or weights differ.
        """
        try:
            stored = self.read_run()
        except NotFoundError:
            self.storage.put_if_absent("run.json", _to_json(run))
            stored = self.read_run()
        differences = _differences(stored, json.loads(_to_json(run)))
        if differences:
            more = len(differences) - _SHOWN
            shown = "; ".join(differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise RunMismatchError(
                f"{self.storage.uri} already holds a run with another configuration: {shown};"
                " choose another --out, or go back to the stored values to resume it"
            )
        return stored

    def read_run(self) -> dict[str, Any]:
        """run.json; `NotFoundError` if there is no run here."""
        try:
            return self._read("run.json")
        except NotFoundError as err:
            raise NotFoundError(
                f"{self.storage.uri} holds no run (no run.json); check the path or start one"
            ) from err

    def take_epoch(self) -> int:
        """The next epoch, from 1; of several drivers that start at once, each gets its own."""
        writer = {
            "token": uuid.uuid4().hex,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at_s": time.time(),
        }
        epoch = self.latest_epoch() + 1
        while not self.storage.put_if_absent(
            f"epochs/{epoch:06d}.json", _to_json({"epoch": epoch, **writer})
        ):
            epoch += 1
        return epoch

    def latest_epoch(self) -> int:
        """The highest epoch taken, 0 if none: a driver with a lower one has been replaced."""
        names = (key.rpartition("/")[2] for key in self.storage.list("epochs"))
        return max(
            (int(name[:-5]) for name in names if re.fullmatch(r"[0-9]+\.json", name)), default=0
        )

    def commit(self, item_id: str, record: dict[str, Any]) -> bool:
        """Make the item done; True if this record stands, False if another came first.

        A worker whose answer was lost asks again, and must not take its own commit for a rival's:
        the stored record counts as this one when both name the same `attempt`.
        """
        key = _key("commits", item_id)
        if self.storage.put_if_absent(key, _to_json(record)):
            return True
        return "attempt" in record and self._read(key).get("attempt") == record["attempt"]

    def is_committed(self, item_id: str) -> bool:
        """Whether the item is done."""
        return self.storage.exists(_key("commits", item_id))

    def read_commit(self, item_id: str) -> dict[str, Any]:
        """The record that made the item done; `NotFoundError` if it is not."""
        return self._read(_key("commits", item_id))

    def committed(self) -> set[str]:
        """The ids of all items that are done; folders are listed side by side, S3 is slow at it."""
        with ThreadPoolExecutor(_READERS) as pool:
            folders = pool.map(lambda folder: self._ids("commits", folder), FOLDERS)
            return {item_id for ids in folders for item_id in ids}

    def commits(self) -> Iterator[dict[str, Any]]:
        """Every commit record, by item id; those that appear while it runs may be missing."""
        return self._read_all("commits", sorted(self.committed()))

    def quarantine(self, item_id: str, record: dict[str, Any]) -> None:
        """Set an item aside. record: item_id, reason, detail, attempts, attempt, item."""
        self.storage.put(_key("quarantine", item_id), _to_json(record))

    def quarantined(self) -> dict[str, dict[str, Any]]:
        """item id → its record, by item id."""
        ids = sorted(self._ids("quarantine"))
        return dict(zip(ids, self._read_all("quarantine", ids), strict=True))

    def clear_quarantine(self, item_id: str) -> None:
        """Let the item be tried again; no error if it is not in quarantine."""
        self.storage.delete(_key("quarantine", item_id))

    def write_suspect(self, item_id: str, crashes: int) -> None:
        """Remember how many actors have crashed with this item inside."""
        record = {"item_id": item_id, "crashes": crashes}
        self.storage.put(_key("suspects", item_id), _to_json(record))

    def suspects(self) -> dict[str, int]:
        """item id → crashes so far, by item id."""
        ids = sorted(self._ids("suspects"))
        records = self._read_all("suspects", ids)
        return {
            item_id: int(record["crashes"]) for item_id, record in zip(ids, records, strict=True)
        }

    def clear_suspect(self, item_id: str) -> None:
        """Acquit the item; no error if it is no suspect."""
        self.storage.delete(_key("suspects", item_id))

    def save_checkpoint(self, item_id: str, state: bytes) -> None:
        """Keep the state of an item whose machine is taken away; a later one replaces it."""
        self.storage.put(_checkpoint_key(item_id), state)

    def read_checkpoint(self, item_id: str) -> bytes:
        """The state that was kept; `NotFoundError` if there is none."""
        return self.storage.get(_checkpoint_key(item_id))

    def clear_checkpoint(self, item_id: str) -> None:
        """Forget the state; no error if there is none."""
        self.storage.delete(_checkpoint_key(item_id))

    def checkpoints(self) -> set[str]:
        """The ids of the items whose state is kept."""
        names = (key.rpartition("/")[2] for key in self.storage.list("checkpoints"))
        return {name for name in names if ITEM_ID.fullmatch(name)}

    def item_prefix(self, item_id: str, attempt: str) -> str:
        """Where one attempt leaves its files."""
        return f"items/{hh(item_id)}/{_checked(item_id)}/{_checked(attempt)}"

    def _ids(self, kind: str, folder: str = "") -> list[str]:
        """What the names say; an object that is not where its item belongs is not ours."""
        keys = self.storage.list(f"{kind}/{folder}")
        named = ((key, key.rpartition("/")[2].removesuffix(".json")) for key in keys)
        return [name for key, name in named if ITEM_ID.fullmatch(name) and key == _key(kind, name)]

    def _read(self, key: str) -> dict[str, Any]:
        data = self.storage.get(key)
        try:
            record = json.loads(data)
        except (ValueError, RecursionError) as err:
            raise StorageError(f"{self.storage.uri}/{key}: not JSON: {err}") from err
        if not isinstance(record, dict):
            raise StorageError(f"{self.storage.uri}/{key}: expected a JSON object")
        return record

    def _read_all(self, kind: str, ids: Sequence[str]) -> Iterator[dict[str, Any]]:
        keys = [_key(kind, item_id) for item_id in ids]
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(keys), _BATCH):
                yield from pool.map(self._read, keys[start : start + _BATCH])


def _key(kind: str, item_id: str) -> str:
    return f"{kind}/{hh(item_id)}/{_checked(item_id)}.json"


def _checkpoint_key(item_id: str) -> str:
    return f"checkpoints/{hh(item_id)}/{_checked(item_id)}"


def _checked(name: str) -> str:
    if not ITEM_ID.fullmatch(name):
        raise ValueError(f"{name!r} is no item id or attempt: expected {ITEM_ID.pattern}")
    return name


def _to_json(record: dict[str, Any]) -> bytes:
    return json.dumps(_finite(record), allow_nan=False, sort_keys=True).encode()


def _finite(value: Any) -> Any:
    """NaN and infinity become null: JSON has no word for them, and many readers refuse Python's."""
    if isinstance(value, dict):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _differences(stored: dict[str, Any], asked: dict[str, Any]) -> list[str]:
    """One text per dotted name that differs in what decides the results."""
    there = _flat(stored.get("configuration")) | _flat(stored.get("weights"), "weights")
    here = _flat(asked.get("configuration")) | _flat(asked.get("weights"), "weights")
    return [
        f"{name} is {_shown(there, name)} there and {_shown(here, name)} here"
        for name in sorted(there.keys() | here.keys())
        if name not in there or name not in here or there[name] != here[name]
    ]


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {name: value} if name else {}
    dot = f"{name}." if name else ""
    return {k: v for part, entry in value.items() for k, v in _flat(entry, f"{dot}{part}").items()}


def _shown(values: dict[str, Any], name: str) -> str:
    if name not in values:
        return "not set"
    text = json.dumps(values[name])
    return text if len(text) <= 60 else f"{text[:57]}..."
