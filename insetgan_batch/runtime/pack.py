"""A run's committed items as a dataset: one Ray task writes one shard.

Each call makes a dataset of its own, `dataset/<name>/`, so whoever reads an older one is not
disturbed. `_SUCCESS` is its last file, and then `dataset/latest.json` names it. What travels
through Ray is ids on the way out, and keys and sha256 on the way back; images go from store to
store through the task's own process.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from insetgan_batch import stopping
from insetgan_batch.data import card, dataset
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.dataset import Done, Job, WrittenFile
from insetgan_batch.data.shards import PackSettings, Shard, ShardPlan
from insetgan_batch.data.storage import open_storage
from insetgan_batch.data.stored import Run
from insetgan_batch.errors import InsetGanError, StorageError
from insetgan_batch.methods import names
from insetgan_batch.runtime import cluster
from insetgan_batch.text import one_line

_RETRIES = 3
_WAITING_PER_CORE = 2  # so that a core need not wait for the driver; the ids of all wait nowhere
_ASK_EVERY_S = 1.0  # in between a signal is heard
_TASK: dict[str, Any] = {
    "num_cpus": 1,
    "max_retries": _RETRIES,
    "retry_exceptions": [StorageError],
}

Spread = Callable[[Iterable[Job]], Iterator[tuple[Job, Done]]]
"""Does jobs somewhere, and says what came of each; in any order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Packed:
    """A finished dataset. splits: items of each; left_out: committed items that were not chosen;
    damaged: items that are not in it for that, and what is wrong of each.
    """

    name: str
    uri: str
    splits: dict[str, int]
    left_out: int
    quarantined: int
    files: int
    bytes: int
    damaged: dict[str, str]


def pack(
    out_uri: str,
    settings: PackSettings,
    *,
    licence: str = "unknown",
    spread: Spread | None = None,
    on_step: Callable[[str], None] = lambda what: None,
) -> Packed:
    """Make a dataset of what the run has committed by now.

    spread: where the shards are written; None for Ray. Raises `ConfigError` where nothing is to be
    packed, and `StorageError`; then no dataset is named, and the same call makes a new one.
    """
    if spread is None:
        cluster.check()
    store = RunStore(open_storage(out_uri))
    run = store.read_run()
    on_step("reading the commits")
    plan = ShardPlan(store, settings)
    now = datetime.now(UTC)
    name = f"{now:%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
    prefix = f"{dataset.ROOT}/{name}"
    written, parts = _write(
        lambda shard: Job(store.storage.uri, prefix, plan.columns, settings.losses_every, shard),
        plan,
        spread or in_tasks,
        on_step,
    )
    on_step("joining the results")
    written.append(dataset.merge_results(store.storage, prefix, plan.columns, parts))
    facts = _facts(name, run, settings, plan, written, licence)
    text = card.write(facts).encode()
    written.append(_put(store, f"{prefix}/README.md", text))
    success = _success(facts, plan, written, prefix, now)
    last = _put(store, f"{prefix}/{dataset.SUCCESS}", _to_json(success))
    _put(
        store,
        dataset.LATEST,
        _to_json({"name": name, "prefix": prefix, "sha256": last.sha256}),
    )
    return Packed(
        name=name,
        uri=f"{store.storage.uri}/{prefix}",
        splits=plan.counts,
        left_out=plan.left_out,
        quarantined=sum(plan.reasons.values()),
        files=len(written),
        bytes=sum(file.bytes for file in written),
        damaged=dict(sorted(plan.damaged.items())),
    )


def in_tasks(jobs: Iterable[Job]) -> Iterator[tuple[Job, Done]]:
    """Do jobs on the cluster, as many at once as it has cores."""
    write_shard: Any = ray.remote(**_TASK)(dataset.write)
    with cluster.connected():
        cores = int(ray.cluster_resources().get("CPU", 1))  # type: ignore[no-untyped-call]
        waiting: dict[ray.ObjectRef[Any], Job] = {}
        left = iter(jobs)
        while True:
            for job in itertools.islice(left, _WAITING_PER_CORE * cores - len(waiting)):
                waiting[write_shard.remote(job)] = job
            if not waiting:
                return
            with stopping.postponed():
                done, _ = ray.wait(list(waiting), num_returns=1, timeout=_ASK_EVERY_S)
            for ref in done:
                job = waiting.pop(ref)
                yield job, _answer(ref, job.shard.name)


