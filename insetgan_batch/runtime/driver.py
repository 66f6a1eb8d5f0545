"""A run: manifest → items → minus what is committed → leases → actors → commits → report.

The driver holds nothing that cannot be lost: when it dies, the next one lists the commits and goes
on. Each start takes the next epoch, which names its attempts, so an actor of an earlier driver can
never write over their files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

from insetgan_batch import __version__, logs, metrics_server, telemetry
from insetgan_batch import config as configuration
from insetgan_batch.config import RunConfig
from insetgan_batch.data import ids, inputs, manifest, models, seeds
from insetgan_batch.data.commits import RunStore, draw
from insetgan_batch.data.manifest import BadRow, Described
from insetgan_batch.data.models import Model
from insetgan_batch.data.storage import (
    PATIENCE_S,
    conditional_writes_work,
    configure,
    open_output,
    open_storage,
    patiently,
    roots_of,
    within,
)
from insetgan_batch.errors import ConfigError, NoConditionalWritesError
from insetgan_batch.methods import names
from insetgan_batch.records import Item
from insetgan_batch.report import page
from insetgan_batch.runtime import cluster, dispatcher, stats
from insetgan_batch.runtime.actor_pool import ActorPool
from insetgan_batch.runtime.dispatcher import Dispatcher
from insetgan_batch.runtime.failures import REASONS
from insetgan_batch.runtime.leases import Ledger
from insetgan_batch.runtime.progress import Progress, ProgressTracker

_T = TypeVar("_T")
_SAY_EVERY = 50_000  # rows that are read: some seconds
_SAMPLE = 8  # items whose images are opened before anything starts
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Summary:
    """How a run ended. resumed: it had been started before; report_uri: its page; damaged: a line
    for each item that its page leaves out since what is stored of it is not what was written.
    """

    run_id: str
    items: int
    committed: int
    quarantined: int
    seconds: float
    resumed: bool
    report_uri: str
    damaged: list[str]


@cluster.session()
def run(
    config: RunConfig,
    manifest_uri: str,
    out_uri: str,
    *,
    run_id: str | None = None,
    subset: Subset | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_step: Callable[[str], None] = lambda what: None,
    metrics_address: str = metrics_server.OFF,
) -> Summary:
    """Do everything in the manifest that is not done yet; subset: or only some of it.

    on_step: told what is done before there is progress. metrics_address: HOST:PORT where metrics
    are served meanwhile.

    Raises `ConfigError` (also `RunMismatchError`), `ManifestError`, `CheckpointError` before
    anything is started, `StorageError` when the store fails for good; then the same call resumes.
    """
    started_at = time.monotonic()
    metrics_server.check_address(metrics_address)
    cluster.check()
    configure(**dataclasses.asdict(config.machine.storage))
    method = names.find(config.method)
    started = _start(config, manifest_uri, out_uri, run_id, subset, on_step)
    store, rows, epoch = started.store, started.rows, started.epoch
    committed = _patiently(store.committed)
    quarantined = _patiently(store.quarantined) - committed
    ended = committed | quarantined
    ledger = Ledger(
        epoch, dispatcher.CAPS, _patiently(store.suspects), _patiently(store.checkpoints)
    )
    tracker = ProgressTracker(
        rows.count, rows.among(committed), rows.among(quarantined), method.steps(config.settings)
    )
    if tracker.left:
        reasons = REASONS | method.REASONS.keys()
        items = (row for row in rows.read() if row.item_id not in ended)
        with (
            telemetry.observing(
                (*stats.PHASES, *method.phases(config.settings)),
                reasons,
                metrics_address,
                store.storage,
            ) as observer,
            _pool(config, started, tracker) as (pool, poll_cluster),
        ):
            Dispatcher(
                store,
                epoch,
                ledger,
                pool,
                items,
                tracker,
                on_progress=on_progress,
                poll_cluster=poll_cluster,
                observer=observer,
            ).work()
    written = _patiently(lambda: page.write(store))
    return Summary(
        run_id=started.run_id,
        items=rows.count,
        committed=tracker.committed,
        quarantined=tracker.quarantined,
        seconds=time.monotonic() - started_at,
        resumed=epoch > 1,
        report_uri=written.uri,
        damaged=written.damaged,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Subset:
    """Some of the manifest's rows: the first `limit`, or so many drawn at random, but always the
    same.
    """

    limit: int
    is_drawn: bool = False


class _Rows:
    """The rows of a manifest that a call works on, read again for every use."""

    def __init__(
        self, config: RunConfig, manifest_uri: str, rows: int, subset: Subset | None
    ) -> None:
        self.uri, self._subset = manifest_uri, subset
        self._schema = names.find(config.method).rows(config.settings)
        self.all = rows
        self.count = rows if subset is None else min(rows, subset.limit)
        self._drawn: set[str] | None = None
        if subset is not None and subset.is_drawn:
            ids_of_all = (row.item_id for row in manifest.read(self.uri, self._schema))
            self._drawn = set(draw(ids_of_all, subset.limit))

    def read_all(self, on_step: Callable[[str], None]) -> bytes:
        """Read the whole manifest once, whatever was chosen of it: a file of its ids (`data.ids`),
        empty for seeds, whose ids need not be written down. A million rows take a minute.

        Raises `ManifestError` where nearly all rows are wrong.
        """
        if self.uri.startswith(seeds.SCHEME):
            return b""
        seen = manifest.BadRows()

        def all_ids() -> Iterator[str]:
            for row in manifest.read(self.uri, self._schema):
                seen.see(row)
                if seen.rows % _SAY_EVERY == 0:
                    on_step(f"reading the manifest: {seen.rows:,} of {self.all:,} rows")
                yield row.item_id

        made = ids.to_parquet(all_ids())
        seen.check()
        return made

    def read(self) -> Iterator[Item | BadRow]:
        """In the manifest's order."""
        rows = manifest.read(self.uri, self._schema)
        if self._drawn is not None:
            return (row for row in rows if row.item_id in self._drawn)
        return rows if self._subset is None else itertools.islice(rows, self._subset.limit)

    def among(self, ids: Collection[str]) -> int:
        """How many of them have one of these ids."""
        if self._subset is None:
            return len(ids)
        return sum(row.item_id in ids for row in self.read())


