"""The files that a manifest is made of: one, or those in a folder, as Spark, Ray Data, Dask, DuckDB
and polars write.

Of a folder every file is a part, by name, but for what such programs leave beside them (`_SUCCESS`,
`_metadata`, hidden files, checksums) and for the pictures and latents that rows name. A folder
below it may be a partition, `meta_part=1/`: a column that is the same for all of its rows.
"""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from insetgan_batch.data.storage import Storage, locate, open_storage
from insetgan_batch.data.uris import absolute, child, local_path, parse
from insetgan_batch.errors import ManifestError

_PASSED_OVER = re.compile(
    r"\.(crc|md|txt|safetensors|png|jpe?g|webp|gif|tiff?|bmp)$|_\$folder\$$|/$", re.IGNORECASE
)
_UNFINISHED = "_temporary/"
_NULL = "__HIVE_DEFAULT_PARTITION__"
_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """A file. name: below the folder, "" for a manifest of one file. columns: what the names of its
    folders say, the same for all of its rows.
    """

    uri: str
    name: str = ""
    columns: Mapping[str, int | str | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Parts:
    """A manifest's files. base: the directory or prefix that its relative paths are understood in:
    the one that holds the file, or the folder itself.
    """

    files: tuple[Part, ...]
    base: str


def of(uri: str) -> Parts:
    """The files of the manifest at `uri`, by name.

    Raises `ManifestError` where there is none, and where a program is still writing there.
    """
    folder = uri.rstrip("/") or uri
    path = local_path(folder)
    if path is not None and not _is_folder(path):
        return Parts((Part(uri),), path.parent.as_uri())
    if path is None and uri == folder and "/" in parse(uri)[1]:
        storage, key = locate(uri)
        if storage.exists(key):
            return Parts((Part(uri),), storage.uri)
    names = list(_names(uri, open_storage(folder)))
    if not names:
        what = "no such manifest" if path is None else "no Parquet file in this directory"
        raise ManifestError(f"{uri}: there is {what}; check the path")
    columns = _partitions(names)
    files = (Part(child(folder, name), name, columns[name]) for name in names)
    return Parts(tuple(files), absolute(folder))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is none: what opens it says so
        return False


def _names(uri: str, storage: Storage) -> Iterator[str]:
    for name in storage.list(""):
        if name.startswith(_UNFINISHED) or f"/{_UNFINISHED}" in name:
            raise ManifestError(
                f"{uri}: {name} is of a job that writes there still, or that died: let it end, or"
                " write the folder again"
            )
        is_hidden = any(part.startswith(("_", ".")) for part in name.split("/"))
        if name and not is_hidden and not _PASSED_OVER.search(name):
            yield name


def _partitions(names: Iterable[str]) -> dict[str, dict[str, int | str | None]]:
    """Name of a file → columns. A column is of integers where all of its values are."""
    found = {name: dict(_named_values(name)) for name in names}
    texts = {
        column
        for columns in found.values()
        for column, value in columns.items()
        if value is not None and not _INTEGER.fullmatch(value)
    }
    return {
        name: {
            column: value if value is None or column in texts else int(value)
            for column, value in columns.items()
        }
        for name, columns in found.items()
    }


def _named_values(name: str) -> Iterator[tuple[str, str | None]]:
    for folder in name.split("/")[:-1]:
        column, mark, value = folder.partition("=")
        if mark and column:
            text = urllib.parse.unquote(value)
            yield urllib.parse.unquote(column), None if text == _NULL else text
