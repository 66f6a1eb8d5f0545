"""A run by a version that knew no other method (7a4f27b): what looks at runs reads it as ever.

`run_before_methods.zip` is its directory: three items of tiny generators, one of them from a
picture, and one item set aside.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from insetgan_batch.cli.main import app
from insetgan_batch.data import dataset
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.dataset import Done, Job
from insetgan_batch.data.shards import PackSettings
from insetgan_batch.data.storage import open_storage
from insetgan_batch.errors import DamagedError
from insetgan_batch.runtime import pack, verify

ITEM = "body0-face10"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with zipfile.ZipFile(Path(__file__).with_name("run_before_methods.zip")) as file:
        file.extractall(tmp_path / "run")
    return tmp_path / "run"


def here(jobs: Iterable[Job]) -> Iterator[tuple[Job, Done]]:
    """Instead of Ray."""
    for job in jobs:
        yield job, dataset.write(job)


def call(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_a_commit_reads_as_one_of_today(run: Path) -> None:
    store = RunStore(open_storage(str(run)))
    assert store.committed() == {ITEM, "body0-face11", "picture"}
    record = store.read_commit(ITEM)
    old = json.loads((run / f"commits/{hh(ITEM)}/{ITEM}.json").read_text())
    assert record["item"]["inputs"] == {"canvas_seed": 0, "face_seed": 10}
    assert record["measures"]["seam_after"] == old["seam_after"]
    losses = {k: v for k, v in record["measures"].items() if k.startswith("losses.")}
    assert losses == {f"losses.{term}": value for term, value in old["losses"].items()}
    assert record["facts"]["stop"] == old["stop"]
    assert record["facts"]["face_region"] == old["boxes"]["face"]["region"]
    assert record["facts"]["canvas_psi"] == old["psi"]["canvas"]
    picture = store.read_commit("picture")["item"]
    assert picture["inputs"] == {
        "canvas_image": "/tmp/oldrun/yes.png",
        "face_seed": 3,
        "face_psi": 0.5,
    }
    failed = store.read_quarantined("bad")
    assert "item" in failed
    assert failed["item"]["inputs"] == {"canvas_image": "/tmp/oldrun/no.png", "face_seed": 3}


def test_status_verify_and_report_read_it(run: Path) -> None:
    code, said = call("status", str(run), "--json")
    assert code == 0, said
    assert {n: json.loads(said)[n] for n in ("committed", "quarantined", "damaged")} == {
        "committed": 3,
        "quarantined": 1,
        "damaged": 0,
    }
    assert call("report", str(run))[0] == 0
    page = (run / "report" / "data.js").read_text()
    assert "face seed 10 on canvas seed 0" in page
    store = RunStore(open_storage(str(run)))
    assert [line for checked in verify.check(store) for line in checked.differences] == []


def test_it_is_packed_with_the_columns_that_it_has(run: Path) -> None:
    packed = pack.pack(str(run), PackSettings(), spread=here)
    (results,) = run.glob("dataset/*/results.parquet")
    rows = {row["item_id"]: row for row in pq.read_table(results).to_pylist()}
    assert (sum(packed.splits.values()), packed.quarantined) == (3, 1)
    assert rows["picture"]["canvas_image"] == "/tmp/oldrun/yes.png"
    assert (rows["picture"]["canvas_source"], rows["picture"]["face_psi"]) == ("image", 0.5)
    assert rows[ITEM]["weighted.face.border.l1"] > 0
    assert rows["bad"]["reason"] == "bad_input"


@pytest.mark.parametrize("field", ["boxes", "losses", "stop", "item"])
def test_an_old_commit_that_lacks_something_is_damage(run: Path, field: str) -> None:
    path = run / f"commits/{hh(ITEM)}/{ITEM}.json"
    record = json.loads(path.read_text())
    del record[field]
    path.write_text(json.dumps(record))
    with pytest.raises(DamagedError, match=f"`{field}` is missing"):
        RunStore(open_storage(str(run))).read_commit(ITEM)
