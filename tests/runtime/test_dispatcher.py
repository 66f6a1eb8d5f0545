"""The driver's loop with workers of plain code."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.manifest import BadRow
from insetgan_batch.data.storage import Storage, open_storage
from insetgan_batch.errors import InsetGanError, ManifestError, RefusedError, StorageError
from insetgan_batch.recipe import Recipe
from insetgan_batch.records import Item, Lease, Outcome, Source, Status
from insetgan_batch.runtime import dispatcher
from insetgan_batch.runtime.dispatcher import Dispatcher
from insetgan_batch.runtime.failures import REASONS
from insetgan_batch.runtime.leases import Ledger
from insetgan_batch.runtime.progress import Progress, ProgressTracker
from insetgan_batch.telemetry import Telemetry
from tests.runtime.simulated import SimulatedPool, commit

if TYPE_CHECKING:
    from insetgan_batch.runtime.actor_pool import ActorPool


class Turn:
    """A store, a pool and a shift over so many items."""

    def __init__(
        self,
        rows: Iterable[Item | BadRow],
        make_end: Callable[[RunStore], Callable[[Lease], Outcome]] = commit,
        workers: int = 2,
        slots: int = 2,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        make_store: Callable[[Storage], RunStore] = RunStore,
    ) -> None:
        rows = list(rows)
        self.store = make_store(open_storage(f"memory://{uuid.uuid4().hex}"))
        self.epoch = self.store.take_epoch()
        self.pool = SimulatedPool(workers, slots, make_end(self.store))
        self.tracker = ProgressTracker(len(rows), 0, 0, Recipe())
        self.telemetry = Telemetry([], REASONS)
        self.shift = Dispatcher(
            self.store,
            self.epoch,
            Ledger(self.epoch, dispatcher.CAPS),
            cast("ActorPool", self.pool),
            iter(rows),
            self.tracker,
            on_progress=on_progress,
            telemetry=self.telemetry,
        )

    def work(self) -> None:
        self.shift.work()

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric over all series with these labels."""
        return sum(
            sample.value
            for family in self.telemetry.registry.collect()
            for sample in family.samples
            if sample.name == f"insetgan_{name}" and labels.items() <= sample.labels.items()
        )


def items(count: int) -> list[Item]:
    return [Item(f"i{n}", Source("seed", n), {}) for n in range(count)]


def failing(names: Iterable[str], reason: str = "no_face") -> Callable[..., Callable[..., Outcome]]:
    """Items of these names end in quarantine."""
    bad = set(names)

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            if lease.item.item_id in bad:
                return Outcome(lease.item.item_id, lease.attempt, Status.QUARANTINED, reason, "why")
            return good(lease)

        return end

    return make


def test_every_item_is_committed_once() -> None:
    turn = Turn(items(50))
    turn.work()
    assert turn.store.committed() == {f"i{n}" for n in range(50)}
    assert (turn.tracker.committed, turn.tracker.quarantined) == (50, 0)


def test_bad_rows_are_set_aside_and_do_not_end_the_run() -> None:
    bad = BadRow("row-000000001", 1, ManifestError("m: row 1, column canvas_seed: -1 is no seed"))
    turn = Turn([*items(3), bad])
    turn.work()
    record = turn.store.read_quarantined("row-000000001")
    assert (record["reason"], record["attempts"]) == ("bad_row", 0)
    assert "column canvas_seed" in record["detail"]
    assert turn.tracker.left == 0


def test_a_few_failures_are_quarantined_with_their_reason() -> None:
    turn = Turn(items(40), failing(["i3", "i17"]))
    turn.work()
    assert {i: turn.store.read_quarantined(i)["reason"] for i in turn.store.quarantined()} == {
        "i3": "no_face",
        "i17": "no_face",
    }
    assert turn.tracker.committed == 38


