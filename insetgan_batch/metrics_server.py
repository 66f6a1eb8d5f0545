"""Serves the metrics of a run where Prometheus finds them."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from insetgan_batch.errors import ConfigError

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

    from prometheus_client import CollectorRegistry, Metric
    from prometheus_client.registry import Collector

DEFAULT_ADDRESS = "127.0.0.1:9464"
OFF = "off"

# A scraper is waited for at most twice as long as it took between its last two visits.
_UNKNOWN_INTERVAL_S = 7.5  # it came only once
_LAST_SCRAPE_S = 60.0  # the longest wait
_log = logging.getLogger(__name__)


def check_address(address: str) -> None:
    """Raises `ConfigError` for what is neither HOST:PORT nor OFF."""
    if address != OFF:
        _parse(address)


@contextlib.contextmanager
def serving(registry: CollectorRegistry, address: str) -> Iterator[Callable[[], None]]:
    """Metrics are served at HOST:PORT meanwhile, or nowhere if that is OFF.

    Gives a call that waits until the scraper has come once more. Raises `ConfigError` for an
    address that cannot be served; if it is the default one, nothing is served.
    """
    scraped = _Scraped(registry)
    started = None if address == OFF else _start(scraped, address)
    if started is None:
        yield lambda: None
        return
    server, thread = started
    try:
        yield scraped.wait_for_scrape
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _start(scraped: Collector, address: str) -> tuple[WSGIServer, threading.Thread] | None:
    from prometheus_client import start_http_server  # the command line has no time for it

    host, port = _parse(address)
    try:
        return start_http_server(port, host, scraped)
    except OSError as err:
        if address != DEFAULT_ADDRESS:
            raise ConfigError(
                f"metrics address {address}: cannot be served here ({err}); choose another"
                f" HOST:PORT, or {OFF}"
            ) from err
        _log.warning("metrics are not served, for %s is in use; choose another address", address)
        return None


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"metrics address {address!r}: expected HOST:PORT, or {OFF}")
    return host.removeprefix("[").removesuffix("]"), int(port)


class _Scraped:
    """A registry that knows when it was read; to serve, instead of the registry itself."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self.restricted_registry = registry.restricted_registry  # for `?name[]=`
        self._news = threading.Condition()
        self._scraped_at_s: list[float] = []  # the last two

    def collect(self) -> Iterable[Metric]:
        """All metrics; a scrape is counted when the last one has been taken."""
        yield from self._registry.collect()
        with self._news:
            self._scraped_at_s = [*self._scraped_at_s[-1:], time.monotonic()]
            self._news.notify_all()

    def wait_for_scrape(self) -> None:
        """Until the scraper has come again; at once if there is none, or it has gone."""
        with self._news:
            seen = self._scraped_at_s
            if not seen:
                return
            between_s = seen[-1] - seen[0] if len(seen) > 1 else _UNKNOWN_INTERVAL_S
            wait_s = min(2 * between_s, _LAST_SCRAPE_S) + 1.0
            left_s = seen[-1] + wait_s - time.monotonic()
            if left_s > 0:
                self._news.wait_for(lambda: self._scraped_at_s != seen, left_s)
