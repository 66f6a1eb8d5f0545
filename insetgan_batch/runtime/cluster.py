"""Ray: connect, and find out how many actors there is room for."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator

import ray
from ray._private import ray_constants
from ray.exceptions import RayError

from insetgan_batch import stopping
from insetgan_batch.config import Machine
from insetgan_batch.errors import ConfigError, InsetGanError
from insetgan_batch.runtime import ray_start
from insetgan_batch.text import one_line

# Images never pass through Ray's object store; this is Ray's minimum, and not 30 % of the machine.
_OBJECT_STORE_BYTES = 100 * 1024 * 1024

_MOST_BUNDLES = 1000  # of one wish: more nodes than anybody's limit
_NO_DEADLINE_S = 120.0
_STARTS = 3
_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Capacity:
    """What one actor asks Ray for, and how many fit."""

    num_gpus: float
    num_cpus: float
    actors: int


@contextlib.contextmanager
def session() -> Iterator[None]:
    """At its end the Ray is left, or ended, that was not there at its beginning."""
    was_there = ray.is_initialized()
    try:
        yield
    finally:
        if not was_there:
            with stopping.postponed():
                ray.shutdown()


@contextlib.contextmanager
def connected() -> Iterator[None]:
    """`connect`, for a session."""
    with session():
        connect()
        yield


def check() -> None:
    """Raises `ConfigError` for what would stop Ray from starting, or from being joined."""
    if not ray.is_initialized():
        ray_start.check()


@stopping.postponed()
def connect() -> None:
    """Join the cluster that `RAY_ADDRESS` (or a surrounding job) names, else start Ray on this
    machine; nothing where that has been done. Raises `ConfigError` for what stops it.
    """
    if ray.is_initialized():
        return
    ray_start.check()
    # Ray tells everybody who starts it on their own machine that it wants a token: it is ours.
    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
    address = ray_start.cluster_address()
    try:
        if address is None:
            _start_patiently()
        else:
            ray.init(address, logging_level=logging.WARNING, log_to_driver=False)
    except (OSError, RuntimeError, ValueError, RayError) as err:
        reason = one_line(err)
        if address is None:
            raise ConfigError(f"Ray does not start on this machine: {reason}") from err
        raise ConfigError(f"no Ray cluster answers at RAY_ADDRESS={address}: {reason}") from err


def _start_patiently() -> None:
    """Ray gives its own processes 30 s, which on a busy machine are few; raises `InsetGanError`."""
    for tries_left in reversed(range(_STARTS)):
        try:
            _start()
        except Exception as err:
            if type(err) is not Exception:  # what Ray raises then, and only then
                raise
            reason = one_line(err)
            if not tries_left:
                raise InsetGanError(
                    f"Ray did not start on this machine, {_STARTS} times: {reason}; it may be busy,"
                    " and the same command tries again"
                ) from err
            _log.warning("Ray starts slowly and is tried again: %s", reason)
        else:
            return


def _start() -> None:
    with _on_loopback():
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE_BYTES,
            logging_level=logging.WARNING,
            log_to_driver=False,
            _temp_dir=ray_start.temporary_directory(),
        )


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Here Ray starts without a port that another machine can reach; else it opens some ten.

    The switch is one that Ray has for systems whose firewall would ask; off for its processes, too.
    """
    switch = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before = os.environ.get(switch), ray_constants.ENABLE_RAY_CLUSTER
    os.environ[switch], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before[1]
        if before[0] is None:
            del os.environ[switch]
        else:
            os.environ[switch] = before[0]


@contextlib.contextmanager
def requested(machine: Machine, items: int) -> Iterator[None]:
    """Ask the cluster's autoscaler, if it has one, for room for so many items, and for nothing in
    the end: Ray keeps such a wish, also when the driver has died.
    """
    if ray_start.cluster_address() is None:
        yield
        return
    from ray.autoscaler.sdk import request_resources

    useful = min(
        -(-items // machine.least_slots), machine.max_actors or _MOST_BUNDLES, _MOST_BUNDLES
    )
    # A head alone, that does not work, waits for machines: those are taken to have GPUs.
    asks_for_gpus = capacity(machine, items).num_gpus > 0
    share = {"GPU": machine.gpus_per_actor, "CPU": 1}
    bundle = share if asks_for_gpus else {"CPU": machine.cores_per_actor}
    try:
        with stopping.postponed():
            request_resources(bundles=[bundle] * useful)
        yield
    finally:
        with stopping.postponed():
            request_resources(bundles=[])


@stopping.postponed()
def draining() -> dict[str, float]:
    """The nodes that will be taken away: id to seconds that are left, at least 0.

    Ray has no public call for it; its own training library asks the same way.
    """
    from ray._private.state import state

    now_ms = time.time() * 1000
    return {
        node_id: max(0.0, (deadline_ms - now_ms) / 1000) if deadline_ms else _NO_DEADLINE_S
        for node_id, deadline_ms in state.get_draining_nodes().items()
    }


@stopping.postponed()
def check_output(out_uri: str, is_shared: bool) -> None:
    """Raises `ConfigError` for a directory as output when each of several machines has its own."""
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    hosts = {node["NodeManagerAddress"] for node in nodes}
    if out_uri.startswith("file://") and len(hosts) > 1 and not is_shared:
        raise ConfigError(
            f"the output {out_uri} is a directory, and this cluster has {len(hosts)} machines: name"
            " s3://bucket/prefix, or set `shared_output: true` if they all see this directory"
        )


@stopping.postponed()
def capacity(machine: Machine, items: int) -> Capacity:
    """One actor per share of a GPU, or per `cores_per_actor` without any; no more than have work.

    None on a cluster whose machines that work are still to come.
    """
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    gpus, cores = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    useful = max(1, -(-items // machine.least_slots))
    most = min(useful, machine.max_actors or useful)
    if gpus:
        # A share that does not divide a GPU leaves the rest of it empty: Ray gives none across two.
        places = gpus * int(1 / machine.gpus_per_actor)
        return Capacity(num_gpus=machine.gpus_per_actor, num_cpus=1, actors=min(places, most))
    if not cores:
        return Capacity(num_gpus=machine.gpus_per_actor, num_cpus=1, actors=0)
    places = max(1, cores // machine.cores_per_actor)
    return Capacity(
        num_gpus=0, num_cpus=min(machine.cores_per_actor, cores), actors=min(places, most)
    )
