"""S3: what its answers become, and where it is; a real server is in tests/servers."""

from __future__ import annotations

import base64
import http.server
import io
import re
import threading
import traceback
import zlib
from collections.abc import Callable, Iterator

import boto3
import pytest
from moto import mock_aws

from insetgan_batch.data import inputs, s3_errors
from insetgan_batch.data.storage import (
    conditional_writes_work,
    configure,
    open_output,
    open_storage,
)
from insetgan_batch.errors import (
    BadInputError,
    ConfigError,
    CredentialsError,
    NoConditionalWritesError,
    RefusedError,
    StorageError,
)

BUCKET = "results"


class Server(http.server.ThreadingHTTPServer):
    """A store that gives prepared answers: (status, error code), the last one again and again."""

    def __init__(self, *answers: tuple[int, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: list[tuple[str, str | None]] = []
        self.methods: list[str] = []
        self.message = "two\nlines"
        self.authorized, self.connections = "", 0
        self.checksums: list[str | None] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.path, self.headers.get("If-None-Match")))
        self.server.methods.append(self.command)
        self.server.authorized = self.headers.get("Authorization", "")
        self.server.checksums.append(self.headers.get("x-amz-checksum-crc32"))
        answers = self.server.answers
        status, code = answers.pop(0) if len(answers) > 1 else answers[0]
        said = f"<Message>{self.server.message}</Message>"
        body = f"<Error><Code>{code}</Code>{said}</Error>".encode()
        if not code:
            body = b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) + (10 if code == "Cut" else 0)))
        if code == "Cut":
            self.close_connection = True
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)

    do_GET = do_PUT = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve(aws: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*answers: tuple[int, str]) -> Server:
        server = Server(*answers)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[..., Server]


def test_page_after_page_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "10")
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        storage = open_storage(f"s3://{BUCKET}/run")
        keys = [f"commits/{n:04d}" for n in range(25)]
        for key in keys:
            storage.put(key, b"")
        assert list(storage.list("commits")) == keys


def test_bucket_that_does_not_exist_is_named() -> None:
    with mock_aws():
        storage = open_storage("s3://nobody/run")
        for call in (storage.get, storage.delete, lambda _: list(storage.list(""))):
            with pytest.raises(RefusedError, match=r"s3://nobody/run.*no such bucket: create it"):
                call("a")


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "AccessDenied", "allow s3:GetObject"),
        (403, "InvalidAccessKeyId", "credentials are not accepted"),
        (403, "SignatureDoesNotMatch", "credentials are not accepted"),
        (400, "ExpiredToken", "renew them"),
        (403, "RequestTimeTooSkewed", r"clocks .* differ too much: set this one"),
        (403, "QuotaExceeded", "no space left"),
        (507, "InsufficientStorage", "no space left"),
        (507, "XMinioStorageFull", "no space left"),
        (507, "SomeWordOfItsOwn", "no space left"),
        (413, "EntityTooLarge", "larger than the store takes"),
        (404, "NoSuchBucket", "no such bucket: create it"),
    ],
)
def test_refusal_is_one_line_that_says_what_to_do(
    serve: Serve, status: int, code: str, says: str
) -> None:
    serve((status, code))
    with pytest.raises(RefusedError, match=f"s3://bucket/run/a: .*{code}: .*{says}") as caught:
        open_storage("s3://bucket/run").put("a", b"")
    assert "\n" not in str(caught.value)


def test_refusal_without_a_text_is_a_refusal(serve: Serve) -> None:
    serve((403, "AccessDenied"))
    with pytest.raises(RefusedError, match=r"HeadObject: 403: allow s3:GetObject"):
        open_storage("s3://bucket/run").exists("a")


def test_unknown_answer_is_passed_on_in_one_line(serve: Serve) -> None:
    serve((500, "InternalError"))
    with pytest.raises(StorageError, match=r"run/a: PutObject failed: InternalError: two lines$"):
        open_storage("s3://bucket/run").put("a", b"")


