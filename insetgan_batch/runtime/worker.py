"""The plain object inside an actor: load, serve slots, upload, commit, hand back. No Ray in here,
and no method: the `Engine` of one does the work.

`serve` takes new leases in, runs ONE round for everything inside, and lets go of what is done.
Whatever ends an item is told to `on_end`, from the thread in which it happens: uploads run in
threads beside the optimisation. An item leaves its place in the batch before its upload, so that a
slow store does not keep the device waiting; only so many uploads may be open before a place counts
as taken after all.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import logging
import math
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from insetgan_batch.config import RunConfig
from insetgan_batch.data import inputs, provenance, results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import PATIENCE_S, configure, open_output, patiently, within
from insetgan_batch.errors import (
    BadInputError,
    CheckpointError,
    ItemError,
    RefusedError,
    StorageError,
    TooLongError,
)
from insetgan_batch.method import Engine, Finished
from insetgan_batch.methods import names
from insetgan_batch.nets import devices
from insetgan_batch.records import Lease, Outcome, Status, WorkerStats
from insetgan_batch.runtime.allocator import keep_freed_memory
from insetgan_batch.runtime.failures import PREEMPTED, as_item_error, log_names, reason_code
from insetgan_batch.runtime.fitting import fitting_slots
from insetgan_batch.runtime.stats import ENTER, LEAVE, LOAD, StatsRecorder
from insetgan_batch.runtime.worker_loop import Ending
from insetgan_batch.text import one_line

_UPLOAD_THREADS = _READERS = 4
# Patience for a picture or latents of a row, which may come from another store: others wait.
_INPUT_PATIENCE_S = 20.0
_COMMITTED = object()
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Future = concurrent.futures.Future[None]
_log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Held:
    """An item inside. prepared: as the engine gave it. state: as of the last boundary, None before
    the first: what another machine goes on from. entered_at_s: earlier by what it has taken on
    other machines.
    """

    lease: Lease
    prepared: Any
    entered_at_s: float
    state: Any = None


class Worker:
    """A batch on one device, and a way to storage."""

    def __init__(
        self,
        config: RunConfig,
        out_uri: str,
        run_id: str,
        on_end: Callable[[Ending], None],
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Load everything; raises `CheckpointError` or `StorageError`."""
        machine = config.machine
        self._recorder = StatsRecorder(machine.least_slots)
        configure(**dataclasses.asdict(machine.storage))
        self._store = RunStore(open_output(out_uri, single_writer=machine.single_writer))
        self._on_end, self._patience_s = on_end, patience_s
        self._device = devices.best_device()
        if self._device.type == "cpu":
            torch.set_num_threads(machine.cores_per_actor)
            keep_freed_memory()
        method = names.find(config.method)
        self._engine: Engine = method.load(config.settings, machine, self._device)
        if machine.slots == "auto":
            self._engine.capacity = fitting_slots(
                self._device, machine.gpus_per_actor, self._engine.trial
            )
            _log.info("%d slots fit here", self._engine.capacity)
        self._recorder.slots = self._engine.capacity
        self._run_id, self._roots = run_id, machine.input_roots
        self._held: dict[str, _Held] = {}  # by attempt
        self._limit_s = machine.item_hours * 3600
        self._uploading: set[str] = set()
        self._in_flight: set[_Future] = set()
        self._pool = concurrent.futures.ThreadPoolExecutor(_UPLOAD_THREADS)
        self._readers = concurrent.futures.ThreadPoolExecutor(_READERS)
        self._prepared: dict[str, concurrent.futures.Future[Any]] = {}  # by attempt
        self._steps = 0
        self._recorder.spent(LOAD, 0)

    @property
    def steps(self) -> int:
        """Done so far, over all items."""
        return self._steps

    @property
    def inside(self) -> list[str]:
        """Attempts that have not ended."""
        return list(self._held)

    @property
    def in_batch(self) -> int:
        """Items that are being optimised."""
        return len(self._engine.keys)

    @property
    def free(self) -> int:
        """Items that it could take: places in the batch, but for those that wait for the store."""
        waiting = max(0, len(self._uploading) - self._engine.capacity)
        return max(0, self._engine.capacity - self.in_batch - waiting)

    @property
    def ahead(self) -> int:
        """Items beyond these that it had better have at hand."""
        return self._engine.ahead

    @property
    def stats(self) -> WorkerStats:
        """What it has done with its time, its slots and the store so far."""
        return self._recorder.stats(
            self.in_batch,
            gpu_memory_peak_bytes=devices.memory_peak_bytes(self._device),
            gpu_utilisation=devices.utilisation(self._device),
        )

    def expect(self, lease: Lease) -> None:
        """Read what the item needs beside the work, before it is served. From any thread."""
        self._prepared[lease.attempt] = self._readers.submit(self._prepare, lease)

    def is_ready(self, lease: Lease) -> bool:
        """Whether an item that was expected would enter without a wait."""
        return self._prepared[lease.attempt].done()

    def serve(self, leases: list[Lease]) -> None:
        """Admit, run one round, release."""
        with self._recorder.at_work():
            for lease in leases:
                self._admit(lease)
            busy = self.in_batch
            self._recorder.spent(ENTER, busy)
            if not busy:
                return
            self._stop_the_slow()
            ended = self._engine.run_round(
                self._count_step, lambda name: self._recorder.spent(name, busy)
            )
            for finished in ended:
                self._finish(finished)
            for key in self._engine.keys:
                if (held := self._held.get(key)) is not None:  # else it was handed back
                    held.state = self._engine.state(key)
            self._recorder.spent(LEAVE, busy)

    def hand_back(self) -> None:
        """Save what is in the batch as it was at the last boundary, and return it.

        Waits for the uploads under way too. May be called from another thread while a round runs;
        what the round brings still counts.
        """
        leaving = [held for a, held in self._held.copy().items() if a not in self._uploading]
        for held in leaving:
            self._in_thread(self._save, held)
        concurrent.futures.wait(self._in_flight.copy())

    def close(self) -> None:
        """Finish the uploads under way and let go of the threads; safe to call twice."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._pool.shutdown(wait=True)

    def _count_step(self) -> None:
        self._steps += len(self._engine.keys)

    # ---- an item enters ------------------------------------------------------------------------

    def _admit(self, lease: Lease) -> None:
        """Take an item in, or end it right there."""
        if lease.attempt not in self._prepared:
            self.expect(lease)
        try:
            prepared = self._prepared.pop(lease.attempt).result()
            if prepared is _COMMITTED:
                self._on_end(_outcome(lease, Status.DUPLICATE))
                return
            with as_item_error(lease):
                held = self._enter(lease, prepared)
        except ItemError as err:
            self._on_end(_outcome(lease, Status.QUARANTINED, err))
            return
        except RefusedError:
            raise  # it would happen to every item
        except StorageError as err:
            self._on_end(_outcome(lease, Status.FAILED, err))
            return
        self._held[lease.attempt] = held

    def _prepare(self, lease: Lease) -> Any:
        """What the engine makes of the row; `_COMMITTED` where the item is done already."""
        # While the store is away nothing can be committed, so the batch may as well wait. Where an
        # item is done sooner than the store answers, one that none can have done is not asked for.
        is_asked = not (lease.is_first and self._engine.ahead)
        if is_asked and self._patiently(lambda: self._store.is_committed(lease.item.item_id)):
            return _COMMITTED
        with as_item_error(lease):
            prepare = functools.partial(self._engine.prepare, lease.item, self._read)
            return self._patiently(prepare, _INPUT_PATIENCE_S)

    def _read(self, uri: str) -> bytes:
        """A file that a row names; `BadInputError` where it lies outside of the run's roots."""
        try:
            real = within(uri, self._roots) if self._roots else uri
        except RefusedError as err:
            raise BadInputError(one_line(err)) from err
        return inputs.read(real)

    def _enter(self, lease: Lease, prepared: Any) -> _Held:
        """Into the batch; from where another machine left it, if there is something of it."""
        held = _Held(lease, prepared, time.monotonic())
        if not (lease.is_resumed and self._resume(held)):
            self._engine.admit(lease.attempt, prepared)
        return held

    def _resume(self, held: _Held) -> bool:
        """Go on from the state in storage; False where there is none to go on from.

        Whatever is wrong with a state costs the item its steps, and nobody else anything.
        """
        lease = held.lease
        try:
            item_id = lease.item.item_id
            data = self._patiently(lambda: self._store.read_checkpoint(item_id), _INPUT_PATIENCE_S)
            with as_item_error(lease):
                seconds = self._engine.resume(lease.attempt, held.prepared, data)
        except StorageError as err:
            _log.warning("item %s starts anew: %s", lease.item.item_id, err, extra=log_names(lease))
            return False
        except (CheckpointError, ItemError) as err:
            text = "item %s starts anew, and its state is removed: %s"
            _log.warning(text, lease.item.item_id, err, extra=log_names(lease))
            self._drop_state(lease)
            return False
        held.state = self._engine.state(lease.attempt)
        held.entered_at_s -= seconds
        return True

    def _drop_state(self, lease: Lease) -> None:
        """Remove a state that nobody can use, so that nobody tries it again."""
        try:
            self._recorder.watched(lambda: self._store.clear_checkpoint(lease.item.item_id))
        except StorageError as err:
            _log.warning("the state stays: %s", err, extra=log_names(lease))

    # ---- an item leaves ------------------------------------------------------------------------

    def _stop_the_slow(self) -> None:
        """Let the items go that have had all the time that one may take."""
        now_s = time.monotonic()
        for key in self._engine.keys:
            held = self._held.get(key)
            if held is not None and now_s - held.entered_at_s > self._limit_s:
                hours = (now_s - held.entered_at_s) / 3600
                self._engine.give_up(
                    key,
                    TooLongError(
                        f"it took {hours:.3g} hours and was not done, expected at most item_hours"
                        f" ({self._limit_s / 3600:g}); let its row do less, or set that higher"
                    ),
                )

    def _finish(self, finished: Finished) -> None:
        """Hand a finished item to the uploaders, or end it if it has failed."""
        held = self._held.get(finished.key)
        if held is None:
            return  # it was handed back while this round ran
        lease, seconds = held.lease, time.monotonic() - held.entered_at_s
        if finished.error is not None:
            self._end(_outcome(lease, Status.QUARANTINED, finished.error))
            return
        try:
            with as_item_error(lease):
                result = self._engine.result(finished, lease, seconds)
        except ItemError as err:
            self._end(_outcome(lease, Status.QUARANTINED, err))
            return
        origin = provenance.origin(lease.item, lease.attempt, self._run_id, result.provenance)
        self._uploading.add(lease.attempt)
        self._in_thread(self._upload, lease, dataclasses.replace(result, provenance=origin))

    def _in_thread(self, call: Callable[_P, None], *args: _P.args, **kwargs: _P.kwargs) -> None:
        """Whatever it raises is told, so that no item is stuck in silence."""
        future = self._pool.submit(call, *args, **kwargs)
        self._in_flight.add(future)
        future.add_done_callback(self._landed)

    def _landed(self, future: _Future) -> None:
        self._in_flight.discard(future)
        if (error := future.exception()) is not None:
            self._on_end(error)

    def _upload(self, lease: Lease, result: results.Result) -> None:
        """Everything the item leaves behind, then its commit: first writer wins."""
        try:
            with as_item_error(lease):
                won, size_bytes = self._patiently(lambda: self._commit(lease, result))
        except ItemError as err:
            self._end(_outcome(lease, Status.QUARANTINED, err))
            return
        except RefusedError:
            raise  # it would happen to every item
        except StorageError as err:
            self._end(_outcome(lease, Status.FAILED, err))
            return
        outcome = _outcome(lease, Status.COMMITTED if won else Status.DUPLICATE)
        measures = {n: v for n, v in result.measures.items() if v is not None}
        self._end(
            dataclasses.replace(
                outcome,
                seconds=result.seconds,
                steps=result.steps,
                uploaded_bytes=size_bytes,
                measures=measures,
            )
        )

    def _commit(self, lease: Lease, result: results.Result) -> tuple[bool, int]:
        """(whether this commit stands, bytes of the files)."""
        item_id = lease.item.item_id
        started_s = time.monotonic()
        record = results.save(self._store, result)
        won = self._store.commit(item_id, record)
        if lease.is_resumed:
            self._store.clear_checkpoint(item_id)
        size_bytes = sum(file["bytes"] for file in record["files"].values())
        self._recorder.uploaded(size_bytes, time.monotonic() - started_s)
        return won, size_bytes

    def _save(self, held: _Held) -> None:
        """Keep an item's state, if it has one yet, and return it."""
        lease, state = held.lease, held.state
        seconds = time.monotonic() - held.entered_at_s
        try:
            if state is not None:
                with as_item_error(lease):
                    data = self._engine.save(held.prepared, state, seconds)
                self._recorder.watched(
                    lambda: self._store.save_checkpoint(lease.item.item_id, data)
                )
        except (StorageError, ItemError) as err:
            text = "the state of item %s is lost: %s"
            _log.warning(text, lease.item.item_id, err, extra=log_names(lease))
            state = None
        returned = _outcome(lease, Status.RETURNED)
        is_saved = state is not None or lease.is_resumed
        self._end(dataclasses.replace(returned, reason=PREEMPTED, is_saved=is_saved))

    def _patiently(self, call: Callable[[], _T], at_most_s: float = math.inf) -> _T:
        """Each try that fails is counted."""
        wait_s = min(self._patience_s, at_most_s)
        return patiently(lambda: self._recorder.watched(call), wait_s)

    def _end(self, outcome: Outcome) -> None:
        self._held.pop(outcome.attempt, None)
        self._uploading.discard(outcome.attempt)
        self._on_end(outcome)


def _outcome(lease: Lease, status: Status, error: Exception | None = None) -> Outcome:
    return Outcome(
        item_id=lease.item.item_id,
        attempt=lease.attempt,
        status=status,
        reason=reason_code(error) if error else "",
        detail=str(error) if error else "",
    )
