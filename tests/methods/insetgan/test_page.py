"""The page of a run of InsetGAN shows canvases, insets and the seam between them."""

from __future__ import annotations

import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.methods.insetgan import page
from insetgan_batch.methods.insetgan.sources import Source, new_item
from tests.report.runs import (
    REGION,
    REGION_BEFORE,
    commit,
    data_of,
    losses,
    montage,
    new_run,
    page_of,
    view_of,
)


@pytest.fixture
def store() -> RunStore:
    return new_run()


def test_faces_stand_on_top_and_canvases_at_the_left_in_order_of_their_seeds(
    store: RunStore,
) -> None:
    for body in (9, 10):
        for face in (4, 30):
            commit(store, montage(body, face), seam_before=float(body), seam_after=float(face))
    top, *rows = page_of(store).tables["grid"]
    assert top == ["", "face seed 4", "face seed 30"]
    assert [row[0] for row in rows] == ["canvas seed 9", "canvas seed 10"]
    assert rows[0][2].split() == ["seam", "9.00", "→", "30.0"]


def test_files_of_one_name_in_two_folders_are_two_references(store: RunStore) -> None:
    for n, folder in enumerate("ab"):
        face = Source("image", f"s3://people/{folder}/face.jpg")
        commit(store, new_item(f"p{n}", Source("average"), {"face": face}))
    top, row = page_of(store).tables["grid"]
    assert top == ["", "face face.jpg", "face face.jpg"]
    assert row[0] == "canvas average"


def test_a_view_shows_what_was_given_the_canvas_first_and_what_became_of_it(
    store: RunStore,
) -> None:
    commit(store, montage(1, 2))
    assert [*view_of(store, "body1-face2")["pictures"].items()] == [
        ("inputs", {"canvas_reference": "canvas: seed 1", "face_reference": "face: seed 2"}),
        ("before and after", {"copy_paste": "copy and paste", "image": "result"}),
        ("generators alone", {"canvas": "canvas, moved", "face": "face, moved"}),
    ]


def test_a_view_tells_where_regions_are_and_were(store: RunStore) -> None:
    commit(store, montage(1, 2))
    regions = view_of(store, "body1-face2")["regions"]
    assert regions == {"face": {"before": REGION_BEFORE, "after": REGION}}


def test_a_view_tells_how_its_item_ended(store: RunStore) -> None:
    commit(store, montage(1, 1), rounds=8, best_round=5, score=0.25)
    facts = dict(view_of(store, "body1-face1")["facts"])
    assert facts["stopped"] == "max rounds after 8 rounds, round 5 kept"
    assert (facts["score"], facts["missed detections"]) == ("0.250", "0")


def test_a_view_tells_how_far_each_seed_was_truncated(store: RunStore) -> None:
    commit(store, montage(1, 1), psi={"canvas": 0.9, "face": None})
    facts = dict(view_of(store, "body1-face1")["facts"])
    assert facts["psi of canvas"] == "0.9"
    assert "psi of face" not in facts


def test_the_seam_and_the_course_stand_first_in_the_table(store: RunStore) -> None:
    commit(store, montage(1, 1))
    columns = data_of(store)["items"]["columns"]
    assert [(c["group"], c["title"], *c["values"]) for c in columns[:8]] == [
        ("seam", "before", 12.0),
        ("seam", "after", 3.0),
        ("seam", "ratio", 0.25),
        ("optimisation", "score", 0.75),
        ("optimisation", "rounds", 2),
        ("optimisation", "kept", 2),
        ("work", "steps", 12),
        ("work", "seconds", 30.0),
    ]


def test_losses_stand_in_the_table_by_family(store: RunStore) -> None:
    commit(store, montage(1, 1))
    columns = data_of(store)["items"]["columns"]
    assert [(c["group"], c["title"], *c["values"]) for c in columns[-4:]] == [
        ("border loss", "L1", 0.12),
        ("body loss", "L1", 0.08),
        ("face loss", "LPIPS", 0.2),
        ("", "stopped", "max rounds"),
    ]


def test_the_steps_of_the_canvas_are_shaded(store: RunStore) -> None:
    commit(store, montage(1, 1), losses(rounds=2))
    assert data_of(store)["shaded_phase"] == "canvas"
    assert len(view_of(store, "body1-face1")["charts"][0]["shaded"]) == 2


def test_the_page_says_what_a_seam_is(store: RunStore) -> None:
    assert "0 is no seam" in page_of(store).text


def test_a_run_without_insets_shows_its_images_and_speaks_of_no_seam() -> None:
    store = new_run(recipe="generate", insets={})
    for n in range(3):
        item = new_item(f"body{n}", Source("seed", n), {})
        commit(store, item, losses(0, 0), seam_before=None, seam_after=None, losses={}, rounds=0)
    made = page_of(store)
    assert "grid" not in made.tables
    items = data_of(store)["items"]
    assert items["titles"] == ["canvas seed 0", "canvas seed 1", "canvas seed 2"]
    assert "seam" not in {c["group"] for c in items["columns"]}
    view = view_of(store, "body2")
    assert (view["charts"], view["regions"]) == ([], {})
    assert view["pictures"] == {"result": {"image": "result"}}
    assert "stopped" not in dict(view["facts"])
    assert "nothing was optimised" in made.text
    assert "Nothing is optimised" in made.text
    assert "copy and paste" not in made.text.lower()
    assert "median seam" not in made.text
    assert "no seam" not in made.text


def test_a_run_with_two_insets_names_and_shows_both() -> None:
    store = new_run(
        insets={"face": "demo:face", "shoes": "demo:shoes"},
        detector={"face": "mtcnn", "shoes": "demo:shoes"},
        recipe={
            "canvas": {"border": {"l1": 5}},
            "insets": {"face": {"border": {"l1": 4}}, "shoes": {"border": {"l1": 2}}},
        },
    )
    for body in (1, 2):
        for shoes in (7, 8):
            insets = {"face": Source("seed", 5), "shoes": Source("seed", shoes)}
            commit(store, new_item(f"body{body}-{shoes}", Source("seed", body), insets))
    made = page_of(store)
    top, *rows = made.tables["grid"]
    assert top == ["", "face seed 5, shoes seed 7", "face seed 5, shoes seed 8"]
    assert len(rows) == 2
    assert list(view_of(store, "body1-7")["regions"]) == ["face", "shoes"]
    assert "others the face and shoes, the insets" in " ".join(made.text.split())
    assert ["border L1", "5", "4", "2"] in made.tables["data"]


def test_a_source_is_its_seed_or_the_end_of_its_uri() -> None:
    assert page.words(Source("seed", 3, 0.7)) == "seed 3, psi 0.7"
    assert page.words(Source("latent", "s3://a/b.npz/")) == "b.npz"
