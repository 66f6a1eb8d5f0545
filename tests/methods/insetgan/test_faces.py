"""Photographs become rows of a manifest: faces found by MTCNN and cut out; reasons for others."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import socket
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from insetgan_batch.data import inputs, manifest, pictures
from insetgan_batch.data.storage import MemoryStorage, read_uri, roots_of, within
from insetgan_batch.errors import ConfigError, CredentialsError
from insetgan_batch.methods.insetgan import alignment, faces
from insetgan_batch.methods.insetgan.alignment import Frame
from insetgan_batch.methods.insetgan.faces import FaceCrop, FaceSelection, Made
from insetgan_batch.methods.insetgan.sources import schema
from insetgan_batch.nets.detector import PhotographFaces
from insetgan_batch.records import Item

PEOPLE = Path(__file__).parents[2] / "data" / "people"
# As the demo's faces are cut out; nearly, since it is measured.
CUT = FaceCrop(Frame(1.44, 0.23), 128)


def photograph(*placed: tuple[str, int, int, int]) -> Image.Image:
    """Rendered faces on gray: (file, left, top, size)."""
    picture = Image.new("RGB", (500, 300), (150, 150, 150))
    for name, left, top, size in placed:
        picture.paste(Image.open(PEOPLE / name).resize((size, size)), (left, top))
    return picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs with one and two faces, a copy, a meadow, a text, and a hidden file."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "trip").mkdir()
    photograph(("face_3.png", 40, 60, 180)).save(folder / "alone.jpg", quality=95)
    photograph(("face_11.png", 10, 80, 120), ("face_19.png", 250, 40, 220)).save(
        folder / "trip" / "two of us.png"
    )
    (folder / "copy.jpg").write_bytes((folder / "alone.jpg").read_bytes())
    photograph().save(folder / "meadow.png")
    (folder / "notes.txt").write_text("no picture")
    (folder / ".DS_Store").write_bytes(b"\0")
    return folder


@pytest.fixture(scope="module")
def made(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    out = tmp_path_factory.mktemp("manifest") / "faces.parquet"
    selection = FaceSelection(bodies=2, consent_note="all of them agreed, 2026-01-01")
    return faces.make_manifest(str(folder), str(out), CUT, selection)


def items_of(made: Made) -> list[Item]:
    return [
        item for item in manifest.read(made.manifest, schema(["face"])) if isinstance(item, Item)
    ]


def test_every_face_of_every_photograph_becomes_rows(made: Made) -> None:
    assert (made.pictures, made.faces, made.rows) == (5, 3, 6)
    assert [item.item_id for item in items_of(made)] == [
        "alone-body0",
        "alone-body1",
        "trip_two_of_us-face0-body0",
        "trip_two_of_us-face0-body1",
        "trip_two_of_us-face1-body0",
        "trip_two_of_us-face1-body1",
    ]
    assert [item.seed for item in items_of(made)] == [0, 1, 0, 1, 0, 1]


def test_each_face_fills_its_picture_as_the_generators_own_do(made: Made) -> None:
    finder = PhotographFaces(torch.device("cpu"))
    for item in items_of(made)[::2]:
        cut = pictures.read(read_uri(item.inputs["face_image"]), "cut")
        assert cut.size == (128, 128)
        (face,) = finder.find(np.array(cut))
        square = alignment.square_of(face.landmarks, CUT.frame)
        assert square.centre == pytest.approx((64, 64), abs=4)
        assert square.half == pytest.approx((64, 0), abs=4)


def test_what_is_skipped_has_a_reason(made: Made, folder: Path) -> None:
    assert set(made.skipped) == {"copy.jpg", "meadow.png", "notes.txt"}
    assert "the same file as alone.jpg" in made.skipped["copy.jpg"]
    assert "no face found" in made.skipped["meadow.png"]
    assert "not an image that can be read" in made.skipped["notes.txt"]
    table = read_uri(made.manifest.replace(".parquet", "-skipped.csv")).decode()
    assert dict(list(csv.reader(io.StringIO(table)))[1:]) == made.skipped


def test_a_row_says_where_its_face_is_from_and_who_agreed(made: Made, folder: Path) -> None:
    meta = items_of(made)[2].meta
    assert meta["picture"] == f"{folder}/trip/two of us.png"
    assert meta["consent_note"] == "all of them agreed, 2026-01-01"
    assert meta["face_probability"] > 0.9
    left_eye, right_eye = np.array(meta["landmarks"]).reshape(5, 2)[:2]
    assert 250 < left_eye[0] < right_eye[0] < 470


def test_the_preview_shows_each_face_before_and_after(made: Made) -> None:
    with Image.open(made.preview) as sheet:
        assert sheet.size == (3 * 392 - 8, 192)


def test_only_the_largest_face_is_taken_where_asked(folder: Path) -> None:
    selection = FaceSelection(which="largest")
    made = faces.make_manifest(str(folder), "memory://largest/m.parquet", CUT, selection)
    assert [item.item_id for item in items_of(made)] == ["alone", "trip_two_of_us"]
    uri = items_of(made)[1].inputs["face_image"]
    assert uri == "memory://largest/m/trip_two_of_us.png"
    assert pictures.read(read_uri(uri), uri).size == (128, 128)


def test_given_landmarks_replace_the_detector(folder: Path) -> None:
    points = np.array([(120, 100), (180, 100), (150, 140), (130, 170), (170, 170)], float)
    selection = FaceSelection(landmarks={"meadow.png": [points]})
    made = faces.make_manifest(str(folder), "memory://given/m.parquet", CUT, selection)
    meadow = next(item for item in items_of(made) if item.item_id == "meadow")
    assert meadow.meta["landmarks"] == points.ravel().tolist()
    assert "face_probability" not in meadow.meta


def test_a_folder_without_faces_leaves_no_manifest(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    photograph().save(source / "meadow.png")
    with pytest.raises(ConfigError, match=r"no face in any of 1 files.*meadow\.png: no face"):
        faces.make_manifest(str(source), f"{out}/m.parquet", CUT, FaceSelection())
    assert [path.name for path in out.iterdir()] == ["m-skipped.csv"]


@pytest.mark.parametrize(
    ("folder_of", "out", "says"),
    [
        (lambda path: path, "m.csv", r"--out .*m\.csv: expected the name of a manifest"),
        (lambda path: path / "nothing", "m.parquet", "no files; expected a folder"),
    ],
)
def test_a_wrong_call_is_told_in_one_line(
    tmp_path: Path, folder_of: Callable[[Path], Path], out: str, says: str
) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ConfigError, match=says):
        faces.make_manifest(str(folder_of(tmp_path)), f"{tmp_path}/{out}", CUT, FaceSelection())


def test_names_of_files_that_become_one_id_stay_apart(tmp_path: Path) -> None:
    for name, size in (("a b.png", 180), ("a_b.png", 200)):
        photograph(("face_3.png", 40, 60, size)).save(tmp_path / name)
    made = faces.make_manifest(str(tmp_path), "memory://apart/m.parquet", CUT, FaceSelection())
    assert [item.item_id for item in items_of(made)] == ["a_b", "a_b-2"]


def test_the_frame_of_a_generator_is_measured_in_what_it_paints() -> None:
    cut = faces.cut_for("demo:face")
    assert cut.size == 128
    # What the renderer's window of 1.75 face heights comes to.
    assert cut.frame.zoom == pytest.approx(1.44, abs=0.05)
    assert cut.frame.down == pytest.approx(0.23, abs=0.05)


def test_a_generator_of_something_else_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"demo:shoes: found a face in \d+ of 32 pictures"):
        faces.cut_for("demo:shoes")


def test_a_run_of_a_folder_keeps_its_manifest_beside_its_results(
    folder: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    out = str(tmp_path / "out")
    uri = faces.manifest_in(out, str(folder), "demo:face", FaceSelection(), said.append)
    assert uri == f"{out}/faces.parquet"
    assert any("3 faces in 5 pictures" in text for text in said)
    written = read_uri(uri)
    # The same command again goes on with the same rows, whatever has become of the folder.
    again = faces.manifest_in(out, "memory://nothing", "demo:face", FaceSelection(), said.append)
    assert (again, read_uri(again)) == (uri, written)


def test_a_real_photograph_has_its_one_face_found() -> None:
    """NASA's portrait of Eileen Collins; public domain."""
    picture = Image.open(Path(__file__).parents[2] / "data" / "astronaut.jpg").convert("RGB")
    (face,) = faces.find_faces(picture, PhotographFaces(torch.device("cpu")))
    square = alignment.square_of(face.landmarks)
    assert square.centre == pytest.approx((225, 106), abs=12)
    assert square.side == pytest.approx(172, abs=15)


