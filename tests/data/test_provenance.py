"""Every PNG of an item says where it comes from, to this program and to any other."""

from __future__ import annotations

import io
import uuid
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insetgan_batch import __version__
from insetgan_batch.data import provenance, results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.results import Result
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.errors import StorageError
from insetgan_batch.methods.insetgan.sources import Source, new_item

PICTURE = np.arange(24 * 12 * 3, dtype=np.uint8).reshape(24, 12, 3)
NONE: Any = np.zeros(0, np.float32)
ITEM = new_item("a.1", Source("seed", 7), {"face": Source("image", "f.png")}, seed=5)


@pytest.fixture
def store() -> RunStore:
    return RunStore(MemoryStorage(uuid.uuid4().hex))


def png(**facts: Any) -> bytes:
    return provenance.to_png(PICTURE, ITEM, facts)


def test_all_images_of_an_item_say_where_they_come_from(store: RunStore) -> None:
    saved = Result(
        item=ITEM,
        attempt="1-1",
        images={"image": PICTURE, "face": PICTURE[:8]},
        seconds=1.0,
        provenance={"name": "Zoë", "synthetic": False},
    )
    record = results.save(store, saved)
    assert record["provenance"] == {"name": "Zoë", "synthetic": True}
    for name in ("image", "face"):
        data = store.storage.get(record["files"][name]["key"])
        assert provenance.read(data) == {"name": "Zoë", "synthetic": True}
        assert provenance.read_xmp(data)["DigitalSourceType"] == provenance.DIGITAL_SOURCE_TYPE
        with Image.open(io.BytesIO(data)) as image:
            assert image.info["Software"] == f"insetgan-batch {__version__}"


def test_xmp_names_seeds_recipe_weights_and_version() -> None:
    found = provenance.read_xmp(
        png(
            recipe="montage",
            seeds={"canvas": 7},
            weights={"canvas": "ab" * 32, "face": "cd" * 32},
            code_version="9.1",
        )
    )
    assert found["DigitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert (found["ItemId"], found["Recipe"], found["Version"]) == ("a.1", "montage", "9.1")
    assert found["Seeds"] == {"canvas": "7", "row": "5"}
    assert found["WeightsSha256"] == {"canvas": "ab" * 32, "face": "cd" * 32}


def test_xmp_is_the_packet_that_other_programs_look_for() -> None:
    """An uncompressed iTXt chunk before the pixels, and Pillow's own reader understands it."""
    data = png(recipe="montage")
    start = data.index(b"iTXtXML:com.adobe.xmp\0\0\0\0\0<?xpacket begin=")
    assert start < data.index(b"IDAT")
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image), PICTURE)
        assert image.info["xmp"].strip().startswith(b"<?xpacket")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("<\"&'>", "<\"&'>"),
        ("Zoë 人", "Zoë 人"),
        ("bell\a\ufffe", "bell\ufffd\ufffd"),
        ("", ""),
    ],
)
def test_any_recipe_name_gives_xml_that_can_be_read(name: str, read: str) -> None:
    found = provenance.read_xmp(png(recipe=name, weights={name: "<a=b>"}))
    assert found["Recipe"] == read
    assert found["WeightsSha256"] == {read: "<a=b>"}


def test_a_png_of_somebody_else_says_nothing() -> None:
    sink = io.BytesIO()
    Image.fromarray(PICTURE).save(sink, format="PNG")
    with pytest.raises(StorageError, match="has no text"):
        provenance.read(sink.getvalue())
    with pytest.raises(StorageError, match="no XMP"):
        provenance.read_xmp(sink.getvalue())


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\nrubbish"])
def test_file_that_is_no_image_has_no_provenance(data: bytes) -> None:
    with pytest.raises(StorageError, match="not a PNG"):
        provenance.read(data)
    with pytest.raises(StorageError, match="not a PNG"):
        provenance.read_xmp(data)


def test_a_picture_of_the_rows_own_is_not_marked_as_synthetic(store: RunStore) -> None:
    saved = Result(
        item=ITEM,
        attempt="1-1",
        images={"image": PICTURE, "face_reference": PICTURE},
        seconds=1.0,
        provenance={"recipe": "montage"},
        given=frozenset({"face_reference"}),
    )
    record = results.save(store, saved)
    kept = store.storage.get(record["files"]["face_reference"]["key"])
    made = store.storage.get(record["files"]["image"]["key"])
    assert provenance.read(kept)["synthetic"] is False
    assert "DigitalSourceType" not in provenance.read_xmp(kept)
    assert provenance.read(made)["synthetic"] is True
