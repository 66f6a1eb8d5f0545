"""The formats of a dataset; `dataset.py` has a writer for each."""

from __future__ import annotations

import dataclasses
from typing import Literal

Format = Literal["parquet", "webdataset", "jsonl"]
_MB = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Where the files of a format are, and what is in them.

    folder, ending: of its files. about: one of them, in a few words. has_images: inside of it, and
    not only their keys. shard_bytes: where a new file begins.
    """

    folder: str
    ending: str
    about: str
    has_images: bool
    shard_bytes: int


FORMATS: dict[Format, Layout] = {
    # Hugging Face asks for shards below 500 MB and row groups below 100 MB, of which a reader holds
    # one in memory.
    "parquet": Layout("data", "parquet", "images with all that is known of them", True, 400 * _MB),
    "webdataset": Layout(
        "webdataset", "tar", "`<key>.png` and `<key>.json`, rows beside them", True, 1_000 * _MB
    ),
    "jsonl": Layout(
        "jsonl", "jsonl", "rows with the keys of each item's files in the run", False, 1_000 * _MB
    ),
}