# Folders as they are


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with one good picture, called `a.png`."""
    odd = tmp_path / "photographs"
    odd.mkdir()
    photograph(("face_3.png", 40, 60, 180)).save(odd / "a.png")
    return odd


def test_an_entry_that_cannot_be_read_is_skipped_with_its_reason(odd: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (odd / "link").symlink_to(elsewhere)
    (odd / "dangling.jpg").symlink_to("nowhere.jpg")
    (odd / "ring.jpg").symlink_to("ring.jpg")
    os.mkfifo(odd / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(odd / "s.jpg"))
    (odd / "empty.jpg").touch()
    Image.new("RGB", (90_000, 16)).save(odd / "banner.png")
    (odd / "secret.jpg").symlink_to("/proc/1/mem")
    made = faces.make_manifest(str(odd), f"{tmp_path}/m.parquet", CUT, FaceSelection())
    assert [item.item_id for item in items_of(made)] == ["a"]
    reasons = {
        "link": "a directory or a device, expected a file",
        "dangling.jpg": "there is no such file",
        "ring.jpg": "no name of a file",
        "pipe.jpg": "a directory or a device, expected a file",
        "s.jpg": "a directory or a device, expected a file",
        "empty.jpg": "it is empty",
        "banner.png": "no face found",
        "secret.jpg": "",
    }
    assert made.skipped.keys() == reasons.keys()
    for name, reason in reasons.items():
        assert reason in made.skipped[name], name
        assert "\n" not in made.skipped[name]


def test_a_file_without_the_right_to_read_it_is_skipped(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the refusal is made up."""

    def refuse(path: Path, *options: Any) -> Any:
        if path.name == "b.png":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *options)

    real = Path.open
    shutil.copy(odd / "a.png", odd / "b.png")
    monkeypatch.setattr(Path, "open", refuse)
    made = faces.make_manifest(str(odd), "memory://rights/m.parquet", CUT, FaceSelection())
    assert (made.faces, list(made.skipped)) == (1, ["b.png"])
    assert "cannot read: Permission denied" in made.skipped["b.png"]


