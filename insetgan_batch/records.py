"""What flows through a run: items, leases, outcomes.

Plain frozen data; everything here pickles, and becomes JSON by `dataclasses.asdict`.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

# The entry of a row's meta that says who agreed to the use of its picture; it goes into provenance.
CONSENT_NOTE = "consent_note"


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One row of the manifest: one result.

    inputs: the values that the row gives for the columns of its method, by column; what is null is
    not in it. seed: the item's own random numbers. overrides: changed settings of the method for
    this row. meta: carried to the results untouched.
    """

    item_id: str
    inputs: dict[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0
    overrides: dict[str, Any] = dataclasses.field(default_factory=dict)
    meta: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Lease:
    """An item handed to an actor.

    attempt: `<epoch>-<n>`, unique in the run. expires_at_s: ledger's clock. is_resumed: its state
    is in storage, from a machine that was taken away. is_first: neither this driver nor one before
    it has handed the item out.
    """

    item: Item
    attempt: str
    worker_id: str
    expires_at_s: float
    is_resumed: bool = False
    is_first: bool = False


class Status(enum.StrEnum):
    """How a try ended."""

    COMMITTED = "committed"  # this attempt's commit stands
    DUPLICATE = "duplicate"  # another attempt had committed before: the item is done
    QUARANTINED = "quarantined"  # it would fail again; the reason is stored
    FAILED = "failed"  # infrastructure: worth another try
    RETURNED = "returned"  # its machine is taken away: another one goes on, free of charge


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an attempt. reason: a short code; detail: one line for people.

    is_saved: its state is in storage, for the next attempt to go on from. measures: numbers of the
    result, as the method declares them.
    """

    item_id: str
    attempt: str
    status: Status
    reason: str = ""
    detail: str = ""
    seconds: float = 0.0
    steps: int = 0
    uploaded_bytes: int = 0
    measures: dict[str, float] = dataclasses.field(default_factory=dict)
    is_saved: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """An outcome with its number, from 1 and without gaps, of one worker."""

    number: int
    outcome: Outcome


@dataclasses.dataclass(frozen=True, slots=True)
class HeartbeatRequest:
    """What a driver tells a worker. Any request may be lost or repeated: each says everything.

    leases: all that the worker should have; known ones are passed over. acknowledged: the number of
    the last event that has arrived; those up to it are forgotten. wait_s: how long the answer may
    wait for news. drain_within_s: the machine will be gone then; None while it stays.
    """

    leases: list[Lease]
    acknowledged: int
    wait_s: float
    drain_within_s: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class WorkerStats:
    """A worker's own numbers, for metrics. Totals are since it began to load.

    slots, busy: slots of the batch, and those with an item in the last round. seconds: all of its
    time, by phase. busy_slot_s, idle_slot_s: the same time, once for each slot. storage_errors: by
    `StorageError.kind`. gpu_utilisation: 0..1. None: not known here.
    """

    slots: int = 0
    busy: int = 0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    busy_slot_s: float = 0.0
    idle_slot_s: float = 0.0
    upload_bytes: int = 0
    upload_s: float = 0.0
    storage_errors: dict[str, int] = dataclasses.field(default_factory=dict)
    gpu_memory_peak_bytes: int | None = None
    gpu_utilisation: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """What a worker answers to a request. Totals are since it loaded, so no reply is missed.

    events: all that are not acknowledged. inside: attempts that have not ended. free: items that it
    could take now. is_drained: it has nothing left, and will take nothing.
    """

    events: list[Event]
    inside: list[str]
    free: int
    steps: int
    is_drained: bool = False
    stats: WorkerStats = dataclasses.field(default_factory=WorkerStats)
