"""What Ray's cluster launcher reaches a machine by: a real sshd on loopback, or stand-ins.

The stand-ins are programs called `ssh` and `rsync` that do here what they were asked to do there;
they serve where no sshd is installed, and say nothing of ssh itself.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tests.fleet.apart import ROOT

PORT = 2222
_SSH = """#!/bin/bash
while [[ $1 != *@* ]]; do shift; done
shift
cd; exec bash --login -c "$*"
"""
_RSYNC = """#!/bin/bash
from="${@: -2:1}"; to="${@: -1}"
to="${to#*@*:}"; to="${to/#\\~/$HOME}"
[[ $to = /* ]] || to=$HOME/$to
mkdir -p "$(dirname "$to")"
[ "$from" -ef "$to" ] || cp -r "$from" "$to"
"""
_SSHD = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
"""
_START = """
chmod 700 {folder}
for key in host key; do ssh-keygen -q -t ed25519 -N '' -f {folder}/$key; done
mkdir -p /run/sshd
{sshd} -f {folder}/sshd_config -E {folder}/sshd.log
"""


def sshd() -> str | None:
    """The program, which is not on everybody's path."""
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def missing() -> list[str]:
    """What a real connection lacks on this machine."""
    there = {"sshd": sshd(), "rsync": shutil.which("rsync"), "nc": shutil.which("nc")}
    return [name for name, path in there.items() if path is None]


def write_stand_ins(place: Path) -> str:
    """The folder that goes before PATH."""
    folder = place / "bin"
    folder.mkdir()
    for name, text in (("ssh", _SSH), ("rsync", _RSYNC)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return str(folder)


def start_sshd(place: Path) -> str:
    """The commands that start one, on loopback, with keys of its own."""
    folder = place / "ssh"
    folder.mkdir()
    (folder / "sshd_config").write_text(_SSHD.format(port=PORT, folder=folder))
    return _START.format(folder=folder, sshd=sshd())


def for_this_machine(user: str, place: Path, *, is_real: bool) -> str:
    """`cluster/local.yaml` for a head that is alone, here, and therefore has to work."""
    text = (ROOT / "cluster/local.yaml").read_text()
    text = text.replace("[my-worker-1, my-worker-2]", "[]").replace("my-head", "127.0.0.1")
    text = text.replace("my-user", user).replace("_workers: 2", "_workers: 0")
    text = text.replace("--num-cpus=0", "--num-cpus=1 --object-store-memory=100000000")
    fields = yaml.safe_load(text)
    if is_real:
        fields["auth"]["ssh_private_key"] = str(place / "ssh/key")
        # The launcher has no setting for the port.
        fields["auth"]["ssh_proxy_command"] = f"nc 127.0.0.1 {PORT}"
    else:
        del fields["auth"]["ssh_private_key"]
    return str(yaml.safe_dump(fields, sort_keys=False))
