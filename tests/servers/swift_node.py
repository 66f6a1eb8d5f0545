"""OpenStack Swift with its S3 API, all four servers in this one process; run by .venv-swift.

    python swift_node.py DIRECTORY [--one-winner]

Prints its endpoint once it answers, and serves until it is ended. Sockets are bound before the
rings that name their ports are made, so no other program can take a port in between.

`--one-winner` puts a filter before the object server. Without it Swift answers `If-None-Match: *`
before the body has arrived, so several of the writers that race for one key may win.
"""

# mypy: disable-error-code="import-not-found"
# What it imports is in .venv-swift only.

from __future__ import annotations

import argparse
import collections
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_SWIFT_CONF = """
[swift-hash]
swift_hash_path_prefix = tests
swift_hash_path_suffix = tests
[storage-policy:0]
name = only
default = yes
"""
_COMMON = """
[DEFAULT]
swift_dir = {directory}
devices = {directory}/devices
recon_cache_path = {directory}
mount_check = false
bind_ip = 127.0.0.1
user = {user}
log_level = ERROR
"""
_PROXY = """
[pipeline:main]
pipeline = catch_errors gatekeeper s3api tempauth bulk slo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_tests_owner = {owner_secret} .admin
user_tests_stranger = {stranger_secret}
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""
_BACKEND = """
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_BACKENDS = ("account", "container", "object")
_Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class OneWinner:
    """Lets the conditional writes of one object through one after the other."""

    def __init__(self, app: _Wsgi, make_lock: Callable[[], Any]) -> None:
        self._app = app
        self._locks: dict[str, Any] = collections.defaultdict(make_lock)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """One request."""
        if environ["REQUEST_METHOD"] == "PUT" and "HTTP_IF_NONE_MATCH" in environ:
            with self._locks[environ["PATH_INFO"]]:
                return self._app(environ, start_response)
        return self._app(environ, start_response)


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--one-winner", action="store_true")
    arguments = parser.parse_args()
    os.environ["TZ"] = "UTC+0"
    time.tzset()
    directory = arguments.directory.absolute()
    _configure(directory)

    from swift.common import utils

    # Before anything else of Swift is imported: other modules read the files there at once.
    utils.set_swift_dir(str(directory))
    import eventlet
    from swift.common import wsgi

    eventlet.hubs.use_hub(utils.get_hub())
    sockets = {
        kind: eventlet.listen(("127.0.0.1", 0), backlog=512) for kind in ("proxy", *_BACKENDS)
    }
    _make_rings(directory, {kind: sock.getsockname()[1] for kind, sock in sockets.items()})
    threads = []
    for kind, sock in sockets.items():
        app = wsgi.loadapp(f"{directory}/{kind}.conf", global_conf={"log_name": kind})
        if kind == "object" and arguments.one_winner:
            app = OneWinner(app, eventlet.semaphore.Semaphore)
        threads.append(eventlet.spawn(_serve, sock, app))
    print(f"http://127.0.0.1:{sockets['proxy'].getsockname()[1]}", flush=True)
    for thread in threads:
        thread.wait()


def _serve(sock: socket.socket, app: _Wsgi) -> None:
    from eventlet import wsgi
    from swift.common.http_protocol import SwiftHttpProtocol

    with open(os.devnull, "w") as nowhere:
        # boto3 looks for `ETag`, which a capitalised header would not be.
        wsgi.server(
            sock, app, nowhere, protocol=SwiftHttpProtocol, capitalize_response_headers=False
        )


def _configure(directory: Path) -> None:
    """The files that Swift reads at its start. Secrets come from the environment."""
    (directory / "devices" / "disk").mkdir(parents=True)
    (directory / "swift.conf").write_text(_SWIFT_CONF)
    common = _COMMON.format(directory=directory, user=getpass.getuser())
    proxy = _PROXY.format(
        owner_secret=os.environ["OWNER_SECRET"], stranger_secret=os.environ["STRANGER_SECRET"]
    )
    (directory / "proxy.conf").write_text(common + proxy)
    for kind in _BACKENDS:
        (directory / f"{kind}.conf").write_text(common + _BACKEND.format(kind=kind))


def _make_rings(directory: Path, ports: dict[str, int]) -> None:
    """One copy on one disk, in 16 partitions."""
    from swift.common.ring import RingBuilder

    for kind in _BACKENDS:
        builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
        place = {"ip": "127.0.0.1", "port": ports[kind]}
        replication = {"replication_ip": "127.0.0.1", "replication_port": ports[kind]}
        rest = {"region": 1, "zone": 1, "device": "disk", "weight": 1.0, "meta": ""}
        builder.add_dev(place | replication | rest)
        builder.rebalance()
        builder.get_ring().save(f"{directory}/{kind}.ring.gz")


if __name__ == "__main__":
    main()
