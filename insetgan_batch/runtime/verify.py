"""Is a run still what it was? Every file that a commit names and every file of the latest dataset
is hashed again; and some items, if that is asked for, are made again and their scores compared.

Nothing is written. What differs is told line by line, each with the place, what is there and what
should be.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import random
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from insetgan_batch import __version__
from insetgan_batch import config as configuration
from insetgan_batch.config import RunConfig
from insetgan_batch.data import ahead, dataset, models
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import Storage, open_storage
from insetgan_batch.errors import (
    CheckpointError,
    InsetGanError,
    NotFoundError,
    RefusedError,
    StorageError,
)
from insetgan_batch.records import Item, Lease, Outcome, Source, Status
from insetgan_batch.runtime.mailbox import Ending

TOLERANCE = 0.02
"""By how much of itself a score may differ when an item is made again on another machine."""

_THREADS = 16
_AHEAD = 64  # checks that are not told yet: all that is in memory of a million
_PAUSE_S = 0.05
_BROKEN_JSON = (ValueError, LookupError, TypeError, AttributeError)


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """What has been hashed; differences: a line each."""

    files: int = 0
    bytes: int = 0
    differences: Sequence[str] = ()


def check(store: RunStore) -> Iterator[Checked]:
    """Hash everything again, several files at a time: one answer per item and file.

    Raises `NotFoundError` if there is no run, `RefusedError` if the store lets nobody read.
    """
    store.read_run()
    yield from ahead.in_order(_checks(store), _THREADS, _AHEAD)


def redo(
    store: RunStore,
    count: int,
    *,
    draw: random.Random | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[str]:
    """Make some committed items again, in this process, and compare their scores; the differences.

    draw: which ones. Raises `CheckpointError` where the weights are not the run's any more, and
    `InsetGanError` where no item is committed.
    """
    run = store.read_run()
    ids = sorted(store.committed())
    if not ids:
        raise InsetGanError(f"{store.storage.uri}: no item is committed, so none can be made again")
    chosen = (draw or random.Random()).sample(ids, min(count, len(ids)))
    records = [store.read_commit(item_id) for item_id in chosen]
    items = [_item(record["item"]) for record in records]
    on_step("loading the generators")
    found = _make(_config(store, run, items), items, on_step)
    differences = [_difference(record, found[record["item_id"]]) for record in records]
    return [line for line in differences if line]


# ---- what is stored ----------------------------------------------------------------------------


def _checks(store: RunStore) -> Iterator[Callable[[], Checked]]:
    for item_id in sorted(store.committed()):
        yield functools.partial(_check_item, store, item_id)
    if not store.storage.exists(dataset.LATEST):
        return  # nothing has been packed
    try:
        prefix, files = _latest(store.storage)
    except RefusedError:
        raise
    except (StorageError, *_BROKEN_JSON) as err:
        line = f"{store.storage.uri}/{dataset.LATEST}: names no finished dataset: {err}"
        yield lambda: Checked(differences=[line])
        return
    for name, expected in files.items():
        yield functools.partial(_check_file, store.storage, f"{prefix}/{name}", expected)
    yield functools.partial(_check_strangers, store.storage, prefix, files)


def _latest(storage: Storage) -> tuple[str, dict[str, dict[str, Any]]]:
    """(where the latest dataset is, its files by name)."""
    pointer = json.loads(storage.get(dataset.LATEST))
    prefix = str(pointer["prefix"])
    data = storage.get(f"{prefix}/{dataset.SUCCESS}")
    if (found := hashlib.sha256(data).hexdigest()) != pointer["sha256"]:
        raise ValueError(f"the sha256 of {dataset.SUCCESS} is {found}, not {pointer['sha256']}")
    return prefix, dict(json.loads(data)["files"])


def _check_item(store: RunStore, item_id: str) -> Checked:
    where = f"{store.storage.uri}: the commit of {item_id}"
    try:
        record = store.read_commit(item_id)
        files = [(file["key"], file["sha256"], file["bytes"]) for file in record["files"].values()]
        owner = record["item_id"]
    except RefusedError:
        raise
    except StorageError as err:
        return Checked(differences=[str(err)])
    except _BROKEN_JSON as err:
        return Checked(differences=[f"{where} is none: {err!r}"])
    found = [
        _check_file(store.storage, key, {"sha256": sha256, "bytes": size})
        for key, sha256, size in files
    ]
    differences = [line for checked in found for line in checked.differences]
    if owner != item_id:
        differences.append(f"{where} is of {owner}: it has been copied from there")
    return Checked(len(files), sum(checked.bytes for checked in found), differences)


def _check_file(storage: Storage, key: str, expected: Mapping[str, Any]) -> Checked:
    """expected: sha256 and bytes."""
    found = _Digest()
    try:
        storage.read_into(key, found)
    except RefusedError:
        raise
    except NotFoundError:
        return Checked(1, 0, [f"{storage.uri}/{key}: missing; expected {expected['bytes']} bytes"])
    except StorageError as err:
        return Checked(1, found.bytes, [str(err)])
    sha256 = found.sha256.hexdigest()
    if (sha256, found.bytes) == (expected["sha256"], expected["bytes"]):
        return Checked(1, found.bytes)
    line = (
        f"{storage.uri}/{key}: sha256 is {sha256} ({found.bytes} bytes), expected"
        f" {expected['sha256']} ({expected['bytes']} bytes)"
    )
    return Checked(1, found.bytes, [line])


def _check_strangers(storage: Storage, prefix: str, files: Mapping[str, Any]) -> Checked:
    known = {f"{prefix}/{name}" for name in [*files, dataset.SUCCESS]}
    lines = [
        f"{storage.uri}/{key}: not a file of this dataset; expected those that"
        f" {dataset.SUCCESS} names"
        for key in storage.list(prefix)
        if key not in known
    ]
    return Checked(differences=lines)


class _Digest:
    """A file that keeps nothing."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()
        self.bytes = 0

    def write(self, data: bytes) -> None:
        """The next bytes."""
        self.sha256.update(data)
        self.bytes += len(data)


