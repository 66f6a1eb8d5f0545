"""The page of a run holds all that people need, nothing from outside, and nothing unescaped."""

from __future__ import annotations

import base64
import io
import re
import uuid
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from insetgan_batch import config, report
from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.results import LossTable, Result
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.records import Item, Source

HEIGHT, WIDTH, SIDE = 64, 32, 32
REGION, REGION_BEFORE = [10, 4, 26, 20], [8, 4, 24, 20]
_VOID = {"meta", "link", "img", "input", "rect", "path"}


@pytest.fixture
def store() -> RunStore:
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    store.open_run(
        {
            "run_id": "spring-people",
            "configuration": config.to_fields(config.RunConfig()),
            "weights": {"canvas": "ab" * 32, "face": "cd" * 32},
            "code_version": "0.1.0",
            "created_at": "2026-11-20T14:40:05+00:00",
        }
    )
    return store


def montage(body: int, face: int) -> Item:
    name = f"body{body}-face{face}"
    return Item(name, Source("seed", body), {"face": Source("seed", face)})


def losses(rounds: int = 2, steps: int = 3) -> LossTable:
    """Two phases of `steps` steps in each round; a step has a term of its own and one shared."""
    rows = [
        (r, phase, r * steps + s, term)
        for r in range(rounds)
        for phase, own in (("canvas", "canvas.body.l1"), ("face", "face.face.lpips"))
        for s in range(steps)
        for term in ("face.border.l1", own)
    ]
    return LossTable(
        round=np.array([row[0] for row in rows], np.int32),
        phase=[row[1] for row in rows],
        step=np.array([row[2] for row in rows], np.int32),
        term=[row[3] for row in rows],
        raw=np.linspace(0.5, 0.1, len(rows), dtype=np.float32),
        weight=np.ones(len(rows), np.float32),
    )


