"""What lies beside the page: for each folder of items a sheet of thumbnails and a file of views.

Folders are those of the commits, the first two hex digits of the id's sha256. A few are in the
making at any time, and only their rows stay in memory. A view file is a script, because a page
that was opened from a disk may load scripts and nothing else.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from insetgan_batch.data import results
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.damage import or_damage, read_sound
from insetgan_batch.errors import DamagedError
from insetgan_batch.method import Page
from insetgan_batch.report import entries, thumbnails
from insetgan_batch.report.entries import TableRow, View
from insetgan_batch.report.thumbnails import ThumbnailSize

_WRITERS = 16  # most of the time is spent waiting for the storage, and outside of Python


def write(
    store: RunStore, item_ids: Sequence[str], size: ThumbnailSize, page: Page
) -> Iterator[TableRow | DamagedError]:
    """Put every folder's files into the run; a row per item, folder by folder, or what is damaged
    of an item, which is left out.

    Raises `StorageError` when a file cannot be written.
    """
    folders: dict[str, list[str]] = collections.defaultdict(list)
    for item_id in item_ids:
        folders[hh(item_id)].append(item_id)
    with ThreadPoolExecutor(_WRITERS) as pool:
        for rows in pool.map(functools.partial(_write, store, size, page), folders.items()):
            yield from rows


def to_script(function: str, value: Any) -> bytes:
    """A call of a function of the page's script with the value."""
    return f"{function}({json.dumps(value, separators=(',', ':'), default=_fields)});\n".encode()


def _write(
    store: RunStore, size: ThumbnailSize, page: Page, members: tuple[str, list[str]]
) -> list[TableRow | DamagedError]:
    folder, item_ids = members
    rows: list[TableRow | DamagedError] = []
    images: list[Image.Image] = []
    # Pairs and not an object: JavaScript takes the name __proto__ for something else.
    views: list[tuple[str, View]] = []
    for item_id in item_ids:
        shown = or_damage(functools.partial(_read, store, item_id, len(images), size, page))
        if isinstance(shown, DamagedError):
            rows.append(shown)
            continue
        row, view, image = shown
        rows.append(row)
        views.append((item_id, view))
        images.append(image)
    if images:
        store.storage.put(f"report/folders/{folder}.jpg", thumbnails.sheet(images, size))
        store.storage.put(f"report/folders/{folder}.js", to_script("insetgan.addViews", views))
    return rows


def _read(
    store: RunStore, item_id: str, place: int, size: ThumbnailSize, page: Page
) -> tuple[TableRow, View, Image.Image]:
    """What the page shows of an item; raises `DamagedError`."""
    record = read_sound(store, item_id)
    image = thumbnails.reduced(results.read_image(store, record), size)
    return entries.row(record, place, page), entries.view(store, record, page), image


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass, not deeply: `dataclasses.asdict` would copy every number of every curve."""
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
