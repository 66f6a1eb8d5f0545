"""What is done, failed and left of a run: policy over a `Storage`, with no other memory.

An item is done when its commit exists, and not before. A commit is written last, by put_if_absent,
and never changes; so any number of drivers and machines may die at any point, and listing the
commits is all that a resume needs. A commit that is damaged is only ever moved away (`void`), and
makes its item one to do again. Everything here is JSON, one object per item, below the first
two hex digits of the id's sha256: S3 counts request rates per prefix, directories stay small.
"""

from __future__ import annotations

import functools
import hashlib
import heapq
import json
import logging
import math
import os
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

from insetgan_batch.data import prefetch, seeds, stored
from insetgan_batch.data.keys import ITEM_ID
from insetgan_batch.data.storage import Storage
from insetgan_batch.data.stored import Commit, Epoch, Quarantined, Reader, Run
from insetgan_batch.errors import DamagedError, NotFoundError, RunMismatchError
from insetgan_batch.methods import names
from insetgan_batch.text import one_line

FOLDERS = [f"{n:02x}" for n in range(256)]
"""Every `hh` there is: what is listed side by side."""

VOIDED = "voided"
"""Where records lie that were damaged, as they were."""

Kind = Literal["commits", "quarantine", "suspects", "epochs"]

_READERS = 16  # requests in flight: one answer of S3 takes some 20 ms, and there may be a million
_AHEAD = 512  # records read ahead of the consumer
_SHOWN = 5
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def hh(item_id: str) -> str:
    """The folder of an item: the first two hex digits of the id's sha256."""
    return hashlib.sha256(item_id.encode()).hexdigest()[:2]


def draw(item_ids: Iterable[str], most: int) -> list[str]:
    """So many of the ids by chance, but always the same: those whose sha256 is the lowest."""
    return heapq.nsmallest(most, item_ids, key=lambda i: hashlib.sha256(i.encode()).digest())