def _answer(ref: ray.ObjectRef[Any], shard: str) -> Done:
    try:
        done: Done = ray.get(ref)
    except RayTaskError as err:
        # Ray wraps what the task raised, with its whole trace as the message.
        if isinstance(err.cause, InsetGanError):
            raise err.cause from err
        raise
    except RayError as err:
        raise InsetGanError(
            f"shard {shard}: its process died {1 + _RETRIES} times: {one_line(err, 300)}; check"
            " the machines' memory, and pack again"
        ) from err
    return done


def _write(
    job_of: Callable[[Shard], Job], plan: ShardPlan, spread: Spread, on_step: Callable[[str], None]
) -> tuple[list[WrittenFile], list[WrittenFile]]:
    """(the files of the dataset, the parts of its results in their order).

    An item of which one file is damaged is in none: shards that were written with it are written
    again without it.
    """
    done: dict[tuple[str, str, int], list[WrittenFile]] = {}
    shards = plan.shards()
    while True:
        damaged: dict[str, str] = {}
        for job, result in spread(map(job_of, shards)):
            done[_name(job.shard)] = result.files
            damaged |= result.damaged
            on_step(f"{len(done)} shards written")
        if not damaged:
            break
        names = [
            _name(shard) for shard in plan.shards() if not damaged.keys().isdisjoint(shard.ids)
        ]
        plan.leave_out(damaged)
        shards = (shard for shard in plan.shards() if _name(shard) in names)
    in_order = [file for name in sorted(done) for file in done[name]]
    parts = [file for file in in_order if f"/{dataset.PARTS}/" in file.key]
    return [file for file in in_order if file not in parts], parts


def _name(shard: Shard) -> tuple[str, str, int]:
    return shard.kind, shard.split, shard.number


def _facts(
    name: str,
    run: Run,
    settings: PackSettings,
    plan: ShardPlan,
    written: list[WrittenFile],
    licence: str,
) -> card.Facts:
    return card.Facts(
        name=name,
        run=run,
        formats=settings.formats,
        splits=plan.counts,
        committed=plan.committed,
        reasons=plan.reasons,
        image_bytes=plan.image_bytes,
        total_bytes=sum(file.bytes for file in written),
        where=None if settings.where is None else settings.where.text,
        losses_every=settings.losses_every,
        licence=licence,
        consent=plan.consent,
        columns=plan.columns,
        method=names.card_of_run(run),
    )


def _success(
    facts: card.Facts, plan: ShardPlan, written: list[WrittenFile], prefix: str, now: datetime
) -> dict[str, Any]:
    """Counts, and every other file of the dataset, by its name within it."""
    files = {
        file.key.removeprefix(f"{prefix}/"): {
            "sha256": file.sha256,
            "bytes": file.bytes,
            "rows": file.rows,
        }
        for file in sorted(written, key=lambda file: file.key)
    }
    return {
        "name": facts.name,
        "run_id": facts.run["run_id"],
        "created_at": now.isoformat(timespec="seconds"),
        "formats": list(facts.formats),
        "where": facts.where,
        "losses_every": facts.losses_every,
        "items": plan.items,
        "splits": plan.counts,
        "left_out": plan.left_out,
        "damaged": len(plan.damaged),
        "quarantined": sum(plan.reasons.values()),
        "bytes": sum(file.bytes for file in written),
        "files": files,
    }


def _put(store: RunStore, key: str, data: bytes) -> WrittenFile:
    file = io.BytesIO(data)
    file.seek(0, io.SEEK_END)
    return dataset.put(store.storage, key, file, 0)


def _to_json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode()