def test_when_nearly_all_fails_the_run_stops_and_stores_no_quarantine() -> None:
    turn = Turn(items(200), failing(f"i{n}" for n in range(200)))
    with pytest.raises(InsetGanError, match=r"none was done \(no_face\); the last: why"):
        turn.work()
    assert turn.store.quarantined() == set()


def test_a_small_manifest_of_failures_alone_ends_in_quarantine() -> None:
    turn = Turn(items(5), failing(f"i{n}" for n in range(5)))
    turn.work()
    assert len(turn.store.quarantined()) == 5


def test_what_would_happen_to_every_item_stops_the_run() -> None:
    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        def end(lease: Lease) -> Outcome:
            raise RefusedError("s3://bucket: access denied")

        return end

    turn = Turn(items(5), make)
    with pytest.raises(RefusedError, match="access denied"):
        turn.work()
    assert turn.store.quarantined() == set()


def test_an_item_that_crashes_its_worker_is_quarantined_alone_and_the_others_are_done() -> None:
    tried: Counter[str] = Counter()

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            tried[lease.item.item_id] += 1
            if lease.item.item_id == "i4":
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return good(lease)

        return end

    turn = Turn(items(12), make, slots=4)
    turn.work()
    assert turn.store.read_quarantined("i4")["reason"] == "crashed_its_worker"
    assert turn.store.read_quarantined("i4")["item"]["canvas"]["value"] == 4
    assert tried["i4"] == 3
    assert len(turn.store.committed()) == 11
    assert turn.store.suspects() == {}
    assert turn.pool.replaced == [(True, False)] * 3


def killed() -> Exception:
    """As Ray tells of an actor that was killed with -9."""
    kind = type("RayActorError", (RuntimeError,), {"__module__": "ray.exceptions"})
    error: Exception = kind(
        "Worker unexpectedly exits with a connection error code 2. End of file."
    )
    return error


def test_an_item_whose_only_worker_is_killed_three_times_is_done_all_the_same() -> None:
    kills = iter([True] * 3)

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            if next(kills, False):
                raise killed()
            return good(lease)

        return end

    turn = Turn(items(1), make, workers=1, slots=1)
    turn.work()
    assert turn.store.committed() == {"i0"}
    assert turn.store.suspects() == {}
    assert turn.counted("actor_restarts_total", reason="worker_killed") == 3
    assert turn.counted("item_retries_total") == 3
    assert turn.counted("item_retries_total", reason="worker_killed") == 3


def test_an_item_at_which_every_worker_ends_without_a_word_is_quarantined_in_the_end() -> None:
    tried: Counter[str] = Counter()

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            tried[lease.item.item_id] += 1
            if lease.item.item_id == "i4":
                raise killed()
            return good(lease)

        return end

    turn = Turn(items(12), make, slots=4)
    turn.work()
    assert turn.store.read_quarantined("i4")["reason"] == "crashed_its_worker"
    assert "connection error" in turn.store.read_quarantined("i4")["detail"]
    assert tried["i4"] == 1 + dispatcher.CAPS.max_kills_alone
    assert max(count for item_id, count in tried.items() if item_id != "i4") <= 2
    assert len(turn.store.committed()) == 11


def test_a_worker_without_memory_is_replaced_by_a_smaller_one() -> None:
    fails = iter([True])

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            if next(fails, False):
                raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
            return good(lease)

        return end

    turn = Turn(items(6), make)
    turn.work()
    assert turn.pool.replaced == [(True, True)]
    assert len(turn.store.committed()) == 6


def test_a_lost_machine_costs_its_items_nothing() -> None:
    fails = iter([True] * 15)

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            if next(fails, False):
                raise ConnectionError("no answer for 60 s")
            return good(lease)

        return end

    turn = Turn(items(6), make)
    turn.work()
    assert len(turn.store.committed()) == 6
    assert turn.store.suspects() == {}


def test_a_drained_worker_is_replaced_and_its_items_are_done_elsewhere() -> None:
    drained: list[str] = []
    turn = Turn(items(30), on_progress=lambda progress: drain_one())

    def drain_one() -> None:
        if not drained:
            drained.append(turn.pool.idle[0])
            turn.pool.drain({drained[0]: 30.0})

    turn.work()
    assert turn.pool.replaced == [(False, False)]
    assert len(turn.store.committed()) == 30


