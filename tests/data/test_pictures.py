"""Colours of pictures that rows name."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

from insetgan_batch.data import pictures

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
