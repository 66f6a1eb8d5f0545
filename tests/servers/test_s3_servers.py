"""Our store against real S3 servers, Swift and Ceph: what no stand-in shows."""

from __future__ import annotations

import datetime
import io
import re
import time
import traceback
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import botocore.auth
import pytest

from insetgan_batch.data.commits import RunStore
from insetgan_batch.data.storage import conditional_writes_work, open_storage, patiently
from insetgan_batch.errors import RefusedError, StorageError
from tests.chaos.fault_proxy import FaultProxy
from tests.servers.fixtures import new_bucket
from tests.servers.s3_server import S3Server

MIB = 1024 * 1024
LARGE = bytes(range(251)) * (20 * MIB // 251)
MANY = 1_050


# Racing writers


def test_a_server_where_one_writer_wins_passes_the_probe(bucket: str) -> None:
    storage = open_storage(f"s3://{bucket}/run")
    assert conditional_writes_work(storage)
    assert list(storage.list("")) == []


def test_plain_swift_lets_several_writers_win_and_fails_the_probe(
    plain_swift: S3Server, aws: pytest.MonkeyPatch
) -> None:
    plain_swift.log_in(aws)
    assert not conditional_writes_work(open_storage(f"s3://{new_bucket(plain_swift)}/run"))


# Many objects, and large ones


def test_more_keys_than_a_page_holds_are_listed_in_order(server: S3Server, bucket: str) -> None:
    client = server.client()
    keys = [f"run/commits/{n:04d}" for n in range(MANY)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: client.put_object(Bucket=bucket, Key=key), keys))
    assert client.list_objects_v2(Bucket=bucket)["IsTruncated"]
    storage = open_storage(f"s3://{bucket}")
    assert list(storage.list("run/commits")) == keys


def test_a_large_object_goes_in_parts_and_comes_in_ranges(server: S3Server, bucket: str) -> None:
    storage = open_storage(f"s3://{bucket}/run")
    storage.put("shard.tar", LARGE)
    head = server.client().head_object(Bucket=bucket, Key="run/shard.tar")
    assert head["ETag"].strip('"').endswith("-3")
    assert head["ContentType"] == "application/x-tar"
    file = io.BytesIO()
    storage.read_into("shard.tar", file)
    assert file.getvalue() == storage.get("shard.tar") == LARGE


class Torn(io.BytesIO):
    """A file on a disk that breaks after 16 MiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 16 * MIB:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_a_file_that_cannot_be_read_leaves_no_parts(server: S3Server, bucket: str) -> None:
    with pytest.raises(StorageError, match=r"run/shard.tar: the file .* Input/output error; check"):
        open_storage(f"s3://{bucket}/run").put_from("shard.tar", Torn(LARGE))
    assert _left(server, bucket) == ([], [])


def _left(server: S3Server, bucket: str) -> tuple[list[str], list[str]]:
    """(objects, uploads that were begun)."""
    client = server.client()
    objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return [found["Key"] for found in objects], [found["Key"] for found in uploads]


# Refusals


def _refusal(uri: str) -> str:
    """What all calls say, in one line each and without any secret."""
    storage = open_storage(uri)
    says = []
    for call in (
        lambda: storage.put("a", b"1"),
        lambda: storage.put("a", LARGE),
        lambda: storage.put_if_absent("a", b"1"),
        lambda: storage.get("a"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(RefusedError) as caught:
            call()
        says.append(str(caught.value))
        shown = "".join(traceback.format_exception(caught.value))
        assert "of-the-" not in shown
        assert "hunter2" not in shown
    assert all(text.startswith(uri) and "\n" not in text for text in says)
    advice = {text.split(": ", 3)[3] for text in says}  # behind place, operation and code
    assert len(advice) == 1
    return advice.pop()


def test_a_wrong_secret_is_named(server: S3Server, bucket: str, aws: pytest.MonkeyPatch) -> None:
    server.log_in(aws, (server.owner[0], "hunter2"))
    assert "check AWS_PROFILE or the keys" in _refusal(f"s3://{bucket}/run")


def test_an_unknown_key_is_named(server: S3Server, bucket: str, aws: pytest.MonkeyPatch) -> None:
    server.log_in(aws, ("tests:nobody", "hunter2"))
    assert "check AWS_PROFILE or the keys" in _refusal(f"s3://{bucket}/run")


def test_denied_access_is_named(server: S3Server, bucket: str, aws: pytest.MonkeyPatch) -> None:
    server.log_in(aws, server.stranger)
    assert "allow s3:GetObject" in _refusal(f"s3://{bucket}/run")
    with pytest.raises(RefusedError, match=r"HeadObject: 403: allow .* check the keys and the"):
        open_storage(f"s3://{bucket}/run").exists("a")


def test_a_bucket_that_there_is_not_is_named(bucket: str) -> None:
    assert "there is no such bucket: create it" in _refusal(f"s3://{bucket}-not/run")


def test_a_wrong_clock_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def an_hour_ago() -> datetime.datetime:
        now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
        return now - datetime.timedelta(hours=1)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", an_hour_ago)
    assert "the clocks of this machine and of the store differ" in _refusal(f"s3://{bucket}/run")


def test_a_used_up_quota_is_named(rgw: S3Server, aws: pytest.MonkeyPatch) -> None:
    rgw.log_in(aws, rgw.full)
    storage = open_storage(f"s3://{new_bucket(rgw, rgw.full)}/run")
    for data in (b"12", LARGE):
        with pytest.raises(RefusedError, match=r"QuotaExceeded: there is no space left"):
            storage.put("a", data)


# A server that is slow, fails, or breaks off


@pytest.fixture
def faulty(swift: S3Server, aws: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Between us and Swift."""
    proxy = FaultProxy(swift.address, seed=0, longest_hang_s=0.6)
    swift.log_in(aws)
    aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    yield proxy
    proxy.heal()
    assert proxy.settle(10.0)
    proxy.close()


