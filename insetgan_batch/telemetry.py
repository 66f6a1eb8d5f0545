"""What a run is doing, as metrics for Prometheus: one table of all of them, and their counting.

The driver counts what it decides; the actors' own stats come with their replies. They are totals
since an actor began, so a lost reply loses nothing; here they become counters that never go back,
also when an actor is replaced. Why not Ray's metrics: actors would need a port each, and the sums
of its histograms are made of the middles of buckets. Labels have few values, known beforehand:
never an item, a seed or a path. A *place* is room for one actor, numbered from 0; when an actor is
lost, the next one takes its place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

import prometheus_client

from insetgan_batch import __version__
from insetgan_batch.data.storage import Storage
from insetgan_batch.errors import StorageError
from insetgan_batch.metrics_server import serving
from insetgan_batch.records import HeartbeatReply, Outcome, Status, WorkerStats

if TYPE_CHECKING:
    from insetgan_batch.runtime.progress import Progress

KEY = "metrics.prom"
"""Where a run keeps the last state of its metrics."""

_OTHER = "other"  # for what is in no list, should there ever be such a thing
_RESTARTS = (
    "out_of_memory",
    "cuda_error",
    "worker_error",
    "worker_killed",
    "storage",
    "machine_lost",
    "preempted",
)
_SHARES_OF_A_STEP = (1.0, 2.0, 5.0)
_log = logging.getLogger(__name__)


def _decades(first: float, decades: int) -> tuple[float, ...]:
    """1, 2, 5, 10, 20, 50, ... times `first`."""
    powers = range(decades)
    return tuple(float(f"{s * first * 10**p:.6g}") for p in powers for s in _SHARES_OF_A_STEP)


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table. is_of_gpu: there is none of it where there is no GPU."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    is_of_gpu: bool = False


LABELS: Mapping[str, str] = {
    "outcome": "committed, quarantined",
    "reason": "a code of `failures.REASONS`; empty for committed items",
    "phase": "load, wait, enter, leave, or what the engine does: InsetGAN's generator that moves",
    "state": "of items: waiting, leased, committed, quarantined; of actors: ready, starting; of"
    " slots: busy, idle",
    "measure": "a number of a result, as the method names it, like `score`",
    "class": "outage (no answer, or an error that may pass), refused, missing, damaged",
    "resumed": "true, false",
    "place": "room for one actor, numbered from 0",
    "version": "of insetgan-batch",
    "python": "version of Python",
}

TABLE: tuple[Metric, ...] = (
    Metric(
        "insetgan_items_total",
        "counter",
        "Items that have ended since this driver began; one that is committed after its quarantine"
        " counts twice.",
        ("outcome", "reason"),
    ),
    Metric("insetgan_queue_items", "gauge", "Items of the run by where they are.", ("state",)),
    Metric(
        "insetgan_item_retries_total",
        "counter",
        "Items that were put back to be tried again.",
        ("reason",),
    ),
    Metric(
        "insetgan_item_seconds",
        "histogram",
        "Time of committed items from their entry into a batch to their upload.",
        buckets=_decades(0.1, 5),
    ),
    Metric(
        "insetgan_item_measure",
        "histogram",
        "Measures of committed items, as the method declares them.",
        ("measure",),
        buckets=_decades(0.0001, 8),
    ),
    Metric("insetgan_steps_total", "counter", "Optimiser steps of items.", ("place",)),
    Metric("insetgan_phase_seconds_total", "counter", "Time of all actors.", ("phase",)),
    Metric(
        "insetgan_slot_seconds_total",
        "counter",
        "Time of all slots of actors that have loaded.",
        ("state",),
    ),
    Metric("insetgan_slots_busy", "gauge", "Items in the batch of the last round.", ("place",)),
    Metric("insetgan_slots_capacity", "gauge", "Places in the batch.", ("place",)),
    Metric("insetgan_actors", "gauge", "Actors that the run has asked for.", ("state",)),
    Metric(
        "insetgan_actor_restarts_total",
        "counter",
        "Actors that were lost, by what took them.",
        ("place", "reason"),
    ),
    Metric(
        "insetgan_preemptions_total",
        "counter",
        "Items whose machine was taken away; resumed: their state was saved.",
        ("resumed",),
    ),
    Metric("insetgan_upload_bytes_total", "counter", "Bytes of finished items that were stored."),
    Metric(
        "insetgan_upload_seconds_total",
        "counter",
        "Time of their uploads and commits, side by side, without failed tries.",
    ),
    Metric(
        "insetgan_commit_conflicts_total",
        "counter",
        "Attempts that found their item committed by another one.",
    ),
    Metric(
        "insetgan_storage_errors_total",
        "counter",
        "Failures of the store, of the driver and of all actors; each try counts.",
        ("class",),
    ),
    Metric(
        "insetgan_gpu_memory_peak_bytes",
        "gauge",
        "Most memory that the actor's tensors had at once.",
        ("place",),
        is_of_gpu=True,
    ),
    Metric(
        "insetgan_gpu_utilisation_ratio",
        "gauge",
        "Share of the time in which the GPU did something, if nvidia-ml-py is installed.",
        ("place",),
        is_of_gpu=True,
    ),
    Metric("insetgan_time_left_seconds", "gauge", "Time to the end, by the pace so far."),
    Metric(
        "insetgan_last_commit_timestamp_seconds",
        "gauge",
        "When the last item was committed; 0 before the first.",
    ),
    Metric("insetgan_start_timestamp_seconds", "gauge", "When this driver began."),
    Metric("insetgan_build_info", "gauge", "Always 1.", ("version", "python")),
)

_KINDS: Mapping[str, Callable[..., Any]] = {
    "counter": prometheus_client.Counter,
    "gauge": prometheus_client.Gauge,
    "histogram": prometheus_client.Histogram,
}


def markdown() -> str:
    """The table for people: all metrics, then all labels."""
    lines = ["| metric | kind | labels | what |", "|---|---|---|---|"]
    for metric in TABLE:
        labels = ", ".join(metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.about} |")
    lines += ["", "| label | values |", "|---|---|"]
    lines += [f"| {label} | {values} |" for label, values in LABELS.items()]
    return "\n".join(lines) + "\n"


class Telemetry:
    """The metrics of one driver's turn, on a registry of their own. See `dispatcher.Observer`."""

    def __init__(
        self,
        phases: Iterable[str],
        reasons: Iterable[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """phases, reasons: all that there are; what is none of them is counted as `other`."""
        # Else every counter has a neighbour `..._created`, which is in no table.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = prometheus_client.CollectorRegistry()
        self._clock = clock
        self._metrics = {metric.name: self._made(metric) for metric in TABLE}
        self._reasons = sorted({*reasons, _OTHER})
        self._phases = {*phases, _OTHER}
        # By worker: its totals of the last reply, and the number of its last event.
        self._seen: dict[str, tuple[int, WorkerStats]] = {}
        self._events: dict[str, int] = {}
        self._start_at_zero()

    def text(self) -> str:
        """All metrics in Prometheus' text format."""
        return prometheus_client.generate_latest(self.registry).decode()

    # ---- what a turn tells ---------------------------------------------------------------------

    def progress(self, progress: Progress) -> None:
        """Where the run stands."""
        states = {
            "waiting": progress.left - progress.inside,
            "leased": progress.inside,
            "committed": progress.committed,
            "quarantined": progress.quarantined,
        }
        for state, count in states.items():
            self._of("insetgan_queue_items", state=state).set(count)
        self._of("insetgan_actors", state="ready").set(progress.workers_ready)
        starting = progress.workers - progress.workers_ready
        self._of("insetgan_actors", state="starting").set(starting)
        if progress.seconds_left is not None:
            self._of("insetgan_time_left_seconds").set(progress.seconds_left)

    def heard(self, worker_id: str, reply: HeartbeatReply) -> None:
        """What an actor says of itself, and what has ended in it."""
        place = _place(worker_id)
        if worker_id not in self._seen:
            self._new_place(place)
        steps, stats = self._seen.get(worker_id, (0, WorkerStats()))
        self._add("insetgan_steps_total", reply.steps - steps, place=place)
        self._add_stats(stats, reply.stats)
        self._show(place, reply.stats)
        self._seen[worker_id] = reply.steps, reply.stats
        told = self._events.get(worker_id, 0)
        for event in reply.events:
            if event.number > told:  # one may be told again
                self._events[worker_id] = event.number
                self._take(event.outcome)

    def ended(self, status: Status, reason: str) -> None:
        """An item is done, or in quarantine."""
        self._of("insetgan_items_total", outcome=status.value, reason=self._known(reason)).inc()
        if status is Status.COMMITTED:
            self._of("insetgan_last_commit_timestamp_seconds").set(self._clock())

    def retried(self, reason: str) -> None:
        """An item waits again."""
        self._of("insetgan_item_retries_total", reason=self._known(reason)).inc()
        if reason == "worker_lost":
            self._of("insetgan_preemptions_total", resumed="false").inc()

    def lost(self, worker_id: str, reason: str) -> None:
        """An actor is gone; another one takes its place."""
        place = _place(worker_id)
        if worker_id not in self._seen:
            self._new_place(place)
        self._of("insetgan_actor_restarts_total", place=place, reason=self._known(reason)).inc()
        self._seen.pop(worker_id, None)
        self._events.pop(worker_id, None)
        for metric in TABLE:
            if metric.kind == "gauge" and metric.labels == ("place",):
                with contextlib.suppress(KeyError):
                    self._metrics[metric.name].remove(place)

    def storage_failed(self, error: StorageError) -> None:
        """The store could not do something for the driver."""
        self._of("insetgan_storage_errors_total", **{"class": error.kind}).inc()

    # ---- counting ------------------------------------------------------------------------------

    def _take(self, outcome: Outcome) -> None:
        if outcome.status is Status.DUPLICATE:
            self._of("insetgan_commit_conflicts_total").inc()
        if outcome.status is Status.RETURNED:
            resumed = "true" if outcome.is_saved else "false"
            self._of("insetgan_preemptions_total", resumed=resumed).inc()
        if outcome.status is not Status.COMMITTED:
            return
        self._of("insetgan_item_seconds").observe(outcome.seconds)
        for measure, value in outcome.measures.items():
            self._of("insetgan_item_measure", measure=measure).observe(value)

    def _add_stats(self, before: WorkerStats, now: WorkerStats) -> None:
        for phase, seconds in now.seconds.items():
            known = phase if phase in self._phases else _OTHER
            gone_s = seconds - before.seconds.get(phase, 0.0)
            self._add("insetgan_phase_seconds_total", gone_s, phase=known)
        busy_s, idle_s = now.busy_slot_s - before.busy_slot_s, now.idle_slot_s - before.idle_slot_s
        self._add("insetgan_slot_seconds_total", busy_s, state="busy")
        self._add("insetgan_slot_seconds_total", idle_s, state="idle")
        self._add("insetgan_upload_bytes_total", now.upload_bytes - before.upload_bytes)
        self._add("insetgan_upload_seconds_total", now.upload_s - before.upload_s)
        for kind, count in now.storage_errors.items():
            more = count - before.storage_errors.get(kind, 0)
            self._add("insetgan_storage_errors_total", more, **{"class": kind})

    def _show(self, place: str, stats: WorkerStats) -> None:
        shown = {
            "insetgan_slots_busy": stats.busy,
            "insetgan_slots_capacity": stats.slots,
            "insetgan_gpu_memory_peak_bytes": stats.gpu_memory_peak_bytes,
            "insetgan_gpu_utilisation_ratio": stats.gpu_utilisation,
        }
        for name, value in shown.items():
            if value is not None:
                self._of(name, place=place).set(value)

    def _add(self, name: str, amount: float, **labels: str) -> None:
        self._of(name, **labels).inc(max(0, amount))

    # ---- series --------------------------------------------------------------------------------

    def _made(self, metric: Metric) -> Any:
        more = {"buckets": metric.buckets} if metric.buckets else {}
        return _KINDS[metric.kind](
            metric.name, metric.about, metric.labels, registry=self.registry, **more
        )

    def _start_at_zero(self) -> None:
        """A series that begins with its first event hides it: rates need the 0 before."""
        quarantined = [("quarantined", reason) for reason in self._reasons]
        for outcome, reason in [("committed", ""), *quarantined]:
            self._of("insetgan_items_total", outcome=outcome, reason=reason)
        values = {
            "insetgan_item_retries_total": ("reason", self._reasons),
            "insetgan_phase_seconds_total": ("phase", sorted(self._phases - {_OTHER})),
            "insetgan_slot_seconds_total": ("state", ("busy", "idle")),
            "insetgan_storage_errors_total": ("class", ("outage", "refused", "missing", "damaged")),
            "insetgan_preemptions_total": ("resumed", ("true", "false")),
        }
        for name, (label, known) in values.items():
            for value in known:
                self._of(name, **{label: value})
        self._of("insetgan_start_timestamp_seconds").set(self._clock())
        python = platform.python_version()
        self._of("insetgan_build_info", version=__version__, python=python).set(1)

    def _new_place(self, place: str) -> None:
        for reason in _RESTARTS:
            self._of("insetgan_actor_restarts_total", place=place, reason=reason)

    def _of(self, name: str, **labels: str) -> Any:
        metric = self._metrics[name]
        return metric.labels(**labels) if labels else metric

    def _known(self, reason: str) -> str:
        return reason if not reason or reason in self._reasons else _OTHER


@contextlib.contextmanager
def observing(
    phases: Iterable[str], reasons: Iterable[str], address: str, storage: Storage
) -> Iterator[Telemetry]:
    """Metrics for the time of a turn, served at `address`; their last state goes to `KEY`.

    A scraper that is there is waited for at the end, so that it has the last state too. Raises
    what `metrics_server.serving` raises.
    """
    telemetry = Telemetry(phases, reasons)
    with serving(telemetry.registry, address) as wait_for_scrape:
        try:
            yield telemetry
        finally:
            try:
                storage.put(KEY, telemetry.text().encode())
            except StorageError as err:
                _log.warning("the last metrics are not kept: %s", err)
        wait_for_scrape()


def _place(worker_id: str) -> str:
    """`<place>-<number>`: see `actor_pool.ActorPool`."""
    return worker_id.partition("-")[0]
