"""A proxy in front of an S3 server that misbehaves on demand, and keeps a journal of what it wrote.

A fault has a kind, a share of the requests that it hits, and a time that begins with the first
request, so that no fault passes unseen while nobody asks for anything:

error      500 InternalError; for half of them the store has done what was asked all the same
slow_down  503 SlowDown; the store is not asked
hang       no answer until the caller gives up; the store is not asked
late       the same, but then the store is asked: it does so after the caller gave up
cut        the connection breaks in the middle of the body, the caller's or the answer's

botocore waits 60 s for an answer and asks six times, so the proxy closes the connection itself
after `longest_hang_s`: to the caller that is the same. The Host header, which SigV4 signs, passes
through unchanged. PUTs of one path are done one after the other: moto looks for an object and then
writes it without a lock, so now and then two racing `If-None-Match: *` win.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import http.client
import http.server
import random
import select
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Literal

StorageFault = Literal["error", "slow_down", "hang", "late", "cut"]

_PART_BYTES = 64 * 1024
_STORE_TIMEOUT_S = 30.0
# They belong to a connection, not to a message; and what http.server has dealt with already.
_NOT_PASSED_ON = {"connection", "keep-alive", "expect", "transfer-encoding"}
_ANSWERS = {
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
}


@dataclasses.dataclass(slots=True)
class _Window:
    """A fault. share: of the requests, 0..1; ends_at_s: on the monotonic clock, set by the first
    request.
    """

    kind: StorageFault
    share: float
    lasts_s: float
    ends_at_s: float | None = None

    def is_open(self, now_s: float) -> bool:
        if self.ends_at_s is None:
            self.ends_at_s = now_s + self.lasts_s
        return now_s < self.ends_at_s


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks for. The body is whole: it may be delivered when the caller has gone."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What the store says; parts: its body, to be read once. The headers hold its length."""

    status: int
    headers: list[tuple[str, str]]
    parts: Iterator[bytes]


