"""Which items a page shows: all of a run, or a fair sample of one that no browser could hold.

A sample is taken in the order of the ids' sha256, so that it depends on nothing else, and a page
that is written again shows the same items. Only what is shown is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from insetgan_batch.data.commits import RunStore, draw
from insetgan_batch.data.stored import Quarantined
from insetgan_batch.errors import DamagedError

MOST_ITEMS = 20_000
MOST_FAILURES = 5_000


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """item_ids, failures: what is shown, by item id; done, failed: how many the run has; damaged:
    a line for each failure whose record cannot be read.
    """

    done: int
    item_ids: list[str]
    failed: int
    failures: list[Quarantined]
    damaged: list[str]


def select(
    store: RunStore, *, most_items: int = MOST_ITEMS, most_failures: int = MOST_FAILURES
) -> Selection:
    """What the page shows; an item that was done after it failed counts as done only.

    Raises `StorageError` when the run cannot be listed.
    """
    done = store.committed()
    failed = store.quarantined() - done
    failures: list[Quarantined] = []
    damaged: list[str] = []
    for _, record in store.quarantine_records(_fair(failed, most_failures)):
        if isinstance(record, DamagedError):
            damaged.append(str(record))
        else:
            failures.append(record)
    return Selection(len(done), _fair(done, most_items), len(failed), failures, damaged)


def _fair(item_ids: Iterable[str], most: int) -> list[str]:
    return sorted(draw(item_ids, most))
