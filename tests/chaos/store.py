"""An S3 server in memory behind a fault proxy, for the time of a block."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
from collections.abc import Iterator, Mapping

from moto.server import ThreadedMotoServer

from tests.chaos.fault_proxy import FaultProxy

BUCKET = "results"


@contextlib.contextmanager
def s3_behind_proxy(
    *, seed: int, host: str = "127.0.0.1", longest_hang_s: float = 3.0
) -> Iterator[FaultProxy]:
    """A proxy whose store holds an empty bucket. host: of both, where they listen."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # it logs every request
    server = ThreadedMotoServer(ip_address=host, port=0, verbose=False)
    server.start()
    store = server.get_host_and_port()
    _prepare(store)
    proxy = FaultProxy(store, seed=seed, host=host, longest_hang_s=longest_hang_s)
    try:
        yield proxy
    finally:
        proxy.close()
        server.stop()


def _prepare(store: tuple[str, int]) -> None:
    """An empty bucket. All of moto's servers in a process share what they hold, ended ones too."""
    for method, path in (("POST", "/moto-api/reset"), ("PUT", f"/{BUCKET}")):
        connection = http.client.HTTPConnection(*store, timeout=10)
        connection.request(method, path)
        connection.getresponse().read()
        connection.close()


def aws_settings(endpoint: str) -> dict[str, str]:
    """What the AWS libraries read from the environment, for that store and no other."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "chaos",
        "AWS_SECRET_ACCESS_KEY": "chaos",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def environment(changes: Mapping[str, str]) -> Iterator[None]:
    """These variables in the environment of this process."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
