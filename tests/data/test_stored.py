"""A record that is not as it was written is told in one line that names it, whatever is in it."""

from __future__ import annotations

import copy
import json
import uuid
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from insetgan_batch.data import stored
from insetgan_batch.data.commits import RunStore, hh
from insetgan_batch.data.storage import MemoryStorage
from insetgan_batch.errors import DamagedError
from tests import records

WHERE = "s3://b/run/x.json"
SOUND: dict[str, tuple[stored.Reader[Any], dict[str, Any]]] = {
    "run": (
        stored.RUN,
        {"run_id": "monday", "configuration": {"recipe": {}}, "weights": {"canvas": "ab" * 32}},
    ),
    "epoch": (
        stored.EPOCH,
        {"epoch": 3, "token": "t", "host": "h", "pid": 1, "started_at_s": 0.5},
    ),
    "commit": (stored.COMMIT, records.commit("a")),
    "quarantined": (stored.QUARANTINED, records.quarantined("a")),
    "suspect": (stored.SUSPECT, {"item_id": "a", "crashes": 1}),
}
# Without them a record is taken for one of an earlier version.
_MARKS = {"measures"}
BROKEN = {
    "empty": b"",
    "half": b'{"item_id": ',
    "no object": b"[]",
    "not UTF-8": b'{"item_id": "\xff"}',
    "not UTF-8 at all": b"\xff\xfe\x00",
    "nested without end": b'{"item_id":' + b"[" * 100_000,
    "nested and closed": b'{"item_id": "a", "more": ' + b"[" * 5000 + b"]" * 5000 + b"}",
    "a number": b"7",
    "null": b"null",
    "zeros": bytes(300),
    "a raw control character": b'{"item_id": "\x1b[31m"}',
}


@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_record_comes_back_with_all_that_is_in_it(kind: str) -> None:
    reader, record = SOUND[kind]
    later = record | {"of a later version": [1, {"x": None}]}
    assert reader.read(WHERE, json.dumps(later).encode()) == later


@pytest.mark.parametrize("kind", SOUND)
@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_what_is_no_record_is_told_in_one_line(kind: str, data: bytes) -> None:
    with pytest.raises(DamagedError) as caught:
        SOUND[kind][0].read(WHERE, data)
    assert str(caught.value).startswith(f"{WHERE}: damaged: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("kind", SOUND)
def test_every_field_is_missed_and_none_has_another_type(kind: str) -> None:
    reader, record = SOUND[kind]
    for name in record.keys() - {"provenance"} - _MARKS:
        without = {key: value for key, value in record.items() if key != name}
        with pytest.raises(DamagedError, match=f"`{name}` is missing"):
            reader.read(WHERE, json.dumps(without).encode())
        others: list[Any] = [[], {"\x1b]0;title\x07": 1}, "\x1b[2J"]
        for other in others:
            if type(other) is type(record[name]):
                continue
            with pytest.raises(DamagedError, match=name) as caught:
                reader.read(WHERE, json.dumps(record | {name: other}).encode())
            assert str(caught.value).isprintable()


PLACES = [
    ("files", "image", "key"),
    ("files", "image", "sha256"),
    ("files", "image", "bytes"),
    ("item", "inputs"),
    ("item", "meta"),
    ("measures", "losses.face.border.l1"),
]


@pytest.mark.parametrize("place", PLACES, ids=".".join)
@given(value=st.sampled_from([[], {}, -1.5, True, [1, 2], {"a": 1}, [[]]]))
def test_fields_within_fields_are_checked_too(place: tuple[str, ...], value: Any) -> None:
    record = copy.deepcopy(records.commit("a"))
    parent: Any = record
    for name in place[:-1]:
        parent = parent[name]
    before = parent[place[-1]]
    if type(value) is type(before) or (place[0] == "measures" and value == -1.5):
        return
    parent[place[-1]] = value
    with pytest.raises(DamagedError, match=place[-1].replace(".", r"\.")):
        stored.COMMIT.read(WHERE, json.dumps(record).encode())


HOME = f"items/{hh('a')}/a/1-1"
FOREIGN = {
    "of another item": ({"item_id": "b"}, "it is of item b, expected a"),
    "made of another row": ({"item": records.item("b")}, "it is of item b, expected a"),
    "without a picture": ({"files": {}}, "names no file `image`"),
    "another attempt's file": ({"attempt": "2-1"}, "expected a file of items/"),
    "no attempt": ({"attempt": "../1-1"}, "`attempt` is '../1-1'"),
}
KEYS = {
    "of another item": f"items/{hh('b')}/b/1-1/image.png",
    "out of the run": f"{HOME}/../../../../run.json",
    "of the run": "run.json",
    "a folder": f"{HOME}/",
    "absolute": "/etc/passwd",
    "below a folder": f"{HOME}/more/image.png",
    "with control characters": "items/\x1b[31m/image.png",
}


def read(record: dict[str, Any]) -> stored.Commit:
    """Through a store, as the commit of item `a`."""
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    store.storage.put(f"commits/{hh('a')}/a.json", json.dumps(record).encode())
    return store.read_commit("a")


@pytest.mark.parametrize(("changes", "said"), FOREIGN.values(), ids=FOREIGN)
def test_a_commit_that_belongs_elsewhere_is_damage(changes: dict[str, Any], said: str) -> None:
    assert read(records.commit("a"))["item_id"] == "a"
    with pytest.raises(DamagedError, match=rf"commits/{hh('a')}/a\.json: damaged: .*{said}"):
        read(records.commit("a") | changes)


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_commit_names_files_of_its_own_attempt_only(key: str) -> None:
    record = records.commit("a")
    record["files"]["image"]["key"] = key
    with pytest.raises(DamagedError, match="expected a file of items/") as caught:
        read(record)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("kind", ["quarantine", "suspects"])
def test_a_record_of_another_item_is_damage(kind: str) -> None:
    store = RunStore(MemoryStorage(uuid.uuid4().hex))
    store.quarantine("b", records.quarantined("b"))
    store.write_suspect("b", 1)
    data = store.storage.get(f"{kind}/{hh('b')}/b.json")
    store.storage.put(f"{kind}/{hh('a')}/a.json", data)
    with pytest.raises(DamagedError, match="it is of item b, expected a"):
        store.read_quarantined("a") if kind == "quarantine" else store.read_suspect("a")
