"""What a run remembers, and who wins when several machines write at once."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from insetgan_batch.data.commits import ITEM_ID, RunStore, hh
from insetgan_batch.data.storage import MemoryStorage, open_storage
from insetgan_batch.errors import NotFoundError, RunMismatchError, StorageError

T = TypeVar("T")


@pytest.fixture
def store() -> RunStore:
    return RunStore(MemoryStorage(uuid.uuid4().hex))


def run(rounds: int = 3, **configuration: object) -> dict[str, Any]:
    return {
        "run_id": "monday",
        "configuration": {"recipe": {"rounds": rounds, "psi": 0.7}, **configuration},
        "code_version": "0.1.0",
        "weights": {"canvas": "aa", "face": "bb"},
        "created_at": "2026-01-01T00:00:00Z",
    }


def at_once(call: Callable[[int], T], count: int = 8) -> list[T]:
    start = threading.Barrier(count)

    def wait_and_call(n: int) -> T:
        start.wait()
        return call(n)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_call, range(count)))


# run.json


def test_first_start_writes_the_run(store: RunStore) -> None:
    assert store.open_run(run()) == run()
    assert store.read_run() == run()


def test_same_configuration_resumes_the_stored_run(store: RunStore) -> None:
    store.open_run(run())
    later = {**run(), "created_at": "2026-02-02T00:00:00Z", "code_version": "0.2.0"}
    assert store.open_run(later) == run()
    assert store.read_run() == run()


def test_tuples_and_lists_are_the_same_configuration(store: RunStore) -> None:
    store.open_run(run(box=(1, 2)))
    assert store.open_run(run(box=[1, 2]))["configuration"]["box"] == [1, 2]


def test_other_configuration_is_refused_and_changes_nothing(store: RunStore) -> None:
    store.open_run(run())
    with pytest.raises(RunMismatchError) as caught:
        store.open_run(run(5, out="x"))
    message = str(caught.value)
    assert message.startswith(f"{store.storage.uri} already holds a run")
    assert 'out is not set there and "x" here' in message
    assert "recipe.rounds is 3 there and 5 here" in message
    assert "psi" not in message
    assert "choose another --out" in message
    assert "\n" not in message
    assert store.read_run() == run()


def test_value_that_is_missing_now_is_a_difference(store: RunStore) -> None:
    store.open_run(run(extra={}))
    with pytest.raises(RunMismatchError, match=r"extra is {} there and not set here"):
        store.open_run(run())


def test_other_weights_are_refused(store: RunStore) -> None:
    store.open_run(run())
    with pytest.raises(RunMismatchError, match=r'weights.face is "bb" there and "cc" here'):
        store.open_run({**run(), "weights": {"canvas": "aa", "face": "cc"}})


def test_many_differences_are_counted(store: RunStore) -> None:
    store.open_run(run(**{f"field_{n}": n for n in range(9)}))
    with pytest.raises(RunMismatchError, match=r"field_4 .*here; and 4 more; choose") as caught:
        store.open_run(run(**{f"field_{n}": -n - 1 for n in range(9)}))
    assert "field_5" not in str(caught.value)


def test_racing_starts_agree_on_one_configuration(store: RunStore) -> None:
    def start(n: int) -> int | None:
        try:
            return int(store.open_run(run(n))["configuration"]["recipe"]["rounds"])
        except RunMismatchError:
            return None

    opened = [rounds for rounds in at_once(start) if rounds is not None]
    assert opened == [store.read_run()["configuration"]["recipe"]["rounds"]]


def test_place_without_a_run_is_named(store: RunStore) -> None:
    with pytest.raises(NotFoundError, match=rf"{store.storage.uri} holds no run"):
        store.read_run()


# Epochs


def test_epochs_count_from_one(store: RunStore) -> None:
    assert store.latest_epoch() == 0
    assert [store.take_epoch() for _ in range(3)] == [1, 2, 3]
    assert store.latest_epoch() == 3
    assert next(store.storage.list("epochs")) == "epochs/000001.json"


def test_epoch_is_above_every_other_even_after_a_gap(store: RunStore) -> None:
    store.storage.put("epochs/000041.json", b"{}")
    store.storage.put("epochs/notes.txt", b"")
    assert store.take_epoch() == 42


def test_racing_drivers_take_different_epochs(store: RunStore, tmp_path: Path) -> None:
    on_disk = RunStore(open_storage(str(tmp_path)))
    assert sorted(at_once(lambda _: store.take_epoch())) == list(range(1, 9))
    assert sorted(at_once(lambda _: on_disk.take_epoch())) == list(range(1, 9))


# Commits


def test_second_commit_of_an_item_loses(store: RunStore) -> None:
    assert store.commit("a", {"item_id": "a", "attempt": "1-1"})
    assert not store.commit("a", {"item_id": "a", "attempt": "1-2"})
    assert store.read_commit("a") == {"item_id": "a", "attempt": "1-1"}


def test_commit_whose_answer_was_lost_still_stands(store: RunStore) -> None:
    record = {"item_id": "a", "attempt": "1-1"}
    assert store.commit("a", record)
    assert store.commit("a", record)
    assert not store.commit("a", {"item_id": "a"})


def test_racing_attempts_have_one_winner(store: RunStore) -> None:
    won = at_once(lambda n: store.commit("a", {"item_id": "a", "attempt": f"1-{n}"}))
    assert won.count(True) == 1
    assert store.read_commit("a")["attempt"] == f"1-{won.index(True)}"


def test_commits_come_sorted_by_item(store: RunStore) -> None:
    names = [f"item{n}" for n in range(1_200)]  # more than one batch of reads
    for name in reversed(names):
        store.commit(name, {"item_id": name})
    assert store.committed() == set(names)
    assert [record["item_id"] for record in store.commits()] == sorted(names)


def test_fresh_run_has_no_commits(store: RunStore) -> None:
    assert store.committed() == set()
    assert list(store.commits()) == []
    with pytest.raises(NotFoundError, match="commits/"):
        store.read_commit("a")


def test_item_is_done_once_its_commit_exists(store: RunStore) -> None:
    store.quarantine("a", {"item_id": "a"})
    store.storage.put(f"{store.item_prefix('a', '1-1')}/image.png", b"")
    assert not store.is_committed("a")
    store.commit("a", {"item_id": "a"})
    assert store.is_committed("a")


def test_objects_that_are_no_commits_are_not_counted(store: RunStore) -> None:
    store.commit("a", {"item_id": "a"})
    for key in ("commits/00/a.json", f"commits/{hh('b')}/b.json.bak", f"commits/{hh('c')}/.c.json"):
        store.storage.put(key, b"{}")
    assert store.committed() == {"a"}


@pytest.mark.parametrize("data", [b"", b'{"item_id": ', b"[]", b"\xff", b"[" * 100_000])
def test_damaged_commit_is_named(store: RunStore, data: bytes) -> None:
    store.storage.put(f"commits/{hh('a')}/a.json", data)
    with pytest.raises(StorageError, match=rf"commits/{hh('a')}/a.json: (not|expected a) JSON"):
        store.read_commit("a")
    with pytest.raises(StorageError, match="JSON"):
        list(store.commits())


def test_number_that_json_cannot_hold_becomes_null(store: RunStore) -> None:
    store.commit("a", {"losses": {"border": float("nan")}, "seam": [float("inf"), 1.5]})
    assert store.read_commit("a") == {"losses": {"border": None}, "seam": [None, 1.5]}
    assert b"NaN" not in store.storage.get(f"commits/{hh('a')}/a.json")


@given(ids=st.sets(st.from_regex(ITEM_ID, fullmatch=True), max_size=20))
@settings(max_examples=20, database=None)
def test_every_item_id_survives_as_a_name(ids: set[str]) -> None:
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    for item_id in ids:
        store.commit(item_id, {"item_id": item_id})
        store.quarantine(item_id, {"item_id": item_id})
        store.write_suspect(item_id, 1)
    assert store.committed() == set(store.quarantined()) == set(store.suspects()) == ids


# Quarantine and suspects


def test_quarantine_keeps_the_last_record(store: RunStore) -> None:
    record = {"item_id": "a", "reason": "no_face", "detail": "", "attempts": 1, "attempt": "1-1"}
    store.quarantine("a", {**record, "reason": "diverged"})
    store.quarantine("a", record)
    assert store.quarantined() == {"a": record}
    store.clear_quarantine("a")
    store.clear_quarantine("a")
    assert store.quarantined() == {}


def test_suspects_keep_their_crashes_until_acquitted(store: RunStore) -> None:
    store.write_suspect("b", 1)
    store.write_suspect("a", 1)
    store.write_suspect("a", 2)
    assert list(store.suspects().items()) == [("a", 2), ("b", 1)]
    store.clear_suspect("a")
    store.clear_suspect("a")
    assert store.suspects() == {"b": 1}


# Names


def test_folder_is_the_start_of_the_ids_hash(store: RunStore) -> None:
    assert hh("body1-face2") == hashlib.sha256(b"body1-face2").hexdigest()[:2] == "37"
    assert store.item_prefix("body1-face2", "3-14") == "items/37/body1-face2/3-14"


@pytest.mark.parametrize("name", ["", ".", "..", ".a", "a/b", "../a", "a b", "ä", "a\n", "x" * 129])
def test_name_that_is_no_item_id_is_our_own_bug(store: RunStore, name: str) -> None:
    for call in (store.read_commit, store.clear_suspect, store.clear_quarantine):
        with pytest.raises(ValueError, match="no item id"):
            call(name)
    for attempt, item_id in ((name, "a"), ("1-1", name)):
        with pytest.raises(ValueError, match="no item id"):
            store.item_prefix(item_id, attempt)
    with pytest.raises(ValueError, match="no item id"):
        store.commit(name, {})
