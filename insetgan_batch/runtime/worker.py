"""The plain object inside an actor: load, serve slots, upload, commit, hand back. No Ray in here.

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
import importlib
import importlib.util
import logging
import math
import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

from insetgan_batch.config import RunConfig
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import PATIENCE_S, configure, open_output, patiently
from insetgan_batch.errors import (
    CheckpointError,
    ItemError,
    NotFoundError,
    RefusedError,
    StorageError,
)
from insetgan_batch.inset import saved
from insetgan_batch.inset.slots import SlotOptimizer
from insetgan_batch.inset.states import Finished, Start
from insetgan_batch.nets.generator import best_device
from insetgan_batch.recipe import CANVAS, Recipe
from insetgan_batch.records import Figures, Lease, Outcome, Status
from insetgan_batch.runtime import outputs
from insetgan_batch.runtime.failures import PREEMPTED, reason_code
from insetgan_batch.runtime.fitting import fitting_slots
from insetgan_batch.runtime.loading import Loaded, load
from insetgan_batch.runtime.mailbox import Ending
from insetgan_batch.runtime.memory import keep_freed_memory
from insetgan_batch.runtime.meter import ENTER, LEAVE, LOAD, Meter
from insetgan_batch.runtime.starts import Starts

_UPLOAD_THREADS = 4
# Patience for a picture or latents of a row, which may come from another store: others wait.
_INPUT_PATIENCE_S = 20.0
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Future = concurrent.futures.Future[None]
_log = logging.getLogger(__name__)


class Worker:
    """Generators on one device, a batch of slots, and a way to storage."""

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
        self._meter = Meter(config.least_slots)
        configure(**dataclasses.asdict(config.storage))
        self._store = RunStore(open_output(out_uri, single_writer=config.single_writer))
        self._on_end, self._patience_s = on_end, patience_s
        self._device = best_device()
        if self._device.type == "cpu":
            torch.set_num_threads(config.cores_per_actor)
            keep_freed_memory()
        loaded = load(config, self._device)
        batch = functools.partial(_batch, config, loaded)
        slots = config.slots
        if slots == "auto":
            slots = fitting_slots(
                self._device, config.gpus_per_actor, loaded.generators, config.recipe, batch
            )
            _log.info("%d slots fit here", slots)
        self._meter.slots = slots
        self._optimizer = batch(config.recipe, slots)
        found_in = {CANVAS: list(loaded.canvas_detectors.values())}
        found_in |= {name: [detector] for name, detector in loaded.detectors.items()}
        self._starts = Starts(
            config.recipe,
            loaded.generators,
            found_in,
            config.classes,
            config.input_roots,
            encoders=loaded.encoders,
            perceptual=loaded.perceptual,
        )
        self._origin = outputs.Origin(
            run_id=run_id,
            recipe=config.recipe.name,
            weights={name: g.sha256 for name, g in loaded.generators.items()},
            precision=loaded.precision,
            perceptual=loaded.perceptual.name,
            identities=loaded.identities,
        )
        self._leases: dict[str, Lease] = {}
        self._psi: dict[str, dict[str, Any]] = {}
        self._entered_at: dict[str, float] = {}
        # By attempt, as of the last boundary: what another machine goes on from.
        self._states: dict[str, dict[str, Any]] = {}
        self._uploading: set[str] = set()
        self._in_flight: set[_Future] = set()
        self._pool = concurrent.futures.ThreadPoolExecutor(_UPLOAD_THREADS)
        self._steps = 0
        self._meter.spent(LOAD, 0)

    @property
    def steps(self) -> int:
        """Done so far, over all items."""
        return self._steps

    @property
    def inside(self) -> list[str]:
        """Attempts that have not ended."""
        return list(self._leases)

    @property
    def in_batch(self) -> int:
        """Items that are being optimised."""
        return len(self._optimizer.keys)

    @property
    def free(self) -> int:
        """Items that it could take: places in the batch, but for those that wait for the store."""
        waiting = max(0, len(self._uploading) - self._optimizer.capacity)
        return max(0, self._optimizer.free - waiting)

    @property
    def figures(self) -> Figures:
        """What it has done with its time, its slots and the store so far."""
        return self._meter.figures(
            self.in_batch,
            gpu_memory_peak_bytes=_gpu_memory_peak_bytes(self._device),
            gpu_utilisation=_gpu_utilisation(self._device),
        )

    def serve(self, leases: list[Lease]) -> None:
        """Admit, run one round, release."""
        with self._meter.at_work():
            for lease in leases:
                self._admit(lease)
            busy = self.in_batch
            self._meter.spent(ENTER, busy)
            if not busy:
                return
            self._optimizer.run_round(self._count_step, lambda name: self._meter.spent(name, busy))
            for finished in self._optimizer.release():
                self._finish(finished)
            self._states = {key: self._optimizer.save(key) for key in self._optimizer.keys}
            self._meter.spent(LEAVE, busy)

    def hand_back(self) -> None:
        """Save what is in the batch as it was at the last boundary, and return it.

        Waits for the uploads under way too. May be called from another thread while a round runs;
        what the round brings still counts.
        """
        leases = [lease for a, lease in self._leases.copy().items() if a not in self._uploading]
        for lease in leases:
            self._in_thread(self._save, lease)
        concurrent.futures.wait(self._in_flight.copy())

    def close(self) -> None:
        """Finish the uploads under way and let go of the threads; safe to call twice."""
        self._pool.shutdown(wait=True)

    def _count_step(self) -> None:
        self._steps += len(self._optimizer.keys)

    # ---- an item enters ------------------------------------------------------------------------

    def _admit(self, lease: Lease) -> None:
        """Take an item in, or end it right there."""
        try:
            # While the store is away nothing can be committed, so the batch may as well wait.
            if self._patiently(lambda: self._store.is_committed(lease.item.item_id)):
                self._on_end(_outcome(lease, Status.DUPLICATE))
                return
            start = self._patiently(lambda: self._starts.start(lease), _INPUT_PATIENCE_S)
            self._enter(lease, start)
        except ItemError as err:
            self._on_end(_outcome(lease, Status.QUARANTINED, err))
            return
        except RefusedError:
            raise  # it would happen to every item
        except StorageError as err:
            self._on_end(_outcome(lease, Status.FAILED, err))
            return
        self._leases[lease.attempt] = lease
        self._entered_at[lease.attempt] = time.monotonic()
        self._psi[lease.attempt] = start.psi

    def _enter(self, lease: Lease, start: Start) -> None:
        """Into the batch; from where another machine left it, if there is something of it."""
        if lease.is_resumed:
            item_id = lease.item.item_id
            try:
                data = self._meter.watched(lambda: self._store.read_checkpoint(item_id))
                state = saved.from_bytes(data, self._device)
            except (NotFoundError, CheckpointError) as err:
                _log.warning("item %s starts anew: %s", item_id, err, extra=_names(lease))
            else:
                self._optimizer.load(start, state)
                self._states[lease.attempt] = state
                return
        self._optimizer.admit(start)

    # ---- an item leaves ------------------------------------------------------------------------

    def _finish(self, finished: Finished) -> None:
        """Hand a finished item to the uploaders, or end it if it has failed."""
        seconds = time.monotonic() - self._entered_at.pop(finished.key)
        psi = self._psi.pop(finished.key)
        lease = self._leases.get(finished.key)
        if lease is None:
            return  # it was handed back while this round ran
        if finished.error is not None:
            self._end(_outcome(lease, Status.QUARANTINED, finished.error))
            return
        result = outputs.result(lease, finished, seconds, psi, self._origin)
        self._uploading.add(lease.attempt)
        self._in_thread(self._upload, lease, result)

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
            won, size_bytes = self._patiently(lambda: self._commit(lease, result))
        except RefusedError:
            raise  # it would happen to every item
        except StorageError as err:
            self._end(_outcome(lease, Status.FAILED, err))
            return
        outcome = _outcome(lease, Status.COMMITTED if won else Status.DUPLICATE)
        summary = result.summary
        self._end(
            dataclasses.replace(
                outcome,
                seconds=summary["seconds"],
                steps=summary["steps"],
                uploaded_bytes=size_bytes,
                losses=summary["losses"],
                seam=_seam(summary),
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
        self._meter.uploaded(size_bytes, time.monotonic() - started_s)
        return won, size_bytes

    def _save(self, lease: Lease) -> None:
        """Keep an item's state, if it has one yet, and return it."""
        state, item_id = self._states.get(lease.attempt), lease.item.item_id
        try:
            if state is not None:
                data = saved.to_bytes(state)
                self._meter.watched(lambda: self._store.save_checkpoint(item_id, data))
        except StorageError as err:
            _log.warning("the state of item %s is lost: %s", item_id, err, extra=_names(lease))
            state = None
        returned = _outcome(lease, Status.RETURNED)
        is_saved = state is not None or lease.is_resumed
        self._end(dataclasses.replace(returned, reason=PREEMPTED, is_saved=is_saved))

    def _patiently(self, call: Callable[[], _T], at_most_s: float = math.inf) -> _T:
        """Each try that fails is counted."""
        wait_s = min(self._patience_s, at_most_s)
        return patiently(lambda: self._meter.watched(call), wait_s)

    def _end(self, outcome: Outcome) -> None:
        self._leases.pop(outcome.attempt, None)
        self._uploading.discard(outcome.attempt)
        self._on_end(outcome)


