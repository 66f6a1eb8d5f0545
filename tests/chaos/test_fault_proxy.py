"""The proxy does to requests what it says, and nothing while it is healed."""

from __future__ import annotations

import http.client
import http.server
import os
import threading
import time
import urllib.parse
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from insetgan_batch.data.storage import Storage, conditional_writes_work, open_storage
from tests.chaos.fault_proxy import FaultProxy, StorageFault
from tests.chaos.store import BUCKET, aws_settings, environment, s3_behind_proxy


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    with s3_behind_proxy(seed=1, longest_hang_s=0.4) as proxy:
        with environment(aws_settings(proxy.endpoint)):
            yield proxy


@pytest.fixture
def storage(proxy: FaultProxy) -> Storage:
    return open_storage(f"s3://{BUCKET}/run")


def raw(proxy: FaultProxy, method: str, key: str, body: bytes = b"") -> tuple[int, bytes]:
    """One request, tried once; raises `OSError` or `HTTPException` when no answer comes."""
    url = f"{proxy.endpoint}/{BUCKET}/run/{key}"
    host = urllib.parse.urlsplit(url).netloc
    signed = AWSRequest(method, url, headers={"Host": host}, data=body)
    S3SigV4Auth(Credentials("chaos", "chaos"), "s3", "us-east-1").add_auth(signed)
    connection = http.client.HTTPConnection(host)
    try:
        connection.request(method, f"/{BUCKET}/run/{key}", body, dict(signed.headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_healed_proxy_changes_nothing(proxy: FaultProxy, storage: Storage) -> None:
    big = os.urandom(300_000)
    storage.put("a/b c.bin", big)
    storage.put("empty", b"")
    assert storage.get("a/b c.bin") == big
    assert storage.get("empty") == b""
    assert list(storage.list("")) == ["a/b c.bin", "empty"]
    assert storage.exists("a/b c.bin")
    assert not storage.exists("b")
    storage.delete("empty")
    assert not storage.exists("empty")
    assert set(proxy.counts) == {"passed"}


def test_the_host_that_was_signed_arrives_unchanged(proxy: FaultProxy) -> None:
    client = boto3.client("s3")
    url = client.generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "x"})
    assert urllib.parse.urlsplit(url).netloc == proxy.endpoint.removeprefix("http://")
    seen: list[str] = []
    echo = http.server.HTTPServer(("127.0.0.1", 0), _echo_of_host(seen))
    threading.Thread(target=echo.serve_forever, args=(0.05,), daemon=True).start()
    other = FaultProxy(("127.0.0.1", echo.server_port), seed=0)
    try:
        raw(other, "PUT", "x", b"data")
    finally:
        other.close()
        echo.shutdown()
        echo.server_close()
    assert seen == [other.endpoint.removeprefix("http://")]