def test_an_outage_is_waited_for(faulty: FaultProxy, swift: S3Server) -> None:
    storage = open_storage(f"s3://{new_bucket(swift)}/run")
    faulty.fail("slow_down", for_s=1.0)
    patiently(lambda: storage.put("a", b"1"), 60.0)
    assert storage.get("a") == b"1"
    assert faulty.counts["slow_down"] >= 1


def test_a_server_that_never_answers_is_an_error_that_names_it(
    faulty: FaultProxy, swift: S3Server
) -> None:
    storage = open_storage(f"s3://{new_bucket(swift)}/run")
    faulty.fail("hang", for_s=60.0)
    where = re.escape(f"the endpoint {faulty.endpoint} broke the connection off")
    with pytest.raises(StorageError, match=f"run/a: {where}") as caught:
        storage.put("a", b"1")
    assert not isinstance(caught.value, RefusedError)


def test_half_an_answer_is_never_taken_for_all(faulty: FaultProxy, swift: S3Server) -> None:
    storage = open_storage(f"s3://{new_bucket(swift)}/run")
    storage.put("a", LARGE[: 3 * MIB])
    faulty.fail("cut", share=0.5, for_s=60.0)
    for _ in range(8):
        assert patiently(lambda: storage.get("a"), 60.0) == LARGE[: 3 * MIB]
    assert faulty.counts["cut"] >= 1


def test_a_commit_whose_answer_was_lost_is_still_ones_own(
    faulty: FaultProxy, swift: S3Server, aws: pytest.MonkeyPatch
) -> None:
    aws.setenv("AWS_MAX_ATTEMPTS", "3")
    runs = RunStore(open_storage(f"s3://{new_bucket(swift)}/run"))
    faulty.fail("error", share=0.5, for_s=60.0)
    for n in range(8):
        record = {"item_id": f"{n}", "attempt": uuid.uuid4().hex}
        assert patiently(lambda n=n, record=record: runs.commit(f"{n}", record), 60.0)  # type: ignore[misc]
    assert faulty.counts["error"] >= 1
    faulty.heal()
    assert not runs.commit("0", {"item_id": "0", "attempt": "another"})


class Trap(io.BytesIO):
    """A file at whose third part, once the upload has begun, the server falls silent for 2 s."""

    proxy: FaultProxy

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() >= 16 * MIB and not self.proxy.counts["hang"]:
            while not self.proxy.counts["passed"]:
                time.sleep(0.01)
            self.proxy.fail("hang", for_s=2.0)
        return super().read(size)


def test_an_upload_that_fails_half_way_leaves_no_parts(
    swift: S3Server, aws: pytest.MonkeyPatch
) -> None:
    bucket = new_bucket(swift)
    # It hangs for longer than it falls silent: what fails can be removed at once.
    proxy = FaultProxy(swift.address, seed=0, longest_hang_s=2.5)
    swift.log_in(aws)
    aws.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
    file = Trap(LARGE)
    file.proxy = proxy
    with pytest.raises(StorageError, match=r"run/shard.tar: the endpoint"):
        open_storage(f"s3://{bucket}/run").put_from("shard.tar", file)
    proxy.close()
    assert proxy.counts["hang"] >= 1
    assert proxy.counts["passed"] >= 2  # it was begun and removed
    assert _left(swift, bucket) == ([], [])
