"""Which items a page shows: all of a run, or a fair sample of one that no browser could hold.

A sample is taken in the order of the ids' sha256, so that it depends on nothing else, and a page
that is written again shows the same items. Only what is shown is read.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from insetgan_batch.data.commits import ITEM_ID, RunStore, draw, hh
from insetgan_batch.errors import NotFoundError, StorageError

MOST_ITEMS = 20_000
MOST_FAILURES = 5_000
_READERS = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """item_ids, failures: what is shown, by item id; done, failed: how many the run has."""

    done: int
    item_ids: list[str]
    failed: int
    failures: list[dict[str, Any]]


def choose(
    store: RunStore, *, most_items: int = MOST_ITEMS, most_failures: int = MOST_FAILURES
) -> Choice:
    """What the page shows; an item that was done after it failed counts as done only.

    Raises `StorageError` when the run cannot be listed, or a failure's record not be read.
    """
    done = store.committed()
    failed = [item_id for item_id in _quarantined(store) if item_id not in done]
    with ThreadPoolExecutor(_READERS) as pool:
        records = pool.map(lambda item_id: _failure(store, item_id), _fair(failed, most_failures))
        failures = [record for record in records if record is not None]
    return Choice(len(done), _fair(done, most_items), len(failed), failures)


def _fair(item_ids: Iterable[str], most: int) -> list[str]:
    return sorted(draw(item_ids, most))


def _quarantined(store: RunStore) -> Iterator[str]:
    """Ids only: `RunStore.quarantined` would hold every record of a large run at once."""
    for key in store.storage.list("quarantine"):
        item_id = key.rpartition("/")[2].removesuffix(".json")
        if ITEM_ID.fullmatch(item_id) and key == _key(item_id):
            yield item_id


def _failure(store: RunStore, item_id: str) -> dict[str, Any] | None:
    """Its record; None if it has been taken out of the quarantine since the listing."""
    key = _key(item_id)
    try:
        record = json.loads(store.storage.get(key))
    except NotFoundError:
        return None
    except (ValueError, RecursionError) as err:
        raise StorageError(f"{store.storage.uri}/{key}: not JSON: {err}") from err
    if not isinstance(record, dict):
        raise StorageError(f"{store.storage.uri}/{key}: expected a JSON object")
    return record


def _key(item_id: str) -> str:
    return f"quarantine/{hh(item_id)}/{item_id}.json"
