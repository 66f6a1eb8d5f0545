"""Hostile input of every kind that a user can hand over: one clear line each, or it is taken right.

A line names the file, the row and the column where there is one, and says what was expected. What
is wrong with one row is that row's affair; what is wrong with a file or a configuration is raised.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from PIL import Image

from insetgan_batch import config
from insetgan_batch.data import inputs, manifest, pictures
from insetgan_batch.data.manifest import BadRow
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.errors import BadInputError, ConfigError, InsetGanError, ManifestError
from insetgan_batch.methods.insetgan.prepare import Preparer
from insetgan_batch.methods.insetgan.recipe import Recipe
from insetgan_batch.methods.insetgan.settings import Settings
from insetgan_batch.methods.insetgan.sources import Source, new_item, schema
from insetgan_batch.methods.insetgan.states import Start
from insetgan_batch.nets.generator import Generator
from insetgan_batch.records import Item

INSETS = ["face"]


def clear_line(error: InsetGanError, *parts: str) -> str:
    """The message: one line that can be printed, not too long, with all the parts."""
    message = str(error)
    assert message
    assert message.splitlines() == [message]
    assert len(message) < 1_000
    message.encode()
    for part in parts:
        assert part in message, message
    return message


# Manifests: the file


def _parquet(table: pa.Table | None = None, **options: Any) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"item_id": [f"i{n}" for n in range(60)]}) if table is None else table
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def _column(name: str, values: Any) -> bytes:
    return _parquet(pa.table({name: values}))


GOOD = _parquet()
STRUCT = pa.array([{"a": 1}])

FILES = {
    "empty": (b"", "not a Parquet file"),
    "text": (b"item_id,canvas_seed\na,1\n", "not a Parquet file"),
    "json": (b'[{"item_id": "a"}]', "not a Parquet file"),
    "zeros": (bytes(10_000), "not a Parquet file"),
    "half": (GOOD[: len(GOOD) // 2], "not a Parquet file"),
    "without its last byte": (GOOD[:-1], "not a Parquet file"),
    "without its first byte": (GOOD[1:], ""),
    "magic only": (b"PAR1PAR1", "not a Parquet file"),
    "footer of no length": (b"PAR1" + bytes(4) + b"PAR1", "not a Parquet file"),
    "footer longer than the file": (b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1", "not a Parquet file"),
    "encrypted footer": (b"PARE" + GOOD[4:-4] + b"PARE", "not a Parquet file"),
    "gzip": (zlib.compress(GOOD), "not a Parquet file"),
    "arrow": (b"ARROW1\0\0" + GOOD, ""),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a Parquet file"),
    "pickle": (pickle.dumps({"a": 1}), "not a Parquet file"),
    "no rows": (_column("item_id", pa.array([], pa.string())), "no rows; expected one per item"),
    "no columns": (_parquet(pa.table({})), "no rows"),
    "pages of zeros": (GOOD[:4] + bytes(40) + GOOD[44:], "damaged somewhere after row 0"),
    "unknown column": (_column("canvas_sed", [1]), "'canvas_sed' (did you mean canvas_seed?)"),
    "column of nobody": (_column("zzz", [1]), "unknown column 'zzz'; known are item_id"),
    "column without a name": (_column("", [1]), "unknown column ''"),
    "column with a line break": (_column("a\nb", [1]), "unknown column 'a\\nb'"),
    "column of a long name": (_column("x" * 50_000, [1]), "unknown column 'xxx"),
    "inset of another recipe": (_column("shoes_seed", [1]), "unknown column 'shoes_seed'"),
    "meta without a name": (_column("meta_", [1]), "unknown column 'meta_'"),
    "upper case": (_column("Item_ID", ["a"]), "did you mean item_id?"),
    "column twice": (
        _parquet(pa.table([[1], [2]], names=["seed", "seed"])),
        "more than one column seed; keep one",
    ),
    "id of numbers": (_column("item_id", [1]), "column item_id is int64, expected string"),
    "seed of text": (_column("seed", ["1"]), "column seed is string, expected int64"),
    "seed of truths": (_column("canvas_seed", [True]), "canvas_seed is bool, expected int64"),
    "seed of dates": (
        _column("seed", pa.array([1], pa.int32()).cast(pa.date32())),
        "column seed is date32[day], expected int64",
    ),
    "psi of text": (_column("face_psi", ["1"]), "face_psi is string, expected float"),
    "image of a dataset": (
        _column("face_image", [{"bytes": b"png", "path": "a.png"}]),
        "face_image is struct<bytes: binary, path: string>, expected string",
    ),
    "latent as a list": (
        _column("face_latent", [[0.5]]),
        "face_latent is list<element: double>, expected string",
    ),
    "box as text": (_column("face_box", ["1,2,3,4"]), "expected list of floats"),
    "overrides as a struct": (_column("overrides", STRUCT), "expected string"),
    "overrides as a map": (
        _column("overrides", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int8()))),
        "expected string",
    ),
}
VERSIONS = {
    "2": "written for version 2",
    "": "schema version ''",
    "-1": "schema version '-1'",
    "1.0": "schema version '1.0'",
    "x\ny": "schema version 'x\\ny'",
    "9" * 5_000: "schema version '9999",
}


def _stored(data: bytes) -> str:
    name = uuid.uuid4().hex
    MemoryStorage(name).put("in/m.parquet", data)
    return f"memory://{name}/in/m.parquet"


def _refused_manifest(uri: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        list(manifest.read(uri, schema(INSETS)))
    clear_line(caught.value, f"{uri}: ", says)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_manifest_is_one_line(name: str, tmp_path: Path) -> None:
    data, says = FILES[name]
    (tmp_path / "m.parquet").write_bytes(data)
    _refused_manifest(str(tmp_path / "m.parquet"), says)
    _refused_manifest(_stored(data), says)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_that_is_not_known_is_one_line(version: str) -> None:
    table = pa.table({"seed": [1]}).replace_schema_metadata(
        {b"insetgan_batch.manifest": version.encode()}
    )
    _refused_manifest(_stored(_parquet(table)), VERSIONS[version])


@pytest.mark.parametrize("name", ["nowhere.parquet", "m.parquet/x", "x" * 300, "a\0b"])
def test_a_path_without_a_manifest_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "m.parquet").write_bytes(GOOD)
    with pytest.raises(InsetGanError) as caught:
        manifest.describe(f"{tmp_path}/{name}", schema(INSETS))
    clear_line(caught.value, str(tmp_path))


@pytest.mark.parametrize("uri", ["http://h/m", "memory://", "s3://", "file://x", ""])
def test_a_uri_of_nothing_is_one_line(uri: str) -> None:
    with pytest.raises(InsetGanError) as caught:
        manifest.describe(uri, schema(INSETS))
    clear_line(caught.value)


# Manifests: one row


NAN, INF = float("nan"), float("inf")
TEXT, BOX = pa.string(), pa.list_(pa.float64())
ROWS: dict[str, tuple[str, Any, pa.DataType | None, str]] = {
    "id with a slash": ("item_id", "a/b", None, "'a/b' is no id; expected [A-Za-z0-9_-]"),
    "id that climbs": ("item_id", "../../etc", None, "is no id"),
    "id that hides": ("item_id", ".a", None, "is no id"),
    "id of nothing": ("item_id", "", None, "'' is no id"),
    "id with a space": ("item_id", "a b", None, "is no id"),
    "id with a line break": ("item_id", "a\n", None, "'a\\n' is no id"),
    "id with a zero": ("item_id", "a\0", None, "is no id"),
    "id of other letters": ("item_id", "é", None, "is no id"),
    "id of 129": ("item_id", "x" * 129, None, "is no id"),
    "id as long as a book": ("item_id", "x" * 1_000_000, None, "is no id"),
    "negative seed": ("canvas_seed", -1, None, "-1 is no seed; expected 0 to 4294967295"),
    "seed of 33 bits": ("canvas_seed", 2**32, None, "4294967296 is no seed"),
    "seed of 63 bits": ("face_seed", 2**63 - 1, None, "is no seed"),
    "seed of 64 bits": ("seed", 2**64 - 1, pa.uint64(), "is no seed"),
    "lowest seed": ("seed", -(2**63), None, "is no seed"),
    "psi above 1": ("canvas_psi", 1.01, None, "1.01 is no truncation; expected 0 to 1"),
    "psi below 0": ("face_psi", -0.01, None, "is no truncation"),
    "psi that is no number": ("face_psi", NAN, None, "nan is no truncation"),
    "endless psi": ("face_psi", INF, None, "inf is no truncation"),
    "half a psi": ("face_psi", NAN, pa.float16(), "nan is no truncation"),
    "image of nothing": ("face_image", "", None, "'' is no URI; name a file"),
    "image with a line break": ("face_image", "a\nb.png", None, "'a\\nb.png' is no URI"),
    "image with a zero": ("face_image", "a\0.png", None, "is no URI"),
    "image with an escape": ("face_image", "\x1b[2Ja.png", None, "is no URI"),
    "image as long as a book": ("face_image", "x" * 100_000, None, "is no URI"),
    "image on the web": ("face_image", "https://x/a.png", None, "https"),
    "image of a bucket": ("face_image", "s3://bucket", None, "names no object"),
    "image of a prefix": ("face_image", "s3://bucket/a/", None, "names no object"),
    "image of nowhere": ("face_image", "s3://", None, ""),
    "file that is relative": ("canvas_image", "file://a.png", None, "not absolute"),
    "latent of nothing": ("canvas_latent", "", None, "'' is no URI"),
    "latent with a secret": ("canvas_latent", "s3://key@host/x", None, ""),
    "box of three": ("face_box", [1.0, 2.0, 3.0], BOX, "is no box; expected [x0, y0, x1, y1]"),
    "box of five": ("face_box", [1.0, 2.0, 3.0, 4.0, 5.0], BOX, "is no box"),
    "box of nothing": ("face_box", [], BOX, "[] is no box"),
    "box of a million": ("face_box", [1.0] * 1_000_000, BOX, "is no box"),
    "box of NaN": ("face_box", [0.0, 0.0, NAN, 1.0], BOX, "is no box"),
    "endless box": ("canvas_box", [0.0, 0.0, INF, 1.0], BOX, "is no box"),
    "box of null": ("canvas_box", [0.0, None, 1.0, 1.0], BOX, "is no box"),
    "box inside out": ("canvas_box", [9.0, 0.0, 1.0, 1.0], BOX, "is no box"),
    "box without a height": ("canvas_box", [0.0, 1.0, 9.0, 1.0], BOX, "is no box"),
    "overrides of nothing": ("overrides", "", None, "not JSON"),
    "half of the overrides": ("overrides", '{"psi": ', None, "not JSON"),
    "overrides of YAML": ("overrides", "psi: 1", None, "not JSON"),
    "overrides of Python": ("overrides", "{'psi': 1}", None, "not JSON"),
    "overrides with NaN": ("overrides", '{"psi": NaN}', None, "not JSON: NaN"),
    "overrides with infinity": ("overrides", '{"psi": -Infinity}', None, "not JSON: -Infinity"),
    "overrides beyond floats": ("overrides", '{"psi": 1e999}', None, "1e999 is too large"),
    "overrides of digits": ("overrides", '{"psi": ' + "9" * 5_000 + "}", None, "not JSON"),
    "half a letter": ("overrides", '{"\\ud800": 1}', None, "not JSON"),
    "list of overrides": ("overrides", "[1]", None, "expected a JSON object, found '[1]'"),
    "one override": ("overrides", "3", None, "expected a JSON object"),
    "override of null": ("overrides", "null", None, "expected a JSON object"),
    "deep overrides": ("overrides", '{"a":' * 20_000, None, "not JSON"),
    "deep list": ("overrides", "[" * 100_000, None, "not JSON"),
    "id of bytes": ("item_id", b"\xff", pa.binary(), "is no text: expected UTF-8"),
    "image as bytes": ("face_image", b"\x89PNG", pa.binary(), "is no text: expected UTF-8"),
    "meta of a book": ("meta_text", "x" * 200_000, None, "bytes of JSON, expected at most 131072"),
    "meta with a line break": ("meta_a\nb", "x" * 200_000, None, "keep it in a file"),
    "meta of many lists": ("meta_x", [[0.5] * 30] * 2_000, None, "keep it in a file"),
    "overrides of a book": (
        "overrides",
        '{"x": "' + "x" * 200_000,
        None,
        "expected at most 131072",
    ),
    "seed of a half": ("canvas_seed", 0.5, None, "0.5 is no seed; expected a whole number"),
    "seed of NaN": ("canvas_seed", float("nan"), None, "nan is no seed; expected a whole number"),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_value_is_its_rows_affair(name: str) -> None:
    column, value, kind, says = ROWS[name]
    values = pa.array([None, value, None], kind)
    uri = _stored(_parquet(pa.table({column: values, "meta_row": [0, 1, 2]})))
    if column != "seed":  # rows without an id need something of their own
        table = pa.table({column: values, "seed": [5, 6, 7]})
        uri = _stored(_parquet(table))
    rows = list(manifest.read(uri, schema(INSETS)))
    assert [isinstance(row, BadRow) for row in rows[:2]] == [False, True]
    bad = rows[1]
    assert isinstance(bad, BadRow)
    assert (bad.row, bad.item_id) == (1, "row-000000001")
    shown = column.replace("\n", "\\n")
    clear_line(bad.error, f"{uri}: row 1, column {shown}: ", says)
    assert len(rows) == 3


def _not_utf8(column: str, first: bytes = b"a", last: bytes = b"c") -> pa.Table:
    values = pa.array([first, b"\xff\xfe", last]).cast(pa.string(), safe=False)
    return pa.table({column: values, "seed": [1, 2, 3]})


PAIRS = {
    "two sources": (
        pa.table({"face_seed": [1, 2, 3], "face_image": [None, "b", None]}),
        "column face_image: face_seed is given too",
    ),
    "three sources": (
        pa.table(
            {
                "canvas_latent": [None, "a", None],
                "canvas_image": [None, "b", None],
                "canvas_seed": [1, 2, 3],
            }
        ),
        "column canvas_image: canvas_seed is given too",
    ),
    "an id twice": (
        pa.table({"item_id": ["a", "a", "b"], "seed": [1, 2, 3]}),
        "column item_id: a stands for an earlier row too",
    ),
    "a row twice": (
        pa.table({"canvas_seed": [1, 1, 2], "meta_name": ["a", "b", "c"]}),
        "stands for an earlier row too; give each its own item_id or seed",
    ),
    "an image that is not UTF-8": (_not_utf8("face_image"), "column face_image: cannot be read"),
    "an id that is not UTF-8": (_not_utf8("item_id"), "column item_id: cannot be read"),
    "overrides that are not UTF-8": (
        _not_utf8("overrides", b"{}", b"{}"),
        "column overrides: cannot be read",
    ),
    "meta that is not UTF-8": (_not_utf8("meta_name"), "column meta_name: cannot be read"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_bad_row_among_good_ones_is_the_only_one(name: str) -> None:
    table, says = PAIRS[name]
    uri = _stored(_parquet(table))
    rows = list(manifest.read(uri, schema(INSETS)))
    assert [isinstance(row, BadRow) for row in rows] == [False, True, False]
    assert isinstance(rows[1], BadRow)
    clear_line(rows[1].error, f"{uri}: row 1, ", says)


# Pictures, latents and boxes: what a row names


@pytest.fixture
def begin(tiny_canvas: Generator, tiny_face: Generator) -> Callable[..., Start]:
    """Starts a row with this canvas on generators that paint 64x32 and 32x32."""
    preparer = Preparer(Recipe(), {"canvas": tiny_canvas, "face": tiny_face}, {}, {})

    def start(canvas: Source, **row: Any) -> Start:
        item = new_item("a", canvas, {"face": Source("seed", 1)}, **row)
        return preparer.start("1-1", preparer.prepare(item, inputs.read))

    return start


def _encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def _png_of(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG whose header says so."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(pixels)) + _chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def _bmp_of(width: int, height: int) -> bytes:
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + header


def _gif_of(width: int, height: int) -> bytes:
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00"
    return b"GIF89a" + screen + frame + b";"


PLAIN = Image.linear_gradient("L").resize((40, 40)).convert("RGB")
PNG, JPEG, WEBP = (_encoded(PLAIN, kind) for kind in ("PNG", "JPEG", "WEBP"))
TIFF, GIF, BMP = (_encoded(PLAIN, kind) for kind in ("TIFF", "GIF", "BMP"))
PICTURES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty; expected PNG, JPEG"),
    "text": (b"hello", "not an image that can be read; expected PNG"),
    "zeros": (bytes(5_000), "not an image that can be read"),
    "page of an error": (b"<html>404</html>", "not an image that can be read"),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "expected PNG, JPEG"),
    "EPS, for which Pillow would start a program": (_encoded(PLAIN, "EPS"), "expected PNG"),
    "PDF": (_encoded(PLAIN, "PDF"), "expected PNG, JPEG"),
    "icon": (_encoded(PLAIN, "ICO"), "expected PNG, JPEG"),
    "pickle": (pickle.dumps(np.zeros((32, 32, 3))), "expected PNG, JPEG"),
    "signature of PNG only": (PNG[:8], "not an image that can be read"),
    "half a PNG": (PNG[: len(PNG) // 2], "not an image that can be read"),
    "half a JPEG": (JPEG[: len(JPEG) // 2], "not an image that can be read"),
    "half a WebP": (WEBP[: len(WEBP) // 2], "not an image that can be read"),
    "half a TIFF": (TIFF[: len(TIFF) // 2], "not an image that can be read"),
    "half a GIF": (GIF[: len(GIF) // 2], "not an image that can be read"),
    "half a BMP": (BMP[: len(BMP) // 2], "not an image that can be read"),
    "header of JPEG": (JPEG[:200], "not an image that can be read"),
    "PNG with a wrong checksum": (PNG[:29] + b"\0\0\0\0" + PNG[33:], "not an image"),
    "PNG of no pixels": (_png_of(64, 64), "not an image that can be read"),
    "PNG of too few pixels": (_png_of(64, 64, bytes(100)), "not an image that can be read"),
    "PNG without a width": (_png_of(0, 64), "image"),
    "PNG of a negative size": (_png_of(2**32 - 1, 2**32 - 1), "million pixels"),
    "PNG of 30,000 x 30,000": (_png_of(30_000, 30_000, bytes(1_000)), "million pixels"),
    # No pixels follow: who decodes them before looking at the size says something else.
    "PNG of 10,000 x 10,000": (
        _png_of(10_000, 10_000),
        "the picture is 10000 x 10000 pixels, expected at most 80 million",
    ),
    "PNG of 9,000 x 9,000": (_png_of(9_000, 9_000), "expected at most 80 million"),
    "a line of a hundred million": (_png_of(100_000_000, 1), "million"),
    "BMP of 30,000 x 30,000": (_bmp_of(30_000, 30_000), "million pixels"),
    "BMP of 12,000 x 12,000": (_bmp_of(12_000, 12_000), "expected at most 80 million"),
    "GIF of 60,000 x 60,000": (_gif_of(60_000, 60_000), "million pixels"),
    "GIF of 10,000 x 10,000": (_gif_of(10_000, 10_000), "expected at most 80 million"),
    "1 x 1": (
        _encoded(PLAIN.resize((1, 1))),
        "the picture is 1 x 1 pixels, expected at least 16 on each side",
    ),
    "15 x 200": (_encoded(PLAIN.resize((15, 200))), "the picture is 15 x 200 pixels"),
    "200 x 15": (_encoded(PLAIN.resize((200, 15))), "the picture is 200 x 15 pixels"),
    "floats": (_encoded(Image.new("F", (32, 32)), "TIFF"), "32 bits per channel, expected 8 or 16"),
    "integers": (_encoded(Image.new("I", (32, 32)), "TIFF"), "32 bits per channel"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("name", PICTURES)
def test_a_bad_picture_is_its_rows_affair(
    name: str, tmp_path: Path, begin: Callable[..., Start]
) -> None:
    data, says = PICTURES[name]
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        begin(Source("image", str(path)))
    clear_line(caught.value, "column canvas_image: ", f"{path}: ", says)
    with pytest.raises(ManifestError) as before:
        manifest.check_sample(
            [new_item("a", Source("image", str(path)), {})], schema(INSETS), lambda uri: data
        )
    clear_line(before.value, "item a, column canvas_image: ", f"{path}: ", says)


RED, GREEN = (255, 0, 0), (0, 255, 0)


def _halves(upper: tuple[int, ...], lower: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    """32 wide and 64 high."""
    image = Image.new(mode, (32, 64), lower)
    image.paste(upper, (0, 0, 32, 32))
    return image


def _oriented(orientation: int) -> bytes:
    """Red above green, stored as a camera that was held so stores it."""
    back = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    image = _halves(RED, GREEN)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = image.transpose(back[orientation]) if orientation in back else image
    return _encoded(stored, exif=exif)


def _animated(kind: str, **options: Any) -> bytes:
    frames = [_halves(GREEN, RED), _halves(GREEN, GREEN)]
    return _encoded(
        _halves(RED, GREEN), kind, save_all=True, append_images=frames, duration=100, **options
    )


def _palette(transparency: int | bytes | None) -> bytes:
    image = Image.new("P", (32, 64), 1)
    image.putpalette([*RED, *GREEN, 0, 0, 255])
    image.paste(0, (0, 0, 32, 32))
    if transparency is None:
        return _encoded(image)
    return _encoded(image, transparency=transparency)


ACCEPTED: dict[str, tuple[bytes, tuple[int, ...], tuple[int, ...]]] = {
    "RGB": (_encoded(_halves(RED, GREEN)), RED, GREEN),
    **{f"EXIF {n}": (_oriented(n), RED, GREEN) for n in range(1, 9)},
    "EXIF of nonsense": (_oriented(77), RED, GREEN),
    "broken EXIF": (_encoded(_halves(RED, GREEN), exif=b"Exif\0\0nonsense"), RED, GREEN),
    "animated GIF": (_animated("GIF"), RED, GREEN),
    "animated WebP": (_animated("WEBP", lossless=True), RED, GREEN),
    "animated PNG": (_animated("PNG"), RED, GREEN),
    "pages of a TIFF": (_animated("TIFF"), RED, GREEN),
    "CMYK TIFF": (
        _encoded(_halves((0, 255, 255, 0), (255, 0, 255, 0), "CMYK"), "TIFF"),
        RED,
        GREEN,
    ),
    "CMYK JPEG": (
        _encoded(_halves((0, 255, 255, 0), (255, 0, 255, 0), "CMYK"), "JPEG", quality=100),
        RED,
        GREEN,
    ),
    "YCbCr TIFF": (_encoded(_halves(RED, GREEN).convert("YCbCr"), "TIFF"), RED, GREEN),
    "gray": (_encoded(_halves((200,), (10,), "L")), (200,) * 3, (10,) * 3),
    "gray and alpha": (_encoded(_halves((200, 255), (10, 0), "LA")), (200,) * 3, (255,) * 3),
    "black and white": (_encoded(_halves((255,), (0,), "1")), (255,) * 3, (0,) * 3),
    "palette": (_palette(None), RED, GREEN),
    "palette with a transparent colour": (_palette(1), RED, (255,) * 3),
    "palette with alphas": (_palette(bytes([255, 0, 0])), RED, (255,) * 3),
    "alpha": (_encoded(_halves((*RED, 255), (*GREEN, 0), "RGBA")), RED, (255,) * 3),
    "half an alpha": (_encoded(_halves((*RED, 255), (0, 0, 0, 102), "RGBA")), RED, (153,) * 3),
    "GIF": (_encoded(_halves(RED, GREEN), "GIF"), RED, GREEN),
    "lossless WebP": (_encoded(_halves(RED, GREEN), "WEBP", lossless=True), RED, GREEN),
    "BMP": (_encoded(_halves(RED, GREEN), "BMP"), RED, GREEN),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_odd_picture_is_taken_as_it_looks(name: str) -> None:
    data, upper, lower = ACCEPTED[name]
    image = pictures.read(data, "x")
    assert (image.mode, image.size) == ("RGB", (32, 64))
    for y, expected in ((8, upper), (56, lower)):
        assert image.getpixel((16, y)) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "TIFF, big-endian"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str) -> None:
    values = np.linspace(0, 65_535, 1_024).round().astype(np.uint16).reshape(32, 32)
    image = Image.fromarray(values)
    data = _encoded(image, kind.partition(",")[0])
    if "big" in kind:
        swapped = Image.fromarray(values.astype(">u2"))
        assert swapped.mode == "I;16B"
        data = _encoded(swapped, "TIFF")
    found = np.asarray(pictures.read(data, "x"))
    assert (found == np.round(values / 257)[..., None]).all()


def test_sixteen_bits_of_colour_are_scaled() -> None:
    header = struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0)
    row = b"\0" + struct.pack(">HHH", 65_535, 32_896, 0) * 32
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    data += _chunk(b"IDAT", zlib.compress(row * 32)) + _chunk(b"IEND", b"")
    assert pictures.read(data, "x").getpixel((3, 3)) == (255, 128, 0)


def test_a_wrong_ending_does_not_matter(tmp_path: Path, begin: Callable[..., Start]) -> None:
    path = tmp_path / "really.png.txt"
    path.write_bytes(_encoded(_halves(RED, GREEN), "BMP"))
    reference = begin(Source("image", str(path))).references["canvas"]
    assert reference[:, 5, 16].tolist() == [1, -1, -1]


def test_a_turned_photo_is_upright_where_it_is_used(
    tmp_path: Path, begin: Callable[..., Start]
) -> None:
    """And its box is in pixels of the upright picture, brought to the generator's."""
    path = tmp_path / "x.png"
    path.write_bytes(_oriented(6))
    assert Image.open(path).size == (64, 32)
    found = begin(Source("image", str(path), box=(8, 16, 16, 48)))
    assert found.references["canvas"][:, 5, 16].tolist() == [1, -1, -1]
    assert found.references["canvas"][:, 60, 16].tolist() == [-1, 1, -1]
    assert found.boxes["canvas"].as_tuple() == (8, 16, 16, 48)


