"""What a run will take, before it is started: a few of its items are done for real, into memory.

They go through one actor on the cluster, by the same loop as a run, and nothing is written.
"""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Callable

from insetgan_batch.config import RunConfig, Slots
from insetgan_batch.data import manifest, models
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.manifest import BadRows
from insetgan_batch.data.storage import configure, open_storage
from insetgan_batch.errors import InsetGanError, NotFoundError
from insetgan_batch.methods import names
from insetgan_batch.records import Item, Outcome, Status
from insetgan_batch.runtime import cluster, dispatcher
from insetgan_batch.runtime.actor_pool import ActorPool
from insetgan_batch.runtime.dispatcher import Dispatcher
from insetgan_batch.runtime.driver import placed
from insetgan_batch.runtime.leases import Ledger
from insetgan_batch.runtime.progress import Progress, ProgressTracker

_SHOWN = 5
_TRIED = 8  # items, where nobody knows yet how many fit


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done, on what, and what it will take.

    items: rows of the manifest; done: committed already; bad_rows: what is wrong with the first few
    of them; weights: (name, sha256, bytes). tried: items that were done to measure, in one batch
    unless `slots` is auto. item_s: device seconds of one of them; item_bytes: what one leaves in
    storage. hours: on the actors that there are now. cost: of these hours; None without a price.
    """

    items: int
    done: int
    bad: int
    bad_rows: list[str]
    weights: list[tuple[str, str, int]]
    actors: int
    gpus: bool
    slots: Slots
    tried: int
    item_s: float
    item_bytes: float
    hours: float
    output_bytes: float
    cost: float | None


def make(
    config: RunConfig,
    manifest_uri: str,
    out_uri: str,
    *,
    price_per_hour: float | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> Plan:
    """Check the whole manifest and the weights, and time a batch; price_per_hour: of one actor.

    Raises what a run would raise before its first item, and `InsetGanError` when no item that was
    tried could be done.
    """
    configure(**dataclasses.asdict(config.machine.storage))
    on_step("reading the manifest")
    seen, sample = _read(config, manifest_uri)
    done = _done(out_uri)
    left = seen.rows - seen.bad - done
    on_step("fetching the weights")
    weights = {name: models.fetch(model) for name, model in config.settings.models.items()}
    on_step(f"trying {len(sample)} items")
    with cluster.connected():
        room = cluster.capacity(config.machine, max(1, left))
        actors = max(1, room.actors)  # where machines are still to come there is none yet
        one = dataclasses.replace(room, actors=1)
        uri = f"memory://plan-{uuid.uuid4().hex}"
        pool = ActorPool(placed(config, weights, manifest_uri), uri, "plan", one)
        try:
            trial = _try(config, pool, uri, sample)
        finally:
            pool.close()
    hours = left * trial.item_s / actors / 3600
    return Plan(
        items=seen.rows,
        done=done,
        bad=seen.bad,
        bad_rows=seen.shown[:_SHOWN],
        weights=[(name, m.sha256, m.path.stat().st_size) for name, m in weights.items()],
        actors=actors,
        gpus=room.num_gpus > 0,
        slots=config.machine.slots,
        tried=trial.items,
        item_s=trial.item_s,
        item_bytes=trial.item_bytes,
        hours=hours,
        output_bytes=left * trial.item_bytes,
        cost=None if price_per_hour is None else hours * actors * price_per_hour,
    )


def _read(config: RunConfig, manifest_uri: str) -> tuple[BadRows, list[Item]]:
    """What all rows are like, and the first batch of good ones. Raises `ManifestError`."""
    seen = BadRows()
    slots = config.machine.slots
    sample: list[Item] = []
    for row in manifest.read(manifest_uri, names.find(config.method).rows(config.settings)):
        seen.see(row)
        is_wanted = len(sample) < (_TRIED if slots == "auto" else slots)
        if isinstance(row, Item) and is_wanted:
            sample.append(row)
    seen.check()
    return seen, sample


def _done(out_uri: str) -> int:
    """What an earlier start has committed there; 0 where there is no run."""
    store = RunStore(open_storage(out_uri))
    try:
        store.read_run()
    except NotFoundError:
        return 0
    return len(store.committed())


@dataclasses.dataclass(frozen=True, slots=True)
class _Trial:
    items: int
    item_s: float
    item_bytes: float


def _try(config: RunConfig, pool: ActorPool, uri: str, sample: list[Item]) -> _Trial:
    """Do a batch; the clock starts when the actor has loaded."""
    ended: list[Outcome] = []
    began_s = time.monotonic()

    def on_progress(progress: Progress) -> None:
        nonlocal began_s
        if not progress.workers_ready:
            began_s = time.monotonic()
        ended.extend(progress.last)

    store, ledger = RunStore(open_storage(uri)), Ledger(1, dispatcher.CAPS)
    tracker = ProgressTracker(len(sample), 0, 0, names.find(config.method).steps(config.settings))
    Dispatcher(store, 1, ledger, pool, iter(sample), tracker, on_progress=on_progress).work()
    seconds = time.monotonic() - began_s
    good = [outcome for outcome in ended if outcome.status is Status.COMMITTED]
    if not good:
        reasons = "; ".join(f"{o.item_id}: {o.reason}: {o.detail}" for o in ended[:_SHOWN])
        raise InsetGanError(f"none of {len(sample)} items that were tried could be done: {reasons}")
    return _Trial(
        items=len(sample),
        item_s=seconds / len(good),
        item_bytes=sum(outcome.uploaded_bytes for outcome in good) / len(good),
    )


def describe(plan: Plan) -> list[str]:
    """The plan for people, a line each."""
    what = "GPUs" if plan.gpus else "actors on CPU cores"
    is_auto = plan.slots == "auto"
    slots = "as many slots as fit into each" if is_auto else f"{plan.slots} slots each"
    tried = f"{plan.tried} items" if is_auto else f"{plan.tried} items in a batch"
    lines = [
        f"items      {plan.items} rows, {plan.done} done, {plan.bad} wrong",
        *(f"  wrong    {text}" for text in plan.bad_rows),
        *(f"weights    {name}: {size / 1e6:.1f} MB, sha256 {h}" for name, h, size in plan.weights),
        f"workers    {plan.actors} {what}, {slots}",
        f"measured   {tried}: {plan.item_s:.2f} s an item, {plan.item_bytes / 1e6:.2f} MB an item",
        f"expected   {_hours(plan.hours)}, {plan.output_bytes / 1e9:.2f} GB of output",
    ]
    if plan.cost is not None:
        lines.append(f"cost       {plan.cost:.2f} in the price's currency")
    return lines


def _hours(hours: float) -> str:
    return f"{hours:.1f} hours" if hours >= 1 else f"{hours * 60:.1f} minutes"
