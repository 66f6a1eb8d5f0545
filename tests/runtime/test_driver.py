"""Whole runs on Ray, with tiny generators."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from PIL import Image
from ray.exceptions import RayActorError

from insetgan_batch.config import parse
from insetgan_batch.data import manifest, models
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import (
    CheckpointError,
    InsetGanError,
    ManifestError,
    RunMismatchError,
)
from insetgan_batch.methods.insetgan.settings import Settings
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.records import Item
from insetgan_batch.runtime import driver
from insetgan_batch.runtime.failures import FailureClass, classify
from insetgan_batch.runtime.progress import Progress
from tests.bench import Bench, bench_in, changed, fields_of

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


def worker_pids() -> list[int]:
    """Processes of this Ray that are our actors and have been told to work."""
    mine = psutil.Process().children(recursive=True)
    return [p.pid for p in mine if any("WorkerActor" in part for part in p.cmdline())]


def test_every_item_is_committed_once_and_the_page_is_there(bench: MakeBench) -> None:
    place = bench(bodies=2, faces=2, max_actors=2)
    seen: list[Progress] = []
    summary = driver.run(place.config, place.manifest, place.out, on_progress=seen.append)
    assert (summary.items, summary.committed, summary.quarantined) == (4, 4, 0)
    store = RunStore(open_storage(place.out))
    assert store.committed() == {f"body{b}-face{f}" for b in (0, 1) for f in (10, 11)}
    assert (Path(place.out) / "report" / "index.html").exists()
    assert seen[-1].left == 0
    assert max(progress.inside for progress in seen) > 0


@pytest.fixture(scope="module")
def finished(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]
) -> Bench:
    """A run of one item, for what comes after it."""
    place = bench_in(tmp_path_factory.mktemp("finished"), fields_of(tiny_models), 1, 1)
    assert not driver.run(place.config, place.manifest, place.out, run_id="first").resumed
    return place


def test_the_second_run_finds_everything_done_and_starts_no_actor(finished: Bench) -> None:
    seen: list[Progress] = []
    second = driver.run(finished.config, finished.manifest, finished.out, on_progress=seen.append)
    assert (second.committed, second.resumed, second.run_id) == (1, True, "first")
    assert seen == []


def test_a_data_set_without_insets_is_a_run_like_any_other(bench: MakeBench) -> None:
    place = bench(insets={}, detector="mtcnn", recipe="generate")
    items = [new_item(f"i{n}", Source("seed", n), {}) for n in range(5)]
    manifest.write(place.manifest, items, schema([]))
    seen: list[Progress] = []
    summary = driver.run(place.config, place.manifest, place.out, on_progress=seen.append)
    assert (summary.committed, summary.quarantined) == (5, 0)
    assert seen[-1].items_per_minute > 0
    store = RunStore(open_storage(place.out))
    assert len({record["files"]["image"]["sha256"] for record in store.commits()}) == 5
    assert (Path(place.out) / "report" / "index.html").exists()
    assert driver.run(place.config, place.manifest, place.out).resumed


def test_a_killed_actor_loses_no_item(bench: MakeBench) -> None:
    place = bench(bodies=2, faces=3, max_actors=2)
    killed: list[int] = []

    def kill_one(progress: Progress) -> None:
        if progress.inside and not killed:
            killed.append(worker_pids()[0])
            os.kill(killed[0], signal.SIGKILL)

    summary = driver.run(place.config, place.manifest, place.out, on_progress=kill_one)
    assert len(killed) == 1
    assert (summary.committed, summary.quarantined) == (6, 0)


def test_the_item_of_a_lone_actor_that_is_killed_three_times_is_done_all_the_same(
    bench: MakeBench, fields: dict[str, Any]
) -> None:
    """As by somebody else's hunger for memory: the row has nothing to do with it."""
    long = fields["recipe"] | {"min_rounds": 200, "max_rounds": 200}
    place = bench(bodies=1, faces=1, recipe=long)
    killed: list[int] = []

    def kill(progress: Progress) -> None:
        fresh = [pid for pid in worker_pids() if pid not in killed]
        if progress.inside and fresh and len(killed) < 3:
            killed.append(fresh[0])
            os.kill(killed[-1], signal.SIGKILL)

    summary = driver.run(place.config, place.manifest, place.out, on_progress=kill)
    assert len(killed) == 3
    assert (summary.committed, summary.quarantined) == (1, 0)
    assert RunStore(open_storage(place.out)).suspects() == {}


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
    bench: MakeBench, tmp_path: Path
) -> None:
    place = bench()
    (tmp_path / "no.png").write_text("no picture")
    Image.new("RGB", (40, 40)).save(tmp_path / "yes.png")
    items = [
        new_item("good", Source("image", str(tmp_path / "yes.png")), {"face": Source("seed", 2)}),
        new_item("bad", Source("image", str(tmp_path / "no.png")), {"face": Source("seed", 2)}),
    ]
    manifest.write(place.manifest, items, schema(["face"]))
    summary = driver.run(place.config, place.manifest, place.out)
    assert (summary.committed, summary.quarantined) == (1, 1)
    record = RunStore(open_storage(place.out)).read_quarantined("bad")
    assert record["reason"] == "bad_input"
    assert "no.png" in record["detail"]
    assert record["item"]["inputs"]["canvas_image"].endswith("no.png")


