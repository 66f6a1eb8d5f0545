"""One driver's turn: leases go out, answers come in, until nothing is left. No Ray in here.

Two things are watched over all items. When nearly all that begins fails, without a commit between,
something is wrong with everything (weights, settings, the store) and not with the items: the run
stops, and this streak is not stored, so that the next start tries these items again. And a driver
that finds a later one on its output stops.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import re
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.manifest import BadRow
from insetgan_batch.data.storage import PATIENCE_S, patiently
from insetgan_batch.errors import InsetGanError, StorageError
from insetgan_batch.records import Item, Outcome, Status
from insetgan_batch.runtime.failures import (
    BAD_ROW,
    PREEMPTED,
    REASONS,
    Caps,
    FailureClass,
    classify,
    reason_code,
)
from insetgan_batch.runtime.leases import Decision, Ledger
from insetgan_batch.runtime.progress import Progress, ProgressTracker, WorkerLine
from insetgan_batch.telemetry import Telemetry
from insetgan_batch.text import one_line

if TYPE_CHECKING:  # Ray: the fakes of tests need none
    from insetgan_batch.runtime.actor_pool import ActorPool, Received

CAPS = Caps()
# Items that the ledger holds in advance, per worker: enough to fill its slots again and again.
_QUEUE_PER_WORKER = 16
_POLL_S = 1.0
_POLL_CLUSTER_EVERY_S = 1.0  # at the cluster: new machines, and those that will go
_EPOCH_EVERY_S = 60.0
_HOST_CHARS = 64
# A worker that says nothing for so long is lost; one that does no step hangs.
_SILENT_S = 60.0
# A streak stops the run when it is so long, and so many times what is being worked on: items fail
# faster than they succeed, so a few failures come before the first commit of many workers.
_STREAK = 32
_STREAK_SHARE = 4
_ID_LINE = re.compile(r"(class_name|actor_id|pid|name|namespace|ip|Node Id): ?\S*$")
_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Pace:
    """A worker's slots, what it has done, and when it last did a step."""

    free: int = 0
    slots: int = 0
    inside: int = 0
    ended: int = 0
    steps: int = -1
    moved_at_s: float = 0.0
    heard_first_at_s: float | None = None

    def line(self, worker_id: str, now_s: float) -> WorkerLine:
        """For people."""
        since_s = 0.0 if self.heard_first_at_s is None else now_s - self.heard_first_at_s
        steps_per_s = max(0, self.steps) / since_s if since_s > 0 else 0.0
        return WorkerLine(worker_id, self.slots, self.inside, self.ended, steps_per_s)


