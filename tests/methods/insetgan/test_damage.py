"""Damage to what an item of InsetGAN leaves beside its picture."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import LocalStorage
from insetgan_batch.runtime import cluster, driver
from tests.bench import Bench, bench_in, fields_of
from tests.runtime.damaging import (
    call,
    check_that_every_command_leaves_it_out,
    file,
    flipped,
    run,
)

pytestmark = pytest.mark.ray
ITEM = "body0-face10"
WAYS: dict[str, Callable[[RunStore], str]] = {
    "losses: gone": file(ITEM, "losses", lambda _: None),
    "losses: a bit": file(ITEM, "losses", flipped),
    "latents: gone": file(ITEM, "latents", lambda _: None),
    "latents: longer": file(ITEM, "latents", lambda data: data + b"x"),
    "a reference: gone": file(ITEM, "canvas_reference", lambda _: None),
}


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Path]
) -> Iterator[Bench]:
    """A run of four items, and a Ray for what follows."""
    directory = tmp_path_factory.mktemp("finished")
    fields = fields_of(tiny_models)
    (directory / "run.yaml").write_text(yaml.safe_dump(fields))
    with cluster.connected():
        place = bench_in(directory, fields, bodies=2, faces=2)
        assert driver.run(place.config, place.manifest, place.out).committed == 4
        yield place


@pytest.fixture
def place(finished: Bench, tmp_path: Path) -> Bench:
    """A copy of the run, to be damaged."""
    shutil.copytree(finished.out, tmp_path / "out")
    return dataclasses.replace(finished, out=str(tmp_path / "out"))


@pytest.mark.parametrize("way", WAYS)
def test_every_command_says_what_is_damaged_and_leaves_it_out(place: Bench, way: str) -> None:
    # Other bytes of the same number: only who reads the file sees it.
    is_seen = way != "losses: a bit"
    check_that_every_command_leaves_it_out(place, WAYS[way], is_seen_by_status=is_seen)


def test_a_dataset_is_packed_without_damaged_losses(place: Bench) -> None:
    key = WAYS["losses: a bit"](RunStore(LocalStorage(Path(place.out))))
    packed = call("pack", place.out)
    assert packed.exit_code == 1, packed.output
    assert "3 items packed" in packed.output
    assert key in packed.output


def test_what_was_damaged_has_the_same_score_when_it_is_made_again(place: Bench) -> None:
    store = RunStore(LocalStorage(Path(place.out)))
    before = store.read_commit(ITEM)
    WAYS["latents: gone"](store)
    assert call("retry", place.out, "--damaged").exit_code == 0
    assert run(place).exit_code == 0
    after = store.read_commit(ITEM)
    assert after["attempt"] != before["attempt"]
    score = before["measures"]["score"]
    assert after["measures"]["score"] == pytest.approx(score, rel=0.02)