def _batch(config: RunConfig, loaded: Loaded, recipe: Recipe, capacity: int) -> SlotOptimizer:
    """An empty batch of what was loaded."""
    return SlotOptimizer(
        canvas=loaded.generators[CANVAS],
        insets={name: loaded.generators[name] for name in config.insets},
        detectors=loaded.detectors,
        canvas_detectors=loaded.canvas_detectors,
        segmenters=loaded.segmenters,
        identities=loaded.identities,
        perceptual=loaded.perceptual,
        recipe=recipe,
        capacity=capacity,
        film_every=config.film_every,
    )


def _names(lease: Lease) -> dict[str, str]:
    """What a line of the log is about."""
    return {"item": lease.item.item_id, "attempt": lease.attempt}


def _outcome(lease: Lease, status: Status, error: Exception | None = None) -> Outcome:
    return Outcome(
        item_id=lease.item.item_id,
        attempt=lease.attempt,
        status=status,
        reason=reason_code(error) if error else "",
        detail=str(error) if error else "",
    )


def _seam(summary: dict[str, Any]) -> tuple[float, float] | None:
    before, after = summary["seam_before"], summary["seam_after"]
    return None if before is None or after is None else (before, after)


def _gpu_memory_peak_bytes(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None


def _gpu_utilisation(device: torch.device) -> float | None:
    """0..1; None where nobody says it: without the package nvidia-ml-py, or of a part of a GPU."""
    nvml = _nvml()
    if device.type != "cuda" or nvml is None:
        return None
    try:
        return torch.cuda.utilization(device) / 100
    except (RuntimeError, nvml.NVMLError):
        return None


@functools.cache
def _nvml() -> Any:
    """What torch asks for the utilisation of a GPU, if it is installed."""
    is_there = importlib.util.find_spec("pynvml") is not None
    return importlib.import_module("pynvml") if is_there else None
