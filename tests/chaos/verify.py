"""What is left of a run, judged from its storage alone (and from the proxy's journal, if any).

lost        items with neither a commit nor a quarantine record
double      items with two commits, or whose commit was written over without having been voided
mismatched  commits that cannot be read, and files that one names and that are missing, or have
            other bytes or another size
overwritten files of an attempt that were written again with other bytes
strangers   commits and quarantine records that belong to no item of the manifest

What other attempts left beside the winner's is allowed. An item with a commit and a quarantine
record counts as committed: the commit is the truth.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from typing import Any

from insetgan_batch.data.commits import hh
from insetgan_batch.data.storage import Storage
from insetgan_batch.errors import NotFoundError


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. quarantined: item id to reason; the lists name items or keys."""

    items: int
    committed: int
    quarantined: dict[str, str]
    lost: list[str]
    double: list[str]
    mismatched: list[str]
    overwritten: list[str]
    strangers: list[str]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, done twice or damaged."""
        faults = (self.lost, self.double, self.mismatched, self.overwritten, self.strangers)
        return not any(faults)


def verify(
    storage: Storage, item_ids: Set[str], accepted: Mapping[str, list[str]] | None = None
) -> Verdict:
    """Judge a run. accepted: by path, the sha256 of every body that the store took there."""
    broken: list[str] = []
    commits = _records(storage, "commits", broken)
    quarantine = _records(storage, "quarantine", broken)
    voids = collections.Counter(key.rpartition(".")[0] for key in storage.list("voided/commits"))
    done = {record["item_id"] for _, record in commits}
    reasons = {
        record["item_id"]: record.get("reason") or "no reason"
        for _, record in quarantine
        if record["item_id"] not in done
    }
    times = collections.Counter(record["item_id"] for _, record in commits)
    changed = sorted(
        path
        for path, bodies in (accepted or {}).items()
        if len(set(bodies)) > 1 + voids[f"voided/commits/{path.rpartition('/commits/')[2]}"]
    )
    return Verdict(
        items=len(item_ids),
        committed=len(done),
        quarantined=reasons,
        lost=sorted(item_ids - done - reasons.keys()),
        double=sorted(item_id for item_id, n in times.items() if n > 1)
        + [path for path in changed if "/commits/" in path],
        mismatched=broken + [f for _, record in commits for f in _damage(storage, record)],
        overwritten=[path for path in changed if "/items/" in path],
        strangers=[
            key
            for key, record in commits + quarantine
            if record["item_id"] not in item_ids or not _is_at_home(key, record["item_id"])
        ],
    )


def _records(storage: Storage, kind: str, broken: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """(key, record) of each that can be read; a line for each that cannot."""
    records = []
    for key in storage.list(kind):
        try:
            records.append((key, json.loads(storage.get(key))))
        except ValueError as err:
            broken.append(f"{key}: {err}")
    return records


def _is_at_home(key: str, item_id: str) -> bool:
    return key.partition("/")[2] == f"{hh(item_id)}/{item_id}.json"


def _damage(storage: Storage, record: dict[str, Any]) -> Iterator[str]:
    """One line for each file that is not what the commit says of it."""
    item_id = record["item_id"]
    home = f"items/{hh(item_id)}/{item_id}/{record['attempt']}/"
    if not record["files"]:
        yield f"{item_id}: its commit names no files"
    for file in record["files"].values():
        key = file["key"]
        try:
            data = storage.get(key)
        except NotFoundError:
            yield f"{key}: missing"
            continue
        if hashlib.sha256(data).hexdigest() != file["sha256"] or len(data) != file["bytes"]:
            yield f"{key}: {len(data)} other bytes than the commit says"
        if not key.startswith(home):
            yield f"{key}: not below {home}"