def test_another_configuration_on_the_same_output_is_refused(finished: Bench) -> None:
    config = finished.config
    assert isinstance(config.settings, Settings)
    other = changed(config, recipe=dataclasses.replace(config.settings.recipe, psi=0))
    with pytest.raises(RunMismatchError, match=r"recipe\.psi"):
        driver.run(other, finished.manifest, finished.out)
    faster = config.on(slots=7)
    assert driver.run(faster, finished.manifest, finished.out).committed == 1


def test_actors_have_the_files_that_the_driver_found(
    bench: MakeBench, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cannot have them of themselves: another process' memory is empty, and their working
    directory is another.
    """
    files = bench().config.settings.models
    weights = {role: Path(file).read_bytes() for role, file in files.items()}
    open_storage("memory://driver-models").put("body.safetensors", weights["canvas"])
    monkeypatch.chdir(tmp_path)
    Path("face.safetensors").write_bytes(weights["face"])
    place = bench(
        bodies=1,
        faces=1,
        canvas="memory://driver-models/body.safetensors",
        insets={"face": "face.safetensors"},
    )
    assert driver.run(place.config, place.manifest, place.out).committed == 1
    sha256 = {role: hashlib.sha256(data).hexdigest() for role, data in weights.items()}
    assert (cache / sha256["canvas"] / "body.safetensors").read_bytes() == weights["canvas"]
    record = RunStore(open_storage(place.out)).read_run()
    assert record["weights"] == sha256
    assert record["configuration"]["canvas"] == "memory://driver-models/body.safetensors"
    assert record["configuration"]["insets"] == {"face": "face.safetensors"}


def test_a_changed_manifest_on_the_same_output_is_refused(
    finished: Bench, bench: MakeBench
) -> None:
    changed = bench(bodies=1, faces=2).manifest
    with pytest.raises(RunMismatchError, match="manifest"):
        driver.run(finished.config, changed, finished.out)


def test_other_weights_under_the_same_name_are_refused(bench: MakeBench, tmp_path: Path) -> None:
    face = tmp_path / "face.safetensors"
    face.write_bytes(Path(bench().config.settings.models["face"]).read_bytes())
    place = bench(bodies=1, faces=1, insets={"face": str(face)})
    driver.run(place.config, place.manifest, place.out)
    face.write_bytes(b"others")
    with pytest.raises(RunMismatchError, match=r"weights\.face"):
        driver.run(place.config, place.manifest, place.out)


def test_wrong_weights_stop_the_run_and_quarantine_nothing(
    bench: MakeBench, tmp_path: Path
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    place = bench(canvas=str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match=r"x\.safetensors") as caught:
        driver.run(place.config, place.manifest, place.out)
    assert "\n" not in str(caught.value)
    assert RunStore(open_storage(place.out)).quarantined() == set()


def test_a_wrong_row_far_down_is_set_aside_and_the_others_are_done(bench: MakeBench) -> None:
    place = bench(insets={}, detector="mtcnn", recipe="generate")
    rows = [{"item_id": f"i{n}", "canvas_seed": n} for n in range(12)]
    rows[10]["canvas_seed"] = -1
    pq.write_table(pa.Table.from_pylist(rows), place.manifest)
    summary = driver.run(place.config, place.manifest, place.out)
    assert (summary.committed, summary.quarantined) == (11, 1)
    record = RunStore(open_storage(place.out)).read_quarantined("i10")
    assert record["reason"] == "bad_row"
    assert "row 10, column canvas_seed" in record["detail"]
    again = driver.run(place.config, place.manifest, place.out)
    assert (again.committed, again.quarantined) == (11, 1)


def test_a_manifest_whose_first_rows_are_all_wrong_stops_before_anything_starts(
    bench: MakeBench,
) -> None:
    place = bench()
    rows = [{"item_id": f"i{n}", "canvas_seed": -1} for n in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), place.manifest)
    with pytest.raises(ManifestError, match=r"row 0, column canvas_seed"):
        driver.run(place.config, place.manifest, place.out)
    assert not Path(place.out).exists()


def test_a_manifest_reads_only_what_lies_beside_it_or_in_the_listed_roots(
    bench: MakeBench, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "a.png"
    Image.new("RGB", (40, 40)).save(elsewhere)
    place = bench()
    image = new_item("image", Source("image", str(elsewhere)), {"face": Source("seed", 1)})
    manifest.write(place.manifest, [image], schema(["face"]))
    with pytest.raises(ManifestError, match="input_roots"):
        driver.run(place.config, place.manifest, place.out)
    manifest.write(place.manifest, [*[_seeds(n) for n in range(8)], image], schema(["face"]))
    driver.run(place.config, place.manifest, place.out)
    record = RunStore(open_storage(place.out)).read_quarantined("image")
    assert record["reason"] == "bad_input"
    assert "input_roots" in record["detail"]
    listed = place.config.on(input_roots=(str(elsewhere.parent),))
    RunStore(open_storage(place.out)).clear_quarantine("image")
    assert driver.run(listed, place.manifest, place.out).committed == 9


def _seeds(n: int) -> Item:
    return new_item(f"i{n}", Source("seed", n), {"face": Source("seed", n)})


def test_only_some_rows_are_done_when_that_is_asked_for(bench: MakeBench) -> None:
    place = bench(insets={}, detector="mtcnn", recipe="generate")
    seeds = "seeds:0-99"
    first = driver.run(place.config, seeds, place.out, subset=driver.Subset(2))
    assert (first.items, first.committed) == (2, 2)
    drawn = driver.run(place.config, seeds, place.out, subset=driver.Subset(3, is_drawn=True))
    again = driver.run(place.config, seeds, place.out, subset=driver.Subset(3, is_drawn=True))
    assert (drawn.items, drawn.committed, again.committed) == (3, 3, 3)
    committed = RunStore(open_storage(place.out)).committed()
    assert {"seed0", "seed1"} < committed
    assert 4 <= len(committed) <= 5


def test_when_everything_fails_the_run_stops_and_quarantines_nothing(
    bench: MakeBench, tmp_path: Path
) -> None:
    place = bench()
    (tmp_path / "good.png").write_text("no picture")
    items = [
        new_item(f"i{n}", Source("image", str(tmp_path / "good.png")), {"face": Source("seed", n)})
        for n in range(50)
    ]
    Image.new("RGB", (40, 40)).save(tmp_path / "yes.png")
    inputs = items[0].inputs | {"canvas_image": str(tmp_path / "yes.png")}
    sample = [dataclasses.replace(items[0], inputs=inputs)]
    # One good picture, so that the sample passes; its item comes last.
    manifest.write(place.manifest, [*items[1:7], *items[8:], sample[0]], schema(["face"]))
    config = place.config.on(slots=1)
    with pytest.raises(ManifestError, match=r"good\.png"):
        driver.run(config, place.manifest, place.out)
    manifest.write(place.manifest, [*sample, *items[1:]], schema(["face"]))
    with pytest.raises(InsetGanError, match=r"items failed and none was done \(bad_input\)"):
        driver.run(config.on(slots=8), place.manifest, place.out)
    assert RunStore(open_storage(place.out)).quarantined() == set()


def test_a_manifest_with_a_wrong_row_names_it(bench: MakeBench) -> None:
    place = bench()
    Path(place.manifest).write_bytes(b"PAR1 not really")
    with pytest.raises(ManifestError, match=r"manifest\.parquet"):
        driver.run(place.config, place.manifest, place.out)
    assert not Path(place.out).exists()


def test_the_default_configuration_fits_its_recipe() -> None:
    assert set(Settings().insets) == set(Settings().recipe.insets)
    assert ray.is_initialized()


def test_actors_get_every_network_by_its_own_sha256(tmp_path: Path) -> None:
    facenet = tmp_path / "facenet.pt"
    facenet.write_bytes(b"weights")
    config = parse({"identity": {"face": str(facenet)}}, "run.yaml")
    weights = {name: models.fetch(model) for name, model in config.settings.models.items()}
    there = driver.placed(config, weights, str(tmp_path / "m.parquet"))
    assert isinstance(there.settings, Settings)
    assert there.settings.encoder_models == {"face": weights["encoder.face"].name}
    assert there.settings.identity == {
        "face": f"{facenet.as_uri()}#sha256={weights['identity.face'].sha256}"
    }
    assert {models.split_model(model)[1] for model in there.settings.models.values()} == {
        model.sha256 for model in weights.values()
    }
