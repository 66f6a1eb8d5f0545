"""Nothing that a commit names, or may still name, is removed; what nobody can want goes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.strategies import data, integers, lists, sampled_from

from insetgan_batch.data import cleaning
from insetgan_batch.data.cleaning import OLD_S, Cleaned, clean, retry
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.keys import Entry
from insetgan_batch.data.storage import LocalStorage, MemoryStorage, open_storage
from insetgan_batch.errors import StorageError
from tests import records


def new_store() -> RunStore:
    return RunStore(open_storage(f"memory://{uuid.uuid4().hex}"))


def leave_files(store: RunStore, item_id: str, attempt: str) -> list[str]:
    prefix = store.item_prefix(item_id, attempt)
    keys = [f"{prefix}/image.png", f"{prefix}/losses.parquet"]
    for key in keys:
        store.storage.put(key, b"x")
    return keys


def test_beaten_attempts_go_at_once_and_what_a_commit_names_stays() -> None:
    store = new_store()
    kept = leave_files(store, "a", "1-7")
    lost = leave_files(store, "a", "1-2") + leave_files(store, "a", "3-1")
    store.commit("a", records.commit("a", "1-7"))
    assert clean(store) == Cleaned(attempts=2, files=4, checkpoints=0, leftovers=0)
    assert all(store.storage.exists(key) for key in kept)
    assert not any(store.storage.exists(key) for key in lost)
    assert clean(store) == Cleaned(0, 0, 0, 0)


def test_without_a_commit_an_attempt_goes_only_when_it_is_old() -> None:
    store = new_store()
    for _ in range(3):
        store.take_epoch()
    files = leave_files(store, "a", "1-1") + leave_files(store, "a", "3-1")
    assert clean(store) == Cleaned(0, 0, 0, 0)
    assert all(store.storage.exists(key) for key in files)
    # All that was written before the future is old.
    assert clean(store, older_than_s=-60).attempts == 2


def test_an_attempt_is_as_old_as_its_last_file(tmp_path: Path) -> None:
    store = RunStore(LocalStorage(tmp_path))
    first, second = leave_files(store, "a", "1-1")
    os.utime(tmp_path / first, (0, 0))
    assert clean(store).attempts == 0
    os.utime(tmp_path / second, (0, 0))
    assert clean(store) == Cleaned(1, 2, 0, 0)


@pytest.mark.parametrize(
    "damaged", [b"", b"{}", b'{"attempt": "1-1"}'], ids=["empty", "an object", "an attempt only"]
)
def test_where_a_commit_is_damaged_every_attempt_stays(damaged: bytes) -> None:
    store = new_store()
    kept = leave_files(store, "a", "1-1") + leave_files(store, "a", "2-1")
    store.storage.put(f"commits/{hh('a')}/a.json", damaged)
    assert clean(store, older_than_s=-60) == Cleaned(0, 0, 0, 0)
    assert all(store.storage.exists(key) for key in kept)


def test_another_items_commit_copied_over_an_items_own_costs_no_file() -> None:
    store = new_store()
    kept = leave_files(store, "a", "1-1") + leave_files(store, "a", "1-2")
    store.commit("b", records.commit("b", "1-2"))
    copied = store.storage.get(f"commits/{hh('b')}/b.json")
    store.storage.put(f"commits/{hh('a')}/a.json", copied)
    clean(store, older_than_s=-60)
    assert all(store.storage.exists(key) for key in kept)


def test_the_state_of_an_item_that_is_done_goes_and_others_stay() -> None:
    store = new_store()
    for item_id in ("done", "open", "damaged"):
        store.save_checkpoint(item_id, b"state")
    store.commit("done", records.commit("done"))
    store.storage.put(f"commits/{hh('damaged')}/damaged.json", b"")
    assert clean(store).checkpoints == 1
    assert store.checkpoints() == {"open", "damaged"}


def test_what_is_not_of_an_attempt_is_left_alone() -> None:
    store = new_store()
    for key in ("items/00/notes.txt", "items/00/a/readme/file", "items/00/a/1-1/deep/file"):
        store.storage.put(key, b"mine")
    assert clean(store, older_than_s=-60) == Cleaned(0, 0, 0, 0)


def test_what_killed_processes_left_half_done_goes_when_it_is_old(tmp_path: Path) -> None:
    store = RunStore(LocalStorage(tmp_path))
    left = [tmp_path / "items/00/.insetgan-tmp-1", tmp_path / "probe/2"]
    for path in left:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"half")
    assert clean(store).leftovers == 0
    for path in left:
        os.utime(path, (0, 0))
    assert clean(store).leftovers == 2
    assert not any(path.exists() for path in left)


def test_age_is_told_by_the_stores_clock_and_not_by_this_machines() -> None:
    class Slow(MemoryStorage):
        """Its clock is four days behind."""

        def scan(self, prefix: str) -> Iterator[Entry]:
            for entry in super().scan(prefix):
                yield Entry(entry.key, entry.bytes, entry.written_at_s - 4 * 24 * 3600)

    store = RunStore(Slow(uuid.uuid4().hex))
    leave_files(store, "a", "1-1")
    assert clean(store) == Cleaned(0, 0, 0, 0)


def test_a_store_that_lists_no_unfinished_uploads_is_cleaned_of_the_rest(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Strict(MemoryStorage):
        """Refuses one call."""

        def remove_unfinished(self, before_s: float) -> int:
            raise StorageError("ListMultipartUploads: AccessDenied")

    store = RunStore(Strict(uuid.uuid4().hex))
    leave_files(store, "a", "1-1")
    assert clean(store, older_than_s=-60).attempts == 1
    assert "AccessDenied" in caplog.text


def test_items_in_quarantine_are_tried_again_by_their_reason() -> None:
    store = new_store()
    for item_id, reason in (("a", "no_face"), ("b", "diverged"), ("c", "no_face")):
        store.quarantine(item_id, records.quarantined(item_id, reason))
    store.storage.put(f"quarantine/{hh('d')}/d.json", b"{")
    store.write_suspect("a", 1)
    assert retry(store, "no_face") == 2
    assert store.quarantined() == {"b", "d"}
    assert store.suspects() == {"a": 1}
    assert retry(store) == 2
    assert store.quarantined() == set()


# Whatever happens beside it

# Of one folder, which one thread cleans: the same draws are the same interleaving.
ITEMS = ("i1", "i8")


class Interrupted(MemoryStorage):
    """Lets somebody else act between any two calls of a clean that have to do with items."""

    def __init__(self, name: str, between: Callable[[], None]) -> None:
        super().__init__(name)
        self._between = between

    def get(self, key: str) -> bytes:
        self._between()
        return super().get(key)

    def scan(self, prefix: str) -> Iterator[Entry]:
        found = list(super().scan(prefix))
        if prefix.rpartition("/")[2] in {hh(item_id) for item_id in ITEMS}:
            self._between()
        return iter(found)

    def delete(self, key: str) -> None:
        self._between()
        super().delete(key)


class BesideARun(RuleBasedStateMachine):
    """Drivers, workers that are taken for dead, retries and cleans in any order and interleaving.

    An attempt writes its files, and at any later time its commit, or never. No time passes, so
    whatever has no commit may still get one. Only when a commit is voided nobody is on the way: an
    attempt that it had beaten may have lost its files, and would be found damaged again.
    """

    @initialize()
    def start(self) -> None:
        self.name = uuid.uuid4().hex
        self.store = RunStore(MemoryStorage(self.name))
        self.epoch, self.number = self.store.take_epoch(), 0
        self.on_the_way: list[tuple[str, str]] = []

    @rule()
    def another_driver(self) -> None:
        self.epoch = self.store.take_epoch()

    @rule(item_id=sampled_from(ITEMS))
    def upload(self, item_id: str) -> None:
        self.number += 1
        attempt = f"{self.epoch}-{self.number}"
        leave_files(self.store, item_id, attempt)
        self.on_the_way.append((item_id, attempt))

    @rule(choice=data())
    def commit(self, choice) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Of any attempt that is on the way, an old driver's zombie too."""
        if self.on_the_way:
            item_id, attempt = choice.draw(sampled_from(self.on_the_way))
            self.on_the_way.remove((item_id, attempt))
            self.store.commit(item_id, records.commit(item_id, attempt))

    @rule(item_id=sampled_from(ITEMS))
    def quarantine(self, item_id: str) -> None:
        self.store.quarantine(item_id, records.quarantined(item_id))

    @rule()
    def retry(self) -> None:
        retry(self.store)

    @rule(item_id=sampled_from(ITEMS))
    def damage_a_commit_and_void_it(self, item_id: str) -> None:
        if self.store.is_committed(item_id):
            attempt = self.store.read_commit(item_id)["attempt"]
            self.store.storage.put(f"commits/{hh(item_id)}/{item_id}.json", b"")
            clean(self.store)
            self.files_are_there(item_id, attempt)
            self.store.void("commits", item_id)
            self.on_the_way = [found for found in self.on_the_way if found[0] != item_id]

    @rule(actions=lists(integers(0, 9), max_size=12))
    def clean(self, actions: list[int]) -> None:
        """With what happens beside it: 0 to 5 commits an attempt that is on the way, and so on."""

        def between() -> None:
            action = actions.pop() if actions else -1
            if action in range(6) and self.on_the_way:
                item_id, attempt = self.on_the_way.pop(action % len(self.on_the_way))
                self.store.commit(item_id, records.commit(item_id, attempt))
            elif action in (6, 7):
                self.upload(ITEMS[action % 2])
            elif action == 8:
                self.another_driver()
            elif action == 9:
                self.retry()

        cleaning.clean(RunStore(Interrupted(self.name, between)))

    @invariant()
    def what_is_committed_is_there(self) -> None:
        for commit in self.store.commits():
            self.files_are_there(commit["item_id"], commit["attempt"])

    def files_are_there(self, item_id: str, attempt: str) -> None:
        prefix = self.store.item_prefix(item_id, attempt)
        assert len(list(self.store.storage.list(prefix))) == 2, f"{prefix} was removed"


BesideARun.TestCase.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
TestBesideARun = BesideARun.TestCase


def test_old_enough_is_three_days() -> None:
    assert OLD_S == 3 * 24 * 3600
