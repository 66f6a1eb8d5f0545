"""The judge of the chaos runs finds what it is there to find."""

from __future__ import annotations

import hashlib
import json
import uuid

from insetgan_batch.data.commits import hh
from insetgan_batch.data.storage import MemoryStorage
from tests.chaos.verify import verify


def run_of(*committed: str) -> MemoryStorage:
    """A store with so many committed items, of one file each."""
    storage = MemoryStorage(uuid.uuid4().hex)
    for item_id in committed:
        put_commit(storage, item_id)
    return storage


def put_commit(storage: MemoryStorage, item_id: str, folder: str = "") -> None:
    key = f"items/{hh(item_id)}/{item_id}/1-1/image.png"
    data = item_id.encode()
    storage.put(key, data)
    file = {"key": key, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    record = {"item_id": item_id, "attempt": "1-1", "files": {"image": file}}
    storage.put(f"commits/{folder or hh(item_id)}/{item_id}.json", json.dumps(record).encode())


def put_quarantine(storage: MemoryStorage, item_id: str) -> None:
    record = json.dumps({"item_id": item_id, "reason": "no_face"})
    storage.put(f"quarantine/{hh(item_id)}/{item_id}.json", record.encode())


def test_items_that_are_committed_or_quarantined_are_clean() -> None:
    storage = run_of("a", "b")
    put_quarantine(storage, "c")
    storage.put(f"items/{hh('a')}/a/1-7/image.png", b"of an attempt that lost")
    verdict = verify(storage, {"a", "b", "c"})
    assert verdict.is_clean
    assert (verdict.committed, verdict.quarantined) == (2, {"c": "no_face"})


def test_a_commit_outweighs_a_quarantine() -> None:
    storage = run_of("a")
    put_quarantine(storage, "a")
    verdict = verify(storage, {"a"})
    assert (verdict.committed, verdict.quarantined) == (1, {})
    assert verdict.is_clean


def test_an_item_without_an_end_is_lost() -> None:
    verdict = verify(run_of("a"), {"a", "b"})
    assert verdict.lost == ["b"]
    assert not verdict.is_clean


def test_a_second_commit_is_double() -> None:
    storage = run_of("a")
    put_commit(storage, "a", folder="zz")
    verdict = verify(storage, {"a"})
    assert verdict.double == ["a"]
    assert verdict.strangers == ["commits/zz/a.json"]


def test_the_journal_tells_that_a_commit_or_a_file_was_written_over() -> None:
    accepted = {
        "/results/run/commits/aa/a.json": ["1", "2"],
        "/results/run/items/aa/a/1-1/image.png": ["1", "2"],
        "/results/run/items/aa/a/1-1/losses.parquet": ["1", "1"],
        "/results/run/report/index.html": ["1", "2"],
    }
    verdict = verify(run_of("a"), {"a"}, accepted)
    assert verdict.double == ["/results/run/commits/aa/a.json"]
    assert verdict.overwritten == ["/results/run/items/aa/a/1-1/image.png"]


def test_a_commit_that_was_voided_may_be_written_once_more() -> None:
    storage = run_of("a")
    path = f"commits/{hh('a')}/a.json"
    storage.put(f"voided/{path}.1f", b"{")
    assert verify(storage, {"a"}, {f"/results/run/{path}": ["1", "2"]}).double == []
    assert verify(storage, {"a"}, {f"/results/run/{path}": ["1", "2", "3"]}).double


def test_a_commit_that_cannot_be_read_is_named() -> None:
    storage = run_of("a", "b")
    storage.put(f"commits/{hh('a')}/a.json", b"{")
    verdict = verify(storage, {"a", "b"})
    assert len(verdict.mismatched) == 1
    assert verdict.lost == ["a"]


def test_missing_and_changed_files_are_named() -> None:
    storage = run_of("a", "b", "c")
    gone, changed = (f"items/{hh(i)}/{i}/1-1/image.png" for i in "ab")
    storage.delete(gone)
    storage.put(changed, b"other")
    verdict = verify(storage, {"a", "b", "c"})
    assert [line.partition(":")[0] for line in verdict.mismatched] == [changed, gone]  # by key
    assert not verdict.is_clean


def test_what_the_manifest_does_not_know_is_a_stranger() -> None:
    storage = run_of("a", "x")
    put_quarantine(storage, "y")
    verdict = verify(storage, {"a"})
    assert verdict.strangers == [f"commits/{hh('x')}/x.json", f"quarantine/{hh('y')}/y.json"]