def _patiently(call: Callable[[], _T]) -> _T:
    """A store that is away for a moment does not end a run before it has begun."""
    return patiently(call, PATIENCE_S)


@dataclasses.dataclass(frozen=True, slots=True)
class _Started:
    """A run that has been opened, for the first time or again. weights: by their names."""

    store: RunStore
    run_id: str
    epoch: int
    rows: _Rows
    weights: dict[str, Model]


def _start(
    config: RunConfig,
    manifest_uri: str,
    out_uri: str,
    run_id: str | None,
    subset: Subset | None,
    on_step: Callable[[str], None],
) -> _Started:
    """Look at all that could be wrong, and only then write what a start leaves in its store."""
    described = _patiently(lambda: check_manifest(config, manifest_uri))
    weights = {name: models.fetch(model) for name, model in config.settings.models.items()}
    rows = _Rows(config, manifest_uri, described.rows, subset)
    kept_ids = b""
    if _is_new(out_uri):
        kept_ids = rows.read_all(on_step)
        cluster.connect()
    store = _patiently(lambda: open_store(out_uri, config))
    record = _run_record(config, weights, described, run_id)
    stored = _patiently(lambda: store.open_run(record))
    logs.name_run(stored["run_id"])
    epoch = _patiently(store.take_epoch)
    if not described.seeds:
        _patiently(lambda: store.keep_ids(lambda: kept_ids or rows.read_all(on_step)))
    return _Started(store, stored["run_id"], epoch, rows, weights)


@contextlib.contextmanager
def _pool(
    config: RunConfig, started: _Started, tracker: ProgressTracker
) -> Iterator[tuple[ActorPool, Callable[[], None]]]:
    """The workers, and what looks after the cluster meanwhile."""
    for line in config.settings.warnings:
        _log.warning(line)
    machine, out_uri = config.machine, started.store.storage.uri
    with cluster.connected(), cluster.requested(machine, tracker.left):
        cluster.check_output(out_uri, machine.shared_output)
        pool = ActorPool(
            placed(config, started.weights, started.rows.uri),
            out_uri,
            started.run_id,
            cluster.capacity(machine, tracker.left),
        )

        def poll_cluster() -> None:
            cluster.check_output(out_uri, machine.shared_output)
            pool.drain(cluster.draining())
            pool.resize(cluster.capacity(machine, tracker.left))

        try:
            yield pool, poll_cluster
        finally:
            pool.close()


def check_manifest(config: RunConfig, manifest_uri: str) -> Described:
    """The schema, and a sample of the rows and their images; the rest is checked as it is read."""
    rows = names.find(config.method).rows(config.settings)
    described = manifest.describe(manifest_uri, rows)
    sample = list(itertools.islice(manifest.read(manifest_uri, rows), _SAMPLE))
    bad = [row for row in sample if isinstance(row, BadRow)]
    if len(bad) == len(sample) > 0:
        raise bad[0].error
    roots = roots_of(config.machine.input_roots, manifest_uri)
    good = [row for row in sample if isinstance(row, Item)]
    manifest.check_sample(good, rows, lambda uri: inputs.read(within(uri, roots)))
    return described


def placed(config: RunConfig, weights: dict[str, Model], manifest_uri: str) -> RunConfig:
    """The same for actors anywhere: they need not share the driver's working directory, and may
    find other files than it did, so each model has its absolute name and its sha256.
    """
    named = {name: model.name for name, model in weights.items()}
    return dataclasses.replace(config, settings=config.settings.with_models(named)).on(
        input_roots=roots_of(config.machine.input_roots, manifest_uri)
    )


def _is_new(out_uri: str) -> bool:
    """One that has been started before may have nothing left to do, and then needs no Ray."""
    storage = open_storage(out_uri)
    return not _patiently(lambda: storage.exists("run.json"))


def open_store(out_uri: str, config: RunConfig) -> RunStore:
    """Where the run lives; raises `ConfigError` where nothing would keep two drivers apart."""
    storage = open_output(out_uri, single_writer=config.machine.single_writer)
    if not config.machine.single_writer:
        says = f"{out_uri}: this store lets several writers create the same object"
        try:
            works = conditional_writes_work(storage)
        except NoConditionalWritesError as err:
            works, says = False, str(err)
        if not works:
            raise ConfigError(
                f"{says}, so nothing would keep two drivers apart; use another store, or set"
                " `single_writer: true` and never start two"
            )
    return RunStore(storage)


def _run_record(
    config: RunConfig,
    weights: dict[str, Model],
    described: Described,
    run_id: str | None,
) -> dict[str, Any]:
    """What run.json holds.

    The manifest belongs to the configuration: by content, so that it may move.
    """
    now = datetime.now(UTC)
    fields = configuration.to_fields(config)
    return ({"seeds": described.seeds} if described.seeds else {}) | {
        "run_id": run_id or f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}",
        "configuration": {k: v for k, v in fields.items() if k not in config.free}
        | {"manifest": {"sha256": described.sha256, "items": described.rows}},
        "machine": {k: v for k, v in fields.items() if k in config.free},
        "weights": {name: model.sha256 for name, model in weights.items()},
        "code_version": __version__,
        "created_at": now.isoformat(timespec="seconds"),
    }