class Dispatcher:
    """The turn of the driver with this epoch."""

    def __init__(
        self,
        store: RunStore,
        epoch: int,
        ledger: Ledger,
        pool: ActorPool,
        items: Iterator[Item | BadRow],
        tracker: ProgressTracker,
        *,
        on_progress: Callable[[Progress], None],
        poll_cluster: Callable[[], None] = lambda: None,
        observer: Telemetry | None = None,
    ) -> None:
        """poll_cluster: called every few seconds, for what changes in the cluster. observer: who
        counts; None where nobody looks.
        """
        self._store, self._epoch, self._ledger, self._pool = store, epoch, ledger, pool
        self._items, self._tracker = items, tracker
        self._on_progress, self._poll_cluster = on_progress, poll_cluster
        self._observer = observer or Telemetry((), REASONS)
        self._all_read = False
        # What is leased, to say what a failed item was made from.
        self._inside: dict[str, Item] = {}
        self._quarantined: set[str] = set()
        # Quarantines since the last commit: item id to record.
        self._streak: dict[str, dict[str, Any]] = {}
        self._paces: dict[str, _Pace] = {}
        self._lines: list[WorkerLine] = []
        self._polled_at_s = self._checked_at_s = time.monotonic()

    def work(self) -> None:
        """Until every item has ended; raises what is wrong with the whole run."""
        while True:
            self._feed()
            if self._all_read and self._ledger.is_finished:
                self._store_streak()
                return
            if self._pool.is_given_up:
                raise InsetGanError(
                    "every worker crashed again and again; see the last error above, mend it, and"
                    " run the same command to resume"
                )
            self._give()
            last = [
                outcome for answer in self._pool.wait(_POLL_S) for outcome in self._take(answer)
            ]
            self._watch()
            progress = self._progress(last)
            self._observer.progress(progress)
            self._on_progress(progress)

    # ---- out -----------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Keep the ledger's queue filled; a million items are not held at once."""
        missing = _QUEUE_PER_WORKER * max(1, self._pool.size) - self._ledger.counts.waiting
        if missing <= 0 or self._all_read:
            return
        fresh = list(itertools.islice(self._items, missing))
        self._all_read = len(fresh) < missing
        self._ledger.add(row for row in fresh if isinstance(row, Item))
        for bad in (row for row in fresh if isinstance(row, BadRow)):
            self._tracker.quarantined += 1
            self._observer.ended(Status.QUARANTINED, BAD_ROW)
            record = _record(bad.item_id, BAD_ROW, str(bad.error))
            self._quarantine(record)

    def _give(self) -> None:
        """Tell every worker that waits for a request what it should have."""
        now_s = time.monotonic()
        for worker_id in self._pool.idle:
            pace = self._paces.setdefault(worker_id, _Pace(moved_at_s=now_s))
            if pace.free > 0 and not self._pool.is_leaving(worker_id):
                granted = self._ledger.grant(worker_id, pace.free, now_s)
                self._inside |= {lease.item.item_id: lease.item for lease in granted}
                pace.free = 0  # until the next reply
            self._pool.send(worker_id, self._ledger.leases_of(worker_id))

    # ---- in ------------------------------------------------------------------------------------

    def _take(self, answer: Received) -> list[Outcome]:
        """Tell the ledger; returns what has ended."""
        worker_id, reply = answer.worker_id, answer.result
        if isinstance(reply, Exception):
            self._lose(worker_id, reply)
            return []
        self._tracker.start_clock()
        if reply is None:
            return []
        now_s = time.monotonic()
        self._observer.heard(worker_id, reply)
        self._tracker.see_steps(worker_id, reply.steps)
        pace = self._paces.setdefault(worker_id, _Pace())
        pace.free, pace.inside, pace.slots = reply.free, len(reply.inside), reply.stats.slots
        if pace.heard_first_at_s is None:
            pace.heard_first_at_s = now_s
        if reply.steps != pace.steps or not reply.inside:
            pace.steps, pace.moved_at_s = reply.steps, now_s
        outcomes = [event.outcome for event in reply.events]
        for outcome in outcomes:
            self.end(outcome)
        self._ledger.renew(worker_id, reply.inside, now_s)
        if reply.is_drained:
            _log.info("worker %s is drained", worker_id)
            self._observer.lost(worker_id, PREEMPTED)
            self._part(
                worker_id, crashed=False, killed=False, out_of_memory=False, detail="drained"
            )
        ended = [outcome for outcome in outcomes if outcome.status is not Status.RETURNED]
        pace.ended += len(ended)
        for outcome in ended:
            _log_end(outcome)
        return ended

    def end(self, outcome: Outcome) -> None:
        """An attempt has ended, whoever says so; late and repeated news do no harm."""
        self._apply(self._ledger.finish(outcome), outcome)

    def _lose(self, worker_id: str, error: Exception) -> None:
        """A worker failed: stop when everything would, else replace it and give its items back."""
        if isinstance(error, StorageError):
            self._observer.storage_failed(error)
        kind = classify(error)
        if kind is FailureClass.SYSTEMIC:
            raise error
        reason = reason_code(error)
        _log.warning("worker %s is lost (%s): %s", worker_id, reason, _last_line(error))
        self._observer.lost(worker_id, reason)
        self._part(
            worker_id,
            # A worker only raises of the store while it loads; who cannot load is given up one day.
            crashed=kind is not FailureClass.INFRA or isinstance(error, StorageError),
            killed=kind is FailureClass.KILLED,
            out_of_memory=reason == "out_of_memory",
            detail=f"{reason}: {_last_line(error)}",
        )

    def _part(
        self, worker_id: str, *, crashed: bool, killed: bool, out_of_memory: bool, detail: str
    ) -> None:
        for decision in self._ledger.lose_worker(worker_id, crashed, killed=killed):
            self._apply(decision, None, detail)
        self._paces.pop(worker_id, None)
        self._pool.replace(
            worker_id,
            crashed=crashed,
            out_of_memory=out_of_memory,
            max_crashes=CAPS.max_worker_crashes,
        )

    def _apply(self, decision: Decision, outcome: Outcome | None, detail: str = "") -> None:
        """Make a decision last: count it, and store what the next driver has to know."""
        item_id = decision.item_id
        if decision.kind == "requeue":
            self._observer.retried(decision.reason)
        if decision.kind == "requeue" and decision.suspect_crashes:
            self._patiently(lambda: self._store.write_suspect(item_id, decision.suspect_crashes))
        if decision.kind == "quarantine":
            record = _record(
                item_id,
                decision.reason,
                outcome.detail if outcome else detail,
                attempt=outcome.attempt if outcome else "",
                attempts=decision.attempts,
                item=dataclasses.asdict(self._inside[item_id]),
            )
            self._observer.ended(Status.QUARANTINED, decision.reason)
            self._set_aside(record)
        if decision.kind == "done":
            self._observer.ended(Status.COMMITTED, "")
            self._count_done(item_id, outcome)
        if decision.kind in ("done", "quarantine"):
            self._inside.pop(item_id, None)
            if decision.suspect_crashes:
                self._patiently(lambda: self._store.clear_suspect(item_id))

    def _count_done(self, item_id: str, outcome: Outcome | None) -> None:
        if item_id in self._quarantined:
            # A commit that came late: the object is there, so the item is done after all.
            self._quarantined.remove(item_id)
            self._tracker.quarantined -= 1
            if self._streak.pop(item_id, None) is None:
                self._patiently(lambda: self._store.clear_quarantine(item_id))
        self._store_streak()
        self._tracker.count_commit(outcome)

    # ---- quarantine ----------------------------------------------------------------------------

    def _set_aside(self, record: dict[str, Any]) -> None:
        """Quarantine an item, when it is clear that it is the item's fault."""
        self._streak[record["item_id"]] = record
        self._quarantined.add(record["item_id"])
        self._tracker.quarantined += 1
        if len(self._streak) >= max(_STREAK, _STREAK_SHARE * self._ledger.counts.leased):
            reasons = sorted({str(entry["reason"]) for entry in self._streak.values()})
            raise InsetGanError(
                f"{len(self._streak)} items failed and none was done ({', '.join(reasons)});"
                f" the last: {record['detail']}; mend what is wrong with all of them and run the"
                " same command: none of them has been quarantined"
            )

    def _store_streak(self) -> None:
        for record in self._streak.values():
            self._quarantine(record)
        self._streak.clear()

    def _quarantine(self, record: dict[str, Any]) -> None:
        self._patiently(lambda: self._store.quarantine(record["item_id"], record))

    # ---- watching ------------------------------------------------------------------------------

    def _watch(self) -> None:
        now_s = time.monotonic()
        for decision in self._ledger.expire(now_s):
            self._apply(decision, None)
        for worker_id in self._pool.silent(_SILENT_S):
            # A link that is down or a machine that is gone; a crash would have been answered.
            self._lose(worker_id, ConnectionError(f"no answer for {_SILENT_S:.0f} s"))
        for worker_id, pace in list(self._paces.items()):
            if pace.steps >= 0 and now_s - pace.moved_at_s > CAPS.lease_s:
                self._lose(worker_id, TimeoutError(f"no step for {CAPS.lease_s:.0f} s"))
        if now_s - self._polled_at_s > _POLL_CLUSTER_EVERY_S:
            self._polled_at_s = now_s
            self._lines = [pace.line(name, now_s) for name, pace in self._paces.items()]
            self._poll_cluster()
        if now_s - self._checked_at_s > _EPOCH_EVERY_S:
            self._checked_at_s = now_s
            self._check_epoch()

    def _check_epoch(self) -> None:
        latest = self._patiently(self._store.latest_epoch)
        if latest > self._epoch:
            raise InsetGanError(
                f"another driver (epoch {latest}{self._whose(latest)}) has taken over this run from"
                f" this one (epoch {self._epoch}); nothing is lost, look there"
            )

    def _whose(self, epoch: int) -> str:
        """Where its driver runs, as far as its record says it."""
        try:
            record = self._store.read_epoch(epoch)
        except StorageError:
            return ""
        return f", on {one_line(record['host'], _HOST_CHARS)}, process {record['pid']}"

    def _progress(self, last: list[Outcome]) -> Progress:
        pool, inside = self._pool, self._ledger.counts.leased
        return self._tracker.progress(
            workers=pool.size, ready=pool.ready, inside=inside, last=last, lines=self._lines
        )

    def _patiently(self, call: Callable[[], Any]) -> Any:
        return patiently(lambda: self._watched(call), PATIENCE_S)

    def _watched(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except StorageError as err:
            self._observer.storage_failed(err)
            raise


def _log_end(outcome: Outcome) -> None:
    """The one line that a try leaves in the log."""
    names = {"item": outcome.item_id, "attempt": outcome.attempt, "reason": outcome.reason}
    text = "item %s, attempt %s: %s"
    why = f" ({outcome.reason}: {outcome.detail})" if outcome.reason else ""
    _log.info(text, outcome.item_id, outcome.attempt, f"{outcome.status}{why}", extra=names)


def _record(
    item_id: str,
    reason: str,
    detail: str,
    *,
    attempt: str = "",
    attempts: int = 0,
    item: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What is stored of an item in quarantine; item: what it was made from, if that is known."""
    record = {
        "item_id": item_id,
        "reason": reason,
        "detail": detail,
        "attempt": attempt,
        "attempts": attempts,
    }
    return record if item is None else record | {"item": item}


def _last_line(error: Exception) -> str:
    """What matters of a text of several lines; Ray's begin with ids and end with the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not _ID_LINE.match(line)]
    return (telling or lines or [type(error).__name__])[-1]