def _echo_of_host(seen: list[str]) -> type[http.server.BaseHTTPRequestHandler]:
    class Echo(http.server.BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            seen.append(self.headers["Host"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    return Echo


@pytest.mark.parametrize(
    ("kind", "status", "code"), [("error", 500, b"InternalError"), ("slow_down", 503, b"SlowDown")]
)
def test_a_refusal_looks_like_the_stores_own(
    proxy: FaultProxy, kind: StorageFault, status: int, code: bytes
) -> None:
    proxy.fail(kind, for_s=30)
    answer = raw(proxy, "PUT", "a", b"1")
    assert answer[0] == status
    assert code in answer[1]
    assert raw(proxy, "HEAD", "a") == (status, b"")
    assert proxy.counts == {kind: 2}


def test_after_a_500_the_store_may_have_done_it_or_not(proxy: FaultProxy, storage: Storage) -> None:
    proxy.fail("error", for_s=30)
    for n in range(20):
        raw(proxy, "PUT", f"k{n}", b"1")
    proxy.heal()
    assert 3 < len(list(storage.list(""))) < 17


def test_slow_down_hang_and_cut_write_nothing(proxy: FaultProxy, storage: Storage) -> None:
    kinds: list[StorageFault] = ["slow_down", "hang", "cut"]
    for kind in kinds:
        proxy.fail(kind, for_s=30)
        try:
            raw(proxy, "PUT", kind, b"x" * 100_000)
        except (OSError, http.client.HTTPException):
            assert kind != "slow_down"
        proxy.heal()
    assert proxy.settle(250)
    assert list(storage.list("")) == []
    assert proxy.accepted.keys() == set()


def test_a_late_write_arrives_after_the_caller_has_given_up(
    proxy: FaultProxy, storage: Storage
) -> None:
    proxy.fail("late", for_s=30)
    with pytest.raises((OSError, http.client.HTTPException)):
        raw(proxy, "PUT", "a", b"late")
    proxy.heal()
    assert proxy.settle(250)
    assert storage.get("a") == b"late"


def test_a_hanging_request_is_let_go_of_when_all_is_healed() -> None:
    """Else it would hang for days."""
    with s3_behind_proxy(seed=1, longest_hang_s=1e6) as proxy, ThreadPoolExecutor(1) as pool:
        proxy.fail("hang", for_s=1e6)
        asked = pool.submit(raw, proxy, "GET", "a")
        while not proxy.counts["hang"]:
            time.sleep(0.01)
        proxy.heal()
        with pytest.raises((OSError, http.client.HTTPException)):
            asked.result()


def test_half_of_an_answer_is_an_error_and_not_a_short_object(
    proxy: FaultProxy, storage: Storage
) -> None:
    storage.put("a", b"x" * 100_000)
    proxy.fail("cut", for_s=30)
    with pytest.raises(http.client.IncompleteRead):
        raw(proxy, "GET", "a")


def test_a_window_ends_by_itself(proxy: FaultProxy) -> None:
    proxy.fail("slow_down", for_s=0.2)
    assert raw(proxy, "PUT", "a", b"1")[0] == 503
    time.sleep(0.25)
    assert raw(proxy, "PUT", "a", b"1")[0] == 200


def test_a_window_waits_for_the_first_request(proxy: FaultProxy) -> None:
    proxy.fail("slow_down", for_s=0.1)
    time.sleep(0.15)
    assert raw(proxy, "PUT", "a", b"1")[0] == 503


def test_a_share_of_the_requests_is_hit_the_same_for_the_same_seed() -> None:
    drawn = []
    for _ in range(2):
        proxy = FaultProxy(("127.0.0.1", 1), seed=7)
        proxy.fail("slow_down", share=0.3, for_s=30)
        drawn.append([proxy.draw() for _ in range(200)])
        proxy.close()
    assert drawn[0] == drawn[1]
    assert 40 < sum(kind is not None for kind, _ in drawn[0]) < 80


def test_a_client_that_retries_gets_through_a_shaky_store(
    proxy: FaultProxy, storage: Storage
) -> None:
    kinds: list[StorageFault] = ["error", "slow_down", "cut", "late"]
    for kind in kinds:
        proxy.fail(kind, share=0.08, for_s=60)
    for n in range(12):
        storage.put(f"k{n}", b"%d" % n * 1000)
    proxy.heal()
    assert proxy.settle(250)
    assert [storage.get(f"k{n}") for n in range(12)] == [b"%d" % n * 1000 for n in range(12)]
    assert sum(proxy.counts[kind] for kind in kinds) > 0


def test_racing_conditional_writes_have_one_winner(proxy: FaultProxy, storage: Storage) -> None:
    assert conditional_writes_work(storage)
    assert all(len(bodies) == 1 for bodies in proxy.accepted.values())


def test_the_journal_knows_what_was_written_over(proxy: FaultProxy, storage: Storage) -> None:
    storage.put("a", b"1")
    storage.put("a", b"2")
    assert not storage.put_if_absent("a", b"3")
    assert [len(set(bodies)) for bodies in proxy.accepted.values()] == [2]
