"""A picture that a row names → upright sRGB with 8 bits per channel; or one line that says why not.

Pictures come from outside: their size is looked at before their pixels are decoded, and only plain
formats are opened, since Pillow would start other programs for some (EPS).
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from insetgan_batch.errors import BadInputError, one_line

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")
_EXPECTED = "expected PNG, JPEG, WebP, GIF, TIFF or BMP"
_MOST_PIXELS = 80_000_000  # below the 89 million from which Pillow warns
_LEAST_SIDE = 16
_MODES_16 = ("I;16", "I;16L", "I;16B", "I;16N")
_MODES_32 = ("I", "F")

_SRGB = ImageCms.createProfile("sRGB")

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
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image, where)
            image.load()
            return _rgb(_in_srgb(_upright(image)), where)
    except Image.DecompressionBombError as err:
        raise BadInputError(
            f"{where}: not an image that can be read: {one_line(err)}; expected at most"
            f" {_MOST_PIXELS // 1_000_000} million pixels"
        ) from err
    except UnidentifiedImageError as err:
        raise BadInputError(f"{where}: not an image that can be read; {_EXPECTED}") from err
    except _BROKEN as err:
        said = one_line(err)[:200] or type(err).__name__
        raise BadInputError(f"{where}: not an image that can be read: {said}") from err


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


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except _BROKEN:
        return image  # broken EXIF: as it lies, which is what every viewer shows


def _in_srgb(image: Image.Image) -> Image.Image:
    """The same colours in sRGB, which is what generators were trained on."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode not in ("RGB", "CMYK", "L"):
        return image  # transparent or indexed colours: as they stand
    try:
        converted = ImageCms.profileToProfile(image, io.BytesIO(profile), _SRGB, outputMode="RGB")
    except (ImageCms.PyCMSError, *_BROKEN):
        return image  # a broken profile: as it stands, which is what every viewer shows
    return converted or image


def _rgb(image: Image.Image, where: str) -> Image.Image:
    if image.mode in _MODES_32:
        raise BadInputError(f"{where}: the picture has 32 bits per channel, expected 8 or 16")
    if image.mode in _MODES_16:  # Pillow would clip them at 255
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values * 255 + 32_767) // 65_535).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layers = image.convert("RGBA")
    white = Image.new("RGB", layers.size, "white")
    white.paste(layers, mask=layers.getchannel("A"))
    return white