# ---- what is made again ------------------------------------------------------------------------


def _config(store: RunStore, run: Mapping[str, Any], items: Sequence[Item]) -> RunConfig:
    """The run's own, with weights that are still the same files."""
    fields = {k: v for k, v in run["configuration"].items() if k != "manifest"}
    where = f"{store.storage.uri}/run.json"
    config = configuration.parse(fields | run.get("machine", {}), where)
    for name, model in config.models.items():
        if name not in run["weights"]:
            continue  # of a version that had no such network
        found, expected = models.fetch(model).sha256, run["weights"][name]
        if found != expected:
            raise CheckpointError(
                f"{model} ({name}): its sha256 is {found}, but the run was made with {expected};"
                " bring that file back to make its items again"
            )
    # The run checked these paths against its roots, and run.json does not name the manifest.
    named = [str(s.value) for i in items for s in [i.canvas, *i.insets.values()] if _is_file(s)]
    roots = config.input_roots or tuple(named)
    return dataclasses.replace(config, film_every=0, input_roots=roots)


def _make(
    config: RunConfig, items: Sequence[Item], on_step: Callable[[str], None]
) -> dict[str, dict[str, Any] | str]:
    """By item id the record of each, or why there is none."""
    from insetgan_batch.runtime.worker import Worker  # torch: not for hashing

    ended: list[Ending] = []
    uri = f"memory://redo-{uuid.uuid4().hex}"
    worker = Worker(config, uri, "redo", ended.append)
    waiting = [Lease(item, f"1-{n}", "redo", math.inf) for n, item in enumerate(items, 1)]
    try:
        while len(ended) < len(items):
            free = worker.free
            fresh, waiting = waiting[:free], waiting[free:]
            worker.serve(fresh)
            if not worker.in_batch:
                time.sleep(_PAUSE_S)  # for what is on its way to the memory
            for error in (ending for ending in ended if isinstance(ending, BaseException)):
                raise error
            on_step(f"{len(ended)} of {len(items)} items made again")
    finally:
        worker.close()
    store = RunStore(open_storage(uri))
    return {
        outcome.item_id: store.read_commit(outcome.item_id)
        if outcome.status is Status.COMMITTED
        else f"{outcome.reason}: {outcome.detail}"
        for outcome in ended
        if isinstance(outcome, Outcome)
    }


def _difference(record: Mapping[str, Any], found: Mapping[str, Any] | str) -> str | None:
    """A line if the scores are further apart than they may be."""
    where = f"item {record['item_id']}"
    if isinstance(found, str):
        return f"{where}: cannot be made again: {found}"
    weights, now_of = (r.get("provenance", {}).get("weights") for r in (record, found))
    if weights is not None and weights != now_of:
        return f"{where}: made with the weights {weights}, expected those of run.json: {now_of}"
    before, now = record["score"], found["score"]
    is_both = before is not None and now is not None
    if before == now or (is_both and abs(now - before) <= TOLERANCE * abs(before)):
        return None
    version = record.get("provenance", {}).get("code_version")
    return (
        f"{where}: its score is {now} when made again by {__version__}, expected"
        f" {before} within {TOLERANCE:.0%}, as made by {version}"
    )


def _is_file(source: Source) -> bool:
    return source.kind in ("image", "latent")


def _item(fields: Mapping[str, Any]) -> Item:
    """An item as a commit keeps it; JSON has no tuples."""
    sources = {
        name: Source(**source | {"box": tuple(source["box"]) if source["box"] else None})
        for name, source in {"canvas": fields["canvas"], **fields["insets"]}.items()
    }
    canvas = sources.pop("canvas")
    return Item(**{**fields, "canvas": canvas, "insets": sources})