def test_what_it_has_made_is_no_picture_the_next_time(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(odd)
    (odd / "old").mkdir()
    for out in ("faces.parquet", "faces.parquet", "old/other.parquet", "faces.parquet"):
        made = faces.make_manifest(".", out, CUT, FaceSelection())
        assert (made.pictures, made.faces, made.skipped) == (1, 1, {})
    # Broken off before the manifest was written.
    for ending in (".parquet", "-skipped.csv", "-preview.jpg"):
        (odd / f"faces{ending}").unlink()
    made = faces.make_manifest(str(odd), str(odd / "faces.parquet"), CUT, FaceSelection())
    assert (made.pictures, made.faces, made.skipped) == (1, 1, {})


def test_a_table_of_somebody_elses_hides_nothing(odd: Path, tmp_path: Path) -> None:
    (odd / "trip-skipped.csv").touch()
    (odd / "trip").mkdir()
    (odd / "a.png").rename(odd / "trip" / "a.png")
    made = faces.make_manifest(str(odd), f"{tmp_path}/m.parquet", CUT, FaceSelection())
    assert (made.faces, list(made.skipped)) == (1, ["trip-skipped.csv"])


NAMES = [
    "two\nlines",
    "My%20faces",
    "50%",
    "a#b",
    "what?",
    "it's",
    'a "b" c',
    "über",
    "a;b&c",
    "back\\slash",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_letters_are_found_again(odd: Path, tmp_path: Path, name: str) -> None:
    (odd / "a.png").rename(odd / f"{name}.png")
    place = tmp_path / name
    made = faces.make_manifest(str(odd), str(place / f"{name}.parquet"), CUT, FaceSelection())
    (item,) = items_of(made)
    uri = item.inputs["face_image"]
    assert inputs.read(within(uri, roots_of([], made.manifest)))
    assert item.meta["picture"] == f"{odd}/{name}.png".replace("\n", "\\n")
    by_uri = faces.make_manifest(
        odd.as_uri(), (place / "b" / f"{name}.parquet").as_uri(), CUT, FaceSelection()
    )
    (item,) = items_of(by_uri)
    assert inputs.read(within(item.inputs["face_image"], roots_of([], by_uri.manifest)))


def test_a_name_that_is_not_utf8_is_written_with_escapes(odd: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    (odd / "a.png").rename(odd / f"{name}.png")
    (odd / f"{name}.txt").write_text("no picture")
    out = str(tmp_path / name / "m.parquet")
    made = faces.make_manifest(str(odd), out, CUT, FaceSelection())
    (item,) = items_of(made)
    assert item.meta["picture"] == f"{odd}/caf\\xe9.png"
    assert inputs.read(item.inputs["face_image"])
    assert list(made.skipped) == ["caf\\xe9.txt"]
    table = (tmp_path / name / "m-skipped.csv").read_text()
    assert "caf\\xe9.txt" in table


def test_folders_of_s3_are_no_pictures_and_odd_keys_have_a_reason(odd: Path) -> None:
    """A console leaves an empty object for each folder that it makes."""
    name = uuid.uuid4().hex
    store = MemoryStorage(name)
    png = (odd / "a.png").read_bytes()
    store.put("photos/a.png", png)
    for key in ("photos/", "photos/sub/", "photos/sub//b.png", "photos/../c.png"):
        store._objects[key] = png, 0.0
    made = faces.make_manifest(
        f"memory://{name}/photos", f"memory://{name}/m.parquet", CUT, FaceSelection()
    )
    assert (made.pictures, made.faces) == (3, 1)
    assert made.skipped.keys() == {"sub//b.png", "../c.png"}
    assert all("is not a key" in reason for reason in made.skipped.values())


def test_keys_that_have_run_out_are_no_reason_to_skip_a_picture(
    odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(uri: str) -> bytes:
        raise CredentialsError(f"{uri}: the credentials have run out: renew them")

    monkeypatch.setattr(inputs, "read", refuse)
    with pytest.raises(CredentialsError):
        faces.make_manifest(str(odd), "memory://keys/m.parquet", CUT, FaceSelection())
