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

from insetgan_batch.data import ids
from insetgan_batch.data.commits import Kind, RunStore, hh
from insetgan_batch.data.keys import ITEM_ID
from insetgan_batch.data.storage import MemoryStorage, open_storage
from insetgan_batch.errors import DamagedError, NotFoundError, RunMismatchError
from tests import records

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
    assert store.commit("a", records.commit("a", "1-1"))
    assert not store.commit("a", records.commit("a", "1-2"))
    assert store.read_commit("a") == records.commit("a", "1-1")


def test_commit_whose_answer_was_lost_still_stands(store: RunStore) -> None:
    assert store.commit("a", records.commit("a"))
    assert store.commit("a", records.commit("a"))
    assert not store.commit("a", records.commit("a", steps=5))


def test_commit_that_finds_a_damaged_one_has_lost(store: RunStore) -> None:
    store.storage.put(f"commits/{hh('a')}/a.json", b"{")
    assert not store.commit("a", records.commit("a"))


def test_racing_attempts_have_one_winner(store: RunStore) -> None:
    won = at_once(lambda n: store.commit("a", records.commit("a", f"1-{n}")))
    assert won.count(True) == 1
    assert store.read_commit("a")["attempt"] == f"1-{won.index(True)}"


def test_commits_come_sorted_by_item(store: RunStore) -> None:
    names = [f"item{n}" for n in range(1_200)]  # more than are read ahead
    for name in reversed(names):
        store.commit(name, records.commit(name))
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


def test_number_that_json_cannot_hold_becomes_null(store: RunStore) -> None:
    store.commit("a", records.commit("a", measures={"a": float("nan"), "b": float("inf")}))
    record = store.read_commit("a")
    assert record["measures"] == {"a": None, "b": None}
    assert b"NaN" not in store.storage.get(f"commits/{hh('a')}/a.json")


@given(names=st.sets(st.from_regex(ITEM_ID, fullmatch=True), max_size=20))
@settings(max_examples=20, database=None)
def test_every_item_id_survives_as_a_name(names: set[str]) -> None:
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    for item_id in names:
        store.commit(item_id, {"item_id": item_id})
        store.quarantine(item_id, {"item_id": item_id})
        store.write_suspect(item_id, 1)
    assert store.committed() == store.quarantined() == store.suspects().keys() == names


# Which commits are of the run's own items


def strange(store: RunStore) -> RunStore:
    """The store with commits and quarantine records of two rows and of a stranger."""
    for item_id in ("a", "b", "stranger"):
        store.commit(item_id, records.commit(item_id))
        store.quarantine(item_id, records.quarantined(item_id))
    return store


def test_commits_of_no_row_do_not_count(store: RunStore) -> None:
    store.open_run(run())
    store.keep_ids(lambda: ids.to_parquet(["a", "b", "c"]))
    strange(store)
    assert store.committed() == store.quarantined() == {"a", "b"}
    assert store.strangers() == {"stranger"}
    assert [record["item_id"] for record in store.commits()] == ["a", "b"]


def test_rows_of_seeds_are_known_by_the_text_that_names_them(store: RunStore) -> None:
    store.open_run({**run(), "seeds": "seeds:canvas=0-9 face=3,5"})
    for item_id in ("body1-face3", "body1-face4", "body10-face3", "body01-face3", "seed1", "x"):
        store.commit(item_id, records.commit(item_id))
    assert store.committed() == {"body1-face3"}


def test_a_run_that_did_not_write_its_ids_down_counts_all(store: RunStore) -> None:
    store.open_run(run())
    assert strange(store).committed() == {"a", "b", "stranger"}
    assert store.strangers() == set()


def test_ids_are_written_once(store: RunStore) -> None:
    store.keep_ids(lambda: ids.to_parquet(["a"]))
    store.keep_ids(lambda: pytest.fail("they are there"))


def test_damaged_ids_are_named_and_written_anew_by_the_run(store: RunStore) -> None:
    store.open_run(run())
    store.keep_ids(lambda: ids.to_parquet(["a", "b"]))
    store.storage.put("ids.parquet", b"PAR1")
    with pytest.raises(DamagedError, match=r"ids\.parquet: damaged"):
        strange(store).committed()
    RunStore(store.storage).keep_ids(lambda: ids.to_parquet(["a", "b"]))
    assert RunStore(store.storage).committed() == {"a", "b"}


# Quarantine and suspects


def test_quarantine_keeps_the_last_record(store: RunStore) -> None:
    record = records.quarantined("a")
    store.quarantine("a", {**record, "reason": "diverged"})
    store.quarantine("a", record)
    assert store.read_quarantined("a") == record
    assert list(store.quarantine_records(["a", "never-there"])) == [("a", record)]
    store.clear_quarantine("a")
    store.clear_quarantine("a")
    assert store.quarantined() == set()


def test_suspects_keep_their_crashes_until_acquitted(store: RunStore) -> None:
    store.write_suspect("b", 1)
    store.write_suspect("a", 1)
    store.write_suspect("a", 2)
    assert list(store.suspects().items()) == [("a", 2), ("b", 1)]
    store.clear_suspect("a")
    store.clear_suspect("a")
    assert store.suspects() == {"b": 1}


def test_a_damaged_suspect_is_none_and_said_to_be(
    store: RunStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.write_suspect("a", 1)
    store.storage.put(f"suspects/{hh('b')}/b.json", b'{"item_id": "b", "crashes": "many"}')
    assert store.suspects() == {"a": 1}
    assert "b.json: damaged: `crashes` is 'many'" in caplog.text


# Damage


@pytest.mark.parametrize("kind", ["commits", "quarantine", "suspects"])
def test_a_voided_record_is_kept_and_gone_from_its_place(store: RunStore, kind: Kind) -> None:
    key = f"{kind}/{hh('a')}/a.json"
    store.storage.put(key, b"damaged")
    assert store.void(kind, "a")
    assert not store.storage.exists(key)
    (kept,) = store.storage.list("voided")
    assert kept.startswith(f"voided/{key}.")
    assert store.storage.get(kept) == b"damaged"
    assert not store.void(kind, "a")


def test_the_number_of_a_voided_epoch_stays_taken(store: RunStore) -> None:
    store.take_epoch()
    store.storage.put("epochs/000001.json", b"")
    with pytest.raises(DamagedError, match=r"epochs/000001\.json: damaged: not JSON"):
        store.read_epoch(1)
    assert store.void("epochs", "1")
    assert store.read_epoch(1)["epoch"] == 1
    assert store.take_epoch() == 2


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
