"""A run: manifest → items → minus what is committed → leases → actors → commits → report.

The driver holds nothing that cannot be lost: when it dies, the next one lists the commits and goes
on. Each start takes the next epoch, which names its attempts, so an actor of an earlier driver can
never write over their files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from insetgan_batch import __version__
from insetgan_batch import config as configuration
from insetgan_batch.config import RunConfig
from insetgan_batch.data import manifest, models
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.models import Model
from insetgan_batch.data.storage import conditional_writes_work, open_storage, read_uri
from insetgan_batch.errors import ConfigError, InsetGanError
from insetgan_batch.records import Item, Outcome, Status
from insetgan_batch.report import page
from insetgan_batch.runtime import cluster
from insetgan_batch.runtime.actor import Answer, Crew
from insetgan_batch.runtime.failures import Caps, FailureClass, classify, reason_code
from insetgan_batch.runtime.leases import Decision, Ledger
from insetgan_batch.runtime.worker import Served

# Items that the ledger holds in advance, per actor: enough to fill its slots again and again.
_QUEUE_PER_ACTOR = 64
_POLL_S = 1.0
_CAPS = Caps()
_SAMPLE = 8  # items whose images are opened before anything starts
# They change how fast results come, or what is kept beside them, not which: a resume may have
# others.
_MACHINE_SETTINGS = (
    "slots",
    "max_actors",
    "cores_per_actor",
    "channels_last",
    "film_every",
    "single_writer",
)
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    seconds_left: None before the first steps; last: what ended since the last one.
    """

    items: int
    committed: int
    quarantined: int
    inside: int
    workers_ready: int
    workers: int
    steps: int
    items_per_minute: float
    seconds_left: float | None
    last: list[Outcome]

    @property
    def left(self) -> int:
        """Items that have not ended."""
        return self.items - self.committed - self.quarantined


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. resumed: it had been started before; report_uri: its page."""

    run_id: str
    items: int
    committed: int
    quarantined: int
    seconds: float
    resumed: bool
    report_uri: str


def run(
    config: RunConfig,
    manifest_uri: str,
    out_uri: str,
    *,
    run_id: str | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Summary:
    """Do everything in the manifest that is not done yet.

    Raises `ConfigError` (also `RunMismatchError`), `ManifestError`, `CheckpointError` before
    anything is started, `StorageError` when the store fails for good; then the same call resumes.
    """
    started_at = time.monotonic()
    total = _check_manifest(config, manifest_uri)
    store = _open_store(out_uri, config)
    weights = {name: models.fetch(model) for name, model in config.models.items()}
    stored = store.open_run(_run_record(config, weights, manifest_uri, total, run_id))
    epoch = store.take_epoch()
    committed = store.committed()
    quarantined = store.quarantined().keys() - committed
    ended = committed | quarantined
    items = (
        item
        for item in manifest.read(manifest_uri, list(config.insets))
        if item.item_id not in ended
    )
    ledger = Ledger(epoch, _CAPS, store.suspects())
    tally = _Tally(total, len(committed), len(quarantined), config)
    if tally.left:
        if config.insets and config.perceptual_trunk is None:
            _log.warning("LPIPS compares random features: fine for the demo, not for real models")
        with cluster.connected():
            room = cluster.room(config, tally.left)
            crew = Crew(_placed(config, weights), store.storage.uri, stored["run_id"], room)
            try:
                _Shift(store, ledger, crew, items, tally, on_progress).work()
            finally:
                crew.close()
    page_key = page.write(store)
    return Summary(
        run_id=stored["run_id"],
        items=total,
        committed=tally.committed,
        quarantined=tally.quarantined,
        seconds=time.monotonic() - started_at,
        resumed=epoch > 1,
        report_uri=f"{store.storage.uri}/{page_key}",
    )


class _Tally:
    """Counts and rates for people."""

    def __init__(self, items: int, committed: int, quarantined: int, config: RunConfig) -> None:
        self.items, self.committed, self.quarantined = items, committed, quarantined
        recipe = config.recipe
        per_round = recipe.canvas.steps + sum(player.steps for player in recipe.insets.values())
        self._steps_at_most = recipe.rounds * per_round
        self._steps = self._done = self._steps_of_done = 0
        self._started_at: float | None = None

    @property
    def left(self) -> int:
        """Items that have not ended."""
        return self.items - self.committed - self.quarantined

    def start_clock(self) -> None:
        """The first worker is ready: from here on time is spent on items."""
        self._started_at = self._started_at or time.monotonic()

    def count_steps(self, steps: int) -> None:
        """Steps of items, whichever worker did them."""
        self._steps += steps

    def count(self, decision: Decision, outcome: Outcome | None) -> None:
        """An item has ended."""
        if decision.kind == "quarantine":
            self.quarantined += 1
            return
        self.committed += 1
        # A duplicate was done elsewhere: it says nothing of our pace.
        if outcome and outcome.status is Status.COMMITTED:
            self._done += 1
            self._steps_of_done += outcome.steps

    def progress(self, crew: Crew, inside: int, last: list[Outcome]) -> Progress:
        """Where the run stands."""
        elapsed_s = time.monotonic() - self._started_at if self._started_at else 0.0
        return Progress(
            items=self.items,
            committed=self.committed,
            quarantined=self.quarantined,
            inside=inside,
            workers_ready=crew.ready,
            workers=crew.size,
            steps=self._steps,
            items_per_minute=60 * self._done / elapsed_s if elapsed_s else 0.0,
            seconds_left=self._seconds_left(elapsed_s, inside),
            last=last,
        )

    def _seconds_left(self, elapsed_s: float, inside: int) -> float | None:
        """From steps rather than items: the first items end late, the first steps come soon.

        Those that end first are the quick ones, so items inside count as slow until they end.
        """
        if not self._steps or not elapsed_s:
            return None
        known = self._done + inside
        mean = (self._steps_of_done + inside * self._steps_at_most) / known if known else 0.0
        to_do = mean * self.left - (self._steps - self._steps_of_done)
        return max(0.0, to_do) * elapsed_s / self._steps


class _Shift:
    """One driver's turn: leases go out, answers come in, until nothing is left."""

    def __init__(
        self,
        store: RunStore,
        ledger: Ledger,
        crew: Crew,
        items: Iterator[Item],
        tally: _Tally,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._store, self._ledger, self._crew = store, ledger, crew
        self._items, self._tally, self._on_progress = items, tally, on_progress
        self._all_read = False
        # What is leased, to say what a failed item was made from.
        self._inside: dict[str, Item] = {}
        self._quarantined: set[str] = set()
        # Items that have left a worker's batch, and whose commit is not answered yet.
        self._uploading: dict[str, int] = {}

    def work(self) -> None:
        """Until every item has ended; raises what is wrong with the whole run."""
        while True:
            self._feed()
            if self._all_read and self._ledger.is_finished:
                return
            if not self._crew.size:
                raise InsetGanError(
                    "every worker crashed again and again; see the last error above, mend it, and"
                    " run the same command to resume"
                )
            self._give()
            answers = self._crew.wait(_POLL_S)
            last = [outcome for answer in answers for outcome in self._take(answer)]
            for decision in self._ledger.expire(time.monotonic()):
                self._apply(decision, None)
            for worker_id in self._crew.overdue(_CAPS.lease_s):
                self._lose(worker_id, TimeoutError(f"no answer for {_CAPS.lease_s:.0f} s"))
            self._on_progress(self._tally.progress(self._crew, self._ledger.counts.leased, last))

    def _feed(self) -> None:
        """Keep the ledger's queue filled; a million items are not held at once."""
        missing = _QUEUE_PER_ACTOR * max(1, self._crew.size) - self._ledger.counts.waiting
        fresh = list(itertools.islice(self._items, max(0, missing)))
        self._all_read = missing > 0 and len(fresh) < missing
        self._ledger.add(fresh)

    def _give(self) -> None:
        """Order the next round from every idle worker that has something to do."""
        for worker_id in self._crew.idle:
            inside = len(self._ledger.attempts_inside(worker_id))
            in_batch = inside - self._uploading.get(worker_id, 0)
            free = self._crew.capacity(worker_id) - in_batch
            leases = self._ledger.grant(worker_id, free, time.monotonic())
            self._inside |= {lease.item.item_id: lease.item for lease in leases}
            if leases or inside:
                self._crew.serve(worker_id, leases)

    def _take(self, answer: Answer) -> list[Outcome]:
        """Tell the ledger; returns what has ended."""
        if isinstance(answer.result, Exception):
            self._lose(answer.worker_id, answer.result)
            return []
        self._tally.start_clock()
        if answer.result is None:
            return []
        served: Served = answer.result
        self._tally.count_steps(served.steps)
        self._uploading[answer.worker_id] = served.uploading
        for outcome in served.outcomes:
            self._apply(self._ledger.finish(outcome), outcome)
        self._ledger.renew(answer.worker_id, served.inside, time.monotonic())
        return served.outcomes

    def _lose(self, worker_id: str, error: Exception) -> None:
        """A worker failed: stop when everything would, else replace it and give its items back."""
        kind = classify(error)
        if kind is FailureClass.SYSTEMIC:
            raise error
        crashed = kind is not FailureClass.INFRA
        reason = reason_code(error)
        _log.warning("worker %s is lost (%s): %s", worker_id, reason, _last_line(error))
        detail = f"{reason}: {_last_line(error)}"
        for decision in self._ledger.lose_worker(worker_id, crashed):
            self._apply(decision, None, detail)
        self._crew.replace(
            worker_id,
            crashed=crashed,
            out_of_memory=reason == "out_of_memory",
            max_crashes=_CAPS.max_worker_crashes,
        )

    def _apply(self, decision: Decision, outcome: Outcome | None, detail: str = "") -> None:
        """Make a decision last: count it, and store what the next driver has to know."""
        if decision.kind == "requeue" and decision.suspect_crashes:
            self._store.write_suspect(decision.item_id, decision.suspect_crashes)
        if decision.kind == "quarantine":
            record = {
                "item_id": decision.item_id,
                "reason": decision.reason,
                "detail": outcome.detail if outcome else detail,
                "attempt": outcome.attempt if outcome else "",
                "attempts": decision.attempts,
                "item": dataclasses.asdict(self._inside[decision.item_id]),
            }
            self._store.quarantine(decision.item_id, record)
            self._quarantined.add(decision.item_id)
        if decision.kind == "done" and decision.item_id in self._quarantined:
            # A commit that came late: the object is there, so the item is done after all.
            self._store.clear_quarantine(decision.item_id)
            self._tally.quarantined -= 1
        if decision.kind in ("done", "quarantine"):
            self._inside.pop(decision.item_id, None)
            self._tally.count(decision, outcome)
            if decision.suspect_crashes:
                self._store.clear_suspect(decision.item_id)


def _check_manifest(config: RunConfig, manifest_uri: str) -> int:
    """Every row, and a sample of the images; returns the number of rows.

    All rows, although the run reads them again: run.json holds the manifest's sha256, so a row that
    is found wrong in the middle of a run could not be mended any more.
    """
    items = manifest.read(manifest_uri, list(config.insets))
    sample = list(itertools.islice(items, _SAMPLE))
    rows = len(sample) + sum(1 for _ in items)
    manifest.check_sample(sample, read_uri)
    return rows


def _placed(config: RunConfig, weights: dict[str, Model]) -> RunConfig:
    """The same for actors anywhere: they need not share the driver's working directory, and may
    find other files than it did, so each model has its absolute name and its sha256.
    """
    names = {name: model.name for name, model in weights.items()}
    return dataclasses.replace(
        config,
        canvas=names["canvas"],
        insets={name: names[name] for name in config.insets},
        perceptual=names.get("perceptual", config.perceptual),
    )


def _open_store(out_uri: str, config: RunConfig) -> RunStore:
    storage = open_storage(out_uri)
    if not config.single_writer and not conditional_writes_work(storage):
        raise ConfigError(
            f"{out_uri}: this store lets several writers create the same object, so nothing would"
            " keep two drivers apart; use another store, or set `single_writer: true` and never"
            " start two"
        )
    return RunStore(storage)


def _run_record(
    config: RunConfig,
    weights: dict[str, Model],
    manifest_uri: str,
    items: int,
    run_id: str | None,
) -> dict[str, Any]:
    """What run.json holds.

    The manifest belongs to the configuration: by content, so that it may move.
    """
    now = datetime.now(UTC)
    fields = configuration.to_fields(config)
    sha256 = hashlib.sha256(read_uri(manifest_uri)).hexdigest()
    return {
        "run_id": run_id or f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
        "configuration": {k: v for k, v in fields.items() if k not in _MACHINE_SETTINGS}
        | {"manifest": {"sha256": sha256, "items": items}},
        "machine": {k: fields[k] for k in _MACHINE_SETTINGS},
        "weights": {name: model.sha256 for name, model in weights.items()},
        "code_version": __version__,
        "created_at": now.isoformat(timespec="seconds"),
    }


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