class RunStore:
    """One run in one storage. Raises `StorageError` when the store fails, and `DamagedError`, which
    is one, for a record that cannot be what was written.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    def open_run(self, run: Mapping[str, Any]) -> Run:
        """Start the run, or come back to it: returns run.json as it is stored.

        run: run_id, configuration, code_version, weights (name → sha256), created_at; `seeds`, the
        text of a manifest without a file. Raises
        `RunMismatchError` if the stored configuration or weights differ.
        """
        try:
            found = self.read_run()
        except NotFoundError:
            self.storage.put_if_absent("run.json", _to_json(run))
            found = self.read_run()
        differences = _differences(found, json.loads(_to_json(run)))
        if differences:
            more = len(differences) - _SHOWN
            shown = "; ".join(differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise RunMismatchError(
                f"{self.storage.uri} already holds a run with another configuration: {shown};"
                " choose another --out, or go back to the stored values to resume it"
            )
        return found

    def read_run(self) -> Run:
        """run.json; `NotFoundError` if there is no run here."""
        try:
            return self._read(stored.RUN, "run.json")
        except DamagedError as err:
            raise DamagedError(
                f"{err}; bring it back from a copy, or move it away: the run's own command writes a"
                " new one"
            ) from err
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
            _epoch_key(epoch), _to_json({"epoch": epoch, **writer})
        ):
            epoch += 1
        return epoch

    def latest_epoch(self) -> int:
        """The highest epoch taken, 0 if none: a driver with a lower one has been replaced."""
        return max(self.epochs(), default=0)

    def epochs(self) -> list[int]:
        """All that were taken."""
        names = (key.rpartition("/")[2] for key in self.storage.list("epochs"))
        return [int(name[:-5]) for name in names if re.fullmatch(r"[0-9]+\.json", name)]

    def read_epoch(self, epoch: int) -> Epoch:
        """Who took it, and when."""
        return self._read(stored.EPOCH, _epoch_key(epoch))

    def keep_ids(self, make: Callable[[], bytes]) -> None:
        """Write down the ids of the manifest's rows, unless it has been done.

        make: gives the file (`ids.to_parquet`); what it raises comes through.
        """
        from insetgan_batch.data import ids  # pyarrow: not for a program that only looks

        try:
            ids.read(self.storage)
        except (NotFoundError, DamagedError):
            self.storage.put(ids.KEY, make())

    def commit(self, item_id: str, record: Mapping[str, Any]) -> bool:
        """Make the item done; True if this record stands, False if another came first.

        A worker whose answer was lost asks again, and must not take its own commit for a rival's:
        the stored record counts as this one when it is the same, byte by byte.
        """
        key, data = _key("commits", item_id), _to_json(record)
        return self.storage.put_if_absent(key, data) or self.storage.get(key) == data

    def is_committed(self, item_id: str) -> bool:
        """Whether the item is done."""
        return self.storage.exists(_key("commits", item_id))

    def read_commit(self, item_id: str) -> Commit:
        """The record that made the item done; `NotFoundError` if it is not."""
        key = _key("commits", item_id)
        record = self._read(stored.COMMIT, key)
        stored.check_commit(f"{self.storage.uri}/{key}", record, item_id, _home(item_id))
        return record

    def committed(self) -> set[str]:
        """The ids of the manifest's items that are done, whether or not their commits are sound."""
        return self._known(self.listed_commits())

    def listed_commits(self, folder: str = "") -> set[str]:
        """The ids of all commits that there are, or of those in a folder.

        Folders are listed side by side: S3 is slow at it.
        """
        if folder:
            return set(self._ids("commits", folder))
        with ThreadPoolExecutor(_READERS) as pool:
            return {item_id for ids in pool.map(self.listed_commits, FOLDERS) for item_id in ids}

    def strangers(self) -> set[str]:
        """The ids of commits that are of no row of the manifest: of another run, by mistake."""
        listed = self.listed_commits()
        return listed - self._known(listed)

    def commits(self) -> Iterator[Commit]:
        """Every commit record, by item id; those that appear while it runs may be missing."""
        calls = (functools.partial(self.read_commit, i) for i in sorted(self.committed()))
        return prefetch.in_order(calls, _READERS, _AHEAD)

    def quarantine(self, item_id: str, record: Mapping[str, Any]) -> None:
        """Set an item aside. record: item_id, reason, detail, attempts, attempt, item."""
        self.storage.put(_key("quarantine", item_id), _to_json(record))

    def quarantined(self) -> set[str]:
        """The ids of the manifest's items that are set aside."""
        return self._known(self._ids("quarantine"))

    def quarantine_records(
        self, item_ids: Iterable[str]
    ) -> Iterator[tuple[str, Quarantined | DamagedError]]:
        """Each id with its record, or with what is wrong with that, in their order.

        One that has been taken out of the quarantine meanwhile is passed over.
        """

        def read(item_id: str) -> tuple[str, Quarantined | DamagedError | None]:
            try:
                return item_id, self.read_quarantined(item_id)
            except DamagedError as err:
                return item_id, err
            except NotFoundError:
                return item_id, None

        calls = (functools.partial(read, item_id) for item_id in item_ids)
        for item_id, record in prefetch.in_order(calls, _READERS, _AHEAD):
            if record is not None:
                yield item_id, record

    def read_quarantined(self, item_id: str) -> Quarantined:
        """Why the item is set aside; `NotFoundError` if it is not."""
        key = _key("quarantine", item_id)
        record = self._read(stored.QUARANTINED, key)
        stored.check_owner(f"{self.storage.uri}/{key}", record["item_id"], item_id)
        return record

    def clear_quarantine(self, item_id: str) -> None:
        """Let the item be tried again; no error if it is not in quarantine."""
        self.storage.delete(_key("quarantine", item_id))

    def write_suspect(self, item_id: str, crashes: int) -> None:
        """Remember how many actors have crashed with this item inside."""
        record = {"item_id": item_id, "crashes": crashes}
        self.storage.put(_key("suspects", item_id), _to_json(record))

    def suspects(self) -> dict[str, int]:
        """item id → crashes so far, by item id; one whose record is damaged is none any more."""
        suspects = {}
        for item_id in sorted(self.suspected()):
            try:
                suspects[item_id] = self.read_suspect(item_id)
            except DamagedError as err:
                _log.warning("%s; it counts as if it were not there", err)
        return suspects

    def suspected(self) -> set[str]:
        """The ids of all suspects."""
        return set(self._ids("suspects"))

    def read_suspect(self, item_id: str) -> int:
        """How many workers have crashed with the item inside."""
        key = _key("suspects", item_id)
        record = self._read(stored.SUSPECT, key)
        stored.check_owner(f"{self.storage.uri}/{key}", record["item_id"], item_id)
        return record["crashes"]

    def void(self, kind: Kind, item_id: str) -> bool:
        """Move a damaged record away, or replace that of an epoch, whose number stays taken; False
        if it was gone.

        What was there is kept as it is. Nothing else ever removes a commit.
        """
        if kind == "epochs":
            return self._void_epoch(int(item_id))
        key = _key(kind, item_id)
        try:
            data = self.storage.get(key)
            self.storage.put(f"{VOIDED}/{key}.{uuid.uuid4().hex}", data)
            # Somebody else may have voided it meanwhile, and a run have done the item again.
            if self.storage.get(key) != data:
                return False
        except NotFoundError:
            return False
        self.storage.delete(key)
        return True

    def clear_suspect(self, item_id: str) -> None:
        """Clear the item of it; no error if it is no suspect."""
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
        return f"{_home(item_id)}/{_checked(attempt)}"

    def _ids(self, kind: str, folder: str = "") -> list[str]:
        """What the names say; an object that is not where its item belongs is not ours."""
        keys = self.storage.list(f"{kind}/{folder}")
        named = ((key, key.rpartition("/")[2].removesuffix(".json")) for key in keys)
        return [name for key, name in named if ITEM_ID.fullmatch(name) and key == _key(kind, name)]

    def _void_epoch(self, epoch: int) -> bool:
        key = _epoch_key(epoch)
        self.storage.put(f"{VOIDED}/{key}.{uuid.uuid4().hex}", self.storage.get(key))
        unknown = {"epoch": epoch, "token": "", "host": "", "pid": 0, "started_at_s": 0.0}
        self.storage.put(key, _to_json(unknown))
        return True

    def _known(self, found: Iterable[str]) -> set[str]:
        """Those that rows of the manifest have; all, in a run that did not write these down."""
        listed = set(found)
        return self._of_manifest(listed) if listed else listed

    @functools.cached_property
    def _of_manifest(self) -> Callable[[set[str]], set[str]]:
        from insetgan_batch.data import ids

        try:
            run = self.read_run()
            if text := run.get("seeds"):
                return seeds.parse_kept(text, names.of_run(run).rows_of_run(run).seed_id).among
            return ids.read(self.storage)
        except NotFoundError:
            return set

    def _read(self, reader: Reader[_T], key: str) -> _T:
        return reader.read(f"{self.storage.uri}/{key}", self.storage.get(key))


def _home(item_id: str) -> str:
    return f"items/{hh(item_id)}/{_checked(item_id)}"


def _epoch_key(epoch: int) -> str:
    return f"epochs/{epoch:06d}.json"


def _key(kind: str, item_id: str) -> str:
    return f"{kind}/{hh(item_id)}/{_checked(item_id)}.json"


def _checkpoint_key(item_id: str) -> str:
    return f"checkpoints/{hh(item_id)}/{_checked(item_id)}"


def _checked(name: str) -> str:
    if not ITEM_ID.fullmatch(name):
        raise ValueError(f"{name!r} is no item id or attempt: expected {ITEM_ID.pattern}")
    return name


def _to_json(record: Mapping[str, Any]) -> bytes:
    return json.dumps(_finite(record), allow_nan=False, sort_keys=True).encode()


def _finite(value: Any) -> Any:
    """NaN and infinity become null: JSON has no word for them, and many readers refuse Python's."""
    if isinstance(value, dict):
        return {str(name): _finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _differences(there_run: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """One text per dotted name that differs in what decides the results."""
    there = _flat(there_run.get("configuration")) | _flat(there_run.get("weights"), "weights")
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
    return one_line(json.dumps(values[name]), 60)