def commit(
    store: RunStore, item: Item, table: LossTable | None = None, scale: int = 1, **changes: Any
) -> None:
    """An item that is done, with noise for pictures."""
    rng = np.random.default_rng(len(item.item_id))

    def noise(height: int, width: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return rng.integers(0, 256, (height * scale, width * scale, 3), dtype=np.uint8)

    whole, part = ("image", "copy_paste", "canvas", "canvas_reference"), ("face", "face_reference")
    summary = {
        "rounds": 2,
        "best_round": 2,
        "steps": 12,
        "stop": "max_rounds",
        "seconds": 30.0,
        "score": 0.75,
        "seam_before": 12.0,
        "seam_after": 3.0,
        "losses": {"face.border.l1": 0.12, "canvas.body.l1": 0.08, "face.face.lpips": 0.2},
        "boxes": {
            "face": {"inset": [8, 8, 24, 24], "region": REGION, "region_before": REGION_BEFORE}
        },
        "missed_detections": 0,
        "perceptual": "alexnet-random-7",
    }
    result = Result(
        item=item,
        attempt="000001-1",
        images={n: noise(HEIGHT, WIDTH) for n in whole} | {n: noise(SIDE, SIDE) for n in part},
        latents={"canvas.w": np.zeros(4, np.float32)},
        losses=losses() if table is None else table,
        summary=summary | changes,
        provenance={},
    )
    store.commit(item.item_id, results.save(store, result))


def fail(store: RunStore, item_id: str, reason: str = "no_face", detail: str = "") -> None:
    store.quarantine(
        item_id,
        {
            "item_id": item_id,
            "reason": reason,
            "detail": detail,
            "attempts": 2,
            "attempt": "000001-9",
            "trace": "",
        },
    )


class Page(HTMLParser):
    """A page taken apart: its elements, its text, and its tables by class as rows of cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.text = ""
        self._open: list[str] = []
        self._table: list[list[str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tags.append((tag, values))
        if tag not in _VOID:
            self._open.append(tag)
        if tag == "table":
            self._table = self.tables.setdefault((values["class"] or "").split()[0], [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._table[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert tag in _VOID or self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.text += data
        if {"td", "th"} & set(self._open):
            self._table[-1][-1] = f"{self._table[-1][-1]} {data}".strip()

    def items(self) -> list[list[str]]:
        """Rows of the table of items."""
        return [row for row in self.tables["data"] if re.match(r"body\d", row[0])]

    def values(self, attribute: str) -> list[str]:
        return [values[attribute] or "" for _, values in self.tags if attribute in values]


def page(store: RunStore) -> Page:
    return Page(report.build(store))


def test_write_puts_the_page_into_the_run(store: RunStore) -> None:
    assert report.write(store) == "report/index.html"
    assert "spring-people" in store.storage.get("report/index.html").decode()


def test_a_run_without_commits_makes_a_page(store: RunStore) -> None:
    made = page(store)
    assert "Nothing is done yet" in made.text
    assert "img" not in [tag for tag, _ in made.tags]


def test_a_run_of_failures_only_names_them(store: RunStore) -> None:
    fail(store, "body1-face1")
    assert page(store).tables["data"][1][:2] == ["body1-face1", "no face found"]


def test_every_item_appears_in_grid_panel_and_table(store: RunStore) -> None:
    for body in (1, 2):
        for face in (5, 6):
            commit(store, montage(body, face))
    made = page(store)
    names = [f"body{body}-face{face}" for body in (1, 2) for face in (5, 6)]
    assert sorted(i for i in made.values("id") if i.startswith("item-")) == [
        f"item-{n}" for n in names
    ]
    assert [row[0] for row in made.items()] == names
    links = [v["href"] for t, v in made.tags if t == "a" and v.get("class") == "pair"]
    assert links == [f"#item-{name}" for name in names]


def test_nothing_points_outside_of_the_file(store: RunStore) -> None:
    commit(store, montage(1, 2))
    made = page(store)
    without_pictures = re.sub(r'"data:[^"]*"', "", made.html)
    assert not re.search(r"https?:|//[a-z]|url\(|@import", without_pictures)
    assert made.values("src")
    assert all(value.startswith("data:image/") for value in made.values("src"))
    assert all(value.startswith("#item-") or value == "data:," for value in made.values("href"))


def test_every_picture_has_a_text(store: RunStore) -> None:
    commit(store, montage(1, 2))
    images = [values for tag, values in page(store).tags if tag == "img"]
    assert len(images) == 2 + 2 + 4 + 2  # cell, heads, references and what moved, enlarged region
    assert all(values["alt"] for values in images)


def test_faces_stand_on_top_and_canvases_at_the_left_in_order_of_their_seeds(
    store: RunStore,
) -> None:
    for body in (9, 10):
        for face in (4, 30):
            commit(store, montage(body, face), seam_before=float(body), seam_after=float(face))
    top, *rows = page(store).tables["grid"]
    assert top == ["", "face seed 4", "face seed 30"]
    assert [row[0] for row in rows] == ["canvas seed 9", "canvas seed 10"]
    assert rows[0][2].split() == ["seam", "9.0", "→", "30.0"]


def test_a_failed_item_shows_its_reason_in_its_cell(store: RunStore) -> None:
    for face in (1, 2, 3):
        commit(store, montage(1, face))
    commit(store, montage(2, 1))
    fail(store, "body2-face3")
    assert page(store).tables["grid"][2][2:] == ["not done", "no face found"]


def test_an_item_that_was_done_after_it_failed_counts_as_done(store: RunStore) -> None:
    commit(store, montage(1, 1))
    fail(store, "body1-face1")
    made = page(store)
    assert "grid" in made.tables
    assert "no face found" not in made.text


def test_a_failed_item_whose_sources_are_unknown_is_listed_below(store: RunStore) -> None:
    item = Item("ada", Source("seed", 1), {"face": Source("seed", 2)})
    commit(store, item)
    fail(store, "body7-face7", detail="the face is turned away")
    made = page(store)
    assert made.tables["grid"][0] == ["", "face seed 2"]
    assert made.items()[0][:3] == ["body7-face7", "no face found", "the face is turned away"]


def test_items_that_are_no_grid_become_a_gallery(store: RunStore) -> None:
    for n in range(3):
        commit(store, montage(n, n))
    made = page(store)
    assert "grid" not in made.tables
    assert "face seed 2 on canvas seed 2" in made.text


def test_more_columns_than_a_page_can_hold_become_a_gallery(store: RunStore) -> None:
    for face in range(17):
        commit(store, montage(1, face))
    assert "grid" not in page(store).tables


def test_a_gallery_says_how_many_items_it_leaves_out(store: RunStore) -> None:
    for n in range(203):
        commit(store, montage(n, n), losses(1, 1))
    made = page(store)
    assert len([i for i in made.values("id") if i.startswith("item-")]) == 200
    assert "first 200 by name; 3 more are not shown" in made.text
    assert len(made.items()) == 203


def test_files_of_one_name_in_two_folders_are_two_references(store: RunStore) -> None:
    for n, folder in enumerate("ab"):
        face = Source("image", f"s3://people/{folder}/face.jpg")
        commit(store, Item(f"p{n}", Source("average"), {"face": face}))
    top, row = page(store).tables["grid"]
    assert top == ["", "face face.jpg", "face face.jpg"]
    assert row[0] == "canvas average"


def test_only_a_page_without_given_images_says_that_nobody_exists(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "Every picture on this page is synthetic" in page(store).text
    commit(store, Item("p", Source("seed", 1), {"face": Source("image", "ada.jpg")}))
    assert "References that were given as images" in page(store).text


def test_special_characters_are_escaped(store: RunStore) -> None:
    evil = "<script>alert('1')</script>"
    face = Source("image", f"s3://people/{evil.replace('/', '')}")
    commit(store, Item("p", Source("seed", 1), {"face": face}, meta={"note": evil}))
    fail(store, "q", reason="<b>odd</b>", detail=evil)
    made = page(store)
    assert [tag for tag, _ in made.tags].count("script") == 1
    assert made.text.count(evil) == 2
    assert "<b>odd</b>" in made.text


def test_values_to_sort_by_are_numbers_and_missing_ones_have_none(store: RunStore) -> None:
    commit(store, montage(1, 1), seam_after=float("nan"))
    commit(store, montage(1, 2), seam_after=0.000012, losses={"face.border.l1": 0.5})
    made = page(store)
    assert all(np.isfinite(float(value)) for value in made.values("data-value"))
    first, second = made.items()
    assert first[1:4] == ["12.0", "–", "–"]
    assert second[2] == "1.20e-05"
    assert second[-3:] == ["0.500", "–", "–"]
    assert len(made.values("data-value")) == 2 * 11 - 2 - 2


def test_losses_stand_in_the_table_by_family(store: RunStore) -> None:
    commit(store, montage(1, 1))
    groups, titles, row = page(store).tables["data"][:3]
    assert groups[-3:] == ["border loss", "body loss", "face loss"]
    assert list(zip(titles, row, strict=True))[-3:] == [
        ("L1", "0.120"),
        ("L1", "0.0800"),
        ("LPIPS", "0.200"),
    ]


def test_the_head_tells_the_median_seam_and_how_far_it_fell(store: RunStore) -> None:
    for face, (before, after) in enumerate([(10.0, 4.0), (20.0, 5.0), (30.0, 31.0)]):
        commit(store, montage(1, face), seam_before=before, seam_after=after)
    text = " ".join(page(store).text.split())
    assert "20.0 → 5.0" in text
    assert "fell by 75%; lower in 2 of 3 items" in text
    assert "20 November 2026, 14:40 UTC" in text


def test_random_features_are_remarked_on_and_real_ones_are_not(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "random weights" in page(store).text
    real = RunStore(MemoryStorage(uuid.uuid4().hex))
    real.open_run(store.read_run())
    commit(real, montage(1, 1), perceptual="alexnet-owt")
    assert "alexnet-owt" in page(real).text
    assert "random weights" not in page(real).text


def test_the_foot_names_weights_and_models(store: RunStore) -> None:
    made = page(store)
    assert ["border L1", "2", "4"] in made.tables["data"]
    assert ["body L1", "4", ""] in made.tables["data"]
    assert "cd" * 32 in made.values("title")


def test_a_region_is_shown_with_its_margin_before_and_after(store: RunStore) -> None:
    commit(store, montage(1, 1))
    crops = [v for tag, v in page(store).tags if tag == "img" and v["class"] == "enlarged"]
    margin = round(12 / 256 * HEIGHT)
    assert [(v["width"], v["height"]) for v in crops] == [
        (str(26 - 8 + 2 * margin), str(20 - 4 + 2 * margin))
    ] * 2


def test_large_pictures_are_reduced(store: RunStore) -> None:
    commit(store, montage(1, 1), scale=16)
    uri = next(v["src"] for tag, v in page(store).tags if tag == "img" and v["class"] == "after")
    with Image.open(io.BytesIO(base64.b64decode((uri or "").partition(",")[2]))) as image:
        assert image.size == (256, 512)


def test_small_runs_show_pictures_without_loss(store: RunStore) -> None:
    commit(store, montage(1, 1))
    uri = next(v["src"] for tag, v in page(store).tags if tag == "img" and v["class"] == "after")
    with Image.open(io.BytesIO(base64.b64decode((uri or "").partition(",")[2]))) as image:
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, results.read_image(store, store.read_commit("body1-face1")))


def curves(store: RunStore) -> list[str]:
    """Paths of all curves of the page, legends left out: border, body, face."""
    lines = [v for _, v in page(store).tags if (v.get("class") or "").startswith("line ")]
    found = [values["d"] or "" for values in lines]
    return [path for path in found if path != "M0 4H22"]


def test_a_curve_is_broken_while_the_other_generator_moves(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=3, steps=4))
    border, body, face = curves(store)
    assert [path.count("M") for path in (border, body, face)] == [1, 3, 3]
    assert [path.count("L") for path in (border, body, face)] == [23, 9, 9]


def test_a_curve_falls_when_its_values_fall_and_stays_inside_the_axes(store: RunStore) -> None:
    commit(store, montage(1, 1))
    points = [tuple(map(float, p.split())) for p in re.split("[ML]", curves(store)[0])[1:]]
    heights = [y for _, y in points]
    assert heights == sorted(heights)
    frame = report.Frame()
    assert all(frame.left <= x <= frame.right and frame.top <= y <= frame.bottom for x, y in points)


def test_long_curves_are_thinned(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=4, steps=200))
    assert all(path.count("L") + path.count("M") <= 300 for path in curves(store))


def test_a_value_that_is_no_number_is_left_out_of_its_curve(store: RunStore) -> None:
    table = losses(rounds=1, steps=4)
    table.raw[2] = np.nan
    commit(store, montage(1, 1), table)
    assert "nan" not in "".join(curves(store))


def test_a_wide_range_of_values_is_drawn_on_a_log_scale(store: RunStore) -> None:
    commit(store, montage(1, 1))
    assert "log scale" not in page(store).text
    table = losses()
    table.raw[:] = np.geomspace(1e-7, 1.0, len(table.raw))
    other = RunStore(MemoryStorage(uuid.uuid4().hex))
    other.open_run(store.read_run())
    commit(other, montage(1, 1), table)
    assert "log scale" in page(other).text
