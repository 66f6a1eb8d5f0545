"""The worker with negatives: what enters, what leaves, and what a store does meanwhile."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch
from moto import mock_aws

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.memory import MemoryStorage
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import RefusedError, StorageError
from insetgan_batch.methods.feed_forward import FeedForward
from insetgan_batch.records import Item, Lease, Status
from tests.bench import Bench
from tests.methods.negative_bench import items_in
from tests.runtime.recording import RecordingWorker

MakeBench = Callable[..., Bench]


def lease(item: Item, n: int = 1) -> Lease:
    return Lease(item, f"1-{n}", "w", 1e9)


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return items_in(tmp_path, 1)[0]


def test_an_item_leaves_its_pictures_and_a_commit(negatives: MakeBench, item: Item) -> None:
    place = negatives()
    outcome = RecordingWorker(place.config, place.out).serve_all([lease(item)])["i0"]
    assert (outcome.status, outcome.measures) == (Status.COMMITTED, {"mean": 245.0})
    record = RunStore(open_storage(place.out)).read_commit("i0")
    assert record["files"].keys() == {"image", "picture"}
    assert record["measures"] == outcome.measures


def test_a_committed_item_is_not_done_again(negatives: MakeBench, item: Item) -> None:
    place = negatives()
    worker = RecordingWorker(place.config, place.out)
    worker.serve_all([lease(item)])
    steps = worker.steps
    assert worker.serve_all([lease(item, 2)])["i0"].status is Status.DUPLICATE
    assert worker.steps == steps


def test_the_store_is_not_asked_for_what_none_can_have_done(
    negatives: MakeBench, item: Item
) -> None:
    """A negative is made sooner than the store answers; the first commit counts all the same."""

    class Asked(MemoryStorage):
        times = 0

        def exists(self, key: str) -> bool:
            self.times += 1
            return super().exists(key)

    place, storage = negatives(), Asked("asked")
    worker = RecordingWorker(place.config, place.out, storage=storage)
    first = dataclasses.replace(lease(item), is_first=True)
    assert worker.serve_all([first])["i0"].status is Status.COMMITTED
    assert storage.times == 0
    again = dataclasses.replace(lease(item, 2), is_first=True)
    assert worker.serve_all([again])["i0"].status is Status.DUPLICATE
    assert worker.serve_all([lease(item, 3)])["i0"].status is Status.DUPLICATE
    assert storage.times == 1


def test_a_missing_picture_is_the_rows_failure_and_not_the_stores(negatives: MakeBench) -> None:
    place = negatives()
    gone = Item("gone", {"picture": "/nowhere/at/all.png"})
    outcome = RecordingWorker(place.config, place.out).serve_all([lease(gone)])["gone"]
    assert (outcome.status, outcome.reason) == (Status.QUARANTINED, "bad_input")


def test_its_figures_say_where_time_slots_and_bytes_went(negatives: MakeBench, item: Item) -> None:
    place = negatives()
    worker = RecordingWorker(place.config, place.out)
    outcome = worker.serve_all([lease(item)])["i0"]
    found = worker.stats
    assert {"load", "enter", "predict", "leave"} <= set(found.seconds)
    assert all(seconds >= 0 for seconds in found.seconds.values())
    assert (found.slots, found.busy) == (2, 0)
    assert 0 < found.busy_slot_s < found.idle_slot_s
    assert found.upload_bytes == outcome.uploaded_bytes > 0
    assert found.upload_s > 0
    if not torch.cuda.is_available():
        assert (found.gpu_memory_peak_bytes, found.gpu_utilisation) == (None, None)


def test_a_run_on_s3_leaves_the_same_as_one_on_a_disk(
    negatives: MakeBench, item: Item, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    place = negatives()
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        names = []
        for out in ("s3://bucket/run", place.out):
            RecordingWorker(place.config, out).serve_all([lease(item)])
            names.append(sorted(open_storage(out).list("")))
    assert names[0] == names[1]
    assert any(name.startswith("commits/") for name in names[0])


def test_closing_twice_is_harmless(negatives: MakeBench, item: Item) -> None:
    place = negatives()
    worker = RecordingWorker(place.config, place.out)
    worker.close()
    worker.close()
    with pytest.raises(RuntimeError):
        worker.serve_all([lease(item)])


# What a library raises of one item


@pytest.mark.parametrize(
    "error",
    [RuntimeError("odd picture"), ValueError("negative size"), ZeroDivisionError("by zero")],
)
@pytest.mark.parametrize(
    "where",
    [
        "tests.methods.negative.prepare",
        "insetgan_batch.methods.feed_forward.FeedForward.admit",
        "insetgan_batch.methods.feed_forward.FeedForward.result",
        "insetgan_batch.data.results.save",
    ],
)
def test_what_one_items_entry_or_exit_raises_ends_that_item_alone(
    negatives: MakeBench,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    error: Exception,
) -> None:
    place = negatives()
    poison, neighbour = items_in(tmp_path, 2)
    right = pkgutil.resolve_name(where)

    def wrong(*args: Any, **kwargs: Any) -> Any:
        if any(is_poison(argument) for argument in args):
            raise error
        return right(*args, **kwargs)

    def is_poison(argument: Any) -> bool:
        """Whether it is the item, its attempt, its lease, its result, or what has its key."""
        if isinstance(argument, Item):
            return argument.item_id == poison.item_id
        of = getattr(argument, "attempt", getattr(argument, "key", argument))
        return isinstance(of, str) and of == "1-1"

    monkeypatch.setattr(where, wrong)
    worker = RecordingWorker(place.config, place.out)
    outcomes = worker.serve_all([lease(poison), lease(neighbour, 2)])
    assert outcomes["i1"].status is Status.COMMITTED
    found = outcomes["i0"]
    assert (found.status, found.reason) == (Status.QUARANTINED, "item_error")
    assert found.detail == f"{type(error).__name__}: {error}"


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA error: device-side assert triggered")]
)
def test_a_fault_of_the_device_is_the_workers_whoever_was_at_hand(
    negatives: MakeBench, item: Item, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def wrong(*args: Any) -> Any:
        raise error

    monkeypatch.setattr(FeedForward, "admit", wrong)
    place = negatives()
    worker = RecordingWorker(place.config, place.out)
    with pytest.raises(type(error)):
        worker.serve([lease(item)])


# A store that is away, or refuses


class Outage(MemoryStorage):
    """A store that fails to write so many times."""

    def __init__(self, name: str, failures: int) -> None:
        super().__init__(name)
        self.failures = failures

    def put_if_absent(self, key: str, data: bytes) -> bool:
        self.failures -= 1
        if self.failures >= 0:
            raise StorageError("the store is away")
        return super().put_if_absent(key, data)


def test_an_upload_outlives_an_outage_of_the_store(negatives: MakeBench, item: Item) -> None:
    place = negatives()
    patient = RecordingWorker(place.config, place.out, patience_s=30, storage=Outage("outage-1", 2))
    assert patient.serve_all([lease(item)])["i0"].status is Status.COMMITTED
    assert patient.stats.storage_errors == {"outage": 2}
    hasty = RecordingWorker(place.config, place.out, storage=Outage("outage-2", 2))
    outcome = hasty.serve_all([lease(item)])["i0"]
    assert (outcome.status, outcome.reason) == (Status.FAILED, "storage")
    assert "away" in outcome.detail


def test_an_outage_at_admission_costs_an_item_no_retry(negatives: MakeBench, item: Item) -> None:
    class Away(MemoryStorage):
        failures = 2

        def exists(self, key: str) -> bool:
            self.failures -= 1
            if self.failures >= 0:
                raise StorageError("the store is away")
            return super().exists(key)

    place = negatives()
    worker = RecordingWorker(place.config, place.out, patience_s=30, storage=Away("away"))
    assert worker.serve_all([lease(item)])["i0"].status is Status.COMMITTED
    assert len(worker.ended) == 1


def test_a_state_that_the_store_will_not_give_only_costs_the_item_its_steps(
    negatives: MakeBench, item: Item
) -> None:
    class Archived(MemoryStorage):
        def get(self, key: str) -> bytes:
            if key.startswith("checkpoints/"):
                raise RefusedError(f"{key}: archived")
            return super().get(key)

    place = negatives()
    worker = RecordingWorker(place.config, place.out, storage=Archived("archived"))
    resumed = dataclasses.replace(lease(item, 2), is_resumed=True)
    assert worker.serve_all([resumed])["i0"].status is Status.COMMITTED
