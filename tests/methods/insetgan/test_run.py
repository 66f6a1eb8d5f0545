"""Whole runs of InsetGAN on Ray, with tiny generators."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from insetgan_batch.config import parse
from insetgan_batch.data import manifest, models
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import CheckpointError, RunMismatchError
from insetgan_batch.methods.insetgan.settings import Settings
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.runtime import driver
from insetgan_batch.runtime.progress import Progress
from tests.bench import Bench, bench_in, changed, fields_of
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


@pytest.fixture(scope="module")
def finished(
    cache: Path, tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]
) -> Bench:
    """A run of one item, for what comes after it."""
    place = bench_in(tmp_path_factory.mktemp("finished"), fields_of(tiny_models), 1, 1)
    assert driver.run(place.config, place.manifest, place.out).committed == 1
    return place


def test_a_data_set_without_insets_is_a_run_like_any_other(montages: MakeBench) -> None:
    place = montages(insets={}, detector="mtcnn", recipe="generate")
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


def test_the_item_of_a_lone_actor_that_is_killed_three_times_is_done_all_the_same(
    montages: MakeBench, fields: dict[str, Any]
) -> None:
    """As by somebody else's hunger for memory: the row has nothing to do with it."""
    long = fields["recipe"] | {"min_rounds": 200, "max_rounds": 200}
    place = montages(bodies=1, faces=1, recipe=long)
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


def test_another_configuration_on_the_same_output_is_refused(finished: Bench) -> None:
    config = finished.config
    assert isinstance(config.settings, Settings)
    other = changed(config, recipe=dataclasses.replace(config.settings.recipe, psi=0))
    with pytest.raises(RunMismatchError, match=r"recipe\.psi"):
        driver.run(other, finished.manifest, finished.out)


def test_actors_have_the_files_that_the_driver_found(
    montages: MakeBench, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They cannot have them of themselves: another process' memory is empty, and their working
    directory is another.
    """
    files = montages().config.settings.models
    weights = {role: Path(file).read_bytes() for role, file in files.items()}
    open_storage("memory://driver-models").put("body.safetensors", weights["canvas"])
    monkeypatch.chdir(tmp_path)
    Path("face.safetensors").write_bytes(weights["face"])
    place = montages(
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


def test_other_weights_under_the_same_name_are_refused(montages: MakeBench, tmp_path: Path) -> None:
    face = tmp_path / "face.safetensors"
    face.write_bytes(Path(montages().config.settings.models["face"]).read_bytes())
    place = montages(bodies=1, faces=1, insets={"face": str(face)})
    driver.run(place.config, place.manifest, place.out)
    face.write_bytes(b"others")
    with pytest.raises(RunMismatchError, match=r"weights\.face"):
        driver.run(place.config, place.manifest, place.out)


def test_wrong_weights_stop_the_run_and_quarantine_nothing(
    montages: MakeBench, tmp_path: Path
) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    place = montages(canvas=str(tmp_path / "x.safetensors"))
    with pytest.raises(CheckpointError, match=r"x\.safetensors") as caught:
        driver.run(place.config, place.manifest, place.out)
    assert "\n" not in str(caught.value)
    assert RunStore(open_storage(place.out)).quarantined() == set()


def test_only_some_seeds_are_done_when_that_is_asked_for(montages: MakeBench) -> None:
    place = montages(insets={}, detector="mtcnn", recipe="generate")
    some = driver.Subset(3, is_drawn=True)
    assert driver.run(place.config, "seeds:0-99", place.out, subset=some).committed == 3
    committed = RunStore(open_storage(place.out)).committed()
    assert driver.run(place.config, "seeds:0-99", place.out, subset=some).committed == 3
    assert RunStore(open_storage(place.out)).committed() == committed


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
