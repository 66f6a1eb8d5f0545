"""Colours of pictures that rows name."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from insetgan_batch.data import pictures
from insetgan_batch.errors import BadInputError

COLOUR = (200, 60, 20)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
# A camera whose red is blue: the profile of sRGB with the names of two primaries exchanged.
EXCHANGED = SRGB.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")


def read(profile: bytes | None, mode: str = "RGB") -> tuple[int, ...]:
    """The colour that a picture of one colour with this profile is read as."""
    image = Image.new("RGB", (16, 16), COLOUR).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", icc_profile=profile)
    pixels = np.asarray(pictures.read(buffer.getvalue(), "a.png"))
    return tuple(int(v) for v in pixels[3, 5])


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_colour_profile_is_followed() -> None:
    found = read(EXCHANGED)
    assert np.abs(np.array(found) - COLOUR[::-1]).max() <= 2


def test_the_profile_of_srgb_changes_nothing() -> None:
    assert np.abs(np.array(read(SRGB)) - COLOUR).max() <= 1


def test_a_picture_without_a_profile_is_taken_for_srgb() -> None:
    assert read(None) == COLOUR


def test_a_broken_profile_is_passed_over() -> None:
    assert read(SRGB[:200]) == COLOUR
    assert read(b"no profile") == COLOUR


def test_a_gray_picture_keeps_its_gray() -> None:
    gray = read(None, "L")
    assert len(set(gray)) == 1


def test_a_profile_is_followed_in_every_mode() -> None:
    expected = np.array(read(EXCHANGED))
    plain = Image.new("RGB", (16, 16), COLOUR)
    for image in (plain.convert("RGBA"), plain.quantize(), plain.convert("RGBA").quantize()):
        found = pictures.read(encoded(image, icc_profile=EXCHANGED), "a").getpixel((3, 3))
        assert np.abs(np.array(found) - expected).max() <= 2


def gray_profile(gamma: float) -> bytes:
    """A gray profile with this gamma: a header, and a curve, a white point and a name."""
    name = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(90)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    parts = {b"desc": name, b"wtpt": white, b"kTRC": curve}
    table, body, at = b"", b"", 128 + 4 + 12 * len(parts)
    for tag, part in parts.items():
        padded = part + bytes(-len(part) % 4)
        table += tag + struct.pack(">II", at + len(body), len(part))
        body += padded
    size = at + len(body)
    header = struct.pack(">I4sI4s4s4s", size, b"lcms", 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(24) + struct.pack(">I3i", 0, 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(parts)) + table + body


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_a_gray_profile_is_followed_with_and_without_transparency(mode: str) -> None:
    values: dict[str, float | tuple[float, ...]] = {"L": 100, "LA": (100, 255), "I;16": 25_700}
    gray = values[mode]
    data = encoded(Image.new(mode, (16, 16), gray), icc_profile=gray_profile(1.0))
    found = pictures.read(data, "a.png").getpixel((3, 3))
    assert isinstance(found, tuple)
    assert min(found) == max(found)
    # Linear 100 of 255 in sRGB.
    assert found[0] == pytest.approx(255 * (1.055 * (100 / 255) ** (1 / 2.4) - 0.055), abs=3)


def test_a_profile_of_other_channels_is_passed_over() -> None:
    cmyk = Image.new("CMYK", (16, 16), (10, 200, 30, 0))
    data = encoded(cmyk, "JPEG", icc_profile=SRGB)
    plain = encoded(cmyk, "JPEG")
    assert pictures.read(data, "a").tobytes() == pictures.read(plain, "a").tobytes()


def test_transparent_parts_are_white_whatever_the_profile() -> None:
    image = Image.new("RGBA", (16, 16), (*COLOUR, 0))
    read_as = pictures.read(encoded(image, icc_profile=EXCHANGED), "a.png")
    assert read_as.getpixel((3, 3)) == (255, 255, 255)


def quarters() -> Image.Image:
    """Four colours in four corners: every turn shows."""
    image = Image.new("RGB", (32, 16))
    colours = ((250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 0))
    for n, colour in enumerate(colours):
        image.paste(colour, (16 * (n % 2), 8 * (n // 2), 16 * (n % 2) + 16, 8 * (n // 2) + 8))
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "JPEG", "TIFF"])
@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_pictures_are_turned_as_their_exif_says(kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"lossless": True} if kind == "WEBP" else {}
    found = pictures.read(encoded(quarters(), kind, exif=exif, **options), "a")
    upright = {
        1: quarters(),
        3: quarters().transpose(Image.Transpose.ROTATE_180),
        6: quarters().transpose(Image.Transpose.ROTATE_270),
        8: quarters().transpose(Image.Transpose.ROTATE_90),
    }[turn]
    assert found.size == upright.size
    assert np.abs(np.asarray(found, int) - np.asarray(upright, int))[3:5, 3:5].max() < 60


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_exif_that_cannot_be_written_again_turns_the_picture_all_the_same(kind: str) -> None:
    """A resolution that is no number, as some editors leave it."""
    tags = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHIf", 282, 11, 1, float("nan"))
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    assert pictures.read(encoded(quarters(), kind, exif=exif), "a").size == (16, 32)


def with_chunk(kind: bytes, body: bytes, *, at_the_end: bool) -> bytes:
    png = encoded(Image.new("RGB", (16, 16), COLOUR))
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    at = len(png) - 12 if at_the_end else 33
    return png[:at] + chunk + png[at:]


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize(
    ("kind", "head"),
    [(b"zTXt", b"k\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0"), (b"iCCP", b"icc\0\0")],
)
@pytest.mark.parametrize("size", [3_000_000, 40_000_000])
def test_what_is_written_beside_the_pixels_may_be_of_any_size(
    kind: bytes, head: bytes, size: int, at_the_end: bool
) -> None:
    data = with_chunk(kind, head + zlib.compress(b"x" * size), at_the_end=at_the_end)
    assert pictures.read(data, "a.png").getpixel((3, 3)) == COLOUR


def test_the_profile_counts_also_beside_a_text_that_is_too_large() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("k", "x" * 40_000_000, zip=True)
    image = Image.new("RGB", (16, 16), COLOUR)
    found = pictures.read(encoded(image, icc_profile=EXCHANGED, pnginfo=info), "a.png")
    assert np.abs(np.array(found.getpixel((3, 3))) - COLOUR[::-1]).max() <= 2


# Scans


def progressive(size: int, scans: int) -> bytes:
    """A JPEG whose last scan comes again and again."""
    jpeg = encoded(Image.new("RGB", (size, size), COLOUR), "JPEG", progressive=True)
    last = jpeg.rindex(b"\xff\xda")
    more = scans - pictures._scans(jpeg)
    return jpeg[:-2] + jpeg[last:-2] * more + jpeg[-2:]


def test_scans_are_counted_before_they_are_decoded() -> None:
    with pytest.raises(BadInputError, match=r"100000 scans of 16 x 16 pixels, expected at most"):
        pictures.read(progressive(16, 100_000), "a.jpg")
    with pytest.raises(BadInputError, match=r"200 scans of 4000 x 4000 .* at most 100; save it"):
        pictures.read(progressive(4000, 200), "a.jpg")


def test_what_programs_write_is_below_the_limit_of_scans() -> None:
    assert pictures.read(progressive(16, 60), "a.jpg").size == (16, 16)


def test_what_lies_behind_a_jpeg_or_in_its_notes_is_no_scan() -> None:
    """Motion photographs have a film behind them, and any note may hold any bytes."""
    jpeg = encoded(Image.new("RGB", (16, 16), COLOUR), "JPEG", exif=b"Exif\0\0" + b"\xff\xda" * 9)
    assert pictures._scans(jpeg + b"\xff\xda\0\2" * 9_000) == 1
    assert pictures.read(jpeg + b"\xff\xda\0\2" * 9_000, "a.jpg").size == (16, 16)


# Whatever else comes along


def test_of_several_frames_the_first_is_taken() -> None:
    frames = [Image.new("RGB", (16, 16), (n, 0, 0)) for n in (200, 100, 50)]
    for kind in ("GIF", "TIFF", "WEBP", "MPO"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        found = pictures.read(data, "a").getpixel((3, 3))
        assert isinstance(found, tuple)
        assert abs(found[0] - 200) < 8, kind


@pytest.mark.parametrize(
    "data",
    [
        b"\x1f\x8b" + zlib.compress(encoded(Image.new("RGB", (16, 16)))),
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64),
        b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(64),
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\n",
    ],
)
def test_other_formats_are_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(BadInputError, match="expected PNG, JPEG, WebP, GIF, TIFF or BMP") as caught:
        pictures.read(data, "a")
    assert "\n" not in str(caught.value)
