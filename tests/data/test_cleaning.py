from __future__ import annotations

import uuid

from insetgan_batch.data.cleaning import Cleaned, clean, retry
from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import open_storage


def new_store() -> RunStore:
    return RunStore(open_storage(f"memory://{uuid.uuid4().hex}"))


def leave_files(store: RunStore, item_id: str, attempt: str) -> list[str]:
    prefix = store.item_prefix(item_id, attempt)
    keys = [f"{prefix}/image.png", f"{prefix}/losses.parquet"]
    for key in keys:
        store.storage.put(key, b"x")
    return keys


def test_losing_attempts_go_and_what_a_commit_names_stays() -> None:
    store = new_store()
    kept = leave_files(store, "a", "1-7")
    lost = leave_files(store, "a", "1-2") + leave_files(store, "a", "3-1")
    store.commit("a", {"attempt": "1-7"})
    assert clean(store) == Cleaned(attempts=2, files=4, checkpoints=0)
    assert all(store.storage.exists(key) for key in kept)
    assert not any(store.storage.exists(key) for key in lost)
    assert clean(store) == Cleaned(0, 0, 0)


def test_an_item_without_a_commit_keeps_the_attempts_of_the_newest_driver() -> None:
    store = new_store()
    store.take_epoch()
    store.take_epoch()
    old, new = leave_files(store, "a", "1-1"), leave_files(store, "a", "2-1")
    assert clean(store).attempts == 1
    assert not any(store.storage.exists(key) for key in old)
    assert all(store.storage.exists(key) for key in new)


def test_the_state_of_an_item_that_is_done_goes_and_others_stay() -> None:
    store = new_store()
    for item_id in ("done", "open"):
        store.save_checkpoint(item_id, b"state")
    store.commit("done", {"attempt": "1-1"})
    assert clean(store).checkpoints == 1
    assert store.checkpoints() == {"open"}


def test_what_is_not_of_an_attempt_is_left_alone() -> None:
    store = new_store()
    store.take_epoch()
    store.take_epoch()
    for key in ("items/00/notes.txt", "items/00/a/readme/file", "items/00/a/1-1/deep/file"):
        store.storage.put(key, b"mine")
    assert clean(store) == Cleaned(0, 0, 0)


def test_items_in_quarantine_are_tried_again_by_their_reason() -> None:
    store = new_store()
    for item_id, reason in (("a", "no_face"), ("b", "diverged"), ("c", "no_face")):
        store.quarantine(item_id, {"item_id": item_id, "reason": reason})
    store.write_suspect("a", 1)
    assert retry(store, "no_face") == 2
    assert store.quarantined().keys() == {"b"}
    assert store.suspects() == {"a": 1}
    assert retry(store) == 1
    assert store.quarantined() == {}
