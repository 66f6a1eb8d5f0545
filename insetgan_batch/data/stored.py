"""The records of a run as its store holds them: one reader for each kind, which checks all of it.

What a reader gives can be relied on, field by field. Anything else (not JSON, not UTF-8, nested
without end, a field that is missing or of another type, a commit that names files of another item)
is damage, told in one line with the key. Further fields are kept as they are: later versions may
write more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Generic, NotRequired, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

# Pydantic asks for this one below Python 3.12.
from typing_extensions import TypedDict

from insetgan_batch.errors import DamagedError
from insetgan_batch.methods import names
from insetgan_batch.text import one_line
from insetgan_batch.validation import explain

ATTEMPT = r"^[0-9]+-[0-9]+$"
_SHOWN = 200
_KEEP = ConfigDict(extra="allow", strict=True)
_T = TypeVar("_T")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Number = float | None
"""None where JSON has no word for it: NaN, infinity, or nothing was measured."""


@with_config(_KEEP)
class Run(TypedDict):
    """run.json."""

    run_id: str
    configuration: dict[str, Any]
    weights: dict[str, str]
    machine: NotRequired[dict[str, Any]]
    seeds: NotRequired[str]
    code_version: NotRequired[str]
    created_at: NotRequired[str]


@with_config(_KEEP)
class Epoch(TypedDict):
    """One start of a driver."""

    epoch: Annotated[int, Field(ge=1)]
    token: str
    host: str
    pid: int
    started_at_s: float


@with_config(_KEEP)
class Item(TypedDict):
    """A row of the manifest. inputs: what it gives for the method's columns."""

    item_id: str
    inputs: dict[str, Any]
    seed: int
    overrides: dict[str, Any]
    meta: dict[str, Any]


@with_config(_KEEP)
class File(TypedDict):
    """A file of an attempt."""

    key: str
    sha256: Sha256
    bytes: Count


@with_config(_KEEP)
class Commit(TypedDict):
    """What makes an item done. measures, facts: as the method names them."""

    item_id: str
    attempt: Annotated[str, Field(pattern=ATTEMPT)]
    files: dict[str, File]
    item: Item
    steps: Count
    seconds: float
    measures: dict[str, Number]
    facts: dict[str, str | float | list[float] | None]
    provenance: NotRequired[dict[str, Any]]
    machine: NotRequired[str]


@with_config(_KEEP)
class Quarantined(TypedDict):
    """Why an item is set aside. item: not of a bad row, of which no item was made."""

    item_id: str
    reason: str
    detail: str
    attempt: str
    attempts: Count
    item: NotRequired[Item]


@with_config(_KEEP)
class Suspect(TypedDict):
    """How many workers have crashed with an item inside."""

    item_id: str
    crashes: Count


@with_config(_KEEP)
class LatestDataset(TypedDict):
    """Which dataset is the latest. sha256: of its `_SUCCESS`."""

    prefix: str
    sha256: Sha256


@with_config(_KEEP)
class DatasetFile(TypedDict):
    """A file of a dataset."""

    sha256: Sha256
    bytes: Count


@with_config(_KEEP)
class Dataset(TypedDict):
    """`_SUCCESS`: the files of a finished dataset by their names in it."""

    files: dict[str, DatasetFile]


class Reader(Generic[_T]):
    """Reads one kind of record.

    upgrade: what reads those of earlier versions, in which `mark` does not occur.
    """

    def __init__(
        self,
        kind: type[_T],
        *,
        mark: bytes = b"",
        upgrade: Callable[[bytes], dict[str, Any]] | None = None,
    ) -> None:
        self._adapter = TypeAdapter(kind)
        self._mark, self._upgrade = mark, upgrade

    def read(self, where: str, data: bytes) -> _T:
        """The record, complete; raises `DamagedError`. where: its URI."""
        try:
            if self._upgrade is not None and self._mark not in data:
                return self._adapter.validate_python(self._upgrade(data))
            return self._adapter.validate_json(data)
        except ValidationError as err:
            raise DamagedError(f"{where}: damaged: {_what(err)}") from None


def _upgrade_commit(data: bytes) -> dict[str, Any]:
    upgraded: dict[str, Any] = names.old_runs().upgrade_commit(data)
    return upgraded


def _upgrade_quarantined(data: bytes) -> dict[str, Any]:
    upgraded: dict[str, Any] = names.old_runs().upgrade_quarantined(data)
    return upgraded


RUN, EPOCH = Reader(Run), Reader(Epoch)
COMMIT = Reader(Commit, mark=b'"measures"', upgrade=_upgrade_commit)
QUARANTINED = Reader(Quarantined, mark=b'"inputs"', upgrade=_upgrade_quarantined)
SUSPECT = Reader(Suspect)
LATEST_DATASET, DATASET = Reader(LatestDataset), Reader(Dataset)


def check_owner(where: str, found: str, item_id: str) -> None:
    """Raise `DamagedError` for a record of another item."""
    if found != item_id:
        raise DamagedError(
            f"{where}: damaged: it is of item {one_line(found, _SHOWN)}, expected {item_id}"
        )


def check_commit(where: str, commit: Commit, item_id: str, home: str) -> None:
    """Raise `DamagedError` for a sound record that does not belong here.

    item_id: whose commit it must be. home: where the files of its attempt lie, without the attempt.
    """
    for owner in (commit["item_id"], commit["item"]["item_id"]):
        check_owner(where, owner, item_id)
    if "image" not in commit["files"]:
        raise DamagedError(f"{where}: damaged: it names no file `image`")
    prefix = f"{home}/{commit['attempt']}/"
    for name, file in commit["files"].items():
        if not re.fullmatch(re.escape(prefix) + r"[^/.][^/]*", file["key"]):
            raise DamagedError(
                f"{where}: damaged: its file {one_line(name, 40)} is"
                f" {one_line(file['key'], _SHOWN)}, expected a file of {prefix}"
            )


def _what(err: ValidationError) -> str:
    first = err.errors(include_url=False)[0]
    if first["type"] == "json_invalid":
        return f"not JSON: {one_line(first['msg'].removeprefix('Invalid JSON: '), _SHOWN)}"
    if not first["loc"]:
        return "expected a JSON object"
    return one_line(explain(err)[0], _SHOWN)
