"""Is a run still what it was? Every file that a commit names and every file of the latest dataset
is hashed again; and some items, if that is asked for, are made again and their measures compared.

Nothing is written. What differs is told line by line, each with the place, what is there and what
should be.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from insetgan_batch import __version__
from insetgan_batch import config as configuration
from insetgan_batch.config import Machine, RunConfig
from insetgan_batch.data import damage, dataset, models, stored
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.damage import Checked
from insetgan_batch.data.storage import Storage, open_storage
from insetgan_batch.data.stored import Commit, DatasetFile, Run
from insetgan_batch.errors import (
    CheckpointError,
    DamagedError,
    InsetGanError,
)
from insetgan_batch.method import URIS, Measure, declared
from insetgan_batch.methods import names
from insetgan_batch.records import Item, Lease, Outcome, Status
from insetgan_batch.runtime.worker_loop import Ending
from insetgan_batch.text import one_line

_PAUSE_S = 0.05


def check(store: RunStore) -> Iterator[Checked]:
    """Read and hash everything again, several files at a time: one answer per record and file.

    Raises `NotFoundError` if there is no run, `DamagedError` if its run.json is damaged, and
    `RefusedError` if the store lets nobody read.
    """
    yield from damage.check(store)
    yield from damage.in_threads(_dataset_checks(store.storage))


def redo(
    store: RunStore,
    count: int,
    *,
    draw: random.Random | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> list[str]:
    """Make some committed items again, in this process, and compare their measures: what differs.

    draw: which ones. Raises `CheckpointError` where the weights are not the run's any more, and
    `InsetGanError` where no item is committed.
    """
    run = store.read_run()
    ids = sorted(store.committed())
    if not ids:
        raise InsetGanError(f"{store.storage.uri}: no item is committed, so none can be made again")
    chosen = (draw or random.Random()).sample(ids, min(count, len(ids)))
    read = [damage.or_damage(functools.partial(store.read_commit, i)) for i in chosen]
    records = [record for record in read if not isinstance(record, DamagedError)]
    items = [_item(record["item"]) for record in records]
    on_step("loading the networks")
    found = _make(_config(store, run, items), items, on_step)
    measures = names.of_run(run).MEASURES
    differences = [_difference(r, found[r["item_id"]], measures) for r in records]
    damaged = [str(record) for record in read if isinstance(record, DamagedError)]
    return damaged + [line for line in differences if line]


# ---- what is stored ----------------------------------------------------------------------------


def _dataset_checks(storage: Storage) -> Iterator[Callable[[], Checked]]:
    if not storage.exists(dataset.LATEST):
        return  # nothing has been packed
    found = damage.or_damage(lambda: _latest(storage))
    if isinstance(found, DamagedError):
        line = f"{storage.uri}/{dataset.LATEST}: names no finished dataset: {found}; pack again"
        yield lambda: Checked(differences=[line])
        return
    prefix, files = found
    for name, expected in files.items():
        yield functools.partial(damage.check_file, storage, f"{prefix}/{name}", expected)
    yield functools.partial(_check_strangers, storage, prefix, files)


def _latest(storage: Storage) -> tuple[str, dict[str, DatasetFile]]:
    """(where the latest dataset is, its files by name). Raises `DamagedError`."""
    where = f"{storage.uri}/{dataset.LATEST}"
    pointer = stored.LATEST_DATASET.read(where, storage.get(dataset.LATEST))
    prefix = pointer["prefix"]
    if not re.fullmatch(rf"{dataset.ROOT}/[A-Za-z0-9-]+", prefix):
        raise DamagedError(f"{where}: damaged: {one_line(prefix, 100)} is no dataset of this run")
    data = storage.get(f"{prefix}/{dataset.SUCCESS}")
    if (found := hashlib.sha256(data).hexdigest()) != pointer["sha256"]:
        raise DamagedError(f"the sha256 of {dataset.SUCCESS} is {found}, not {pointer['sha256']}")
    success = stored.DATASET.read(f"{storage.uri}/{prefix}/{dataset.SUCCESS}", data)
    return prefix, success["files"]


def _check_strangers(storage: Storage, prefix: str, files: Mapping[str, Any]) -> Checked:
    known = {f"{prefix}/{name}" for name in [*files, dataset.SUCCESS]}
    lines = [
        f"{storage.uri}/{key}: not a file of this dataset; expected those that"
        f" {dataset.SUCCESS} names"
        for key in storage.list(prefix)
        if key not in known
    ]
    return Checked(differences=lines)


# ---- what is made again ------------------------------------------------------------------------


def _config(store: RunStore, run: Run, items: Sequence[Item]) -> RunConfig:
    """The run's own, with weights that are still the same files."""
    fields = {k: v for k, v in run["configuration"].items() if k != "manifest"}
    where = f"{store.storage.uri}/run.json"
    own = {field.name for field in dataclasses.fields(Machine)}  # the rest is kept beside results
    fields |= {k: v for k, v in run.get("machine", {}).items() if k in own}
    config = configuration.parse(fields, where)
    for name, model in config.settings.models.items():
        if name not in run["weights"]:
            continue  # of a version that had no such network
        found, expected = models.fetch(model).sha256, run["weights"][name]
        if found != expected:
            raise CheckpointError(
                f"{model} ({name}): its sha256 is {found}, but the run was made with {expected};"
                " bring that file back to make its items again"
            )
    # The run checked these paths against its roots, and run.json does not name the manifest.
    columns = names.find(config.method).rows(config.settings).columns
    named = [v for i in items for n, v in i.inputs.items() if columns[n].kind in URIS]
    return config.on(input_roots=config.machine.input_roots or tuple(named))


def _make(
    config: RunConfig, items: Sequence[Item], on_step: Callable[[str], None]
) -> dict[str, Commit | str]:
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


def _difference(record: Commit, found: Commit | str, measures: Sequence[Measure]) -> str | None:
    """A line if a measure is further from what it was than it may be."""
    where = f"item {record['item_id']}"
    if isinstance(found, str):
        return f"{where}: cannot be made again: {found}"
    weights, now_of = (r.get("provenance", {}).get("weights") for r in (record, found))
    if weights is not None and weights != now_of:
        return f"{where}: made with the weights {weights}, expected those of run.json: {now_of}"
    version = record.get("provenance", {}).get("code_version")
    for name, before in record["measures"].items():
        measure = declared(measures, name)
        tolerance = measure.tolerance if measure else None
        now = found["measures"].get(name)
        if tolerance is None or before == now:
            continue
        if before is None or now is None or abs(now - before) > tolerance * abs(before):
            return (
                f"{where}: its {name} is {now} when made again by {__version__}, expected"
                f" {before} within {tolerance:.0%}, as made by {version}"
            )
    return None


def _item(fields: Mapping[str, Any]) -> Item:
    """An item as a commit keeps it."""
    return Item(**{field.name: fields[field.name] for field in dataclasses.fields(Item)})
