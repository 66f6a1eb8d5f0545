"""Finished runs whose items are made again, with records that may be changed."""

from __future__ import annotations

import json
from typing import Any

from insetgan_batch.config import to_fields
from insetgan_batch.data import manifest, models
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.storage import open_storage
from insetgan_batch.method import Schema
from insetgan_batch.records import Item, Lease
from tests.bench import Bench
from tests.runtime.recording import RecordingWorker


def finished(place: Bench, schema: Schema) -> RunStore:
    """A run of that bench, done by a worker in this process."""
    store = RunStore(open_storage(place.out))
    fields = to_fields(place.config)
    machine = {name: fields.pop(name) for name in place.config.free}
    models_of_it = place.config.settings.models.items()
    weights = {name: models.fetch(model).sha256 for name, model in models_of_it}
    manifest_of_it = {"manifest": {"sha256": "", "items": 1}}
    run = {"run_id": "run", "configuration": fields | manifest_of_it, "machine": machine}
    store.open_run(run | {"weights": weights})
    items = [row for row in manifest.read(place.manifest, schema) if isinstance(row, Item)]
    worker = RecordingWorker(place.config, place.out)
    for n, item in enumerate(items, 1):
        worker.serve_all([Lease(item, f"1-{n}", "w", 1e9)])
    worker.close()
    return store


def rewrite(store: RunStore, item_id: str, **changes: Any) -> None:
    record = store.read_commit(item_id) | changes
    store.storage.put(f"commits/{hh(item_id)}/{item_id}.json", json.dumps(record).encode())


def rewrite_measure(store: RunStore, item_id: str, name: str, value: float) -> None:
    rewrite(store, item_id, measures=store.read_commit(item_id)["measures"] | {name: value})