class FaultProxy:
    """The proxy, listening from its construction to `close`.

    endpoint: what a client takes for the store. counts: requests by what became of them ("passed"
    or a kind of fault). accepted: by path, the sha256 of every body that the store took there.
    store: host and port of the real one.
    """

    def __init__(
        self,
        store: tuple[str, int],
        *,
        seed: int,
        host: str = "127.0.0.1",
        longest_hang_s: float = 3.0,
    ) -> None:
        """store: host and port of the real one. host: where to listen; the port is a free one."""
        self.counts: collections.Counter[str] = collections.Counter()
        self.accepted: dict[str, list[str]] = {}
        self.store, self._longest_hang_s = store, longest_hang_s
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._windows: list[_Window] = []
        self._path_locks: dict[str, threading.Lock] = collections.defaultdict(threading.Lock)
        self._in_flight = 0
        self._server = _Server(self, host)
        self.endpoint = f"http://{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def fail(self, kind: StorageFault, *, share: float = 1.0, for_s: float) -> None:
        """Do that to a share of the requests, from the next one on for so many seconds."""
        with self._lock:
            self._windows.append(_Window(kind, share, for_s))

    def heal(self) -> None:
        """End all faults; what hangs is let go of."""
        with self._lock:
            self._windows.clear()

    def settle(self, timeout_s: float) -> bool:
        """Wait until no request is under way, late ones included; whether that came in time."""
        ends_s = time.monotonic() + timeout_s
        while self._in_flight and time.monotonic() < ends_s:
            time.sleep(0.02)
        return not self._in_flight

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    # ---- what the handlers ask -----------------------------------------------------------------

    def draw(self) -> tuple[StorageFault | None, bool]:
        """What becomes of the next request, and a coin for how exactly."""
        now_s = time.monotonic()
        with self._lock:
            self._windows = [window for window in self._windows if window.is_open(now_s)]
            drawn = [w.kind for w in self._windows if self._random.random() < w.share]
            self.counts[drawn[0] if drawn else "passed"] += 1
            return (drawn[0] if drawn else None), self._random.random() < 0.5

    def count_in_flight(self, change: int) -> None:
        """A request has come (1) or is through (-1)."""
        with self._lock:
            self._in_flight += change

    def wait_for_caller_to_leave(self, connection: socket.socket) -> None:
        """Until the caller hangs up, the faults are healed, or `longest_hang_s` have passed."""
        ends_s = time.monotonic() + self._longest_hang_s
        while self._windows and time.monotonic() < ends_s:
            if select.select([connection], [], [], 0.1)[0]:
                return

    def ask_store(self, request: Request) -> Answer:
        """Pass a request on; raises `OSError` or `HTTPException` where no store answers."""
        if request.method != "PUT":
            return _asked(self.store, request)
        with self._lock:
            path_lock = self._path_locks[request.path]
        with path_lock:
            answer = _asked(self.store, request)
            if 200 <= answer.status < 300:
                sha256 = hashlib.sha256(request.body).hexdigest()
                with self._lock:
                    self.accepted.setdefault(request.path, []).append(sha256)
        return answer


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy, host: str) -> None:
        self.proxy = proxy
        super().__init__((host, 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: callers that leave early are what this is for."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the counts say it."""

    def _serve(self) -> None:
        proxy = self.server.proxy
        kind, coin = proxy.draw()
        proxy.count_in_flight(1)
        try:
            if kind is None:
                self._pass_on(self._read())
            elif kind == "cut":
                self._cut()
            elif kind in ("hang", "late"):
                self._keep_waiting(deliver=kind == "late")
            else:
                self._refuse(*_ANSWERS[kind], deliver=kind == "error" and coin)
        except (OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            proxy.count_in_flight(-1)

    # http.server finds these by their names.
    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

    def _read(self) -> Request:
        body = self.rfile.read(self._length())
        if len(body) < self._length():
            raise ConnectionError("the caller left before the end of its request")
        return Request(self.command, self.path, _passed_on(self.headers.items()), body)

    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def _pass_on(self, request: Request) -> None:
        answer = self.server.proxy.ask_store(request)
        self._start(answer)
        for part in answer.parts:
            self.wfile.write(part)

    def _start(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()

    def _refuse(self, status: int, code: str, message: str, *, deliver: bool) -> None:
        request = self._read()
        if deliver:
            _drain(self.server.proxy.ask_store(request))
        text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        body = b"" if request.method == "HEAD" else text.encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        self._start(Answer(status, headers, iter(())))
        self.wfile.write(body)

    def _keep_waiting(self, *, deliver: bool) -> None:
        request = self._read()
        self.server.proxy.wait_for_caller_to_leave(self.connection)
        self._hang_up()
        if deliver:
            _drain(self.server.proxy.ask_store(request))

    def _cut(self) -> None:
        """Half of the caller's body and no word more, or half of the answer's."""
        if length := self._length():
            self.rfile.read(length // 2)
        else:
            answer = self.server.proxy.ask_store(self._read())
            self._start(answer)
            body = b"".join(answer.parts)
            self.wfile.write(body[: len(body) // 2])
        self._hang_up()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):  # the caller was faster
            self.connection.shutdown(socket.SHUT_RDWR)


def _asked(store: tuple[str, int], request: Request) -> Answer:
    """What the store answers; the end of its body is still on the way."""
    connection = http.client.HTTPConnection(*store, timeout=_STORE_TIMEOUT_S)
    connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
    for name, value in request.headers:
        connection.putheader(name, value)
    connection.endheaders(request.body or None)
    answer = connection.getresponse()
    headers = _passed_on(answer.getheaders())
    if answer.length is None:  # then only the end of the connection says that this is all
        headers.append(("Connection", "close"))
    return Answer(answer.status, headers, _parts(connection, answer))


def _parts(
    connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
) -> Iterator[bytes]:
    try:
        while part := answer.read(_PART_BYTES):
            yield part
    finally:
        connection.close()


def _drain(answer: Answer) -> None:
    for _ in answer.parts:
        pass


def _passed_on(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers if name.lower() not in _NOT_PASSED_ON]
