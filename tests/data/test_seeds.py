"""Seeds by their ranges, and manifests that are made of them."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from insetgan_batch.data import manifest
from insetgan_batch.data.seeds import Seeds, parse_seeds
from insetgan_batch.errors import ManifestError
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.records import Item
from tests.records import montage_items

FACE = ["face"]


def rows(uri: str, insets: list[str]) -> list[Item]:
    items = [row for row in manifest.read(uri, schema(insets)) if isinstance(row, Item)]
    assert manifest.describe(uri, schema(insets)).rows == len(items)
    return items


def refused(uri: str, insets: list[str]) -> str:
    """The one line; `read` and `describe` say the same, before a row is asked for."""
    with pytest.raises(ManifestError) as caught:
        manifest.describe(uri, schema(insets))
    with pytest.raises(ManifestError) as read:
        manifest.read(uri, schema(insets))
    assert str(read.value) == str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    return str(caught.value)


# Seeds of one generator


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("0-3,20", [0, 1, 2, 3, 20]),
        ("5", [5]),
        (" 7 - 8 , 3 ", [7, 8, 3]),
        ("4-4", [4]),
        ("4294967295", [2**32 - 1]),
    ],
)
def test_seeds_are_parsed_with_both_ends(text: str, seeds: list[int]) -> None:
    parsed = parse_seeds(text)
    assert list(parsed) == seeds
    assert len(parsed) == len(seeds)
    assert [parsed[i] for i in range(-len(seeds), len(seeds))] == seeds + seeds
    assert parsed[1:] == seeds[1:]
    assert parsed[::-1] == seeds[::-1]
    assert all(seed in parsed for seed in seeds)
    assert 9 not in parsed
    for beyond in (len(seeds), -len(seeds) - 1):
        with pytest.raises(IndexError):
            parsed[beyond]


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "a",
        "1,",
        "-5",
        "1-",
        "3-1",
        "1-2-3",
        "0.5",
        "1,1",
        "0-4,2",
        "2,0-4",
        "0-4,4-5",
        "4294967296",
        "0-4294967295",
        "0-49999999,60000000-110000000",
        "٣",
        "9" * 5_000,
        "1\n2",
    ],
)
def test_bad_seeds_are_one_clear_line(text: str) -> None:
    with pytest.raises(ManifestError, match="seeds ") as caught:
        parse_seeds(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_seeds_have_one_text() -> None:
    for text in ("0-3,20", "20,0-3", "20,0,1,2-3", " 2-3, 0 - 1,20"):
        assert str(parse_seeds(text)) == "0-3,20"
    assert str(parse_seeds("7")) == "7"
    assert str(Seeds([])) == ""


# A manifest of them


def test_one_range_is_seeds_of_the_canvas() -> None:
    average = {"face": Source()}
    assert rows("seeds:3-4,9", FACE) == [
        new_item(f"seed{n}", Source("seed", n), average) for n in (3, 4, 9)
    ]
    assert rows("seeds: canvas = 3-4, 9 ", FACE) == rows("seeds:3-4,9", FACE)
    assert rows("seeds:7", []) == [new_item("seed7", Source("seed", 7), {})]


def test_every_face_on_every_body_is_the_montage() -> None:
    expected = montage_items([1, 2, 5], [7, 8])
    assert rows("seeds:canvas=1-2,5 face=7-8", FACE) == expected
    assert rows("seeds:face=7-8 canvas=1-2,5", FACE) == expected


def test_three_generators_meet_in_every_combination() -> None:
    items = rows("seeds:canvas=0-1 face=3-4 shoes=5-7", ["face", "shoes"])
    seeds = [
        (item.inputs["canvas_seed"], item.inputs["face_seed"], item.inputs["shoes_seed"])
        for item in items
    ]
    assert seeds == [
        (canvas, face, shoes)
        for face, shoes, canvas in itertools.product([3, 4], [5, 6, 7], [0, 1])
    ]
    assert items[0].item_id == "body0-face3-shoes5"
    assert len({item.item_id for item in items}) == 12


def test_an_inset_alone_leaves_the_canvas_at_its_average() -> None:
    assert rows("seeds:face=7", FACE) == [new_item("face7", Source(), {"face": Source("seed", 7)})]


def test_the_same_rows_have_the_same_sha256() -> None:
    same = ["seeds:canvas=0-9 face=3", "seeds:face=3 canvas=0-9", "seeds:canvas=5-9,0-4  face=3"]
    assert len({manifest.describe(uri, schema(FACE)).sha256 for uri in same}) == 1
    others = ["seeds:0-9", "seeds:face=0-9", "seeds:canvas=0-8 face=3", "seeds:canvas=3 face=0-9"]
    found = {manifest.describe(uri, schema(FACE)).sha256 for uri in [same[0], *others]}
    assert len(found) == 5
    assert rows("seeds:0-9", FACE) == rows("seeds:canvas=0-9", FACE)


def test_a_hundred_million_rows_take_no_memory() -> None:
    tracemalloc.start()
    uri = "seeds:canvas=0-9999 face=0-9999"
    assert manifest.describe(uri, schema(FACE)).rows == 100_000_000
    items = list(itertools.islice(manifest.read(uri, schema(FACE)), 3))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [item.item_id for item in items] == ["body0-face0", "body1-face0", "body2-face0"]
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("seeds:", "'' is no number or range"),
        ("seeds: ", "'' is no number or range"),
        ("seeds:canvas=", "canvas: seeds '': '' is no number"),
        ("seeds:canvas=0-9 fase=1", "unknown generator 'fase' (did you mean face?); known are"),
        ("seeds:shoes=0-9", "unknown generator 'shoes'; known are canvas, face"),
        ("seeds:canvas=0-9 canvas=3", "canvas is named twice; name it once"),
        ("seeds:0-9 face=3", "seeds without a generator; write canvas=0-15"),
        ("seeds:=3", "seeds without a generator"),
        ("seeds:canvas=0-9=3", "unknown generator 'canvas=0-9'"),
        ("seeds:canvas=0-9;face=3", "unknown generator 'canvas=0-9;face'"),
        ("seeds:canvas=0-9,3", "canvas: seeds '0-9,3': 3 is named twice"),
        ("seeds:canvas=0-9999 face=0-10000", "100010000 of them, expected at most 100000000"),
        ("seeds:0-100000000", "100000001 of them, expected at most"),
        ("seeds:canvas=4294967296", "must rise and end by 4294967295"),
        ("seeds:canvas=1\nface=x", "face: seeds 'x': 'x' is no number"),
        ("seeds:" + "x" * 100_000 + "=1", "unknown generator 'xxxx"),
        ("seeds://canvas=1", "unknown generator '//canvas'"),
    ],
)
def test_a_wrong_text_is_one_line(uri: str, says: str) -> None:
    message = refused(uri, FACE)
    assert message.startswith("'seeds:")
    assert says in message


def test_an_inset_whose_name_is_no_part_of_an_id_needs_a_manifest() -> None:
    assert "'body4294967295-hände4294967295' is no id" in refused(
        "seeds:canvas=1 hände=2", ["hände"]
    )
