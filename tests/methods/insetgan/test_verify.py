"""Items of InsetGAN are made again, and have the same scores."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from insetgan_batch.data import manifest
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import CheckpointError
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.runtime import verify
from tests.bench import Bench, bench_in, fields_of
from tests.runtime.made_again import finished, rewrite, rewrite_measure

MakeBench = Callable[..., Bench]


@pytest.fixture(scope="module")
def three_items(tiny_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, for copies. Few steps: untrained generators amplify the rounding of another
    batch more than trained ones.
    """
    place = bench_in(tmp_path_factory.mktemp("run"), fields_of(tiny_models), bodies=1, faces=3)
    finished(place, schema(["face"]))
    return Path(place.out)


@pytest.fixture
def done(three_items: Path, tmp_path: Path) -> RunStore:
    """That run, to be changed."""
    shutil.copytree(three_items, tmp_path / "copy")
    return RunStore(open_storage(str(tmp_path / "copy")))


def test_items_that_are_made_again_have_the_same_scores(done: RunStore) -> None:
    assert verify.redo(done, 99) == []


def test_a_score_beyond_2_percent_is_one_line(done: RunStore) -> None:
    first, second, _ = sorted(done.committed())
    score, other = (done.read_commit(i)["measures"]["score"] or 0.0 for i in (first, second))
    rewrite_measure(done, first, "score", score * 1.03)
    rewrite_measure(done, second, "score", other * 1.01)
    (line,) = verify.redo(done, 3)
    found = re.fullmatch(
        rf"item {first}: its score is (\S+) when .* expected (\S+) within 2%.*", line
    )
    assert found, line
    assert float(found[1]) == pytest.approx(score, rel=1e-3)
    assert float(found[2]) == score * 1.03


def test_an_item_that_began_at_files_is_made_again_from_them(
    montages: MakeBench, done: RunStore, tmp_path: Path
) -> None:
    path = tmp_path / "canvas.png"
    path.write_bytes(
        done.storage.get(str(done.read_commit("body0-face10")["files"]["image"]["key"]))
    )
    place = montages(input_roots=[str(tmp_path)])
    item = new_item("of-file", Source("image", str(path)), {"face": Source("seed", 3)}, seed=4)
    manifest.write(place.manifest, [item], schema(["face"]))
    store = finished(place, schema(["face"]))
    assert store.committed() == {"of-file"}
    assert verify.redo(store, 1) == []


def test_other_weights_are_refused(done: RunStore) -> None:
    run = done.read_run()
    run["weights"]["face"] = "0" * 64
    done.storage.put("run.json", json.dumps(run).encode())
    with pytest.raises(CheckpointError, match=r"\(face\): its sha256 is .*made with 000"):
        verify.redo(done, 1)


def test_a_commit_that_names_other_weights_than_the_run_is_one_line(done: RunStore) -> None:
    item_id, *_ = done.committed()
    provenance = done.read_commit(item_id)["provenance"]
    provenance["weights"]["face"] = "0" * 64
    rewrite(done, item_id, provenance=provenance)
    (line,) = verify.redo(done, 3)
    assert line.startswith(f"item {item_id}: made with the weights ")
    assert "0" * 64 in line
    assert done.read_run()["weights"]["face"] in line
