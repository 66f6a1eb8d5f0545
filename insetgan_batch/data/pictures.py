"""A picture that a row names → upright sRGB with 8 bits per channel; or one line that says why not.

Pictures come from outside: their size is looked at before their pixels are decoded, and only plain
formats are opened, since Pillow would start other programs for some (EPS).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Collection

import numpy as np
from PIL import ExifTags, Image, ImageCms, PngImagePlugin, UnidentifiedImageError

from insetgan_batch.errors import BadInputError
from insetgan_batch.text import one_line

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
_EXPECTED = "expected PNG, JPEG, WebP, GIF, TIFF or BMP"
_MOST_PIXELS = 80_000_000  # below the 89 million from which Pillow warns
_LEAST_SIDE = 16
_MODES_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_MODES_32 = ("I", "F")

# Of a profile or a text in a PNG, and of all texts: Pillow's 1 MiB is less than printers' profiles.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY = 16 * 1024 * 1024
_TOO_LARGE_TEXT = re.compile("MAX_TEXT_CHUNK|text chunks")
_PNG = b"\x89PNG\r\n\x1a\n"
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_PROFILE = b"iCCP"

# A JPEG is decoded once for each of its scans, and a small file may have any number of them.
_MOST_SCANNED_PIXELS = 1_600_000_000  # 20 scans of the largest picture
_LEAST_SCANNED_PIXELS = 1_000_000  # what a scan costs at least
# Zeros and restarts stand in the midst of a scan.
_MARKER = re.compile(b"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)
_START, _END, _SCAN = 0xD8, 0xD9, 0xDA

_SRGB = ImageCms.createProfile("sRGB")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What the colours of a profile are → the mode that its numbers are in.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

# What a damaged file makes Pillow raise: its own errors, and plain ones from far below.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def read(data: bytes, where: str) -> Image.Image:
    """The picture in `data`: of an animation its first frame, turned as its EXIF says, 16 bits
    scaled to 8, in sRGB where it has a colour profile, transparent parts white.

    where: what the picture is called in a `BadInputError`.
    """
    if not data:
        raise BadInputError(f"{where}: not an image that can be read: it is empty; {_EXPECTED}")
    try:
        return _decoded(data, where)
    except Image.DecompressionBombError as err:
        raise BadInputError(
            f"{where}: not an image that can be read: {one_line(err)}; expected at most"
            f" {_MOST_PIXELS // 1_000_000} million pixels"
        ) from err
    except UnidentifiedImageError as err:
        raise BadInputError(f"{where}: not an image that can be read; {_EXPECTED}") from err
    except _BROKEN as err:
        said = one_line(err, 200) or type(err).__name__
        raise BadInputError(f"{where}: not an image that can be read: {said}") from err


def _decoded(data: bytes, where: str) -> Image.Image:
    """What is written beside the pixels of a PNG, and is too large, is left out: texts, and if need
    be the colour profile.
    """
    for left_out in ((), _TEXTS, (*_TEXTS, _PROFILE)):
        try:
            return _plain(_without(left_out, data) if left_out else data, where)
        except ValueError as err:
            if not (data.startswith(_PNG) and _TOO_LARGE_TEXT.search(str(err))):
                raise
    raise AssertionError("without them nothing is too large")


def _plain(data: bytes, where: str) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        _check_size(image, where)
        _check_scans(image, data, where)
        image.load()
        return _rgb(_upright(image), where)


def _check_size(image: Image.Image, where: str) -> None:
    width, height = image.size
    if width * height > _MOST_PIXELS:
        raise BadInputError(
            f"{where}: the picture is {width} x {height} pixels, expected at most"
            f" {_MOST_PIXELS // 1_000_000} million; make it smaller"
        )
    if min(width, height) < _LEAST_SIDE:
        raise BadInputError(
            f"{where}: the picture is {width} x {height} pixels, expected at least"
            f" {_LEAST_SIDE} on each side"
        )


def _check_scans(image: Image.Image, data: bytes, where: str) -> None:
    if image.format not in ("JPEG", "MPO"):
        return
    width, height = image.size
    most = _MOST_SCANNED_PIXELS // max(_LEAST_SCANNED_PIXELS, width * height)
    scans = _scans(data)
    if scans > most:
        raise BadInputError(
            f"{where}: the picture has {scans} scans of {width} x {height} pixels, expected at most"
            f" {most}; save it again"
        )


def _scans(jpeg: bytes) -> int:
    """How often its pixels are gone over; what lies behind the picture's end does not count."""
    count, at = 0, 0
    while found := _MARKER.search(jpeg, at):
        (marker,) = found[1]
        at = found.end()
        if marker == _END:
            break
        count += marker == _SCAN
        if marker != _START:
            at += int.from_bytes(jpeg[at : at + 2])
    return count


def _without(kinds: Collection[bytes], png: bytes) -> bytes:
    """The same picture without some of what is written beside its pixels."""
    kept, start = [_PNG], len(_PNG)
    while start < len(png):
        (length,) = struct.unpack_from(">I", png, start)
        end = start + 12 + length
        if png[start + 4 : start + 8] not in kinds:
            kept.append(png[start:end])
        start = end
    return b"".join(kept)


def _upright(image: Image.Image) -> Image.Image:
    """Turned by the one tag: the rest of the EXIF may be as broken as it likes."""
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return image  # as it lies, which is what every viewer shows
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, where: str) -> Image.Image:
    """In sRGB with 8 bits per channel, on white where it is transparent."""
    if image.mode in _MODES_32:
        raise BadInputError(f"{where}: the picture has 32 bits per channel, expected 8 or 16")
    profile = image.info.get("icc_profile")
    if image.mode in _MODES_16:  # Pillow would clip them at 255
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))
    if not image.has_transparency_data:
        return _in_srgb(image, profile)
    layers = image.convert("RGBA")
    white = Image.new("RGB", layers.size, "white")
    white.paste(_in_srgb(layers.convert("RGB"), profile), mask=layers.getchannel("A"))
    return white


def _in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The same colours in sRGB, which is what generators were trained on."""
    plain = image if image.mode in ("RGB", "CMYK", "L") else image.convert("RGB")
    if not profile:
        return plain.convert("RGB")
    try:
        described = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _SPACES[described.profile.xcolor_space.strip()]
        if (mode == "CMYK") != (plain.mode == "CMYK"):
            return plain.convert("RGB")  # of another picture: as it stands
        converted = ImageCms.profileToProfile(
            plain.convert(mode), described, _SRGB, outputMode="RGB"
        )
    except (ImageCms.PyCMSError, *_BROKEN):
        return plain.convert("RGB")  # a broken one: as it stands, which is what every viewer shows
    return converted or plain.convert("RGB")
