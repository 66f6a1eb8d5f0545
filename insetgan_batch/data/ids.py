"""The ids of a manifest's rows, kept beside a run: which commits are of its items.

A file of ids is written once, when a run starts; rows of seeds need none, since an id says its
seeds (`SeedRows.among`). Memory is some twenty bytes an id.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from insetgan_batch.data.storage import Storage
from insetgan_batch.errors import DamagedError
from insetgan_batch.text import one_line

KEY = "ids.parquet"
_SCHEMA = pa.schema([("item_id", pa.string())])
_BATCH = 100_000

Known = Callable[[Iterable[str]], set[str]]
"""Those of some ids that rows of the manifest have."""


def to_parquet(ids: Iterable[str]) -> bytes:
    """A file of the ids, in the order of the manifest; ten bytes an id or less."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, _SCHEMA, compression="zstd") as writer:
        rest = iter(ids)
        while batch := list(itertools.islice(rest, _BATCH)):
            writer.write_table(pa.table([pa.array(batch, pa.string())], schema=_SCHEMA))
    return bytes(sink.getvalue().to_pybytes())


def read(storage: Storage) -> Known:
    """Those that a run has kept. Raises `NotFoundError` if there is nothing, and `DamagedError`."""
    data = storage.get(KEY)
    try:
        known = pq.read_table(pa.BufferReader(data), schema=_SCHEMA)["item_id"].combine_chunks()
    except (pa.ArrowException, OSError, ValueError, KeyError) as err:
        raise DamagedError(
            f"{storage.uri}/{KEY}: damaged: {one_line(err, 200)}; the run's own command writes it"
            " anew"
        ) from err
    return functools.partial(_among, known)


def _among(known: pa.Array, ids: Iterable[str]) -> set[str]:
    found = pa.array(list(ids), pa.string())
    return set(found.filter(pc.is_in(found, value_set=known)).to_pylist())