# Files that are none


@pytest.mark.parametrize("kind", ["image", "latent"])
@pytest.mark.parametrize("name", ["nowhere.png", "folder", "pipe", "ring", "x" * 300, "zero\0"])
def test_what_is_no_file_is_its_rows_affair(
    kind: Any, name: str, tmp_path: Path, begin: Callable[..., Start]
) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(BadInputError) as caught:
        begin(Source(kind, f"{tmp_path}/{name}"))
    clear_line(caught.value, f"column canvas_{kind}: ", name[:20].replace("\0", "\\x00"))


def test_a_file_without_an_end_is_its_rows_affair(begin: Callable[..., Start]) -> None:
    for kind in ("image", "latent"):
        with pytest.raises(BadInputError) as caught:
            begin(Source(kind, "/dev/zero"))
        clear_line(caught.value, f"column canvas_{kind}: /dev/zero: ", "expected a file")


# Latents


def _latents(**tensors: torch.Tensor) -> bytes:
    return safetensors.torch.save(tensors)


def _header(text: str, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text.encode() + data


def _filled(value: float, *shape: int) -> torch.Tensor:
    return torch.full(shape, value)


W = torch.zeros(8)  # the tiny canvas has w [8] and delta [10 8]
ENTRY = '{"w":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]}}'
LATENTS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a safetensors file"),
    "text": (b"hello there, hello", "not a safetensors file"),
    "zeros": (bytes(1_000), "not a safetensors file"),
    "a pickle by that name": (pickle.dumps({"w": [0.0] * 8}), "not a safetensors file"),
    "a checkpoint of torch": (b"PK\x03\x04" + bytes(200), "not a safetensors file"),
    "a file of numpy": (b"\x93NUMPY\x01\x00" + bytes(200), "not a safetensors file"),
    "half": (_latents(w=W)[:40], "not a safetensors file"),
    "without its last byte": (_latents(w=W)[:-1], "not a safetensors file"),
    "a byte too many": (_latents(w=W) + b"x", "not a safetensors file"),
    "header as long as the world": (b"\xff" * 8 + b"{}", "not a safetensors file"),
    "header of a terabyte": (struct.pack("<Q", 2**40) + b"{}", "not a safetensors file"),
    "header of nothing": (_header(""), "not a safetensors file"),
    "header of a list": (_header("[]"), "not a safetensors file"),
    "header that ends early": (_header('{"w":'), "not a safetensors file"),
    "header that is deep": (_header("[" * 100_000), "not a safetensors file"),
    "header with a tensor of the moon": (_header(ENTRY % ("F32", 2**62, 0, 32)), "safetensors"),
    "header with a negative size": (_header(ENTRY % ("F32", -8, 0, 32), bytes(32)), "safetensors"),
    "header that points outside": (_header(ENTRY % ("F32", 8, 0, 999)), "not a safetensors file"),
    "header that points backwards": (_header(ENTRY % ("F32", 8, 32, 0)), "not a safetensors file"),
    "unknown type": (_header(ENTRY % ("F33", 8, 0, 32), bytes(32)), "not a safetensors file"),
    "no tensors": (_header("{}"), "found [], expected `w` and optionally `delta`"),
    "other tensors": (_latents(z=W), "found ['z'], expected `w` and optionally `delta`"),
    "a thousand others": (
        _latents(**{f"layer{n}": W[:1].clone() for n in range(1_000)}),
        "expected `w`",
    ),
    "a name with a line break": (_latents(**{"a\nb": W}), "expected `w`"),
    "only delta": (_latents(delta=_filled(0, 10, 8)), "found ['delta'], expected `w`"),
    "short w": (_latents(w=W[:7].clone()), "`w` has shape [7], expected [8]"),
    "w of 512": (_latents(w=_filled(0, 512)), "`w` has shape [512], expected [8]"),
    "w of layers": (_latents(w=_filled(0, 10, 8)), "`w` has shape [10, 8], expected [8]"),
    "w of a batch": (_latents(w=W[None].clone()), "`w` has shape [1, 8], expected [8]"),
    "one number": (_latents(w=torch.tensor(1.0)), "`w` has shape [], expected [8]"),
    "nothing": (_latents(w=_filled(0, 0)), "`w` has shape [0], expected [8]"),
    "short delta": (_latents(w=W, delta=_filled(0, 8, 8)), "`delta` has shape [8, 8], expected"),
    "turned delta": (_latents(w=W, delta=_filled(0, 8, 10)), "`delta` has shape [8, 10], expected"),
    "w of NaN": (_latents(w=_filled(float("nan"), 8)), "`w` holds NaN or infinity"),
    "w with one infinity": (_latents(w=torch.tensor([0, 0, 0, 0, 0, 0, 0, INF])), "`w` holds"),
    "delta of NaN": (_latents(w=W, delta=_filled(float("nan"), 10, 8)), "`delta` holds NaN"),
    "doubles beyond floats": (
        _latents(w=torch.full((8,), 1e300, dtype=torch.float64)),
        "`w` holds",
    ),
    "integers": (_latents(w=W.long()), "`w` is int64, expected float32"),
    "bytes": (_latents(w=W.byte()), "`w` is uint8, expected float32"),
    "truths": (_latents(w=W.bool()), "`w` is bool, expected float32"),
    "eight bits": (_latents(w=W.to(torch.float8_e4m3fn)), "`w` is float8_e4m3fn, expected"),
    "complex numbers": (_latents(w=W.to(torch.complex64)), "`w` is complex64, expected float32"),
}


