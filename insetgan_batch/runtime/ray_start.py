"""What would stop Ray here, found within seconds and before anything is written.

Ray itself says it raw, late (a cluster that does not answer is waited for, for minutes), or in the
log of another process.
"""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path

import grpc
from ray._private import services
from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc

from insetgan_batch.errors import ConfigError

_TIMEOUT_S = 5.0
_MOST_BYTES = 107  # of the path of a socket, says the system
_LONGEST_SOCKET = "session_2026-11-30_22-47-21_542972_4194304/sockets/plasma_store"
_OWN_TOKEN = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


def cluster_address() -> str | None:
    """What `RAY_ADDRESS` names; None where Ray has to be started on this machine."""
    address = os.environ.get("RAY_ADDRESS")
    return None if address in (None, "", "local") else address


def check() -> None:
    """Raises `ConfigError` for what would stop Ray from starting, or from being joined."""
    address = cluster_address()
    if address is not None:
        check_head(address)
        return
    temporary_directory()
    _check_token()


# ---- on this machine ---------------------------------------------------------------------------


def temporary_directory() -> str:
    """For Ray's sockets and logs, in a directory that only this user may enter: Ray lets everybody
    into those that it makes, and whoever came first owns /tmp/ray.

    Raises `ConfigError` where there can be none.
    """
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if os.environ.get(name)), None)
    parent = os.path.abspath(os.environ[name] if name else "/tmp")
    own = os.path.join(parent, f"ray-{os.getuid()}")
    below = os.path.join(own, "ray")
    length = len(os.fsencode(os.path.join(below, _LONGEST_SOCKET)))
    if length > _MOST_BYTES:
        raise ConfigError(
            f"{name}={parent} is too long for the sockets of Ray: their paths would have {length}"
            f" bytes, and the system allows {_MOST_BYTES}; set RAY_TMPDIR to a short path, like"
            " /tmp"
        )
    try:
        _make_private(own)
        tempfile.TemporaryFile(dir=own).close()
    except OSError as err:
        raise ConfigError(
            f"Ray cannot keep its sockets and logs in {own}: {err.strerror}; set RAY_TMPDIR to a"
            " directory that you may write"
        ) from err
    return below


def _make_private(path: str) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    if os.path.islink(path) or os.stat(path).st_uid != os.getuid():
        raise PermissionError(errno.EPERM, "it is there already, and not this user's")
    os.chmod(path, 0o700)


def _check_token() -> None:
    """Ray keeps one below the home directory, by which it knows its own, and leaves it for others
    to read. Raises `ConfigError` where it cannot be kept.
    """
    is_off = os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"
    if is_off or any(os.environ.get(name) for name in _OWN_TOKEN):
        return
    advice = "set HOME to a directory that you may write, or RAY_AUTH_TOKEN to a secret"
    try:
        directory = Path.home() / ".ray"
        token = directory / "auth_token"
        if token.exists():
            if token.stat().st_uid == os.getuid():
                token.chmod(0o600)
            token.read_bytes()
            return
        directory.mkdir(mode=0o700, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except RuntimeError as err:
        raise ConfigError(
            f"Ray keeps a token in the home directory, and there is none (user {os.getuid()} has no"
            f" name here, and HOME is not set): {advice}"
        ) from err
    except OSError as err:
        raise ConfigError(
            f"Ray keeps a token in the home directory, and {err.filename or directory} cannot be"
            f" used: {err.strerror}; {advice}"
        ) from err


# ---- a cluster ---------------------------------------------------------------------------------


def check_head(address: str) -> None:
    """Raises `ConfigError` where no head of a cluster answers at HOST:PORT, or by `auto`."""
    if "://" in address:
        raise ConfigError(
            "RAY_ADDRESS is a URL, and a run joins its cluster directly: set RAY_ADDRESS=HOST:6379,"
            " on a machine of the cluster; or, with the http:// of the dashboard, let a file of"
            " jobs/ hand the run over"
        )
    where = f"RAY_ADDRESS={address}"
    try:
        found = services.canonicalize_bootstrap_address(address) or address
        host, port = found.rpartition(":")[0].strip("[]"), _port(found)
    except ConnectionError as err:
        raise ConfigError(
            f"{where}: no Ray runs on this machine; start one by `ray start`, or unset RAY_ADDRESS"
        ) from err
    except ValueError as err:
        raise ConfigError(f"{where} is no address: expected HOST:PORT, like 10.0.0.5:6379") from err
    try:
        socket.create_connection((host, port), _TIMEOUT_S).close()
    except OSError as err:
        raise ConfigError(
            f"no Ray cluster answers at {where} ({err.strerror or err}): start its head, or unset"
            " RAY_ADDRESS for a Ray of this machine alone"
        ) from err
    if os.environ.get("RAY_USE_TLS", "0") != "1":
        _check_speaks_ray(where, found)


def _port(address: str) -> int:
    """Raises `ValueError`."""
    port = int(address.rpartition(":")[2])
    if not 0 < port < 2**16:
        raise ValueError(f"{port} is no port")
    return port


def _check_speaks_ray(where: str, target: str) -> None:
    with grpc.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
        stub = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)  # type: ignore[no-untyped-call]
        request = gcs_service_pb2.CheckAliveRequest()  # type: ignore[attr-defined]
        try:
            stub.CheckAlive(request, timeout=_TIMEOUT_S)
        except grpc.RpcError as err:
            if err.code() is grpc.StatusCode.UNAUTHENTICATED:
                return  # it is one, and Ray brings its token
            raise ConfigError(
                f"what answers at {where} is no head of a Ray cluster (or one that hangs): expected"
                " the HOST:PORT that `ray start --head` prints, port 6379 unless told otherwise"
            ) from err