def test_slow_down_is_tried_again(serve: Serve, aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_MAX_ATTEMPTS", "2")
    server = serve((503, "SlowDown"), (200, ""))
    open_storage("s3://bucket/run").put("a", b"")
    assert len(server.asked) == 2


def test_put_if_absent_asks_for_absence_and_believes_the_answer(serve: Serve) -> None:
    server = serve((200, ""), (412, "PreconditionFailed"))
    storage = open_storage("s3://bucket/run")
    assert storage.put_if_absent("a", b"")
    assert not storage.put_if_absent("a", b"")
    assert server.asked == [("/bucket/run/a", "*")] * 2


@pytest.mark.parametrize(("last", "won"), [((200, ""), True), ((412, "PreconditionFailed"), False)])
def test_conflict_of_writers_is_asked_again(serve: Serve, last: tuple[int, str], won: bool) -> None:
    conflict = (409, "ConditionalRequestConflict")
    server = serve(conflict, conflict, last)
    assert open_storage("s3://bucket/run").put_if_absent("a", b"") is won
    assert len(server.asked) == 3


def test_endless_conflict_is_an_error(serve: Serve) -> None:
    serve((409, "ConditionalRequestConflict"))
    with pytest.raises(StorageError, match=r"run/a: other writers kept conflicting"):
        open_storage("s3://bucket/run").put_if_absent("a", b"")


def test_store_that_cannot_write_on_a_condition_fails_the_probe(serve: Serve) -> None:
    serve((200, ""))
    assert not conditional_writes_work(open_storage("s3://bucket/run"))


def test_store_that_says_itself_that_it_knows_no_conditions_is_quoted(serve: Serve) -> None:
    serve((501, "NotImplemented"))
    with pytest.raises(NoConditionalWritesError, match=r"NotImplemented: two lines\)$"):
        conditional_writes_work(open_storage("s3://bucket/run"))


def test_a_single_writer_sends_no_condition(serve: Serve) -> None:
    """Some stores answer NotImplemented to any."""
    server = serve((404, ""), (200, ""), (200, ""))
    storage = open_output("s3://bucket/run", single_writer=True)
    assert storage.put_if_absent("a", b"1")
    assert not storage.put_if_absent("a", b"2")
    assert server.asked == [("/bucket/run/a", None)] * 3
    assert server.methods == ["HEAD", "PUT", "HEAD"]


TRAILERS = "Transfering payloads in multiple chunks using aws-chunked is not supported."


def test_store_that_takes_no_trailers_is_not_taken_for_one_without_conditions(
    serve: Serve,
) -> None:
    """OpenStack Swift 2.33 behind TLS, over which boto3 sends its checksums behind the body."""
    serve((501, "NotImplemented")).message = TRAILERS
    storage = open_storage("s3://bucket/run")
    for call in (
        lambda: conditional_writes_work(storage),
        lambda: storage.put_if_absent("a", b""),
        lambda: storage.put("a", b""),
    ):
        with pytest.raises(RefusedError, match="when_required") as caught:
            call()
        assert "aws-chunked is not supported" in str(caught.value)
        assert not isinstance(caught.value, NoConditionalWritesError)


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "InvalidObjectState", "the object is archived: restore it"),
        (400, "KMS.DisabledException", "two lines"),
        (400, "KeyTooLongError", "two lines"),
        (405, "MethodNotAllowed", "two lines"),
        (403, "SomeWordOfItsOwn", "two lines"),
    ],
)
def test_what_is_said_of_one_object_is_its_rows_fault_at_once(
    serve: Serve, status: int, code: str, says: str
) -> None:
    server = serve((200, "Body"), (status, code))
    with pytest.raises(BadInputError, match=f"{code}: {says}"):
        inputs.read("s3://bucket/photos/a.png")
    assert len(server.asked) == 2


@pytest.mark.parametrize("code", ["ExpiredToken", "InvalidAccessKeyId", "RequestTimeTooSkewed"])
def test_what_is_said_of_who_asks_is_no_rows_fault(serve: Serve, code: str) -> None:
    serve((200, "Body"), (403, code))
    with pytest.raises(CredentialsError, match=code):
        inputs.read("s3://bucket/photos/a.png")


@pytest.mark.parametrize(
    ("status", "code"),
    [(408, "RequestTimeout"), (400, "RequestTimeout"), (429, "TooManyRequests"), (503, "SlowDown")],
)
def test_what_passes_is_an_outage(
    serve: Serve, aws: pytest.MonkeyPatch, status: int, code: str
) -> None:
    aws.setenv("AWS_MAX_ATTEMPTS", "1")
    serve((200, "Body"), (status, code))
    with pytest.raises(StorageError, match=code) as caught:
        inputs.read("s3://bucket/photos/a.png")
    assert not isinstance(caught.value, RefusedError)


def test_probe_of_a_refusing_store_is_an_error_and_not_an_answer(serve: Serve) -> None:
    serve((403, "AccessDenied"))
    with pytest.raises(RefusedError):
        conditional_writes_work(open_storage("s3://bucket/run"))


def test_object_cut_short_is_an_error(serve: Serve) -> None:
    serve((200, "Cut"))
    storage = open_storage("s3://bucket/run")
    for read in (lambda: storage.get("a"), lambda: storage.read_into("a", io.BytesIO())):
        with pytest.raises(
            StorageError, match=r"run/a: the endpoint http.* broke the connection off"
        ):
            read()


def test_a_broken_answer_is_asked_for_again(serve: Serve) -> None:
    server = serve((200, "Cut"), (200, "Cut"), (200, "whole"))
    assert b"whole" in open_storage("s3://bucket/run").get("a")
    assert len(server.asked) == 3


def test_object_replaced_while_it_is_read_is_an_error(serve: Serve) -> None:
    serve((200, ""), (412, "PreconditionFailed"))
    with pytest.raises(StorageError, match=r"run/a: the object was replaced while it was read"):
        open_storage("s3://bucket/run").read_into("a", io.BytesIO())


def test_reading_into_a_file_says_who_refuses(serve: Serve) -> None:
    serve((403, "AccessDenied"))
    with pytest.raises(RefusedError, match=r"run/a: HeadObject: 403: allow s3:GetObject"):
        open_storage("s3://bucket/run").read_into("a", io.BytesIO())