@pytest.mark.parametrize("name", LATENTS)
def test_bad_latents_are_their_rows_affair(
    name: str, tmp_path: Path, begin: Callable[..., Start], tiny_canvas: Generator
) -> None:
    assert (len(tiny_canvas.w_avg), tiny_canvas.num_ws) == (8, 10)  # what the table is made for
    data, says = LATENTS[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(BadInputError) as caught:
        begin(Source("latent", str(path)))
    clear_line(caught.value, "column canvas_latent: ", f"{path}: ", says)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_latents_of_any_float_are_taken(
    kind: torch.dtype, tmp_path: Path, begin: Callable[..., Start]
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(_latents(w=_filled(0.5, 8).to(kind)))
    latents = begin(Source("latent", str(path))).latents["canvas"]
    assert latents[0].tolist() == [0.5] * 8
    assert not latents[1:].any()


# Boxes, which only make sense in a picture

BOXES = {
    "to the right": ((32, 0, 40, 8), "lies outside"),
    "to the left": ((-8, 0, 0, 8), "lies outside"),
    "above": ((0, -8, 8, 0), "lies outside"),
    "below": ((0, 64, 8, 72), "lies outside"),
    "far away": ((1e300, 1e300, 1.1e300, 1.1e300), "lies outside"),
    "too wide": ((-65, 0, 64, 8), "expected sides of at most 4 times the picture's"),
    "too high": ((0, -129, 8, 128), "expected sides of at most 4 times the picture's"),
    "endless": ((-1.7e308, 0, 1.7e308, 8), "expected sides of at most 4 times the picture's"),
    "a hair": ((1, 1, 1.001, 8), "is too small"),
    "a point": ((1, 1, 1 + 1e-9, 1 + 1e-9), "is too small"),
}


@pytest.mark.parametrize("name", BOXES)
def test_a_box_that_cannot_hold_a_part_is_its_rows_affair(
    name: str, begin: Callable[..., Start]
) -> None:
    box, says = BOXES[name]
    with pytest.raises(BadInputError) as caught:
        begin(Source("seed", 1, box=box))
    clear_line(caught.value, "column canvas_box: ", "in a picture of 32 x 64 pixels", says)


@pytest.mark.parametrize("box", [(0, 0, 32, 64), (-64, -128, 64, 128), (31, 63, 40, 70)])
def test_a_box_may_leave_the_picture_in_part(
    box: tuple[float, float, float, float], begin: Callable[..., Start]
) -> None:
    assert begin(Source("seed", 1, box=box)).boxes["canvas"].as_tuple() == box


def test_a_box_is_in_pixels_of_its_own_picture(tmp_path: Path, begin: Callable[..., Start]) -> None:
    path = tmp_path / "x.png"
    Image.new("RGB", (320, 320)).save(path)
    found = begin(Source("image", str(path), box=(100, 100, 200, 150)))
    assert found.boxes["canvas"].as_tuple() == pytest.approx((10, 20, 20, 30))
    with pytest.raises(BadInputError) as caught:
        begin(Source("image", str(path), box=(400, 0, 500, 50)))
    clear_line(caught.value, "column canvas_box: ", "in a picture of 320 x 320 pixels")


# Overrides, which only make sense with a recipe

OVERRIDES = {
    '{"psy": 1}': "`psy` is not a known key; did you mean `psi`?",
    '{"psi": 2}': "`psi` is 2: input should be less than or equal to 1",
    '{"psi": "high"}': "`psi` is 'high': input should be a valid number",
    '{"psi": null}': "`psi` is None",
    '{"psi": [0.5]}': "`psi` is [0.5]",
    '{"canvas": 3}': "`canvas` is 3",
    '{"canvas": {"border": {"l1": -1}}}': "`canvas.border.l1` is -1",
    '{"canvas": {"learning_rate": 0}}': "`canvas.learning_rate` is 0",
    '{"insets": {"hat": {}}}': "belong to the whole run",
    '{"insets": []}': "`insets` is []",
    '{"max_rounds": 1.5}': "`max_rounds` is 1.5",
    '{"max_rounds": -1}': "`max_rounds` is -1",
    '{"min_rounds": 99}': "recipe.min_rounds is 99",
    '{"resolution": 128}': "belong to the whole run",
    '{"order": ["face", "canvas"]}': "belong to the whole run",
    '{"a\\nb": 1}': "`a b` is not a known key",
    json.dumps({"x" * 10_000: 1}): "`xxx",
    json.dumps({"psi": "x" * 10_000}): "`psi` is 'xxx",
    json.dumps({f"k{n}": n for n in range(500)}): "`k0` is not a known key",
    '{"name": {"a": {"b": {}}}}': "`name` is {'a'",
}


@pytest.mark.parametrize("text", OVERRIDES, ids=lambda text: text[:40])
def test_overrides_that_the_recipe_does_not_have_are_their_rows_affair(
    text: str, begin: Callable[..., Start]
) -> None:
    uri = _stored(_column("overrides", [text]))
    (item,) = manifest.read(uri, schema(INSETS))
    assert isinstance(item, Item)
    with pytest.raises(BadInputError) as caught:
        begin(Source("seed", 1), overrides=item.overrides)
    clear_line(caught.value, "overrides: ", OVERRIDES[text])


# Configurations


CONFIGURATIONS: dict[str, tuple[str | bytes, str]] = {
    "bytes": (b"\x80\x81", "cannot be read"),
    "UTF-16": ("slots: 2".encode("utf-16"), "cannot be read"),
    "a zero": ("slots: \0", "not YAML"),
    "a bell": ("slots: \a", "not YAML"),
    "a tab": ("\tslots: 2", "not YAML"),
    "an open bracket": ("slots: [1, 2", "not YAML"),
    "two colons": ("a: b: c", "not YAML"),
    "two documents": ("slots: 1\n---\nslots: 2", "not YAML: expected a single document"),
    "text": ("hello", "found str, expected `key: value` lines"),
    "a number": ("3", "found int, expected"),
    "a list": ("- slots: 3", "found list, expected"),
    "a set": ("!!set {slots}", "found set, expected"),
    "too many bytes": ("# \n" * 100_000, "more than 256 KiB"),
    "an alias of nothing": ("slots: *a", "found undefined alias"),
    "code": ("!!python/object/apply:os.system ['true']", "not YAML"),
    "a module": ("slots: !!python/module:os", "not YAML"),
    "a tag": ("slots: !foo 1", "not YAML"),
    "a day that is none": ("slots: 2026-13-45", "not YAML: month must be in 1..12"),
    "no integer": ("slots: !!int abc", "not YAML: invalid literal for int"),
    "no float": ("slots: !!float x", "not YAML: could not convert"),
    "no mapping": ("recipe: !!map [a]", "not YAML"),
    "an integer of 5,000 digits": ("slots: " + "9" * 5_000, "not YAML"),
    "a list as a key": ("? [a]\n: 1", "unhashable key"),
    "a number as a key": ("1: 2", "`1` is 1: keys should be strings"),
    "nothing as a key": ("~: 2", "keys should be strings"),
    "a key with a line break": ('"a\\nb": 2', "`a b` is not a known key"),
    "a key like a book": ("x" * 900 + ": 2", "xxx"),
    "a value like a book": ("slots: " + "x" * 100_000, "`slots` is 'xxx"),
    "half a letter": ('slots: "\\ud800"', "`slots` is '\\ud800'"),
    "a key twice": ("slots: 2\nslots: 8", "`slots` is there twice"),
    "a deep key twice": ("recipe:\n  psi: 0.1\n  psi: 0.2", "`psi` is there twice"),
    "an unknown key": ("slot: 3", "`slot` is not a known key; did you mean `slots`?"),
    "an unknown key of the recipe": ("recipe: {psy: 3}", "`recipe.psy` is not a known key"),
    "negative slots": ("slots: -1", "`slots` is -1: expected a number from 1"),
    "no slots": ("slots: 0", "`slots` is 0"),
    "slots of nothing": ("slots:", "`slots` is None"),
    "half a slot": ("slots: 1.5", "`slots` is 1.5"),
    "slots of NaN": ("slots: .nan", "`slots` is nan"),
    "endless slots": ("slots: .inf", "`slots` is inf"),
    "many slots": (
        "slots: 1000000000000",
        "`slots` is 1000000000000: expected a number from 1 to 4096",
    ),
    "slots in words": ("slots: four", "`slots` is 'four'"),
    "slots within lists": ("slots: [[[4]]]", "`slots` is [[[4]]]"),
    "slots within keys": ("slots: {a: {b: 4}}", "`slots` is {'a'"),
    "many actors": ("max_actors: 99999999999999999999", "less than or equal to 100000"),
    "negative actors": ("max_actors: -3", "`max_actors` is -3"),
    "no GPU": ("gpus_per_actor: 0", "greater than 0"),
    "two GPUs": ("gpus_per_actor: 2", "less than or equal to 1"),
    "many cores": ("cores_per_actor: 1000000", "less than or equal to"),
    "negative film": ("film_every: -1", "`film_every` is -1"),
    "no time for an item": ("item_hours: 0", "`item_hours` is 0"),
    "endless item": ("item_hours: .inf", "`item_hours` is inf"),
    "precision of another house": ("precision: int8", "`precision` is 'int8'"),
    "no truth for a writer": ("single_writer: maybe", "`single_writer` is 'maybe'"),
    "canvas as a list": ("canvas: [demo:canvas]", "`canvas` is ['demo:canvas']"),
    "canvas of nothing": ("canvas:", "`canvas` is None"),
    "no such demo": ("canvas: demo:body", "expected one of the demo's"),
    "a short sha256": ("canvas: demo:canvas#sha256=12", "64 hexadecimal digits"),
    "insets as a list": ("insets: [face]", "`insets` is ['face']"),
    "insets of nothing": ("insets:", "`insets` is None"),
    "no insets": ("insets: {}", "insets is empty"),
    "an inset of numbers": ("insets: {face: 3}", "`insets.face` is 3"),
    "an inset by number": ("insets: {1: demo:face}", "`insets.1.[key]` is 1"),
    "another inset": ("insets: {hat: demo:face}", "insets has ['hat']"),
    "a recipe of another house": ("recipe: cake", "recipe 'cake': expected one of"),
    "a recipe that climbs": ("recipe: ../../etc/passwd", "expected one of"),
    "a recipe with a line break": ('recipe: "a\\nb"', "expected one of"),
    "a recipe as a list": ("recipe: [1]", "`recipe` is [1]"),
    "a recipe of nothing": ("recipe:", "`recipe` is None"),
    "a preset as a list": ("recipe: {preset: [montage]}", "expected one of"),
    "psi above 1": ("recipe: {psi: 2}", "`recipe.psi` is 2"),
    "psi of NaN": ("recipe: {psi: .nan}", "`recipe.psi` is nan"),
    "psi in words": ("recipe: {canvas: {psi: x}}", "`recipe.canvas.psi` is 'x'"),
    "psi of a layer": ("recipe: {canvas: {psi: [0.1, 3]}}", "`recipe.canvas.psi.1` is 3"),
    "psi by key": ("recipe: {canvas: {psi: {a: 1}}}", "`recipe.canvas.psi` is {'a': 1}"),
    "negative steps": ("recipe: {canvas: {steps: -1}}", "`recipe.canvas.steps` is -1"),
    "a rate beyond floats": (
        "recipe: {canvas: {learning_rate: 1.0e+999}}",
        "`recipe.canvas.learning_rate` is inf",
    ),
    "a negative weight": (
        "recipe: {canvas: {border: {l1: -1}}}",
        "`recipe.canvas.border.l1` is -1",
    ),
    "a weight for all": ("recipe: {canvas: {border: 3}}", "`recipe.canvas.border` is 3"),
    "a resolution of the moon": ("recipe: {resolution: 100000000}", "at most 8192 pixels"),
    "no resolution": ("recipe: {resolution: 0}", "`recipe.resolution` is 0"),
    "an order in words": ("recipe: {order: canvas}", "`recipe.order` is 'canvas'"),
    "an order of lists": ("recipe: {order: [[canvas]]}", "`recipe.order.0` is ['canvas']"),
    "stages of a number": ("recipe: {stages: 3}", "`recipe.stages` is 3"),
    "a stage of no rounds": ("recipe: {stages: [{rounds: 0}]}", "stages.0.rounds` is 0"),
    "detector of another house": ("detector: yolo", "`detector` is 'yolo'"),
    "detector as a list": ("detector: [mtcnn]", "`detector` is ['mtcnn']"),
    "detector of nothing": ("detector:", "`detector` is None"),
    "detector of a number": ("detector: 3", "`detector` is 3"),
    "detector of no insets": ("detector: {}", "detector has []"),
    "a box of three": ("detector: {fixed: {canvas: [0, 0, 1]}}", "is missing"),
    "a box of NaN": (
        "detector: {fixed: {canvas: [0, 0, .nan, 1], face: [0, 0, 1, 1]}}",
        "`detector.fixed.canvas.2` is nan",
    ),
    "a box inside out": (
        "detector: {fixed: {canvas: [9, 0, 1, 1], face: [0, 0, 1, 1]}}",
        "detector.fixed.canvas is [9.0, 0.0, 1.0, 1.0]",
    ),
    "segmenter of another house": ("segmenter: {face: x}", "`segmenter.face` is 'x'"),
    "a negative class": ("classes: {canvas: -1}", "`classes.canvas` is -1"),
    "a class of nobody": ("classes: {hat: 1}", "classes has ['hat']"),
    "perceptual of a number": ("perceptual: 3", "`perceptual` is 3"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_bad_configuration_is_one_line(name: str, tmp_path: Path) -> None:
    text, says = CONFIGURATIONS[name]
    path = tmp_path / "run.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert clear_line(caught.value, says).startswith(f"{path}: ")


def test_a_configuration_that_is_no_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere.yaml", tmp_path / ("x" * 300), Path("/dev/zero")):
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        clear_line(caught.value, str(path))


def test_aliases_in_moderation_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "recipe:\n  canvas: {border: &weights {l1: 0.25}}\n"
        "  insets: {face: {border: {<<: *weights, lpips: 0.5}}}\n"
    )
    settings = config.load(path).settings
    assert isinstance(settings, Settings)
    recipe = settings.recipe
    assert recipe.canvas.border.l1 == 0.25
    assert (recipe.insets["face"].border.l1, recipe.insets["face"].border.lpips) == (0.25, 0.5)
