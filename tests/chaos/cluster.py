"""A Ray cluster of four machines on this one: a head that does not work, and three workers."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import psutil
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason  # type: ignore[attr-defined]

WORKERS = 3
# A dead machine is known after some 4 s, and not after a minute.
SYSTEM_CONFIG = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
    "health_check_timeout_ms": 1000,
}
# Seconds after which a machine whose head is gone gives up.
RAY_SETTINGS = {
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
_STORE_BYTES = 80 * 1024 * 1024
_MEMORY_BYTES = 1024**3


class Machines:
    """The cluster, and what may happen to its machines."""

    def __init__(self, workers: int = WORKERS) -> None:
        self._count = workers
        self._cluster: Any = None
        self.start()

    @property
    def address(self) -> str:
        """What RAY_ADDRESS has to be."""
        return str(self._cluster.address)

    @property
    def workers(self) -> list[Any]:
        """The worker machines, in the order in which they came."""
        return sorted(self._cluster.worker_nodes, key=_raylet_pid)

    def start(self) -> None:
        """A new cluster; what is left of an earlier one is not touched."""
        self._cluster = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": _STORE_BYTES,
                "memory": _MEMORY_BYTES,
                "_system_config": SYSTEM_CONFIG,
            },
        )
        for _ in range(self._count):
            self.add_worker()

    def add_worker(self) -> None:
        """One more machine with one CPU."""
        self._cluster.add_node(
            num_cpus=1, object_store_memory=_STORE_BYTES, memory=_MEMORY_BYTES, wait=False
        )

    def actors(self) -> list[psutil.Process]:
        """The processes of all actors, by process id."""
        processes = [process for node in self.workers for process in _processes(node)]
        return sorted((p for p in processes if _is_actor(p)), key=lambda p: p.pid)

    def kill_worker(self, node: Any) -> None:
        """The machine is gone, with everything on it: nobody there has time for a last word."""
        processes = _processes(node)
        for action in (psutil.Process.suspend, psutil.Process.kill):
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    action(process)
        self._cluster.remove_node(node, allow_graceful=False)

    def drain_worker(self, node: Any, notice_s: float) -> None:
        """Tell Ray that the machine will be taken away in so many seconds."""
        deadline_ms = int((time.time() + notice_s) * 1000)
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, why = GcsClient(address=self.address).drain_node(
            node.node_id, reason, "chaos", deadline_ms
        )
        if not accepted:
            raise RuntimeError(f"Ray does not drain node {node.node_id}: {why}")

    def lose_head(self) -> None:
        """The head's processes are gone; those of the workers go on until they notice."""
        self._cluster.head_node.kill_all_processes(
            check_alive=False, allow_graceful=False, wait=True
        )


def _raylet_pid(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _processes(node: Any) -> list[psutil.Process]:
    """The machine's raylet, first, and all that it has started."""
    try:
        raylet = psutil.Process(_raylet_pid(node))
        return [raylet, *raylet.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _is_actor(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    # Ray's own: "ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent".
    return title.startswith("ray::") and "Agent" not in title and "IDLE" not in title
