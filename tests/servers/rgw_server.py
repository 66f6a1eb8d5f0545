"""Preparer Ceph's RADOS gateway: a monitor, one disk in memory and the gateway, where installed.

Debian: `apt-get install --no-install-recommends radosgw ceph-mon ceph-osd`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.servers.s3_server import S3Server, end

PROGRAMS = ("radosgw", "radosgw-admin", "ceph-mon", "ceph-osd", "ceph", "monmaptool")
MISSING = "Ceph is not installed (Debian: radosgw, ceph-mon, ceph-osd)"
_OWNER = ("owner-key", "of-the-owner")
_STRANGER = ("stranger-key", "of-the-stranger")
_FULL = ("full-key", "of-the-full")
_START_S = 60.0
# One copy of everything, nobody to prove anything to, and short waits.
_CONF = """
[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{monitor_port}]
public addr = 127.0.0.1
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
ms bind msgr2 = false
auth cluster required = none
auth service required = none
auth client required = none
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
paxos propose interval = 0.05
paxos min wait = 0.01
run dir = {directory}
admin socket = {directory}/$name.asok
pid file = {directory}/$name.pid
log file = {directory}/$name.log
log to stderr = false
[mon.a]
mon data = {directory}/mon
mon initial members = a
[osd.0]
osd data = {directory}/osd
osd objectstore = memstore
osd class load list = *
osd class default list = *
[client.rgw.a]
rgw data = {directory}/rgw
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw run sync thread = false
"""


def is_installed() -> bool:
    """Whether all programs are there."""
    return all(shutil.which(program) for program in PROGRAMS)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[S3Server]:
    """A gateway that answers, with three users."""
    for name in ("mon", "osd", "rgw"):
        (directory / name).mkdir()
    monitor_port, port = _free_ports(2)
    fields = {"fsid": uuid.uuid4(), "monitor_port": monitor_port, "port": port}
    conf = directory / "ceph.conf"
    conf.write_text(_CONF.format(directory=directory, **fields))
    environment = os.environ | {"CEPH_CONF": str(conf)}
    with contextlib.ExitStack() as services:
        for command in _commands(directory, monitor_port):
            if "-f" in command:
                process = subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
                services.callback(end, process)
            else:
                subprocess.run(
                    command, env=environment, check=True, capture_output=True, timeout=_START_S
                )
        endpoint = f"http://127.0.0.1:{port}"
        _wait_for(endpoint)
        for command in _users():
            administer = ["radosgw-admin", "-n", "client.rgw.a", *command]
            subprocess.run(administer, env=environment, check=True, capture_output=True, timeout=60)
        yield S3Server(endpoint, _OWNER, _STRANGER, _FULL)


def _users() -> list[list[str]]:
    """What makes them; one may write no object larger than nothing."""
    commands = []
    for name, (key, secret) in (("owner", _OWNER), ("stranger", _STRANGER), ("full", _FULL)):
        named = [f"--uid={name}", f"--display-name={name}"]
        commands += [["user", "create", *named, f"--access-key={key}", f"--secret-key={secret}"]]
    quota = ["--uid=full", "--quota-scope=user"]
    return [*commands, ["quota", "set", *quota, "--max-size=1B"], ["quota", "enable", *quota]]


def _commands(directory: Path, monitor_port: int) -> list[list[str]]:
    """In their order; those with -f stay."""
    disk = str(uuid.uuid4())
    address = f"[v1:127.0.0.1:{monitor_port}]"
    monitors = str(directory / "monitors")
    return [
        ["monmaptool", "--create", "--addv", "a", address, monitors],
        ["ceph-mon", "-i", "a", "--mkfs", "--monmap", monitors],
        ["ceph-mon", "-i", "a", "-f"],
        ["ceph", "osd", "new", disk],
        ["ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk],
        ["ceph-osd", "-i", "0", "-f"],
        ["ceph", "osd", "crush", "add", "osd.0", "1.0", "host=here", "root=default"],
        ["radosgw", "-n", "client.rgw.a", "-f"],
    ]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _wait_for(endpoint: str) -> None:
    ends_s = time.monotonic() + _START_S
    while True:
        try:
            urllib.request.urlopen(endpoint, timeout=5).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if time.monotonic() > ends_s:
                raise
            time.sleep(0.1)
        else:
            return
