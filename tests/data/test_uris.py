"""URIs that somebody else wrote reach nothing outside of the roots."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from insetgan_batch.data import uris
from insetgan_batch.data.storage import open_storage, read_uri, roots_of, within
from insetgan_batch.errors import NotFoundError, RefusedError


def read_within(uri: str, roots: Sequence[str]) -> bytes:
    """What a worker does with a row."""
    return read_uri(within(uri, roots))


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """A root with one file, a neighbour of nearly the same name, and a secret outside."""
    for name in ("faces/1.png", "faces/deeper/2.png", "faces-private/3.png", "secret"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return tmp_path / "faces"


def test_files_below_a_root_are_read(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(faces)
    for uri in ("1.png", str(faces / "1.png"), (faces / "1.png").as_uri(), "deeper/../1.png"):
        assert read_within(uri, [faces.as_uri()]) == b"1.png"
    assert read_within("deeper/2.png", ["s3://bucket", str(faces)]) == b"2.png"
    assert read_within("1.png", [str(faces / "1.png")]) == b"1.png"
    assert read_within("1.png", ["/"]) == b"1.png"


def test_a_file_that_there_is_not_is_not_found(faces: Path) -> None:
    with pytest.raises(NotFoundError, match=r"4\.png"):
        read_within(str(faces / "4.png"), [str(faces)])


@pytest.mark.parametrize(
    "uri",
    [
        "{root}/../secret",
        "{root}/deeper/../../secret",
        "file://{root}/%2e%2e/secret",
        "{root}-private/3.png",
        "{root}/link",
        "{root}/folder/secret",
        "/etc/passwd",
        "~/secret",
        "file:///proc/self/environ",
        "s3://bucket/a",
        "memory://name/a",
    ],
)
def test_what_lies_outside_of_the_roots_is_refused_and_the_roots_are_named(
    faces: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(faces.parent))
    (faces / "link").symlink_to(faces.parent / "secret")
    (faces / "folder").symlink_to(faces.parent)
    roots = [faces.as_uri(), "s3://other/faces"]
    with pytest.raises(
        RefusedError, match=r"outside of what this run may read, file://.*/faces, s3://other/faces:"
    ) as caught:
        read_within(uri.format(root=faces), roots)
    assert "\n" not in str(caught.value)


def test_a_root_may_be_a_link_itself(faces: Path) -> None:
    link = faces.parent / "link"
    link.symlink_to(faces)
    for root in (faces, link):
        for uri in (faces / "1.png", link / "1.png"):
            assert read_within(str(uri), [str(root)]) == b"1.png"


@pytest.mark.parametrize("name", ["ring", "a\0b"])
def test_a_name_that_leads_nowhere_is_refused_in_one_line(faces: Path, name: str) -> None:
    (faces / "ring").symlink_to(faces / "ring")
    with pytest.raises(RefusedError, match=r"names no file") as caught:
        read_within(f"{faces}/{name}", [str(faces)])
    assert "\n" not in str(caught.value)


def test_objects_of_a_store_are_read_below_a_root_only() -> None:
    name = uuid.uuid4().hex
    for prefix in ("faces", "faces-private"):
        open_storage(f"memory://{name}/{prefix}").put("1.png", prefix.encode())
    for roots in ([f"memory://{name}/faces"], [f"memory://{name}/faces/"], [f"memory://{name}"]):
        assert read_within(f"memory://{name}/faces/1.png", roots) == b"faces"
    outside = ["faces-private/1.png", "1.png"]
    for uri in [f"memory://{name}/{key}" for key in outside] + [f"memory://{name}2/faces/1.png"]:
        with pytest.raises(RefusedError, match=r"outside of what this run may read"):
            read_within(uri, [f"memory://{name}/faces"])
    for key in ("faces/../faces-private/1.png", "faces/./1.png"):
        with pytest.raises(RefusedError, match=r"mean nothing in a store"):
            read_within(f"memory://{name}/{key}", [f"memory://{name}/faces"])


def test_without_a_list_the_root_is_where_the_manifest_lies(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(faces)
    assert roots_of([], "m.parquet") == (faces.as_uri(),)
    assert roots_of([], (faces / "deeper" / "m.parquet").as_uri()) == ((faces / "deeper").as_uri(),)
    assert roots_of([], "s3://bucket/in/m.parquet") == ("s3://bucket/in",)
    assert roots_of([], "s3://bucket/m.parquet") == ("s3://bucket",)


def test_listed_roots_mean_the_same_in_any_directory(
    faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(faces)
    roots = roots_of(["deeper", "s3://bucket/faces/"], "m.parquet")
    monkeypatch.chdir("/")
    assert roots == ((faces / "deeper").as_uri(), "s3://bucket/faces")
    assert read_within(str(faces / "deeper" / "2.png"), roots) == b"2.png"
    with pytest.raises(RefusedError):
        read_within(str(faces / "1.png"), roots)


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/x", "s3://key:se/cret@bucket", "s3://k@b"])
def test_a_uri_with_a_password_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(RefusedError) as caught:
        uris.parse(uri)
    assert "cret" not in str(caught.value)
    assert "AWS_PROFILE" in str(caught.value)