def test_unreachable_endpoint_is_named(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(
        StorageError, match=r"run/a: the endpoint http://127.0.0.1:9 cannot be reached .*; check"
    ) as caught:
        open_storage("s3://bucket/run").put("a", b"")
    assert not isinstance(caught.value, RefusedError)


@pytest.mark.parametrize(
    "endpoint", ["http://me:hunter2@127.0.0.1:9", "me:hunter2@127.0.0.1:9", "http://hunter2:x:y"]
)
def test_endpoint_with_a_password_is_refused_and_shown_nowhere(
    aws: pytest.MonkeyPatch, endpoint: str
) -> None:
    aws.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(RefusedError, match=r"AWS_ENDPOINT_URL") as caught:
        open_storage("s3://bucket/run")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    with pytest.raises(ConfigError, match=r"storage.endpoint_url") as wrong:
        configure(endpoint_url=endpoint)
    assert "hunter2" not in "".join(traceback.format_exception(wrong.value))


def test_keys_are_in_no_error_no_log_and_no_repr(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve((403, "SignatureDoesNotMatch"), (500, "InternalError"))
    storage = open_storage("s3://bucket/run")
    shown = [repr(storage), str(vars(storage)), storage.uri]
    with caplog.at_level("DEBUG"):
        for _ in range(2):
            with pytest.raises(StorageError) as caught:
                storage.put("a", b"")
            shown += ["".join(traceback.format_exception(caught.value))]
    assert len(server.asked) == 2
    assert "botocore" in caplog.text
    assert "hunter2" not in "".join([*shown, caplog.text])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ReadTimeoutError", "s3://b/a: the endpoint http://h gave no answer in time"),
        ("ConnectTimeoutError", "s3://b/a: the endpoint http://h cannot be reached"),
        ("SSLError", r"shows no certificate that is accepted here .*; check AWS_CA_BUNDLE"),
        ("FlexibleChecksumError", r"sent bytes that differ from their checksum"),
        ("SomethingNew", r"broke the connection off \(SomethingNew\)"),
    ],
)
def test_silence_is_no_refusal_and_has_its_own_line(name: str, says: str) -> None:
    error = s3_errors.unanswered("s3://b/a", name, "the endpoint http://h")
    assert re.search(says, str(error))
    assert not isinstance(error, RefusedError)


# Where S3 is


@pytest.fixture
def configured() -> Iterator[Callable[..., None]]:
    yield configure
    configure()


def test_configuration_goes_before_the_usual_aws_places(
    serve: Serve, aws: pytest.MonkeyPatch, configured: Callable[..., None]
) -> None:
    server = serve((200, ""))
    aws.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    configured(endpoint_url=f"http://127.0.0.1:{server.server_port}", region="eu-central-1")
    open_storage("s3://bucket/run").put("a", b"")
    assert server.asked == [("/bucket/run/a", None)]
    assert "/eu-central-1/s3/" in server.authorized


@pytest.mark.parametrize(
    ("style", "url"),
    [("path", "http://s3.test/bucket/run/a"), ("virtual", "http://bucket.s3.test/run/a")],
)
def test_addressing_style_is_that_of_the_configuration(
    serve: Serve, aws: pytest.MonkeyPatch, configured: Callable[..., None], style: str, url: str
) -> None:
    server = serve((200, ""))
    # A proxy is asked for whole URLs, whose hosts nobody has to find.
    aws.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.server_port}")
    configured(endpoint_url="http://s3.test", region="us-east-1", addressing_style=style)
    open_storage("s3://bucket/run").put("a", b"")
    assert server.asked == [(url, None)]


def test_addressing_style_that_there_is_not_is_named() -> None:
    with pytest.raises(ConfigError, match=r"addressing_style is 'dns', expected one of .*'path'"):
        configure(addressing_style="dns")


def test_stores_of_a_process_share_one_client_and_its_connections(serve: Serve) -> None:
    server = serve((200, ""))
    for n in range(5):
        open_storage(f"s3://bucket/{n}").put("a", b"")
    assert len(server.asked) == 5
    assert server.connections == 1


def test_what_is_written_carries_its_checksum(serve: Serve) -> None:
    server = serve((200, ""))
    open_storage("s3://bucket/run").put("a", b"123")
    crc32 = base64.b64encode(zlib.crc32(b"123").to_bytes(4)).decode()
    assert server.checksums == [crc32]


def test_endpoint_that_is_no_url_is_refused(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "nonsense")
    with pytest.raises(RefusedError, match=r"AWS_ENDPOINT_URL"):
        open_storage("s3://bucket/run")


def test_missing_credentials_are_refused(aws: pytest.MonkeyPatch) -> None:
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(RefusedError, match=r"no credentials found: set AWS_PROFILE"):
        open_storage("s3://bucket/run").put("a", b"")


def test_unknown_profile_is_refused(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RefusedError, match=r"AWS_PROFILE names no profile"):
        open_storage("s3://bucket/run")


def test_name_that_no_bucket_can_have_is_refused(aws: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"cannot be the name of a bucket"):
        open_storage("s3://No Bucket/run").put("a", b"")
