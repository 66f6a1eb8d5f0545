"""Where Prometheus finds the metrics of a run."""

from __future__ import annotations

from insetgan_batch.errors import ConfigError

DEFAULT_ADDRESS = "127.0.0.1:9464"
OFF = "off"


def check_address(address: str) -> None:
    """Raises `ConfigError` for what is neither HOST:PORT nor OFF."""
    if address != OFF:
        parse(address)


def parse(address: str) -> tuple[str, int]:
    """(host, port), an IPv6 address without its brackets; raises `ConfigError`."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(f"metrics address {address!r}: expected HOST:PORT, or {OFF}")
    return host.removeprefix("[").removesuffix("]"), int(port)