def test_a_commit_that_comes_after_the_quarantine_counts() -> None:
    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = commit(store)

        def end(lease: Lease) -> Outcome:
            outcome = good(lease)
            if lease.item.item_id == "i0":  # a zombie commits, while this attempt sees no face
                return Outcome("i0", lease.attempt, Status.QUARANTINED, "no_face")
            return outcome

        return end

    turn = Turn(items(3), make, workers=1, slots=1)
    turn.work()
    late = Outcome("i0", "0-1", Status.COMMITTED)
    assert turn.store.quarantined() == {"i0"}
    turn.shift.end(late)
    assert turn.store.quarantined() == set()
    assert (turn.tracker.committed, turn.tracker.quarantined) == (3, 0)


def test_all_that_happens_is_counted() -> None:
    crashes = iter([True])

    def make(store: RunStore) -> Callable[[Lease], Outcome]:
        good = failing(["i3"])(store)

        def end(lease: Lease) -> Outcome:
            if lease.item.item_id == "i5" and next(crashes, False):
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return good(lease)

        return end

    bad = BadRow("row-000000001", 1, ManifestError("m: row 1, column canvas_seed: -1 is no seed"))
    turn = Turn([*items(20), bad], make)
    turn.work()
    assert turn.counted("items_total", outcome="committed") == 19
    assert turn.counted("items_total", outcome="quarantined", reason="no_face") == 1
    assert turn.counted("items_total", outcome="quarantined", reason="bad_row") == 1
    assert turn.counted("items_total") == 21
    assert turn.counted("actor_restarts_total") == 1
    assert turn.counted("actor_restarts_total", reason="cuda_error") == 1
    retries = turn.counted("item_retries_total", reason="worker_crashed")
    assert turn.counted("item_retries_total") == retries > 0
    assert turn.counted("steps_total") > 0
    states = ("waiting", "leased", "committed", "quarantined")
    assert [turn.counted("queue_items", state=state) for state in states] == [0, 0, 19, 2]
    assert turn.counted("actors", state="ready") == 2
    assert turn.counted("storage_errors_total") == 0


def test_machines_that_go_and_failures_of_the_store_are_counted() -> None:
    drained: list[str] = []

    def drain_one(progress: Progress) -> None:
        if not drained:
            drained.append(turn.pool.idle[0])
            turn.pool.drain({drained[0]: 30.0})

    outages = iter([True, True])

    class Flaky(RunStore):
        def quarantine(self, item_id: str, record: Mapping[str, Any]) -> None:
            if next(outages, False):
                raise StorageError("away")
            super().quarantine(item_id, record)

    turn = Turn(items(30), failing(["i3"]), on_progress=drain_one, make_store=Flaky)
    turn.work()
    assert turn.counted("actor_restarts_total") == 1
    assert turn.counted("actor_restarts_total", place=drained[0], reason="preempted") == 1
    assert turn.counted("storage_errors_total", **{"class": "outage"}) == 2
    assert turn.store.quarantined() == {"i3"}


def test_every_try_leaves_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger=dispatcher.__name__):
        Turn(items(6), failing(["i3"])).work()
    named = [vars(record) for record in caplog.records if "item" in vars(record)]
    assert sorted(record["item"] for record in named) == [f"i{n}" for n in range(6)]
    (bad,) = [record for record in named if record["reason"]]
    assert (bad["item"], bad["reason"]) == ("i3", "no_face")
    assert all(record["attempt"] for record in named)


def test_progress_has_a_line_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "_POLL_CLUSTER_EVERY_S", 0.0)
    told: list[Progress] = []
    Turn(items(40), on_progress=told.append).work()
    last = told[-1].lines
    assert len(last) == 2
    assert sum(line.ended for line in last) == 40
