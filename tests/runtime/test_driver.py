"""Whole runs on Ray, of negatives."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.exceptions import RayActorError

from insetgan_batch.data import manifest
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import (
    InsetGanError,
    ManifestError,
    RunMismatchError,
)
from insetgan_batch.records import Item
from insetgan_batch.runtime import driver
from insetgan_batch.runtime.failures import FailureClass, classify
from insetgan_batch.runtime.progress import Progress
from tests.bench import Bench
from tests.methods import negative
from tests.methods.negative_bench import SCHEMA, bench_in, items_in
from tests.runtime.actors import worker_pids

pytestmark = pytest.mark.ray
MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One Ray for all tests here, since to start it takes seconds; and its actors' model cache."""
    from insetgan_batch.runtime import cluster

    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INSETGAN_BATCH_CACHE", str(directory))
        with cluster.connected():
            yield directory


def test_every_item_is_committed_once_and_the_page_is_there(negatives: MakeBench) -> None:
    place = negatives(max_actors=2)
    seen: list[Progress] = []
    summary = driver.run(place.config, place.manifest, place.out, on_progress=seen.append)
    assert (summary.items, summary.committed, summary.quarantined) == (4, 4, 0)
    store = RunStore(open_storage(place.out))
    assert store.committed() == {"i0", "i1", "i2", "i3"}
    assert (Path(place.out) / "report" / "index.html").exists()
    assert seen[-1].left == 0
    assert sum(len(progress.last) for progress in seen) == 4


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A run of one item, for what comes after it."""
    place = bench_in(tmp_path_factory.mktemp("finished"), 1)
    assert not driver.run(place.config, place.manifest, place.out, run_id="first").resumed
    return place


def test_the_second_run_finds_everything_done_and_starts_no_actor(finished: Bench) -> None:
    seen: list[Progress] = []
    second = driver.run(finished.config, finished.manifest, finished.out, on_progress=seen.append)
    assert (second.committed, second.resumed, second.run_id) == (1, True, "first")
    assert seen == []


def test_a_killed_actor_loses_no_item(negatives: MakeBench) -> None:
    place = negatives(500, max_actors=2)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.inside and not killed:
            killed.append(worker_pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    summary = driver.run(place.config, place.manifest, place.out, on_progress=kill_one)
    assert len(killed) == 1
    assert (summary.committed, summary.quarantined) == (500, 0)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_ray_tells_of_a_killed_actor_in_the_words_that_we_know(how: signal.Signals) -> None:
    class Sleeper:
        def pid(self) -> int:
            return os.getpid()

        def sleep(self) -> None:
            time.sleep(600)

    actor: Any = ray.remote(max_restarts=0)(Sleeper).remote()
    pid = ray.get(actor.pid.remote())
    sleeping = actor.sleep.remote()
    os.kill(pid, how)
    with pytest.raises(RayActorError) as caught:
        ray.get(sleeping)
    assert classify(caught.value) is FailureClass.KILLED


def test_a_row_that_cannot_be_done_is_quarantined_with_its_reason(
    negatives: MakeBench, tmp_path: Path
) -> None:
    place = negatives(2)
    (tmp_path / "1.png").write_text("no picture")
    summary = driver.run(place.config, place.manifest, place.out)
    assert (summary.committed, summary.quarantined) == (1, 1)
    record = RunStore(open_storage(place.out)).read_quarantined("i1")
    assert record["reason"] == "bad_input"
    assert "1.png" in record["detail"]
    assert record["item"]["inputs"]["picture"].endswith("1.png")


def test_other_machines_may_resume(finished: Bench) -> None:
    faster = finished.config.on(slots=7)
    assert driver.run(faster, finished.manifest, finished.out).committed == 1


def test_a_changed_manifest_on_the_same_output_is_refused(
    finished: Bench, negatives: MakeBench
) -> None:
    changed = negatives(2).manifest
    with pytest.raises(RunMismatchError, match="manifest"):
        driver.run(finished.config, changed, finished.out)


def test_a_wrong_row_far_down_is_set_aside_and_the_others_are_done(negatives: MakeBench) -> None:
    place = negatives(12)
    rows = pq.read_table(place.manifest).to_pylist()
    rows[10]["picture"] = ""
    pq.write_table(pa.Table.from_pylist(rows), place.manifest)
    summary = driver.run(place.config, place.manifest, place.out)
    assert (summary.committed, summary.quarantined) == (11, 1)
    record = RunStore(open_storage(place.out)).read_quarantined("i10")
    assert record["reason"] == "bad_row"
    assert "row 10, column picture" in record["detail"]
    again = driver.run(place.config, place.manifest, place.out)
    assert (again.committed, again.quarantined) == (11, 1)


def test_a_manifest_whose_first_rows_are_all_wrong_stops_before_anything_starts(
    negatives: MakeBench,
) -> None:
    place = negatives()
    rows = [{"item_id": f"i{n}", "picture": ""} for n in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), place.manifest)
    with pytest.raises(ManifestError, match=r"row 0, column picture"):
        driver.run(place.config, place.manifest, place.out)
    assert not Path(place.out).exists()


def test_a_manifest_reads_only_what_lies_beside_it_or_in_the_listed_roots(
    negatives: MakeBench, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.png"
    elsewhere.write_bytes(negative.picture(9))
    place = negatives()
    there = Item("there", {"picture": str(elsewhere)})
    manifest.write(place.manifest, [there], SCHEMA)
    with pytest.raises(ManifestError, match="input_roots"):
        driver.run(place.config, place.manifest, place.out)
    manifest.write(place.manifest, [*items_in(tmp_path, 8), there], SCHEMA)
    driver.run(place.config, place.manifest, place.out)
    record = RunStore(open_storage(place.out)).read_quarantined("there")
    assert record["reason"] == "bad_input"
    assert "input_roots" in record["detail"]
    listed = place.config.on(input_roots=(str(elsewhere.parent), str(tmp_path)))
    RunStore(open_storage(place.out)).clear_quarantine("there")
    assert driver.run(listed, place.manifest, place.out).committed == 9


def test_only_some_rows_are_done_when_that_is_asked_for(negatives: MakeBench) -> None:
    place = negatives(20)
    first = driver.run(place.config, place.manifest, place.out, subset=driver.Subset(2))
    assert (first.items, first.committed) == (2, 2)
    some = driver.Subset(3, is_drawn=True)
    drawn = driver.run(place.config, place.manifest, place.out, subset=some)
    again = driver.run(place.config, place.manifest, place.out, subset=some)
    assert (drawn.items, drawn.committed, again.committed) == (3, 3, 3)
    committed = RunStore(open_storage(place.out)).committed()
    assert {"i0", "i1"} <= committed
    assert 3 <= len(committed) <= 5


def test_when_everything_fails_the_run_stops_and_quarantines_nothing(
    negatives: MakeBench, tmp_path: Path
) -> None:
    place = negatives()
    black, bad = items_in(tmp_path, 2)
    (tmp_path / "0.png").write_bytes(negative.picture(0))
    (tmp_path / "1.png").write_text("no picture")
    many = [dataclasses.replace(bad, item_id=f"bad{n}") for n in range(50)]
    # One that can be read, so that the sample passes; it comes too late for the first manifest's.
    manifest.write(place.manifest, [*many, black], SCHEMA)
    with pytest.raises(ManifestError, match=r"1\.png"):
        driver.run(place.config, place.manifest, place.out)
    manifest.write(place.manifest, [black, *many], SCHEMA)
    with pytest.raises(
        InsetGanError, match=r"items failed and none was done \(bad_input, item_error\)"
    ):
        driver.run(place.config.on(slots=8), place.manifest, place.out)
    assert RunStore(open_storage(place.out)).quarantined() == set()


def test_a_manifest_that_is_none_is_named(negatives: MakeBench) -> None:
    place = negatives()
    Path(place.manifest).write_bytes(b"PAR1 not really")
    with pytest.raises(ManifestError, match=r"manifest\.parquet"):
        driver.run(place.config, place.manifest, place.out)
    assert not Path(place.out).exists()
