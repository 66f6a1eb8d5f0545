"""What a driver looks at before anything starts: rows and pictures that nobody can trust."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from insetgan_batch.config import RunConfig, parse
from insetgan_batch.data import inputs, manifest
from insetgan_batch.errors import ConfigError, ManifestError, NoConditionalWritesError
from insetgan_batch.runtime import driver, plan
from tests.data.test_pictures import encoded
from tests.methods.negative_bench import SCHEMA, fields

PNG = encoded(Image.new("RGB", (16, 16)))


@pytest.fixture
def config() -> RunConfig:
    return parse(fields(), "test")


def manifest_of(folder: Path, *names: str) -> str:
    path = folder / "m.parquet"
    pq.write_table(pa.table({"picture": names}), path)
    return str(path)


def test_a_sample_that_may_never_end_is_not_waited_for(config: RunConfig, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "good.png").write_bytes(PNG)
    with pytest.raises(ManifestError, match=r"column picture: .*pipe.png.* a device"):
        driver.check_manifest(config, manifest_of(tmp_path, "pipe.png"))
    assert driver.check_manifest(config, manifest_of(tmp_path, "pipe.png", "good.png")).rows == 2


def test_a_sample_that_fills_the_memory_is_not_read(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "large.png").open("wb") as file:
        file.write(PNG)
        file.truncate(3_000_000_000)  # a hole: nothing of it is on the disk
    # From a store that does not say how much will come.
    monkeypatch.setattr(inputs, "_MOST_BYTES", 1_000_000)
    for uri in ("large.png", "/dev/zero"):
        with pytest.raises(ManifestError, match="cannot be read"):
            driver.check_manifest(config, manifest_of(tmp_path, uri))


def test_a_relative_picture_is_looked_for_beside_the_manifest(
    config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(PNG)
    uri = manifest_of(tmp_path, "photos/a.png")
    assert driver.check_manifest(config, uri).rows == 1
    with pytest.raises(ManifestError, match=r"photos/b.png.* there is no such file"):
        driver.check_manifest(config, manifest_of(tmp_path, "photos/b.png"))


def rows_of(folder: Path, good: int, bad: int) -> str:
    """A manifest of which the good rows come first."""
    names = [f"{n}.png" for n in range(good)]
    for name in names:
        (folder / name).write_bytes(PNG)
    path = folder / "m.parquet"
    pq.write_table(pa.table({"picture": names + [""] * bad}), path)
    return str(path)


@pytest.mark.parametrize(("good", "bad"), [(1, 599), (60, 540)])
def test_nearly_only_bad_rows_are_a_wrong_manifest_and_nothing_is_written(
    config: RunConfig, tmp_path: Path, good: int, bad: int
) -> None:
    """Not so many quarantines; and the same manifest, mended, may have the same output."""
    uri, out = rows_of(tmp_path, good, bad), tmp_path / "out"
    said = rf"^{bad} of 600 rows are wrong, so the manifest is: .*row {good}, column picture"
    with pytest.raises(ManifestError, match=said) as err:
        plan.make(config, uri, str(out))
    assert "\n" not in str(err.value)
    with pytest.raises(ManifestError, match=said):
        driver.run(config, uri, str(out))
    assert not out.exists()


@pytest.mark.parametrize(("good", "bad"), [(61, 539), (2, 31)])
def test_fewer_bad_rows_are_each_their_own_affair(tmp_path: Path, good: int, bad: int) -> None:
    seen = manifest.BadRows()
    for row in manifest.read(rows_of(tmp_path, good, bad), SCHEMA):
        seen.see(row)
    assert (seen.rows, seen.bad) == (good + bad, bad)
    seen.check()


def test_a_store_without_conditions_is_refused_in_its_own_words(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(storage: object) -> bool:
        raise NoConditionalWritesError("this file system has no hard links")

    monkeypatch.setattr(driver, "conditional_writes_work", refuse)
    with pytest.raises(ConfigError, match=r"^this file system has no hard links, so nothing"):
        driver.open_store("memory://conditions/out", config)
