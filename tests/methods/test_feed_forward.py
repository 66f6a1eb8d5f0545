"""A network that is run once for an item: through a worker and its loop, with no generators."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from insetgan_batch.config import parse
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import BadInputError, TooLongError
from insetgan_batch.methods.feed_forward import FeedForward, Prediction
from insetgan_batch.records import HeartbeatRequest, Item, Lease, Status
from insetgan_batch.runtime.worker import Worker
from insetgan_batch.runtime.worker_loop import WorkerLoop
from tests.methods import negative
from tests.runtime.recording import RecordingWorker

CONFIG = parse({"method": negative.NAME, "slots": 3}, "test")
WAIT_S = 250.0


@pytest.fixture
def leases(tmp_path: Path) -> Callable[..., list[Lease]]:
    def make(*levels: int) -> list[Lease]:
        made = []
        for n, level in enumerate(levels):
            path = tmp_path / f"{n}.png"
            path.write_bytes(negative.picture(level))
            made.append(Lease(Item(f"i{n}", {"picture": str(path)}), f"1-{n}", "w", 1e9))
        return made

    return make


def test_every_item_leaves_its_negative(leases: Callable[..., list[Lease]], tmp_path: Path) -> None:
    worker = RecordingWorker(CONFIG, str(tmp_path / "out"))
    outcomes = worker.serve_all(leases(10, 200))
    assert {outcome.status for outcome in outcomes.values()} == {Status.COMMITTED}
    assert outcomes["i1"].measures == {"mean": 55.0}
    store = RunStore(open_storage(str(tmp_path / "out")))
    record = store.read_commit("i0")
    assert (results.read_image(store, record) == 245).all()
    assert record["files"].keys() == {"image", "picture"}
    assert (record["steps"], record["measures"]) == (1, {"mean": 245.0})
    assert record["provenance"]["synthetic"] is True


def test_what_cannot_be_done_spoils_no_neighbour(
    leases: Callable[..., list[Lease]], tmp_path: Path
) -> None:
    worker = RecordingWorker(CONFIG, str(tmp_path / "out"))
    good, black, gone = leases(10, 0, 30)
    Path(gone.item.inputs["picture"]).unlink()
    outcomes = worker.serve_all([good, black, gone])
    assert outcomes["i0"].status is Status.COMMITTED
    assert [outcomes[i].reason for i in ("i1", "i2")] == ["item_error", "bad_input"]


def test_a_state_of_something_else_only_costs_a_warning(
    leases: Callable[..., list[Lease]], tmp_path: Path
) -> None:
    store = RunStore(open_storage(str(tmp_path / "out")))
    store.save_checkpoint("i0", b"of another method")
    worker = RecordingWorker(CONFIG, str(tmp_path / "out"))
    (lease,) = leases(10)
    resumed = Lease(lease.item, lease.attempt, "w", 1e9, is_resumed=True)
    assert worker.serve_all([resumed])["i0"].status is Status.COMMITTED
    assert store.checkpoints() == set()


def test_a_machine_that_goes_gives_its_items_back_without_a_state(
    leases: Callable[..., list[Lease]], tmp_path: Path
) -> None:
    loop = WorkerLoop()
    loop.start(Worker(CONFIG, str(tmp_path / "out"), "run", loop.post))
    loop.close(WAIT_S)
    store = RunStore(open_storage(str(tmp_path / "out")))
    assert (store.checkpoints(), store.committed()) == (set(), set())


def test_a_worker_is_given_the_next_batch_while_it_works_on_this_one(
    leases: Callable[..., list[Lease]], tmp_path: Path
) -> None:
    loop = WorkerLoop()
    loop.start(Worker(CONFIG, str(tmp_path / "out"), "run", loop.post))
    given = leases(*range(1, 31))
    told, ended, open_leases = 0, set[str](), list[Lease]()
    free = loop.heartbeat(HeartbeatRequest([], 0, 0.0)).free
    assert free == 2 * 3  # a batch, and one ahead
    limit_s = time.monotonic() + WAIT_S
    while len(ended) < 30:
        assert time.monotonic() < limit_s
        fresh, given = given[:free], given[free:]
        open_leases = [one for one in open_leases if one.attempt not in ended] + fresh
        reply = loop.heartbeat(HeartbeatRequest(open_leases, told, 0.2))
        told = max([told, *(event.number for event in reply.events)])
        ended |= {event.outcome.attempt for event in reply.events}
        free = reply.free
    loop.close(WAIT_S)
    assert len(RunStore(open_storage(str(tmp_path / "out"))).committed()) == 30


# The engine alone


def doubles(found: Any) -> list[Prediction]:
    return [Prediction({"image": np.zeros((1, 1, 3), np.uint8)}, {"n": 2.0 * n}) for n in found]


def test_a_round_predicts_all_that_are_inside_at_once() -> None:
    engine = FeedForward(lambda item, read: item.seed, doubles, 4)
    steps: list[int] = []
    for n in range(3):
        engine.admit(f"k{n}", n)
    engine.give_up("k1", TooLongError("too long"))
    ended = engine.run_round(lambda: steps.append(1), lambda name: None)
    assert {one.key: one.error is None for one in ended} == {"k0": True, "k1": False, "k2": True}
    assert (engine.keys, steps) == ([], [1])


def test_files_are_read_beside_the_work(tmp_path: Path) -> None:
    """Of what a worker expects, in other threads than the one that serves."""
    seen: list[str] = []

    def prepare(item: Item, read: Callable[[str], bytes]) -> int:
        seen.append(threading.current_thread().name)
        raise BadInputError("enough")

    worker = RecordingWorker(CONFIG, str(tmp_path / "out"))
    lease = Lease(Item("a"), "1-1", "w", 1e9)
    engine = FeedForward(prepare, doubles, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negative, "load", lambda settings, machine, device: engine)
        worker = RecordingWorker(CONFIG, str(tmp_path / "out"))
    worker.expect(lease)
    assert worker.serve_all([lease])["a"].reason == "bad_input"
    assert seen
    assert threading.current_thread().name not in seen
